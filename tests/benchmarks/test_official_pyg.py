"""The official edge-by-edge decoder against the official outputs and our own form, and the loop around it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from tests import needs

needs.module("torch_geometric")
from benchmarks.baseline_official import main
from benchmarks.official_loop import MODES, Official, in_mode
from benchmarks.official_pyg import OfficialDecoder
from export import random
from export.generated import generate
from models import FastDiT
from models.dit import TIME_SCALE
from tests.export.parity import DATA, SETS, load_hierarchy, load_vae, relative_rms
from topos_rt.flow.settings import time_grid
from topos_rt.head.hierarchy import Hierarchy

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return load_hierarchy()


@SETS
@torch.no_grad()
def test_the_official_outputs(suffix: str, hierarchy: Hierarchy) -> None:
    vae, io = load_vae(suffix, hierarchy), load_file(DATA / f"vae_io{suffix}.safetensors")
    decoder = OfficialDecoder(vae, hierarchy)
    for given, expected in (("latent", "decoded"), ("mean", "decode_mean")):
        latent = io[given].reshape(1, *io[given].shape[-2:])
        assert relative_rms(decoder(latent)[0], io[expected]) <= TOLERANCE


@torch.no_grad()
def test_our_decoder_with_an_offset() -> None:
    """`mini`'s own sizes, mean head included."""
    preset = random.mini()
    hierarchy = generate(preset.recipe).hierarchy
    vae, _, _ = random.draw(preset, hierarchy, 3)
    latent = torch.randn(1, 167, 6, generator=torch.Generator().manual_seed(0))
    assert relative_rms(OfficialDecoder(vae, hierarchy)(latent), vae.eval().decode(latent)) <= TOLERANCE


@pytest.mark.parametrize("name", ["eager_fp32", "eager_bf16"])
@torch.no_grad()
def test_the_loop_is_guided_euler(name: str) -> None:
    """Against the folded DiT, stepped by hand in FP32."""
    preset = random.mini()
    hierarchy = generate(preset.recipe).hierarchy
    vae, dit, encoder = random.draw(preset, hierarchy, 0)
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(1, 3, 128, 128, generator=generator)
    start = torch.randn(1, 167, 6, generator=generator)
    fast, tokens, x = FastDiT(dit), encoder(pixels), start
    keys, values = fast.context(tokens[0])
    for t, t_next in ((1.0, 0.5), (0.5, 0.0)):
        modulation = fast.modulation(torch.tensor([t * TIME_SCALE]))[0]
        x = x - (t - t_next) * fast.guided_step(x, modulation, keys, values, torch.tensor([3.0]))[0]
    expected = vae.eval().decode(x)
    mode, device = MODES[name], torch.device("cpu")
    official = Official(
        mode,
        in_mode(encoder, mode, device),
        in_mode(dit, mode, device),
        OfficialDecoder(vae, hierarchy),
        device,
        3.0,
        time_grid(2),
    )
    error = relative_rms(official.head(pixels, start), expected)
    assert error <= TOLERANCE if name == "eager_fp32" else TOLERANCE < error < 0.1
    assert official.ms["head"] == pytest.approx(sum(official.ms.values()) - official.ms["head"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rounds", "0"], "--rounds: got 0; expected a whole number from 1 to"),
        (["--steps", "1001"], "--steps: got 1001"),
        (["--preset", "large"], "unknown preset: got 'large'"),
        (["--modes", "eager_fp64"], "unknown mode: got 'eager_fp64'"),
        (["--json", "/dev/null"], "cannot write /dev/null"),
    ],
)
def test_bad_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_modes_of_a_gpu_are_refused_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    needs.machine(not torch.cuda.is_available(), "there is a GPU")
    assert main(["--modes", "eager_fp32,graph_bf16"]) == 2
    assert "mode graph_bf16: got no GPU; expected one of: eager_fp32, eager_bf16" in capsys.readouterr().err
