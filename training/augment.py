"""Turn, scale and move training pictures with their lessons, so that they are not learned by heart."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training.lessons import CELLS_PER_PATCH, GRID

_TURN, _SCALE, _SHIFT = math.radians(10), 0.12, 0.08


def random_maps(count: int, generator: torch.Generator) -> Tensor:
    """Draw affine maps [count,2,3] from a place in the new picture, -1..1, to its source in the old one."""
    turn, scale, right, down = (2 * torch.rand(4, count, generator=generator) - 1).unbind(0)
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


def _sample(images: Tensor, maps: Tensor, beyond: str) -> Tensor:
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=beyond, align_corners=False)
