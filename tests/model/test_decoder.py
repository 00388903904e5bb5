"""The whole decoder: the twin against PyTorch, the kernels against FP64."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from export import random
from export.generated import generate
from export.onnx.decoder_tensors import decoder_tensors
from models import TOPOSVAE
from tests import needs
from tests.export.parity import DATA, META, SETS, load_hierarchy, load_vae, relative_rms
from tests.gpu.shapes import naive
from topos_rt.errors import BundleError, InputError
from topos_rt.gpu import cuda, ops, reference
from topos_rt.head.hierarchy import Hierarchy
from topos_rt.model.bundle import Bundle
from topos_rt.model.decoder import KernelDecoder, NumpyDecoder
from topos_rt.model.decoder_steps import DecoderSteps, make_steps


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return load_hierarchy()


@pytest.fixture(scope="module")
def mini() -> tuple[TOPOSVAE, Hierarchy]:
    """A random VAE of the packaged model's sizes, with offsets from a mean head and a linear part."""
    sizes = random.mini()
    preset = dataclasses.replace(sizes, vae={**sizes.vae, "linear_rank": 20})
    hierarchy = generate(preset.recipe).hierarchy
    vae, _, _ = random.draw(preset, hierarchy, 3)
    return vae, hierarchy


@pytest.fixture(params=["host", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "host":
        yield request.getfixturevalue("host")
    else:
        needs.gpu()
        yield None


def latent_of(steps: DecoderSteps, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, *steps.latent)).astype(np.float32)


def naive_decode(steps: DecoderSteps, latent: np.ndarray) -> np.ndarray:
    """Decode as `NumpyDecoder` does, but round to FP16 after every operation."""
    mean = steps.mean
    if steps.moves is not None:
        mean = reference.add_moves(steps.basis @ latent.reshape(-1), steps.moves, mean)
    if steps.basis is not None:
        latent = reference.project(latent.reshape(-1), steps.basis).reshape(steps.latent)
    slots = [reference.pack_rows(latent, steps.convs[0].layer.c_in, steps.latent_rows)] * 4
    for s in steps.convs:
        residual = None if s.residual is None else slots[s.residual]
        slots[s.target] = naive(slots[s.source], s.neighbours, s.layer, residual, s.residual_rows, s.silu)
    y = naive(slots[steps.last_source], steps.convs[-1].neighbours, steps.last, silu=False).astype(np.float32)
    out = np.empty_like(y)
    out[steps.out_rows] = y
    out *= 1 if steps.scale is None else steps.scale
    return out + (0 if mean is None else mean)


@SETS
def test_the_twin_gives_what_the_official_modules_give(suffix: str, hierarchy: Hierarchy) -> None:
    io = load_file(DATA / f"vae_io{suffix}.safetensors")
    steps = make_steps(decoder_tensors(load_vae(suffix, hierarchy)), hierarchy)
    assert steps.vertices == META["topology"]["vertices"]
    for latent, want in (("latent", "decoded"), ("mean", "decode_mean")):
        got = NumpyDecoder(steps).run({"latent": io[latent].numpy().reshape(1, *steps.latent)})["vertices"]
        assert relative_rms(torch.from_numpy(got[0]), io[want]) <= 3e-6


def test_the_twin_gives_what_pytorch_gives_for_mini(mini: Any) -> None:
    vae, hierarchy = mini
    steps = make_steps(decoder_tensors(vae), hierarchy)
    latent = torch.from_numpy(latent_of(steps))
    with torch.no_grad():
        want = vae.decode(latent)
    got = NumpyDecoder(steps).run({"latent": latent.numpy()})["vertices"]
    assert relative_rms(torch.from_numpy(got), want) <= 3e-6
    # It is near not only because everything is near the mean head.
    offset = want - vae.output_mean
    assert relative_rms(torch.from_numpy(got) - vae.output_mean, offset) <= 1e-5


@SETS
def test_the_kernels_are_as_near_as_fp16_can_be(suffix: str, hierarchy: Hierarchy, device: Any) -> None:
    steps = make_steps(decoder_tensors(load_vae(suffix, hierarchy)), hierarchy)
    check_kernels(steps, latent_of(steps), zero=0.0)


def test_the_kernels_are_as_near_for_mini(mini: Any, device: Any) -> None:
    vae, hierarchy = mini
    check_kernels(make_steps(decoder_tensors(vae), hierarchy), None, zero=vae.output_mean.numpy())


def test_wide_layers_by_hoppers_kernel(hierarchy: Hierarchy, device: Any) -> None:
    """The decoder has every width of the kernel, un-pooling and skips, and also runs without it."""
    needs.machine(ops.tiles_here(), "not a GPU of compute capability 9.0, or not built for 9.0a")
    torch.manual_seed(0)
    sizes = {"decoder_blocks": (1, 1, 1, 1), "decoder_channel": (512, 512, 256, 256, 128)}
    vae = TOPOSVAE(hierarchy, code_channels=8, width=32, num_encoder_layers=1, **sizes)
    steps = make_steps(decoder_tensors(vae.requires_grad_(False)), hierarchy)
    latent = latent_of(steps)
    check_kernels(steps, latent, zero=0.0)
    with KernelDecoder(steps) as chosen, KernelDecoder(steps, tiled=False) as plain:
        by_tiles = [step.layer.c_out for step in chosen._steps.convs if step.layer.tiled]
        assert set(by_tiles) == {512, 256, 128} and len(by_tiles) == len(steps.convs) - 1  # all but post_kl
        assert not any(step.layer.tiled for step in plain._steps.convs)
        found = [decoder.run({"latent": latent})["vertices"] for decoder in (chosen, plain)]
    assert 0 < np.linalg.norm(found[0] - found[1]) <= 3e-3 * np.linalg.norm(found[1])


def check_kernels(steps: DecoderSteps, latent: np.ndarray | None, zero: Any) -> None:
    """Check that the recorded CUDA graph and single launches give the same bits, near the truth."""
    latent = latent_of(steps) if latent is None else latent
    truth = NumpyDecoder(steps, np.float64).decode(latent[0])
    plain = np.abs(naive_decode(steps, latent[0]) - truth)
    with KernelDecoder(steps) as recorded, KernelDecoder(steps, record=False) as plainly:
        assert recorded.launches == len(steps.convs) + (2 if steps.basis is None else 5)
        got = recorded.run({"latent": latent})["vertices"]
        other = recorded.run({"latent": latent_of(steps, 5)})["vertices"]
        again = recorded.run({"latent": latent}, out={"vertices": np.empty_like(got)})["vertices"]
        assert np.array_equal(got, again) and not np.array_equal(got, other)
        assert np.array_equal(got, plainly.run({"latent": latent})["vertices"])
    error = np.abs(got[0] - truth)
    assert np.sqrt((error**2).mean()) <= 2 * np.sqrt((plain**2).mean())
    assert error.max() <= 2 * plain.max()
    assert np.sqrt((error**2).mean()) <= 0.02 * np.sqrt(((truth - zero) ** 2).mean())


def test_nothing_is_allocated_or_waited_for_while_recording(hierarchy: Hierarchy, host: Any) -> None:
    """The fake refuses both, and everything is freed at the end."""
    steps = make_steps(decoder_tensors(load_vae("", hierarchy)), hierarchy)
    decoder = KernelDecoder(steps)
    allocated = len(host.blocks)
    per_run = ["pack_rows", *["graph_conv"] * (len(steps.convs) + 1)]
    assert (
        host.calls == per_run * 2 and len(host.calls) == 2 * decoder.launches
    )  # the warm-up and the recording
    decoder.run({"latent": latent_of(steps)})
    assert len(host.calls) == 2 * decoder.launches and len(host.blocks) == allocated
    decoder.close()
    decoder.close()
    assert not host.blocks and host.cuda_graphs == 0
    with pytest.raises(InputError, match="closed"):
        decoder.run({"latent": latent_of(steps)})


def test_a_decoder_that_is_dropped_gives_everything_back(hierarchy: Hierarchy, host: Any) -> None:
    decoder = KernelDecoder(make_steps(decoder_tensors(load_vae("", hierarchy)), hierarchy))
    assert host.blocks and host.cuda_graphs == 1
    del decoder
    assert not host.blocks and host.cuda_graphs == 0


def test_a_failure_half_way_gives_everything_back(hierarchy: Hierarchy, host: Any, monkeypatch: Any) -> None:
    def refuse(size: int) -> Any:
        raise cuda.CudaError("cudaMallocHost", cuda.OUT_OF_MEMORY, "no room")

    steps = make_steps(decoder_tensors(load_vae("", hierarchy)), hierarchy)
    monkeypatch.setattr(host, "cudaMallocHost", refuse, raising=False)
    with pytest.raises(ops.BackendError, match=r"no room.*use the engine decoder"):
        KernelDecoder(steps)
    assert not host.blocks


def test_a_gpu_that_does_not_answer(hierarchy: Hierarchy, host: Any, monkeypatch: Any) -> None:
    def refuse() -> Any:
        raise cuda.CudaError("cudaGetDevice", cuda.DRIVER_TOO_OLD, "the driver is too old")

    monkeypatch.setattr(cuda, "current_device", refuse)
    steps = make_steps(decoder_tensors(load_vae("", hierarchy)), hierarchy)
    with pytest.raises(ops.BackendError, match=r"driver is too old.*use the engine decoder"):
        KernelDecoder(steps)
    assert not host.blocks


@pytest.mark.parametrize("shape", [(1, 720, 7), (720, 8), (2, 720, 8)])
def test_latents_of_other_shapes(shape: tuple[int, ...], hierarchy: Hierarchy) -> None:
    decoder = NumpyDecoder(make_steps(decoder_tensors(load_vae("", hierarchy)), hierarchy))
    with pytest.raises(InputError, match="latent"):
        decoder.run({"latent": np.zeros(shape, np.float32)})


BAD = {
    "a missing tensor": (lambda t: t.pop("decoder.1.resblks.0.conv_b.gn.bias"), "conv_b.gn.bias"),
    "a missing block": (lambda t: t.pop("decoder.1.resblks.0.conv_a.gn.weight"), "residual blocks"),
    "no blocks": (lambda t: t.clear(), "residual blocks"),
    "another width": (lambda t: t.update({"header.0.gn.weight": np.ones(8, np.float32)}), "gamma"),
    "another mean": (lambda t: t.update(output_mean=np.zeros((3, 6), np.float32)), "output_mean"),
}


@pytest.mark.parametrize("case", BAD)
def test_tensors_that_do_not_fit(case: str, hierarchy: Hierarchy) -> None:
    change, message = BAD[case]
    tensors = decoder_tensors(load_vae("", hierarchy))
    change(tensors)  # type: ignore[no-untyped-call]
    with pytest.raises((BundleError, InputError), match=message):
        make_steps(tensors, hierarchy)


def test_a_hierarchy_with_too_few_levels(hierarchy: Hierarchy) -> None:
    short = dataclasses.replace(hierarchy, levels=hierarchy.levels[:4])
    with pytest.raises(BundleError, match="4 stages and 4 levels"):
        make_steps(decoder_tensors(load_vae("", hierarchy)), short)


def test_a_bundle_without_the_tensors(tiny_bundle: Path) -> None:
    from topos_rt.model.decoder_steps import read_tensors

    with pytest.raises(BundleError, match=r"no tensors decoder\.\*.*export it again"):
        read_tensors(Bundle.open(tiny_bundle))
