"""A smooth, symmetric map from the middles of what was found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import RBFInterpolator

from topos_rt.faces.bundle import CanonicalFace
from topos_rt.scan.surface import closest_on_triangles, kd_tree

# Landmarks on the inner rims of the lips, which meet where the mouth is closed.
INNER_LIPS = (
    78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 95, 88, 178, 87, 14, 317, 402, 318, 324,
)  # fmt: skip
_METRES = 0.01  # of the canonical face's unit
_SMOOTHING = 3e-5  # of the thin-plate spline over metres; medians are followed to about a millimetre
_CANDIDATES = 60  # triangles near a point


def symmetric(points: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Return landmarks [468,3], NaN where unknown, made mirror images of each other about a plane of x."""
    other = points[mirrored]
    plane = np.nanmedian((points + other)[:, 0]) / 2
    reflected = other * [-1, 1, 1] + [2 * plane, 0, 0]
    both = (points + reflected) / 2
    return np.where(np.isnan(both), np.where(np.isnan(points), reflected, points), both)


def warped(canonical: CanonicalFace, points: np.ndarray, apart: Sequence[int] = INNER_LIPS) -> np.ndarray:
    """Return the canonical face, warped to landmarks [468,3] in metres: all 468, in its order on the face.

    Landmarks that are NaN, or in `apart`, do not pull. The warp is a thin-plate spline with smoothing.
    """
    source = canonical.positions.astype(np.float64) * _METRES
    pulls = ~np.isnan(points[:, 0])
    pulls[list(apart)] = False
    spline = RBFInterpolator(source[pulls], points[pulls], smoothing=_SMOOTHING, kernel="thin_plate_spline")
    return np.asarray(spline(source))


def project(
    points: np.ndarray, positions: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a surface nearest to points [n,3]: vertex ids [n,3] and barycentric weights [n,3].

    triangles: [F,3] of the surface, whose vertices are at positions [V,3].
    """
    count = min(_CANDIDATES, len(triangles))
    _, near = kd_tree(positions[triangles].mean(1)).query(points, count)
    near = near.reshape(len(points), count)
    corners = positions[triangles[near]].reshape(-1, 3, 3)
    closest = closest_on_triangles(np.repeat(points, count, 0), corners).reshape(len(points), count, 3)
    best = np.linalg.norm(closest - points[:, None], axis=2).argmin(1)
    rows = np.arange(len(points))
    ids = triangles[near[rows, best]]
    a, b, c = positions[ids].transpose(1, 0, 2)
    u, v, w = b - a, c - a, closest[rows, best] - a
    # the least-squares weights of w in the plane of u and v
    uu, uv, vv, wu, wv = ((x * y).sum(1) for x, y in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    area = np.maximum(uu * vv - uv * uv, 1e-30)
    second, third = (vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area
    weights = np.stack([1 - second - third, second, third], 1).clip(0)
    return ids, weights / weights.sum(1, keepdims=True)
