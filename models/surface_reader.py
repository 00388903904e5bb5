"""The network that finds points of the head's surface in an aligned cut: dense landmarks.

A linear reading of all evidence says about where they are. Twice, the map of features is looked at there,
and what is seen at all points together moves them, along the directions in which such places vary. So each
point helps to find the others, and none can leave the head (cf. supervised descent, Xiong & De la Torre 2013,
and dense landmarks, Wood et al., arXiv 2204.02776).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.face_trunk import STAGES

LOOKS = 2
TURNED = 40  # coordinates whose products with the pose count in estimates


class Read(NamedTuple):
    """Where the surface is, as it was found at first and after each look, and what the last look saw."""

    coordinates: list[Tensor]  # [B,K] each, at unit variance
    seen: Tensor  # [B,P*16]


class Pyramid(nn.Module):
    """Brings the trunk's maps together at the size of the middle one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        fine, middle, coarse = (filters for filters, _, _ in STAGES)
        self.fine = nn.Conv2d(fine, channels, 3, 2)
        self.middle = nn.Conv2d(middle, channels, 1)
        self.coarse = nn.Conv2d(coarse, channels, 1)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return a map [B,C,17,17] of those that `FaceTrunk.maps` returns."""
        fine, middle, coarse = maps
        size = list(middle.shape[-2:])
        x = F.interpolate(self.coarse(coarse), size=size, mode="bilinear", align_corners=True)
        x = F.relu(x + self.middle(middle) + self.fine(fine))
        made: Tensor = x + self.second(F.relu(self.first(x)))
        return made


class Look(nn.Module):
    """Says how far all points are from where they are looked for, by the features there."""

    def __init__(self, channels: int, points: int, coordinates: int, width: int = 64, kept: int = 16) -> None:
        super().__init__()
        self.into = nn.Linear(channels, width)
        self.points = nn.Parameter(0.3 * torch.randn(points, width))
        self.keep = nn.Linear(width, kept)
        self.kept_bias = nn.Parameter(torch.zeros(points, kept))
        self.out = nn.Linear(points * kept, coordinates)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the move [B,K] and what was seen [B,P*kept], for features [B,P,C] at the points."""
        seen = F.relu(self.keep(F.relu(self.into(features) + self.points)) + self.kept_bias).flatten(1)
        return self.out(seen), seen


class SurfaceReader(nn.Module):
    """Finds points of the surface [P] in a cut, as coordinates [K] of all their places together."""

    mean: Tensor  # [P*A] places in half sides of the cut, from its middle; z is depth, nearer is larger
    basis: Tensor  # [K,P*A] a unit of each coordinate
    share: Tensor  # [K] each coordinate's deviation, over the first one's
    looks: Any  # nn.ModuleList of Look

    def __init__(
        self, regressors: int, points: int, coordinates: int, channels: int = 96, axes: int = 3
    ) -> None:
        """axes: 3 for places with depth, 2 without."""
        super().__init__()
        self.axes = axes
        self.register_buffer("mean", torch.zeros(points * axes))
        self.register_buffer("basis", torch.zeros(coordinates, points * axes))
        self.register_buffer("share", torch.zeros(coordinates))
        self.pyramid = Pyramid(channels)
        self.about = nn.Linear(regressors, coordinates)
        self.looks = nn.ModuleList(Look(channels, points, coordinates) for _ in range(LOOKS))

    def forward(self, maps: list[Tensor], regressors: Tensor) -> Read:
        """Read the trunk's maps; regressors: [B,R] what else the points are about linear in."""
        found = [self.about(regressors)]
        features = self.pyramid(maps).float()
        seen = features.new_zeros(0)
        for look in self.looks:
            move, seen = look(sampled(features, self.places(found[-1].detach())[..., :2]))
            found.append(found[-1] + move)
        return Read(found, seen)

    def places(self, coordinates: Tensor) -> Tensor:
        """Return the places [B,P,A] of coordinates [B,K]."""
        return (coordinates @ self.basis + self.mean).unflatten(1, (-1, self.axes))

    def regressors(self, coordinates: Tensor, pose: Tensor) -> Tensor:
        """Return what heads are linear in, [B,K+5*TURNED], by coordinates [B,K], yaw and pitch [B,2]."""
        turned = coordinates[:, :TURNED, None] * turns_of(pose)[:, None]
        return torch.cat([coordinates * self.share.sqrt(), 0.5 * turned.flatten(1)], 1)

    @torch.no_grad()
    def fit(self, places: Tensor) -> None:
        """Take the principal directions of places [n,P,A]."""
        flat = places.flatten(1)
        self.mean.copy_(flat.mean(0))
        torch.manual_seed(0)  # the decomposition is randomised
        _, values, basis = torch.pca_lowrank(flat - self.mean, len(self.basis), center=False, niter=4)
        deviation = values / len(flat) ** 0.5
        self.basis.copy_((basis * deviation).T)
        self.share.copy_(deviation / deviation[0])

    def coordinates_of(self, places: Tensor) -> Tensor:
        """Return the coordinates [B,K] of places [B,P,A]."""
        directions = self.basis / self.basis.square().sum(1, keepdim=True)
        return (places.flatten(1) - self.mean) @ directions.T


def turns_of(pose: Tensor) -> Tensor:
    """Return yaw, pitch and their products [B,5] of poses [B,2]."""
    yaw, pitch = pose.split(1, 1)
    return torch.cat([yaw, pitch, yaw * yaw, yaw * pitch, pitch * pitch], 1)


def sampled(features: Tensor, places: Tensor) -> Tensor:
    """Return the features [B,P,C] of maps [B,C,H,W] at places [B,P,2], between their cells.

    Places are -1..1 from the middle of the first cell to that of the last; those beyond are moved to the
    edge. It is a matrix product, since runtimes are slow at sampling grids, or cannot.
    """

    def weights(at: Tensor, cells: int) -> Tensor:
        cell = (at.clamp(-1, 1) + 1) * (cells - 1) / 2
        return F.relu(1 - (cell[..., None] - torch.arange(cells, dtype=at.dtype)).abs())

    across, down = (weights(places[..., i], features.shape[3 - i]) for i in (0, 1))
    both = (down[..., :, None] * across[..., None, :]).flatten(2)
    return both @ features.flatten(2).transpose(1, 2)
