"""Registration of one head to another: trimmed ICP, and a search over all orientations.

ICP: Besl & McKay 1992, A Method for Registration of 3-D Shapes. Trimming leaves out the pairs that are
farthest apart, since scans lack some parts and have extra ones: Chetverikov et al. 2002, The Trimmed
Iterative Closest Point Algorithm. The transform of a set of pairs: Umeyama 1991. Needs SciPy's KD-tree.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.scan.surface import Samples, kd_tree
from topos_rt.support.similarity import Similarity, fit_similarity

ORIENTATIONS = 576  # tried at first; a test bounds how far any rotation is from the nearest of them
_FINALISTS = ((48, 160, 6), (8, 500, 10), (3, 1500, 25))  # candidates, points, iterations of each round
# By how much the rounds from each one on lower the residual at most. On 48 scans of heads (whole, cut and of
# the face alone, turned at random) it was 0.10, 0.06 and 0.02.
_GAINS = (0.16, 0.1, 0.06)
_FIRST_POINTS = 120
_KEPT = 0.8  # share of the pairs that trimming keeps
_FACING = 0.3  # least cosine between the normals of a pair
_FEWEST = 8  # pairs that are enough to fix a transform
_NORMAL_WEIGHT = 0.15  # a normal that is off by 1 counts as this share of a head's radius
_SETTLED = 1e-6


class Target:
    """The head that others are laid over: points with normals, and a KD-tree of the points.

    tree: that tree, where it has been built already.
    """

    def __init__(self, samples: Samples, tree: Any = None) -> None:
        if samples.normals is None:
            raise MeshInputError("points to align", got="no normals", expected="one for each point")
        self.points, self.normals = samples.points, samples.normals
        self.tree: Any = kd_tree(self.points) if tree is None else tree


def register(
    source: Samples,
    target: Target,
    start: Similarity,
    *,
    rotate: bool = True,
    iterations: int = 10,
    back: bool = True,
) -> tuple[Similarity, float]:
    """Run trimmed ICP from a rough start.

    Each point of either head is paired with the nearest point of the other: pairs in one direction alone may
    shrink or swell the source. Pairs whose normals disagree are dropped, and so is the farthest fifth of the
    rest.

    Args:
        source: the head to move; it must have normals.
        rotate: False keeps the orientation of `start`.
        back: False pairs only from the target to the source, so that parts of the source may lie where the
            target has nothing.

    Returns:
        The similarity that takes the source to the target, and its `residual`.
    """
    moved, placed = start, _placed(source, start)
    for _ in range(iterations):
        here, there = _pairs(source, placed, target, back)
        if len(here) < _FEWEST:
            break
        if rotate:
            step = fit_similarity(here, there)
        else:
            step = fit_similarity(moved.points(here), there, rotate=False).after(moved)
        before, moved, placed = placed, step, _placed(source, step)
        if np.abs(placed.points - before.points).max() < _SETTLED * moved.scale:
            break
    return moved, _left(placed, moved.scale * _radius(source.points), target)


def residual(source: Samples, target: Target, moved: Similarity, *, back: bool = True) -> float:
    """Return how badly the moved source fits the target, as a share of the source's radius.

    It is the mean, over both directions, of the trimmed distances between nearest points and their normals.

    back: False takes only the way from the source to the target, of which parts may be missing in the source.
    """
    return _left(_placed(source, moved), moved.scale * _radius(source.points), target, back)


def _placed(source: Samples, moved: Similarity) -> Samples:
    assert source.normals is not None
    return Samples(*moved.both(source.points, source.normals))


def _left(placed: Samples, scale: float, target: Target, back: bool = True) -> float:
    assert placed.normals is not None
    ways = [(placed.points, placed.normals, target.tree, target.normals)]
    if back:
        ways.append((target.points, target.normals, kd_tree(placed.points), placed.normals))
    parts = []
    for queries, own, tree, others in ways:
        distance, ids = tree.query(queries)
        apart = np.linalg.norm(own - others[ids], axis=1)
        cost = np.sort(np.hypot(distance / scale, _NORMAL_WEIGHT * apart))
        parts.append(cost[: max(1, int(_KEPT * len(cost)))].mean())
    return float(np.mean(parts))


def align(source: Samples, target: Samples, seed: int = 0, worst: float = np.inf) -> tuple[Similarity, float]:
    """Return the similarity that lays `source` over `target`, whatever their orientation, and its `residual`.

    Evenly spread rotations are tried with few points; the best are refined by ICP with more and more points.
    Both heads need normals. The same input and seed give the same result.

    worst: the largest residual of any use. Where no refinement will reach it, the search ends with what it
    has, whose residual is larger.
    """
    draw = np.random.Generator(np.random.Philox(seed))
    middles = [np.median(samples.points, axis=0) for samples in (source, target)]
    sizes = [_spread(samples.points) for samples in (source, target)]
    candidates = []
    for rotation in even_rotations(ORIENTATIONS):
        scale = sizes[1] / sizes[0]
        candidates.append(Similarity(scale, rotation, middles[1] - scale * rotation @ middles[0]))
    few, aim = _some(source, _FIRST_POINTS, draw), Target(_some(target, 3 * _FIRST_POINTS, draw))
    ranked = sorted(((residual(few, aim, c), i) for i, c in enumerate(candidates)))
    best, left = [candidates[i] for _, i in ranked], ranked[0][0]
    for (count, points, iterations), gain in zip(_FINALISTS, _GAINS, strict=True):
        if left > worst + gain:
            return best[0], left
        few, aim = _some(source, points, draw), Target(_some(target, 3 * points, draw))
        found = [register(few, aim, start, iterations=iterations) for start in best[:count]]
        found.sort(key=lambda pair: pair[1])
        best, left = [similarity for similarity, _ in found], found[0][1]
    return best[0], left


def even_rotations(count: int) -> np.ndarray:
    """Return rotations [count,3,3], spread evenly over all rotations.

    They lie on a super-Fibonacci spiral (Alexa 2022, Super-Fibonacci Spirals: Fast, Low-Discrepancy Sampling
    of SO(3)).
    """
    phi, psi = np.sqrt(2.0), 1.533751168755204288118041
    s = np.arange(count) + 0.5
    a, b = 2 * np.pi * s / phi, 2 * np.pi * s / psi
    r, q = np.sqrt(s / count), np.sqrt(1 - s / count)
    w, x, y, z = r * np.sin(a), r * np.cos(a), q * np.sin(b), q * np.cos(b)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _pairs(source: Samples, placed: Samples, target: Target, both: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return points of the source, before it was placed, and the points of the target they should reach."""
    assert placed.normals is not None
    distances, ids = kd_tree(placed.points).query(target.points)
    near = _kept(distances, target.normals, placed.normals[ids])
    here, there = source.points[ids[near]], target.points[near]
    if not both:
        return here, there
    distances, ids = target.tree.query(placed.points)
    near = _kept(distances, placed.normals, target.normals[ids])
    return np.concatenate([source.points[near], here]), np.concatenate([target.points[ids[near]], there])


def _kept(distances: np.ndarray, normals: np.ndarray, others: np.ndarray) -> np.ndarray:
    facing = np.flatnonzero((normals * others).sum(1) > _FACING)
    order = np.argsort(distances[facing], kind="stable")
    return facing[order[: int(_KEPT * len(facing))]]


def _some(samples: Samples, count: int, draw: np.random.Generator) -> Samples:
    chosen = draw.permutation(len(samples.points))[:count]
    return Samples(samples.points[chosen], None if samples.normals is None else samples.normals[chosen])


def _radius(points: np.ndarray) -> float:
    return float(np.linalg.norm(points - points.mean(0), axis=1).max()) or 1.0


def _spread(points: np.ndarray) -> float:
    """Return the median distance from the median point, on which outliers have little effect."""
    return float(np.median(np.linalg.norm(points - np.median(points, axis=0), axis=1))) or 1.0
