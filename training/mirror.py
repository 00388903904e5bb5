"""Heads in a mirror: pictures seen so are as many again to learn from."""

from __future__ import annotations

import torch
from scipy.spatial import cKDTree
from torch import Tensor


def mirrored_heads(positions: Tensor, mean: Tensor) -> Tensor:
    """Return heads [n,V,3] in a mirror, with the vertices in their own order; mean: [V,3] a symmetric head.

    Departures from the mean are mirrored, not places, since the vertices of eyeballs have no exact partners.
    """
    flip = torch.tensor([-1.0, 1.0, 1.0])
    _, partners = cKDTree(mean.numpy()).query((mean * flip).numpy())
    return mean + (positions - mean)[:, torch.from_numpy(partners)] * flip
