"""Turn, scale and move training pictures with their lessons, so that they are not learned by heart."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training.lessons import CELLS_PER_PATCH, GRID

_TURN, _SCALE, _SHIFT = math.radians(10), 0.12, 0.08
_GREY, _BLURRED, _HIDDEN = 0.1, 0.2, 0.3  # shares of the pictures
_NOISE = 0.02


def random_maps(count: int, generator: torch.Generator, far: float = 1.0) -> Tensor:
    """Draw affine maps [count,2,3] from a place in the new picture, -1..1, to its source in the old one.

    far: how much they move, 0 for not at all.
    """
    turn, scale, right, down = (far * (2 * torch.rand(4, count, generator=generator) - 1)).unbind(0)
    angle, size = turn * _TURN, 1 + scale * _SCALE
    cosine, sine = angle.cos() * size, angle.sin() * size
    return torch.stack(
        [torch.stack([cosine, -sine, right * _SHIFT], 1), torch.stack([sine, cosine, down * _SHIFT], 1)], 1
    )


def moved(maps: Tensor, pixels: Tensor, seen: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Move pixels [B,3,S,S], seen [B,patches,SEEN_CHANNELS] and landmarks [B,L,2] by the maps [B,2,3].

    Normals in `seen` are moved but not turned; the maps turn by ten degrees at most.
    """
    picture = _sample(pixels, maps, "reflection")
    cells = seen.transpose(1, 2).unflatten(2, (GRID, GRID))
    cells = _sample(F.pixel_shuffle(cells, CELLS_PER_PATCH), maps, "border")
    patches = F.pixel_unshuffle(cells, CELLS_PER_PATCH).flatten(2).transpose(1, 2)
    places = torch.linalg.solve(maps[:, :, :2], (landmarks - maps[:, None, :, 2]).transpose(1, 2))
    return picture, patches, places.transpose(1, 2)


def varied(pixels: Tensor, maps: Tensor, generator: torch.Generator) -> Tensor:
    """Return pictures [B,3,S,S] moved by maps [B,2,3], in other light and colours, and with noise.

    Some are blurred, some grey, and in some a rectangle is painted over.
    """
    count, side = len(pixels), pixels.shape[-1]

    def some(share: float) -> Tensor:
        return (torch.rand(count, generator=generator) < share).view(-1, 1, 1, 1)

    def about_one(spread: float, channels: int = 1) -> Tensor:
        return torch.exp(spread * (2 * torch.rand(count, channels, 1, 1, generator=generator) - 1))

    pixels = _sample(pixels, maps, "reflection")
    coarse = F.interpolate(F.avg_pool2d(pixels, 3), size=(side, side), mode="bilinear", align_corners=False)
    pixels = torch.where(some(_BLURRED), coarse, pixels)
    pixels = pixels.clamp_min(1e-4) ** about_one(0.3) * about_one(0.25) * about_one(0.1, 3)
    pixels = torch.where(some(_GREY), pixels.mean(1, keepdim=True), pixels)
    middle = 2 * torch.rand(count, 2, 1, generator=generator) - 1
    half = 0.1 + 0.2 * torch.rand(count, 2, 1, generator=generator)
    rows, columns = ((torch.linspace(-1, 1, side) - middle).abs() < half).unbind(1)
    hidden = some(_HIDDEN) & (rows[:, None, :, None] & columns[:, None, None, :])
    pixels = torch.where(hidden, torch.rand(count, 3, 1, 1, generator=generator), pixels)
    return (pixels + _NOISE * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)


def _sample(images: Tensor, maps: Tensor, beyond: str) -> Tensor:
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=beyond, align_corners=False)
