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
_ALL_AROUND = 0.15  # length of the mean normal below which a scan is taken for a whole head
_FEWEST = 60  # points of a part of the head


class Orientation(NamedTuple):
    """How badly a scan fits a head, as shares of its radius."""

    as_it_lies: float  # from the scan to the head, see `alignment.residual`
    turned: float  # the same in the best of the other 23 orientations
    rotation: np.ndarray  # [3,3], what turns the scan to that
    both_ways: float  # in the better of the two, from the head to the scan as well


def orientation(scan: Samples, head: Samples) -> Orientation:
    """Compare a scan with an upright head that faces +Z, in all orientations that right angles give.

    Both need normals, and both are samples in random order. A scan of the face alone would be laid over the
    middle of the head: therefore each orientation is tried on the part of the head that faces as the scan
    does, and judged by how far the scan is from the head, since the rest of the head may be missing.
    """
    few, whole = _first(scan, _POINTS), _first(head, 3 * _POINTS)
    assert few.normals is not None
    facing, turns = few.normals.mean(0), right_angles()
    aims = [Target(_part(whole, turn @ facing)) for turn in turns]
    starts = [_laid(few, turn, aim) for turn, aim in zip(turns, aims, strict=True)]
    ranked = sorted(range(1, len(starts)), key=lambda i: residual(few, aims[i], starts[i]))
    tried = (0, *ranked[:_REFINED])
    placed = [register(few, aims[i], starts[i], rotate=False, iterations=_ITERATIONS)[0] for i in tried]
    everything = Target(whole)
    found = [residual(few, everything, moved, back=False) for moved in placed]
    best = 1 + int(np.argmin(found[1:]))
    both = min(residual(few, everything, placed[i]) for i in (0, best))
    return Orientation(found[0], found[best], turns[tried[best]], both)


def _part(head: Samples, facing: np.ndarray) -> Samples:
    """Return the points of a head whose normals have this mean [3]: all of them where it is short."""
    length = float(np.linalg.norm(facing))
    if length < _ALL_AROUND:
        return head
    assert head.normals is not None
    cosines = head.normals @ (facing / length)
    order = np.argsort(-cosines, kind="stable")
    means = np.cumsum(cosines[order]) / np.arange(1, len(order) + 1)  # they fall
    count = max(_FEWEST, int(np.searchsorted(-means, -length)))
    return Samples(head.points[order[:count]], head.normals[order[:count]])


def _laid(scan: Samples, turn: np.ndarray, aim: Target) -> Similarity:
    """Return the similarity that turns a scan and lays its middle and size over those of a target."""
    middles = [np.median(points, axis=0) for points in (scan.points, aim.points)]
    sizes = [
        float(np.median(np.linalg.norm(points - middle, axis=1))) or 1.0
        for points, middle in zip((scan.points, aim.points), middles, strict=True)
    ]
    scale = sizes[1] / sizes[0]
    return Similarity(scale, turn, middles[1] - scale * turn @ middles[0])


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
