"""The probes that teach the encoder to see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models import mini as config
from training.gbuffers import LANDMARKS, Material
from training.lessons import (
    CELLS_PER_PATCH,
    FIRST_PATCH,
    GRID,
    PROBE_COMPONENTS,
    SEEN,
    SEEN_CHANNELS,
    Lessons,
    what_is_seen,
)

CHANNELS = 48


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_anchors(count: int) -> Tensor:
    """Anchors of heads that differ in a hundred ways, most in the first."""
    directions = torch.randn(100, config.NUM_LATENTS * 6, generator=seeded(1))
    amounts = torch.randn(count, 100, generator=seeded(2)) / torch.arange(1, 101) ** 0.5
    return (amounts @ directions).unflatten(1, (-1, 6))


def some_tokens(count: int) -> Tensor:
    return torch.randn(count, FIRST_PATCH + GRID**2, CHANNELS, generator=seeded(3))


@pytest.fixture(scope="module")
def lessons() -> Lessons:
    torch.manual_seed(0)
    probes = Lessons(CHANNELS, config.NUM_LATENTS * 6)
    with torch.no_grad():
        probes.fit(some_anchors(400))
    return probes


def test_components_are_orthonormal_and_white(lessons: Lessons) -> None:
    product = lessons.components @ lessons.components.T
    assert torch.allclose(product, torch.eye(PROBE_COMPONENTS), atol=1e-4)
    codes = some_anchors(400).flatten(1) @ lessons.components.T / lessons.deviation
    assert codes.std(0).tolist() == pytest.approx([1.0] * PROBE_COMPONENTS, rel=0.05)
    assert lessons.deviation.tolist() == sorted(lessons.deviation.tolist(), reverse=True)


def test_losses_reach_the_tokens_and_know_the_truth(lessons: Lessons) -> None:
    tokens = some_tokens(3).requires_grad_(True)
    seen = torch.rand(3, GRID**2, SEEN_CHANNELS, generator=seeded())
    places = torch.rand(3, LANDMARKS, 2, generator=seeded())
    losses = lessons.losses(tokens, some_anchors(3), seen, places)
    assert set(losses) == {"shape", "places", "dense"}
    sum(losses.values(), torch.zeros(())).backward()
    assert tokens.grad is not None
    assert (tokens.grad[:, FIRST_PATCH:].abs().amax((0, 2)) > 0).all()
    assert (tokens.grad[:, 0].abs() > 0).any()
    assert not tokens.grad[:, 1:FIRST_PATCH].any()  # registers are free
    with torch.no_grad():
        told = (lessons.read(tokens) * lessons.deviation @ lessons.components).unflatten(1, (-1, 6))
        dense = lessons.dense(tokens[:, FIRST_PATCH:])
        right = lessons.losses(tokens, told, dense, lessons.places(tokens))
    assert [float(loss) for loss in right.values()] == pytest.approx([0, 0, 0], abs=1e-6)


def test_a_landmark_is_found_wherever_its_patch_lies(lessons: Lessons) -> None:
    tokens = torch.zeros(2, FIRST_PATCH + GRID**2, CHANNELS)
    for picture, (row, column) in enumerate(((1, 2), (GRID - 1, 5))):
        tokens[picture, FIRST_PATCH + row * GRID + column, 0] = 1
    probe = Lessons(CHANNELS, config.NUM_LATENTS * 6).landmarks
    with torch.no_grad():
        probe.weight.zero_()
        probe.bias.zero_()
        probe.weight[0, 0], probe.weight[1, 0], probe.weight[2, 0] = 100.0, 0.5, -0.25  # votes of landmark 0
        whole = Lessons(CHANNELS, config.NUM_LATENTS * 6)
        whole.landmarks = probe
        got = (whole.places(tokens)[:, 0] + 1) * GRID / 2
    assert torch.allclose(got, torch.tensor([[3.0, 1.25], [6.0, GRID - 0.75]]), atol=1e-5)


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
