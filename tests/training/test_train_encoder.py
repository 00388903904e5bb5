"""The image encoder's start and its batches are checked without its portraits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from models import mini as config
from training.gbuffers import LANDMARKS
from training.lessons import FIRST_PATCH, GRID, SEEN_CHANNELS
from training.portraits import Portraits
from training.train_encoder import Data, EncoderModel, plane_waves

TOKENS = FIRST_PATCH + GRID**2


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model() -> EncoderModel:
    torch.manual_seed(0)
    return EncoderModel().eval()


def test_the_encoder_s_tokens_are_those_the_losses_expect(model: EncoderModel) -> None:
    with torch.no_grad():
        tokens = model.encoder(torch.rand(1, 3, config.IMAGE_SIZE, config.IMAGE_SIZE, generator=seeded()))
    assert tokens.shape == (1, TOKENS, config.DIT["cond_channels"])


def test_pairs_of_convolutions_start_as_the_identity(model: EncoderModel) -> None:
    plain, blocks = model.encoder.patch_embed.stem, model.encoder.patch_embed.blocks
    image = torch.rand(1, 3, config.IMAGE_SIZE, config.IMAGE_SIZE, generator=seeded())
    assert sum(len(level) for level in blocks) > 0
    with torch.no_grad():
        got = model.encoder.patch_embed(image)
        for convolution in plain:
            image = nn.functional.gelu(convolution(image))
        assert torch.equal(got, model.encoder.patch_embed.proj(image))


@pytest.mark.parametrize("moving", [True, False])
def test_pictures_are_moved_on_request_only(moving: bool) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 180, (4, 2, 3, config.IMAGE_SIZE, config.IMAGE_SIZE), np.uint8)
    seen = rng.integers(-127, 127, (4, GRID**2, SEEN_CHANNELS)).astype(np.int8)
    pictures = Portraits(pixels, seen, rng.uniform(-0.5, 0.5, (4, LANDMARKS, 2)).astype(np.float16))
    data = Data(pictures, np.zeros((4, 5, 3), np.float32), torch.randn(4, config.NUM_LATENTS, 6))
    batch = data.random(6, rng, moving)
    ids = [int((data.anchors == anchors).all(2).all(1).nonzero()) for anchors in batch.anchors]
    there = torch.from_numpy(pictures.landmarks[ids]).float()
    assert torch.equal(batch.landmarks, there) is not moving
    # Brightness and colour change in both cases, by a factor for each channel.
    lit = torch.from_numpy(pixels[ids]).float() / 255
    factors = batch.pixels[:, None] / lit
    steady = (factors.std(dim=(3, 4)) < 1e-4).all(2).any(1)
    assert bool(steady.all()) is not moving


def test_positions_can_be_told_apart() -> None:
    waves = plane_waves(GRID, 64)
    assert waves.shape == (GRID**2, 64)
    apart = torch.cdist(waves, waves) + torch.eye(GRID**2) * 9
    assert float(apart.min()) > 0.1
    assert float(waves.abs().max()) <= 0.5
