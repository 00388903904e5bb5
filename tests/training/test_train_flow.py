"""The losses and sampling of the flow model are checked without its portraits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import mini as config
from training.gbuffers import LANDMARKS
from training.lessons import FIRST_PATCH, GRID, SEEN_CHANNELS
from training.portraits import Portraits
from training.train_flow import (
    PURE_NOISE_SHARE,
    SIGMA_MIN,
    Data,
    FlowModel,
    draw_times,
    flow_loss,
    plane_waves,
    sample_flow,
)

TOKENS = FIRST_PATCH + GRID**2


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model() -> FlowModel:
    torch.manual_seed(0)
    return FlowModel().eval()


def some_tokens(count: int) -> Tensor:
    return torch.randn(count, TOKENS, config.DIT["cond_channels"], generator=seeded(3))


def test_the_encoder_s_tokens_are_those_the_losses_expect(model: FlowModel) -> None:
    with torch.no_grad():
        tokens = model.encoder(torch.rand(1, 3, config.IMAGE_SIZE, config.IMAGE_SIZE, generator=seeded()))
    assert tokens.shape == (1, TOKENS, config.DIT["cond_channels"])


def test_pairs_of_convolutions_start_as_the_identity(model: FlowModel) -> None:
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


def test_an_untrained_network_predicts_no_velocity(model: FlowModel) -> None:
    tokens = some_tokens(2)
    start = torch.randn(2, config.NUM_LATENTS, 6, generator=seeded(5))
    assert torch.equal(sample_flow(model, tokens, 2, 3.0, seed=5), start)
    anchors = torch.randn(2, config.NUM_LATENTS, 6, generator=seeded(2))
    loss = float(flow_loss(model, tokens, anchors, seeded(4)).detach())
    # The mean square of (1 - sigma) e - x0 does not depend on the times.
    expected = (1 - SIGMA_MIN) ** 2 + float(anchors.square().mean())
    assert loss == pytest.approx(expected, rel=0.1)


def test_the_network_is_what_sampling_integrates(model: FlowModel) -> None:
    """A constant velocity c leads from e to e - c, guided or not."""
    bias = model.dit.out_layer.bias
    with torch.no_grad():
        bias.fill_(0.25)
        got = sample_flow(model, some_tokens(1), 3, 1.5, seed=5)
        bias.zero_()
    start = torch.randn(1, config.NUM_LATENTS, 6, generator=seeded(5))
    assert torch.allclose(got, start - 0.25, atol=1e-5)


def test_positions_can_be_told_apart() -> None:
    waves = plane_waves(GRID, 64)
    assert waves.shape == (GRID**2, 64)
    apart = torch.cdist(waves, waves) + torch.eye(GRID**2) * 9
    assert float(apart.min()) > 0.1
    assert float(waves.abs().max()) <= 0.5


def test_times_favour_noise_and_end_at_it() -> None:
    times = draw_times(20_000, seeded())
    assert float(times.min()) > 0
    assert float(times.max()) == 1
    assert float((times == 1).float().mean()) == pytest.approx(PURE_NOISE_SHARE, abs=0.02)
    assert float(times[times < 1].median()) > 0.7
