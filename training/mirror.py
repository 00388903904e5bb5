"""Pictures seen in a mirror: as many again to learn from, with what is known of them mirrored alike."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from models.evidence import Seen
from topos_rt.faces.expression import NAMES
from topos_rt.head.landmark_map import COUNT

# Of the ten landmarks of the irises, behind the COUNT others: which one lies on the other side.
_IRISES = (5, 8, 7, 6, 9, 0, 3, 2, 1, 4)
_SIDES = {"Left": "Right", "Right": "Left"}


def other_side(name: str) -> str:
    """Return the name of an expression on the other side of the face."""
    for end, other in _SIDES.items():
        if name.endswith(end):
            return name.removesuffix(end) + other
    return name


_SCORES = torch.tensor([NAMES.index(other_side(name)) for name in NAMES])


def mirrored_landmarks(canonical: np.ndarray) -> Tensor:
    """Return which landmark [478] lies on the other side, from the canonical face's map [468]."""
    return torch.from_numpy(np.concatenate([canonical, COUNT + np.array(_IRISES)])).long()


def mirrored_seen(seen: Seen, landmarks: Tensor) -> Seen:
    """Return evidence in a mirror; its features must be those of the mirrored picture already."""
    return Seen(
        seen.landmarks[:, landmarks] * torch.tensor([-1.0, 1.0, 1.0]),
        seen.pose * torch.tensor([-1.0, 1.0]),
        seen.expression[:, _SCORES],
        seen.features,
    )


def mirrored_heads(positions: Tensor, mean: Tensor) -> Tensor:
    """Return heads [n,V,3] in a mirror, with the vertices in their own order; mean: [V,3] a symmetric head.

    Departures from the mean are mirrored, not places, since the vertices of eyeballs have no exact partners.
    """
    flip = torch.tensor([-1.0, 1.0, 1.0])
    _, partners = cKDTree(mean.numpy()).query((mean * flip).numpy())
    return mean + (positions - mean)[:, torch.from_numpy(partners)] * flip
