"""Which landmark and which score of an expression lie on the other side of a face."""

from __future__ import annotations

from functools import cache

import numpy as np

from topos_rt.faces.bundle import FaceBundle
from topos_rt.faces.expression import NAMES
from topos_rt.head.landmark_map import COUNT

# The ten landmarks of the irises follow the COUNT others. This is the one on the other side of each.
_IRISES = (5, 8, 7, 6, 9, 0, 3, 2, 1, 4)
_SIDES = {"Left": "Right", "Right": "Left"}


def other_side(name: str) -> str:
    """Return the name of an expression on the other side of the face."""
    for end, other in _SIDES.items():
        if name.endswith(end):
            return name.removesuffix(end) + other
    return name


@cache
def mirrored_scores() -> list[int]:
    """Return the number of the score on the other side, of each of `topos_rt.faces.expression.NAMES`."""
    return [NAMES.index(other_side(name)) for name in NAMES]


@cache  # it reads a file, and every batch of training asks
def mirrored_landmarks() -> list[int]:
    """Return the number of the landmark on the other side, of each of the 478; the middle's are their own."""
    return np.concatenate([FaceBundle.open().canonical.mirrored, COUNT + np.array(_IRISES)]).tolist()
