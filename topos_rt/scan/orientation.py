"""Whether a scan stands as it should: how well it fits a head as it lies, and turned by right angles.

Scanners and modelling programs put +Z up, or lay a head on its side. The networks take such a scan for an
odd upright head, and decode one that looks plausible. Nothing but a comparison tells.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import NamedTuple

import numpy as np

from topos_rt.scan.alignment import Target, register, residual
from topos_rt.scan.surface import Samples
from topos_rt.support.similarity import Similarity

_POINTS = 400  # of the scan; three times as many of the head
_REFINED = 4  # orientations whose place and size are refined, besides that of the scan
_ITERATIONS = 8


class Orientation(NamedTuple):
    """How well a scan fits a head: residuals as `alignment.residual` gives them."""

    as_it_lies: float
    turned: float  # in the best of the other 23 orientations
    rotation: np.ndarray  # [3,3], what turns the scan to that


def orientation(scan: Samples, head: Samples) -> Orientation:
    """Compare a scan with an upright head that faces +Z, in all orientations that right angles give.

    Both need normals, and both are samples in random order.
    """
    few, aim = _first(scan, _POINTS), Target(_first(head, 3 * _POINTS))
    middles = [np.median(points, axis=0) for points in (few.points, aim.points)]
    sizes = [
        float(np.median(np.linalg.norm(points - middle, axis=1))) or 1.0
        for points, middle in zip((few.points, aim.points), middles, strict=True)
    ]
    scale = sizes[1] / sizes[0]
    starts = [Similarity(scale, turn, middles[1] - scale * turn @ middles[0]) for turn in right_angles()]
    ranked = sorted(range(1, len(starts)), key=lambda i: residual(few, aim, starts[i]))
    found = [
        register(few, aim, starts[i], rotate=False, iterations=_ITERATIONS)[1]
        for i in (0, *ranked[:_REFINED])
    ]
    best = int(np.argmin(found[1:]))
    return Orientation(found[0], found[1 + best], starts[ranked[best]].rotation)


def right_angles() -> np.ndarray:
    """Return the 24 rotations [24,3,3] that turn axes to axes, the identity first."""
    turns = []
    for axes in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            turn = np.zeros((3, 3))
            turn[range(3), axes] = signs
            if np.linalg.det(turn) > 0:
                turns.append(turn)
    turns.sort(key=lambda turn: -np.trace(turn))
    return np.array(turns)


def _first(samples: Samples, count: int) -> Samples:
    normals = None if samples.normals is None else samples.normals[:count]
    return Samples(samples.points[:count], normals)
