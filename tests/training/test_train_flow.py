"""Lessons and losses of the flow model, without its portraits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training import config
from training.gbuffers import LANDMARKS, Material
from training.train_flow import (
    CELLS_PER_PATCH,
    FIRST_PATCH,
    PROBE_COMPONENTS,
    SEEN,
    SIGMA_MIN,
    Batch,
    FlowModel,
    fit_components,
    flow_loss,
    plane_waves,
    probe_losses,
    sample_flow,
    what_is_seen,
)  # fmt: skip

GRID = config.IMAGE_SIZE // config.IMAGE_ENCODER["patch_size"]
TOKENS = FIRST_PATCH + GRID**2


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_anchors(count: int) -> Tensor:
    """Of heads that differ in a hundred ways, the first most."""
    directions = torch.randn(100, config.NUM_LATENTS * 6, generator=seeded(1))
    amounts = torch.randn(count, 100, generator=seeded(2)) / torch.arange(1, 101) ** 0.5
    return (amounts @ directions).unflatten(1, (-1, 6))


@pytest.fixture(scope="module")
def model() -> FlowModel:
    torch.manual_seed(0)
    flow = FlowModel().eval()
    with torch.no_grad():
        fit_components(flow, some_anchors(400))
    return flow


def some_tokens(count: int) -> Tensor:
    return torch.randn(count, TOKENS, config.DIT["cond_channels"], generator=seeded(3))


def test_the_encoder_s_tokens_are_those_the_losses_expect(model: FlowModel) -> None:
    with torch.no_grad():
        tokens = model.encoder(torch.rand(1, 3, config.IMAGE_SIZE, config.IMAGE_SIZE, generator=seeded()))
    assert tokens.shape == (1, TOKENS, config.DIT["cond_channels"])


def test_components_are_orthonormal_and_white(model: FlowModel) -> None:
    product = model.components @ model.components.T
    assert torch.allclose(product, torch.eye(PROBE_COMPONENTS), atol=1e-4)
    codes = some_anchors(400).flatten(1) @ model.components.T / model.deviation
    assert codes.std(0).tolist() == pytest.approx([1.0] * PROBE_COMPONENTS, rel=0.05)
    assert model.deviation.tolist() == sorted(model.deviation.tolist(), reverse=True)


def test_an_untrained_network_predicts_no_velocity(model: FlowModel) -> None:
    tokens = some_tokens(2)
    start = torch.randn(2, config.NUM_LATENTS, 6, generator=seeded(5))
    assert torch.equal(sample_flow(model, tokens, 2, 3.0, seed=5), start)
    anchors = some_anchors(2)
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


def test_probe_losses_reach_the_tokens_and_know_the_truth(model: FlowModel) -> None:
    tokens = some_tokens(3).requires_grad_(True)
    anchors = some_anchors(3)
    seen = torch.rand(3, GRID**2, len(SEEN) * CELLS_PER_PATCH**2, generator=seeded())
    batch = Batch(torch.zeros(0), anchors, seen, torch.rand(3, LANDMARKS * 2, generator=seeded()))
    losses = probe_losses(model, tokens, batch)
    assert set(losses) == {"shape", "places", "dense"}
    sum(losses.values(), torch.zeros(())).backward()
    assert tokens.grad is not None
    assert (tokens.grad[:, FIRST_PATCH:].abs().amax((0, 2)) > 0).all()
    assert (tokens.grad[:, 0].abs() > 0).any()
    assert not tokens.grad[:, 1:FIRST_PATCH].any()  # registers are free
    told = model.read(tokens).detach() * model.deviation @ model.components
    right = batch._replace(anchors=told.unflatten(1, (-1, 6)))
    assert float(probe_losses(model, tokens, right)["shape"].detach()) == pytest.approx(0, abs=1e-6)


def test_what_is_seen_in_every_patch() -> None:
    side = 3 * config.IMAGE_SIZE // 2
    normals = torch.zeros(1, side, side, 3, dtype=torch.int8)
    materials = torch.zeros(1, side, side, dtype=torch.uint8)
    materials[:, : side // 2] = Material.HAIR
    materials[:, side // 2 :, : side // 2] = Material.BEARD
    normals[:, side // 2 :, :, 0] = -127
    seen = what_is_seen(normals, materials)
    assert seen.shape == (1, GRID**2, len(SEEN) * CELLS_PER_PATCH**2)
    cells = seen.view(GRID, GRID, len(SEEN), CELLS_PER_PATCH**2)
    top, bottom = left, right = slice(0, GRID // 2), slice(GRID // 2, GRID)
    hair, skin = SEEN.index((Material.HAIR,)), SEEN.index((Material.SKIN, Material.BEARD))
    assert (cells[top][:, :, hair] == 1).all()
    assert (cells[bottom][:, :, hair] == 0).all()
    assert (cells[bottom][:, left][:, :, skin] == 1).all()
    assert (cells[bottom][:, right][:, :, skin] == 0).all()
    assert (cells[bottom][:, :, 0] == -1).all()
    assert (cells[top][:, :, 0] == 0).all()


def test_positions_can_be_told_apart() -> None:
    waves = plane_waves(GRID, 64)
    assert waves.shape == (GRID**2, 64)
    apart = torch.cdist(waves, waves) + torch.eye(GRID**2) * 9
    assert float(apart.min()) > 0.1
    assert float(waves.abs().max()) <= 0.5
