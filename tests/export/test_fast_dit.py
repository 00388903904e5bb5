"""The folded DiT is the released one, to rounding in float64 and as nearly as the plain form in FP32."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from models import FastDiT, TOPOSDiT
from tests.export.parity import DATA, SETS, close, load_dit, relative_rms

W = 3.0
EXACT = 1e-12


class Answers(NamedTuple):
    conditional: Tensor
    guided: Tensor
    difference: Tensor


def plain(dit: TOPOSDiT, x: Tensor, t: Tensor, cond: Tensor) -> Answers:
    v, v0 = dit(x, t, cond), dit(x, t, torch.zeros_like(cond))
    return Answers(v, (1 + W) * v - W * v0, v - v0)


def folded(fast: FastDiT, x: Tensor, t: Tensor, cond: Tensor) -> Answers:
    """Answer one by one, as the engines run."""
    rows = []
    for one, time, tokens in zip(x, t, cond, strict=True):
        state = one[None], fast.modulation(time[None])[0], *fast.context(tokens)
        rows.append(Answers(fast.step(*state), *fast.guided_step(*state, x.new_tensor([W]))))
    return Answers(*(torch.cat(parts) for parts in zip(*rows, strict=True)))


@SETS
@torch.no_grad()
def test_equal_in_float64(suffix: str) -> None:
    dit, io = load_dit(suffix).double(), load_file(DATA / f"dit_io{suffix}.safetensors")
    inputs = [io[name].double() for name in ("x", "t", "cond")]
    for got, want in zip(folded(FastDiT(dit), *inputs), plain(dit, *inputs), strict=True):
        assert relative_rms(got, want) <= EXACT


@SETS
@torch.no_grad()
def test_official_outputs_in_single_precision(suffix: str) -> None:
    dit, io = load_dit(suffix), load_file(DATA / f"dit_io{suffix}.safetensors")
    inputs = io["x"], io["t"], io["cond"]
    got, naive = folded(FastDiT(dit), *inputs), plain(dit, *inputs)
    close(got.conditional, io["out"])
    close(got.guided, (1 + W) * io["out"] - W * io["out_zero_cond"])
    # The difference of two nearly equal velocities loses digits in any form, more on some processors.
    truth = plain(dit.double(), *(value.double() for value in inputs))
    for folded_one, naive_one, true in zip(got, naive, truth, strict=True):
        assert relative_rms(folded_one, true) <= 2 * relative_rms(naive_one, true)


@pytest.mark.parametrize("number", [1, 2, 5])
@SETS
@torch.no_grad()
def test_heads_at_once(suffix: str, number: int) -> None:
    """Several latents, each with an image of its own, share a time; every one is what it is alone."""
    fast, io = FastDiT(load_dit(suffix).double()), load_file(DATA / f"dit_io{suffix}.safetensors")
    generator = torch.Generator().manual_seed(number)

    def several(one: Tensor) -> Tensor:
        return torch.randn(number, *one.shape[1:], generator=generator, dtype=torch.float64)

    x, cond = several(io["x"]), several(io["cond"])
    alone = folded(fast, x, io["t"][:1].double().expand(number), cond)
    state = x, fast.modulation(io["t"][:1].double())[0], *fast.contexts(cond)
    got = Answers(fast.step(*state), *fast.guided_step(*state, x.new_tensor([W])))
    for mine, own in zip(got, alone, strict=True):
        assert relative_rms(mine, own) <= EXACT


@pytest.mark.parametrize("blocks", [1, 3])
@torch.no_grad()
def test_any_weights(blocks: int) -> None:
    """Affine norms, biases and gains have other values here than training starts from."""
    torch.manual_seed(blocks)
    dit = TOPOSDiT(
        in_channels=3,
        out_channels=3,
        model_channels=24,
        num_latents=7,
        cond_channels=10,
        num_blocks=blocks,
        num_heads=4,
    ).double()
    for parameter in dit.parameters():
        parameter.normal_(0, 0.4)
    times = torch.tensor([1000.0, 3.0]).double()
    inputs = torch.randn(2, 7, 3).double(), times, torch.randn(2, 5, 10).double()
    for got, want in zip(folded(FastDiT(dit), *inputs), plain(dit, *inputs), strict=True):
        assert relative_rms(got, want) <= EXACT


def test_folding_leaves_the_plain_form_alone() -> None:
    dit = load_dit("")
    before = {name: value.clone() for name, value in dit.state_dict().items()}
    FastDiT(dit)
    assert all(torch.equal(value, before[name]) for name, value in dit.state_dict().items())


@pytest.mark.parametrize("norms", [{"qk_rms_norm": False}, {"qk_rms_norm_cross": True}])
def test_other_norms_are_refused(norms: dict[str, bool]) -> None:
    dit = TOPOSDiT(
        in_channels=3,
        out_channels=3,
        model_channels=8,
        num_latents=4,
        cond_channels=8,
        num_blocks=1,
        num_heads=2,
        **norms,
    )
    with pytest.raises(ValueError, match="expected qk_rms_norm=True and qk_rms_norm_cross=False"):
        FastDiT(dit)
