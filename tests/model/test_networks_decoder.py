"""Decoders chosen by name give the same heads, through a bundle that export wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export.release_files import Sizes, ball_topology, write_release
from tests.gpu import host_gpu
from topos_rt import HeadPipeline
from topos_rt.errors import BundleError, OptionError
from topos_rt.flow.sampling import noise
from topos_rt.model.bundle import Bundle
from topos_rt.model.decoder import KernelDecoder, NumpyDecoder
from topos_rt.model.decoder_steps import make_steps, read_tensors
from topos_rt.model.decoders import DECODERS
from topos_rt.model.native_decoder import PLAIN, instruction_sets


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from export.__main__ import main

    folder = tmp_path_factory.mktemp("decoder")
    sizes = Sizes(decoder_blocks=(1, 2), decoder_channel=(16, 32, 16), depth=3)
    release = write_release(folder / "release", sizes, ball_topology(10, 12, (4,)))
    assert main([*release.arguments, "--out", str(folder / "bundle")]) == 0
    return folder / "bundle"


def test_export_keeps_every_tensor_by_name(bundle: Path) -> None:
    names = read_tensors(Bundle.open(bundle))
    lin = "decoder.1.resblks.1.conv_b.conv.conv.lin.weight"
    assert {"post_kl.linear.weight", lin, "header.1.linear.bias"} <= set(names)
    assert names["decoder.0.resblks.0.conv_a.conv.conv.lin.weight"].shape == (2, 16, 32)


def test_decoders_agree(bundle: Path, host: Any) -> None:
    """The twin agrees to rounding, the kernels as well as the twin with features in FP16."""
    opened = Bundle.open(bundle)
    latent = noise(3, (1, opened.manifest.latent.tokens, opened.manifest.latent.channels))
    steps = make_steps(read_tensors(opened), opened.hierarchy)
    half = NumpyDecoder(steps, np.float16).decode(latent[0])
    found = {}
    for decoder in DECODERS:
        with HeadPipeline.open(opened, backend="onnxruntime", threads=1, decoder=decoder) as pipe:
            found[decoder] = pipe._networks.decode(latent)
    size, want = np.linalg.norm(found["engine"]), found["engine"]
    fast = instruction_sets()[:1] not in ([], [PLAIN])
    assert np.array_equal(found["auto"], found["native"] if fast else want)  # there is no GPU
    assert np.linalg.norm(found["native"] - want) <= 1e-5 * size
    assert np.linalg.norm(found["numpy"] - want) <= 1e-5 * size
    assert np.linalg.norm(found["kernels"] - want) <= 2 * np.linalg.norm(half - want) <= 0.1 * size
    assert host.calls and not host.blocks


def test_memory_is_known_before_anything_is_there(bundle: Path, host: Any) -> None:
    opened = Bundle.open(bundle)
    need = KernelDecoder.requirements(opened)
    assert not host.blocks and set(need) == {"weights", "buffers"}
    with KernelDecoder.open(opened):
        used = sum(host_gpu.size_of(block) for block in host.blocks.values())
    pinned = 4 * 6 * opened.topology.num_vertices  # on the host
    assert sum(need.values()) == used - pinned
    assert NumpyDecoder.requirements(opened) == {}
    assert HeadPipeline.requirements(opened, "onnxruntime", decoder="kernels") == {"vae_decoder": need}
    assert HeadPipeline.requirements(opened, "onnxruntime") == {}


def test_unknown_decoders_and_bundles_without_tensors(tiny_bundle: Path) -> None:
    with pytest.raises(OptionError, match=r"unknown decoder.*one of: auto, engine, kernels, native, numpy"):
        HeadPipeline.open(tiny_bundle, backend="onnxruntime", decoder="cuda")
    for decoder in ("kernels", "native", "numpy"):
        with pytest.raises(BundleError, match="no tensors"):
            HeadPipeline.open(tiny_bundle, backend="onnxruntime", decoder=decoder)
