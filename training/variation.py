"""What a picture leaves open: the directions in which heads of different seeds are to vary.

The linear estimate of a head errs in some directions more than in others. Those of its errors that concern no
vertex of the face, which are the back of the head, the ears' place, the depth of the skull and the neck, are
what a picture does not show. A sampler that is cold elsewhere, and warm in these, makes heads that differ in
what nobody can see in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from topos_rt.head.hierarchy import Hierarchy
from topos_rt.support.tensorfile import read_tensors, write_tensors

FILE = "estimate_errors.safetensors"
DIRECTIONS = 24


@dataclass(frozen=True)
class EstimateErrors:
    """What linear estimates are off by. `training.train_flow` writes it, `training.finish` reads it."""

    directions: Tensor  # [k,N*D] orthonormal: those that a picture leaves open
    residual_scale: float  # deviation of what estimates are off by

    @classmethod
    def of(cls, residuals: Tensor, nodes: Tensor) -> EstimateErrors:
        """Find it for residuals [n,N,D] of estimates, and the nodes [N] that `open_nodes` returned."""
        return cls(open_directions(residuals, nodes), residual_scale(residuals))

    def save(self, directory: Path) -> None:
        """Write FILE into a directory."""
        scale = np.array(self.residual_scale, np.float64)
        write_tensors(directory / FILE, {"directions": self.directions.numpy(), "residual_scale": scale}, {})

    @classmethod
    def open(cls, directory: Path) -> EstimateErrors:
        """Read what `save` wrote. Raises InputError for a file that is missing or damaged."""
        tensors, _ = read_tensors(directory / FILE)
        return cls(torch.from_numpy(tensors["directions"]), float(tensors["residual_scale"]))


def residual_scale(residuals: Tensor) -> float:
    """Return the deviation of what estimates are off by, [n,N,D]: the flow's data are residuals over it."""
    return round(float(residuals.square().mean().sqrt()), 4)


def open_nodes(hierarchy: Hierarchy, latents: int, shown: np.ndarray) -> Tensor:
    """Return which nodes [N] of the top level pool no vertex of `shown`, the ids of vertices of the face."""
    node = np.arange(hierarchy.levels[0].features.shape[0])
    for level in hierarchy.levels[1:]:
        node = level.cluster[node]
        if int(level.cluster.max()) + 1 == latents:
            break
    closed = torch.zeros(latents, dtype=torch.bool)
    closed[torch.from_numpy(np.unique(node[shown])).long()] = True
    return ~closed


def open_directions(residuals: Tensor, nodes: Tensor, count: int = DIRECTIONS) -> Tensor:
    """Return the principal directions [count,N*D], orthonormal, of residuals [n,N,D] at some nodes [N]."""
    torch.manual_seed(0)  # the decomposition is randomised
    at = (residuals * nodes[:, None]).flatten(1)
    return torch.pca_lowrank(at, count, center=False, niter=6)[2].T.contiguous()
