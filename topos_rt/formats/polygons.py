"""Polygons from files: repeated corners taken out, and triangles that cover exactly what the polygons do.

A fan from the first corner covers a convex polygon; one that is not convex is cut into ears instead, by the
package mapbox-earcut.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from topos_rt.errors import MissingExtraError

_FLAT = 1e-9  # a corner that turns back by less, as a share of the polygon's area, counts as straight
_EQUAL = 1e-6  # share by which the squares of equally long diagonals may differ


class Polygons(NamedTuple):
    """Polygons as indices into the corners of a file, so that any data of a corner can be looked up."""

    sizes: np.ndarray  # [P] int64
    corners: np.ndarray  # [sum of sizes] int64, polygon after polygon
    dropped: int  # polygons left out, for they have fewer than three different corners


def distinct(sizes: np.ndarray, vertices: np.ndarray, positions: np.ndarray) -> Polygons:
    """Return the polygons without repeated corners.

    A corner that repeats the one before it is taken out, so that a quad with one repeated corner becomes a
    triangle. A polygon that comes back to a vertex later on, as one with a bridge to a hole does, becomes
    triangles.

    sizes: [P] corners of each polygon; vertices: [sum of sizes] vertex ids; positions: [V,3].
    """
    sizes = np.asarray(sizes, np.int64)
    corners = np.arange(len(vertices))
    if _all_distinct(sizes, vertices):
        return Polygons(sizes, corners, 0)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    before = _previous(sizes)
    keep = vertices[before] != vertices
    while not keep.all():
        corners, owner = corners[keep], owner[keep]
        sizes = np.bincount(owner, minlength=len(sizes))
        keep = vertices[corners[_previous(sizes)]] != vertices[corners]
    good = sizes >= 3
    dropped = int(np.count_nonzero(~good))
    corners, sizes = corners[good[owner]], sizes[good]
    return _opened(Polygons(sizes, corners, dropped), vertices, positions)


def triangulated(sizes: np.ndarray, vertices: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return triangles [F,3] that cover polygons, as indices into `vertices`, in the polygons' order.

    A quad that is not flat may be cut along either diagonal. It is cut as a fan, but along the shorter one
    in a mesh that is mostly of triangles: there it comes from two triangles that a program has joined.

    The arguments are those of `distinct`; no polygon may have fewer than three corners.

    Raises MissingExtraError where a polygon of five corners or more is not convex and mapbox-earcut is
    missing.
    """
    sizes = np.asarray(sizes, np.int64)
    if (sizes == 3).all():
        return np.arange(len(vertices)).reshape(-1, 3)
    starts = np.cumsum(sizes) - sizes
    shorter = bool(np.count_nonzero(sizes == 3) > np.count_nonzero(sizes == 4))
    parts = [np.zeros((0, 3), np.int64)]
    order = [np.zeros(0, np.int64)]
    for size in np.flatnonzero(np.bincount(sizes)):
        polygons = np.flatnonzero(sizes == size)
        corners = starts[polygons][:, None] + np.arange(size)
        if size == 3:
            triangles = corners
        else:
            places = np.asarray(positions, np.float64)[vertices[corners]]
            triangles = _quads(corners, places, shorter) if size == 4 else _any_size(corners, places)
        parts.append(triangles.reshape(-1, 3))
        order.append(np.repeat(polygons, size - 2))
    # The order of the file, whatever the sizes.
    return np.concatenate(parts)[np.argsort(np.concatenate(order), kind="stable")]


def _fans(corners: np.ndarray) -> np.ndarray:
    """Return the fans [p,n-2,3] of polygons [p,n] from their first corners."""
    steps = range(1, corners.shape[1] - 1)
    return np.stack([corners[:, [0, step, step + 1]] for step in steps], 1)


def _quads(corners: np.ndarray, places: np.ndarray, shorter: bool) -> np.ndarray:
    """Return two triangles for each quad [p,4], along a diagonal that lies inside."""
    a, b, c, d = places.transpose(1, 0, 2)
    first = _dot(np.cross(b - a, c - a), np.cross(c - a, d - a))
    second = _dot(np.cross(c - b, d - b), np.cross(d - b, a - b))
    other = (first < 0) & (second > first)
    if shorter:
        other |= (first >= 0) & (second >= 0) & (_dot(b - d, b - d) < (1 - _EQUAL) * _dot(a - c, a - c))
    triangles = _fans(corners)
    triangles[other] = _fans(corners[other][:, [1, 2, 3, 0]])
    return triangles


def _any_size(corners: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return n-2 triangles for each polygon [p,n]: fans where it is convex, else its ears."""
    triangles = _fans(corners)
    after, before = np.roll(places, -1, 1) - places, places - np.roll(places, 1, 1)
    normal = np.cross(places, np.roll(places, -1, 1)).sum(1)  # Newell's
    square = np.maximum(_dot(normal, normal), np.finfo(float).tiny)
    turns = np.einsum("pnk,pk->pn", np.cross(before, after), normal) / square[:, None]
    for polygon in np.flatnonzero((turns < -_FLAT).any(1)):
        found = ears(places[polygon], normal[polygon])
        if len(found) == len(triangles[polygon]):
            triangles[polygon] = corners[polygon][found]
    return triangles


def ears(places: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Return the triangles [f,3] of one polygon [n,3], seen along its normal, counter-clockwise.

    Raises MissingExtraError without mapbox-earcut.
    """
    try:
        import mapbox_earcut
    except ImportError as error:
        raise MissingExtraError.needs("a polygon that is not convex", "mesh") from error
    drop = int(np.abs(normal).argmax())
    axes = [(drop + 1) % 3, (drop + 2) % 3]
    flat = np.ascontiguousarray(places[:, axes], np.float64)
    found = mapbox_earcut.triangulate_float64(flat, np.array([len(flat)], np.uint32))
    triangles = np.asarray(found, np.int64).reshape(-1, 3)
    a, b, c = flat[triangles].transpose(1, 0, 2)
    areas = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    # The projection along an axis keeps the orientation where the normal points along it.
    backwards = areas.sum() * normal[drop] < 0
    return triangles[:, ::-1] if backwards else triangles


def _opened(polygons: Polygons, vertices: np.ndarray, positions: np.ndarray) -> Polygons:
    """Replace polygons that come back to a vertex by triangles."""
    sizes, corners, dropped = polygons
    if _all_distinct(sizes, vertices[corners]):
        return polygons
    starts = np.cumsum(sizes) - sizes
    new_sizes: list[int] = []
    new_corners: list[np.ndarray] = []
    bad = _repeating(sizes, vertices[corners])
    for polygon, (start, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
        own = corners[start : start + size]
        if not bad[polygon]:
            new_sizes.append(size)
            new_corners.append(own)
            continue
        places = np.asarray(positions, np.float64)[vertices[own]]
        triangles = own[ears(places, np.cross(places, np.roll(places, -1, 0)).sum(0))]
        ids = vertices[triangles]
        triangles = triangles[(ids != np.roll(ids, 1, 1)).all(1)]
        dropped += not len(triangles)
        new_sizes += [3] * len(triangles)
        new_corners.append(triangles.ravel())
    joined = np.concatenate([np.zeros(0, np.int64), *new_corners])
    return Polygons(np.array(new_sizes, np.int64), joined, dropped)


def _all_distinct(sizes: np.ndarray, vertices: np.ndarray) -> bool:
    return not _repeating(sizes, vertices).any()


def _repeating(sizes: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Return which polygons have a vertex twice, [P] bool."""
    result = np.zeros(len(sizes), bool)
    starts = np.cumsum(sizes) - sizes
    for size in np.flatnonzero(np.bincount(sizes)):
        polygons = np.flatnonzero(sizes == size)
        table = vertices[starts[polygons][:, None] + np.arange(size)]
        if size == 3:
            a, b, c = table.T
            result[polygons] = (a == b) | (b == c) | (c == a)
            continue
        table = np.sort(table, axis=1)
        result[polygons] = (table[:, 1:] == table[:, :-1]).any(1)
    return result


def _previous(sizes: np.ndarray) -> np.ndarray:
    """Return, for every corner, the one before it in its polygon."""
    sizes = sizes[sizes > 0]
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    lengths = np.repeat(sizes, sizes)
    return starts + (np.arange(len(starts)) - starts - 1) % lengths


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("nk,nk->n", a, b)
