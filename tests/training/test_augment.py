"""Pictures, patch contents and landmarks move together."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from models import mini as config
from training.augment import moved, random_maps, varied
from training.lessons import CELLS_PER_PATCH, GRID, SEEN_CHANNELS

SIDE = config.IMAGE_SIZE


def test_no_move_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.eye(2, 3).expand(2, 2, 3)
    before = (
        torch.rand(2, 3, SIDE, SIDE, generator=generator),
        torch.rand(2, GRID**2, SEEN_CHANNELS, generator=generator),
        torch.rand(2, 7, 2, generator=generator),
    )
    for got, want in zip(moved(maps, *before), before, strict=True):
        assert torch.allclose(got, want, atol=1e-5)


def test_a_spot_stays_under_its_landmark() -> None:
    maps = random_maps(20, torch.Generator().manual_seed(1))
    places = torch.rand(20, 1, 2, generator=torch.Generator().manual_seed(2)) - 0.5
    axis = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    far = (axis[None, None, :] - places[:, :, :1]) ** 2 + (axis[None, :, None] - places[:, :, 1:]) ** 2
    spots = torch.exp(-far / 0.02)[:, None].expand(-1, 3, -1, -1)
    cells = F.adaptive_avg_pool2d(spots[:, :1], GRID * CELLS_PER_PATCH)
    seen = F.pixel_unshuffle(cells, CELLS_PER_PATCH).flatten(2).transpose(1, 2)
    seen = F.pad(seen, (0, SEEN_CHANNELS - seen.shape[2]))
    pixels, told, landmarks = moved(maps, spots, seen, places)
    weight = pixels[:, 0] / pixels[:, 0].sum((1, 2), keepdim=True)
    across, down = axis[None, None], axis[None, :, None]
    centre = torch.stack([(weight * across).sum((1, 2)), (weight * down).sum((1, 2))], 1)
    assert torch.allclose(centre, landmarks[:, 0], atol=0.02)
    assert not torch.allclose(centre, places[:, 0], atol=0.02)
    brightest = told[..., : CELLS_PER_PATCH**2].sum(2).argmax(1)
    patch = torch.stack([brightest % GRID, brightest // GRID], 1)
    assert ((patch + 0.5) * 2 / GRID - 1 - landmarks[:, 0]).abs().max() < 1.5 / GRID


def test_pictures_vary_in_light_and_not_in_place() -> None:
    """No two of a batch of one picture are alike, and unmoved ones still show it."""
    picture = F.interpolate(
        torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(3)), SIDE, mode="bilinear"
    )
    generator = torch.Generator().manual_seed(4)
    maps = random_maps(64, generator, 0.0)
    assert torch.equal(maps, torch.eye(2, 3).expand(64, 2, 3))
    made = varied(picture.expand(64, -1, -1, -1), maps, generator)
    assert float(made.min()) >= 0 and float(made.max()) <= 1
    assert len({float(one.mean()) for one in made}) == 64
    grey = made.std(1).mean((1, 2)) < 0.03  # only noise is left of the colours
    assert 0.02 < float(grey.float().mean()) < 0.3
    want = (picture.mean(1) - picture.mean()).flatten()
    alike = [float(F.cosine_similarity(one.mean(0).flatten() - one.mean(), want, 0)) for one in made]
    assert sorted(alike)[32] > 0.9
