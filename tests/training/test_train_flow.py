"""Losses and sampling of the flow model, without its portraits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training import config
from training.lessons import FIRST_PATCH, GRID
from training.train_flow import (
    PURE_NOISE_SHARE,
    SIGMA_MIN,
    FlowModel,
    draw_times,
    flow_loss,
    plane_waves,
    sample_flow,
)  # fmt: skip

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


def test_an_untrained_network_predicts_no_velocity(model: FlowModel) -> None:
    tokens = some_tokens(2)
    start = torch.randn(2, config.NUM_LATENTS, 6, generator=seeded(5))
    assert torch.equal(sample_flow(model, tokens, 2, 3.0, seed=5), start)
    anchors = torch.randn(2, config.NUM_LATENTS, 6, generator=seeded(2))
    loss = float(flow_loss(model, tokens, anchors, seeded(4)).detach())
    # the mean square of (1 - sigma) e - x0, whatever the times were
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
