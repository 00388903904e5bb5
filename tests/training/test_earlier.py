"""What is taken out of a bundle computes what the bundle does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from models import EvidenceEncoder, ImageEncoder
from models import mini as config
from models.evidence import NAMES
from topos_rt import Bundle
from topos_rt.engines import EngineOptions
from topos_rt.engines.onnxruntime import load
from topos_rt.model.evidence import EVIDENCE
from training import earlier


def test_the_encoder_of_a_bundle_is_whole(tmp_path: Path) -> None:
    # Other tests link the files of the bundle that ships; onnx reads no tensors of files with several links.
    bundle = Bundle.open(shutil.copytree(Bundle.open("mini").path, tmp_path / "mini"))
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
