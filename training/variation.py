"""What a picture leaves open: the directions in which heads of different seeds are to vary.

The linear estimate of a head errs in some directions more than in others. Those of its errors that concern no
vertex of the face, which are the back of the head, the ears' place, the depth of the skull and the neck, are
what a picture does not show. A sampler that is cold elsewhere, and warm in these, makes heads that differ in
what nobody can see in the picture.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from topos_rt.head.hierarchy import Hierarchy

DIRECTIONS = 24


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
