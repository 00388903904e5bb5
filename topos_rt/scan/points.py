"""Clouds of points with normals: their checks, their placement by a box, and random subsets."""

from __future__ import annotations

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.head.normals import unit_vectors
from topos_rt.scan.settings import MIN_POINTS
from topos_rt.scan.surface import estimate_normals
from topos_rt.support.similarity import Similarity, sphere_frame
from topos_rt.support.spatial_hash import ranks

_FARTHEST = 1e5  # metres


def checked_points(points: np.ndarray, normals: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return points and unit normals, [P,3] float64. None estimates the normals, which needs SciPy.

    Raises:
        MeshInputError: wrong shapes or types, fewer than 16 points, values that are not finite, points that
            all coincide, a point farther than 100 km away, or a normal of length zero.
    """
    points = _checked("points", points)
    normals = _checked("normals", estimate_normals(points) if normals is None else normals)
    if points.shape != normals.shape:
        raise MeshInputError(
            "normals", got=f"{len(normals)} rows", expected=f"{len(points)}, one for each point"
        )
    if np.abs(points).max() > _FARTHEST:
        raise MeshInputError("points", got=f"some beyond {_FARTHEST:g}", expected="a head, in metres")
    if sphere_frame(points)[1] < 1e-6:
        raise MeshInputError("points", got="the same point each time", expected="the surface of a head")
    if not normals.any(axis=1).all():
        raise MeshInputError(
            "normals", got="one of length zero", expected="directions", fix="drop those points"
        )
    return points, unit_vectors(normals).astype(np.float64)


def boxed(points: np.ndarray) -> Similarity:
    """Return the placement of an upright cloud [P,3], by the centre of its box and its farthest point."""
    centre, radius = sphere_frame(points)
    return Similarity(radius, np.eye(3), np.asarray(centre, np.float64))


def random_subset(points: np.ndarray, normals: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` points and normals, chosen at random by where they lie; of fewer, some repeat."""
    order = ranks(points)
    chosen = order[np.arange(count) % len(points)]
    return points[chosen], normals[chosen]


def _checked(what: str, values: np.ndarray) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise MeshInputError(what, got="rows of different lengths", expected="numbers [P,3]") from error
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] != 3 or len(array) < MIN_POINTS:
        raise MeshInputError(
            what, got=f"{array.dtype} {list(array.shape)}", expected=f"numbers [P,3], P >= {MIN_POINTS}"
        )
    bad = np.count_nonzero(~np.isfinite(array))
    if bad:
        raise MeshInputError(what, got=f"{bad} NaN or infinite values", expected="finite values")
    return array.astype(np.float64)
