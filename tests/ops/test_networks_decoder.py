"""The decoder chosen by name: the same heads, through a bundle that export wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export.release_files import Sizes, ball_topology, write_release
from topos_rt import HeadPipeline
from topos_rt.decoder_plan import read_tensors
from topos_rt.errors import BundleError, OptionError
from topos_rt.networks import DECODERS
from topos_rt.sampler import noise


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from export.__main__ import main

    folder = tmp_path_factory.mktemp("decoder")
    sizes = Sizes(decoder_blocks=(1, 2), decoder_channel=(16, 16, 8), depth=3)
    release = write_release(folder / "release", sizes, ball_topology(10, 12, (4,)))
    assert main([*release.arguments, "--out", str(folder / "bundle")]) == 0
    return folder / "bundle"


def test_export_keeps_every_tensor_by_name(bundle: Path) -> None:
    names = read_tensors(bundle)
    lin = "decoder.1.resblks.1.conv_b.conv.conv.lin.weight"
    assert {"post_kl.linear.weight", lin, "header.1.linear.bias"} <= set(names)
    assert names["decoder.0.resblks.0.conv_a.conv.conv.lin.weight"].shape == (2, 16, 16)


def test_decoders_agree(bundle: Path, host: Any) -> None:
    """The twin to rounding, the kernels to FP16."""
    with HeadPipeline.open(bundle, backend="onnxruntime", threads=1) as pipe:
        manifest = pipe.bundle.manifest
        latent = noise(3, (1, manifest.latent.tokens, manifest.latent.channels))
        want = pipe._networks.decode(latent)
    for decoder, tolerance in (("numpy", 1e-5), ("kernels", 5e-3)):
        with HeadPipeline.open(bundle, backend="onnxruntime", threads=1, decoder=decoder) as pipe:
            got = pipe._networks.decode(latent)
        assert np.linalg.norm(got - want) <= tolerance * np.linalg.norm(want), decoder
    assert host.calls and not host.blocks


def test_unknown_decoders_and_bundles_without_tensors(tiny_bundle: Path) -> None:
    with pytest.raises(OptionError, match=r"unknown decoder.*one of: engine, kernels, numpy"):
        HeadPipeline.open(tiny_bundle, backend="onnxruntime", decoder="cuda")
    for decoder in set(DECODERS) - {"engine"}:
        with pytest.raises(BundleError, match="no tensors"):
            HeadPipeline.open(tiny_bundle, backend="onnxruntime", decoder=decoder)
