"""What is taken out of a bundle computes what the bundle does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from models import EvidenceEncoder, FastDiT, ImageEncoder, TOPOSDiT
from models import mini as config
from models.evidence import NAMES
from topos_rt import Bundle
from topos_rt.engines import EngineOptions
from topos_rt.engines.onnxruntime import load
from topos_rt.errors import InputError
from topos_rt.model.evidence import EVIDENCE
from training import earlier


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    # Other tests link the files of the bundle that ships; onnx reads no tensors of files with several links.
    return Bundle.open(shutil.copytree(Bundle.open("mini").path, tmp_path / "mini"))


def test_the_encoder_of_a_bundle_is_whole(bundle: Bundle) -> None:
    encoder = EvidenceEncoder(ImageEncoder(**config.IMAGE_ENCODER), **config.EVIDENCE).eval()
    encoder.load_state_dict(earlier.encoder(bundle.path))
    rng = np.random.default_rng(0)
    feeds = {name: rng.random(EVIDENCE[name], np.float32) for name in NAMES}
    feeds["pixels"] = rng.random((1, 3, config.IMAGE_SIZE, config.IMAGE_SIZE), np.float32)
    for missing in (None, "landmarks", "expression", "aligned"):
        given = {name: value * (name != missing) for name, value in feeds.items()}
        with load(bundle.path / "image_encoder.onnx", EngineOptions(1)) as engine, torch.no_grad():
            wanted = engine.run(given)
            tensors = {name: torch.from_numpy(value) for name, value in given.items()}
            tokens, latents = encoder(tensors.pop("pixels"), *(tensors[name] for name in NAMES))
        made = {got.shape[1:]: got for got in (tokens.numpy(), latents.numpy())}
        for name, values in wanted.items():
            off = np.abs(made[values.shape[1:]] - values).max()
            assert off < 1e-3 < np.abs(values).max() or not values.any(), (name, missing, off)


def test_the_dit_folds_to_that_of_the_bundle(bundle: Bundle) -> None:
    dit = TOPOSDiT(**config.DIT)
    dit.load_state_dict(earlier.dit(bundle.path))
    fast = FastDiT(dit).eval()
    draw = torch.Generator().manual_seed(0)
    spec = bundle.manifest
    tokens = torch.randn(1, spec.image.tokens, spec.image.channels, generator=draw)
    latent = torch.randn(1, spec.latent.tokens, spec.latent.channels, generator=draw)
    guidance = torch.tensor([3.0])
    with torch.no_grad():
        modulation = fast.modulation(torch.tensor([700.0]))[0]
        keys, values = fast.context(tokens[0])
        wanted = fast.guided_step(latent, modulation, keys, values, guidance)
    feeds = {"latent": latent, "guidance": guidance}
    with (
        load(bundle.path / "dit_context.onnx", EngineOptions(1)) as context,
        load(bundle.path / "dit_modulation.onnx", EngineOptions(1)) as times,
        load(bundle.path / "dit_step_guided.onnx", EngineOptions(1)) as step,
    ):
        made = context.run({"tokens": tokens.numpy()}) | times.run({"time": np.array([0.7], np.float32)})
        got = step.run({name: value.numpy() for name, value in feeds.items()} | made)
    for name, want in zip(("velocity", "difference"), wanted, strict=True):
        assert np.linalg.norm(got[name] - want.numpy()) < 1e-4 * np.linalg.norm(want.numpy())


def test_what_a_bundle_says_of_its_estimates_can_be_exported_again(bundle: Bundle, tiny_bundle: Path) -> None:
    errors = earlier.errors_of(bundle)
    assert bundle.variation is not None
    assert np.array_equal(errors.directions.numpy(), bundle.variation.directions)
    assert errors.residual_scale == bundle.manifest.residual_scale
    with pytest.raises(InputError, match="got no linear estimate; expected a `mini` that has one"):
        earlier.errors_of(Bundle.open(tiny_bundle))
