"""Surfaces, as meshes or point clouds: seeded samples, exact distances, estimated normals.

Needs SciPy's KD-tree (`pip install 'topos-rt[mesh]'`); without it MissingExtraError is raised.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from topos_rt.errors import MeshInputError, MissingExtraError
from topos_rt.support.spatial_hash import boxed_by, hashes, mixed, ranks, unit

NEIGHBOURS = 16  # points from which a normal is estimated
_FIRST, _MOST = 8, 512  # pieces of triangles examined for one point: at first, and at most
_PIECES_PER_TRIANGLE = 4
_FLAT = 1e-20  # least ratio of (2 area)^2 to the fourth power of a triangle's longest side
_MORE = 1.05  # candidates for each sample that is asked for
_ROUNDED = 1 + 1e-9  # what rounding may take off a distance
_BLOCK = 1 << 18  # pairs of a point and a triangle that are handled at once


class Samples(NamedTuple):
    """Points on a surface."""

    points: np.ndarray  # [n,3] float64
    normals: np.ndarray | None  # [n,3] float64, unit length


class Closest(NamedTuple):
    """The nearest point of a surface to each of some points."""

    distances: np.ndarray  # [n] float64
    points: np.ndarray  # [n,3] float64
    normals: np.ndarray | None  # [n,3] float64, of the surface there


@dataclass(frozen=True, eq=False)
class Surface:
    """A mesh of triangles or, where there are none, a cloud of points with or without normals.

    Raises MeshInputError where there are triangles and none of them has an area.
    """

    points: np.ndarray  # [V,3] float64: vertices, or the cloud
    triangles: np.ndarray  # [F,3] integers; [0,3] for a cloud
    normals: np.ndarray | None = None  # [V,3] of a cloud, unit length

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", np.asarray(self.points, np.float64))
        if not self.is_cloud and not self.areas.sum() > 0:
            raise MeshInputError("mesh", got="triangles without area", expected="a surface")

    @property
    def is_cloud(self) -> bool:
        return len(self.triangles) == 0

    @cached_property
    def size(self) -> float:
        """The longest side of the box around the surface; vertices without triangles do not count."""
        points = self.points if self.is_cloud else self._corners.reshape(-1, 3)
        return float(np.ptp(points, axis=0).max())

    @cached_property
    def _corners(self) -> np.ndarray:
        """The corners of the triangles, [F,3,3]."""
        return self.points[self.triangles]

    @cached_property
    def _crosses(self) -> np.ndarray:
        a, b, c = self._corners.transpose(1, 0, 2)
        return np.cross(b - a, c - a)

    @cached_property
    def areas(self) -> np.ndarray:
        """The areas of the triangles, [F]."""
        return np.linalg.norm(self._crosses, axis=1) / 2

    @cached_property
    def face_normals(self) -> np.ndarray:
        """The normals of the triangles, [F,3], of unit length; zero for triangles without area."""
        return self._crosses / np.maximum(2 * self.areas, np.finfo(float).tiny)[:, None]

    def sample(self, count: int, seed: int = 0) -> Samples:
        """Draw `count` points evenly by area, with face normals; from a cloud at most all points, each once.

        The same surface, count and seed give the same points. A surface that is bent a little keeps nearly
        all of them, in the same places of the same triangles.
        """
        if self.is_cloud:
            draw = np.random.Generator(np.random.Philox(seed))
            chosen = draw.permutation(len(self.points))[:count]
            return Samples(self.points[chosen], None if self.normals is None else self.normals[chosen])
        some = np.flatnonzero(self.areas)
        own = mixed(some.astype(np.uint64) ^ mixed(np.array([seed], np.uint64)))
        return _drawn(count, self.areas[some], self._corners[some], own)

    def scattered(self, count: int, seed: int = 0) -> Samples:
        """Draw as `sample` does, but so that the points depend on the surface alone, not on its order.

        The same surface from another file, rounded otherwise, gives the same points but for a few
        (`spatial_hash.py`).
        """
        if self.is_cloud:
            chosen = ranks(self.points, seed)[:count]
            return Samples(self.points[chosen], None if self.normals is None else self.normals[chosen])
        some = np.flatnonzero(self.areas)
        corners = self._corners[some]
        box = boxed_by(corners.reshape(-1, 3))
        # Which corner comes first must not depend on the file either: the one of the least hash or, where
        # corners share a cell, the first of these after the least one.
        corners = _turned(corners, _least_corner(corners))
        keys = np.stack([hashes(corners[:, i], seed, box) for i in range(3)], 1)
        corners = _turned(corners, keys.argmin(1))
        own = _told_apart(hashes(corners.mean(1), seed, box), corners)
        return _drawn(count, self.areas[some], corners, own)

    def closest(self, queries: np.ndarray) -> Closest:
        """Return the point of the triangles (of a cloud: the one of its points) nearest to each query, [n,3].

        This is exact unless more than 512 pieces of triangles compete for a query, which takes one far from a
        surface that bends around it. The point is then off by at most the size of a piece, a fraction of a
        triangle's.
        """
        queries = np.asarray(queries, np.float64)
        if self.is_cloud:
            distances, ids = self._tree.query(queries)
            return Closest(distances, self.points[ids], None if self.normals is None else self.normals[ids])
        distances = np.full(len(queries), np.inf)
        points, owners = np.zeros_like(queries), np.zeros(len(queries), np.int64)
        count, waiting = min(_FIRST, len(self._owner)), np.arange(len(queries))
        while len(waiting):
            settled = np.zeros(len(waiting), bool)
            for block in _blocks(len(waiting), max(1, _BLOCK // count)):
                some = waiting[block]
                far, *found = self._among(queries[some], count, distances[some])
                nearer = found[0] < distances[some]
                for kept, new in zip((distances, points, owners), found, strict=True):
                    kept[some[nearer]] = new[nearer]
                settled[block] = distances[some] <= far - self._reach
            if count in (_MOST, len(self._owner)):
                break
            waiting, count = waiting[~settled], min(4 * count, _MOST, len(self._owner))
        return Closest(distances, points, self.face_normals[owners])

    def _among(self, queries: np.ndarray, count: int, known: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the distance of the last of `count` pieces, and distance, point, triangle of the nearest.

        known: [n] a distance at which each query has a triangle. Pieces that lie farther are not examined,
        and most do, since pieces are small where triangles are; the distance is infinite where all do.
        """
        far, pieces = self._tree.query(queries, count)
        far, pieces = far.reshape(len(queries), count), pieces.reshape(len(queries), count)
        owners = self._owner[pieces]
        row, column = np.nonzero(far - self._radius[owners] <= known[:, None] * _ROUNDED)
        distances, points = np.full(far.shape, np.inf), np.zeros((*far.shape, 3))
        near = closest_on_triangles(queries[row], self._corners[owners[row, column]])
        points[row, column] = near
        distances[row, column] = np.linalg.norm(near - queries[row], axis=1)
        row, best = np.arange(len(queries)), distances.argmin(1)
        return far[:, -1], distances[row, best], points[row, best], owners[row, best]

    @cached_property
    def _split(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The centres of the pieces that the triangles are cut into, their triangles, and radii by triangle.

        One large triangle among small ones would spoil a search by centres. Each triangle is therefore cut
        into k*k equal pieces, with k such that no piece reaches far; there are at most ten times as many
        pieces as triangles.
        """
        centres = self._corners.mean(1)
        radii = np.linalg.norm(self._corners - centres[:, None], axis=2).max(1)
        aim = np.sqrt((radii**2).sum() / (_PIECES_PER_TRIANGLE * len(radii)))
        cuts = np.maximum(1, np.ceil(radii / aim)).astype(np.int64)
        parts, owners = [], []
        for k in np.unique(cuts):
            ids = np.flatnonzero(cuts == k)
            weights = _piece_centres(int(k))
            parts.append((weights @ self._corners[ids]).reshape(-1, 3))
            owners.append(np.repeat(ids, len(weights)))
        return np.concatenate(parts), np.concatenate(owners), radii / cuts

    @property
    def _owner(self) -> np.ndarray:
        return self._split[1]

    @property
    def _radius(self) -> np.ndarray:
        """The radius [F] of the pieces of each triangle."""
        return self._split[2]

    @cached_property
    def _reach(self) -> float:
        return float(self._radius.max())

    @cached_property
    def _tree(self) -> Any:
        return kd_tree(self.points if self.is_cloud else self._split[0])


def _least_corner(corners: np.ndarray) -> np.ndarray:
    """Return, for each triangle [F,3,3], which of its corners comes first by x, then y, then z."""
    best, rows = np.zeros(len(corners), np.int64), np.arange(len(corners))
    for other in (1, 2):
        here, there = corners[rows, best], corners[:, other]
        differ = here != there
        axis = differ.argmax(1)
        best = np.where(differ.any(1) & (there[rows, axis] < here[rows, axis]), other, best)
    return best


def _turned(corners: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return triangles [F,3,3] that begin with corner `first` [F] of each, and go around as before."""
    turn = (first[:, None] + np.arange(3)) % 3
    return np.asarray(corners[np.arange(len(corners))[:, None], turn])


def _drawn(count: int, areas: np.ndarray, corners: np.ndarray, own: np.ndarray) -> Samples:
    """Draw `count` points from triangles, given their areas [f] and corners [f,3,3].

    own: a random number [f] uint64 of each triangle, on which its points depend, and on nothing else. One
    draw for all, along the sums of the areas, would move every point when one triangle grows.
    """
    expected = areas * (count / areas.sum())
    more = _MORE
    while (numbers := np.floor(more * expected + unit(own)).astype(np.int64)).sum() < count:
        more *= _MORE
    ids = np.repeat(np.arange(len(areas)), numbers)
    within = np.arange(len(ids)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    key = mixed(own[ids] + within.astype(np.uint64))
    chosen = np.argsort(key, kind="stable")[:count]
    ids, key = ids[chosen], key[chosen]
    u, v = (unit(mixed(key ^ np.uint64(salt)))[:, None] for salt in (1, 2))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = corners[ids].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Samples(a + u * (b - a) + v * (c - a), normals)


def _told_apart(numbers: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the hashes [F] of triangles [F,3,3], where those of one cell differ too."""
    order = np.argsort(numbers, kind="stable")
    same = np.flatnonzero(numbers[order][1:] == numbers[order][:-1])
    if not len(same):
        return numbers
    places = np.unique(np.concatenate([same, same + 1]))
    tied = order[places]
    tied = tied[np.lexsort((*corners[tied].reshape(-1, 9).T[::-1], numbers[tied]))]
    first = np.flatnonzero(np.diff(numbers[tied], prepend=~numbers[tied[:1]]))
    rank = np.arange(len(tied)) - np.repeat(first, np.diff(first, append=len(tied)))
    result = numbers.copy()
    result[tied] = mixed(numbers[tied] + rank.astype(np.uint64))
    return result


def kd_tree(points: np.ndarray) -> Any:
    """Return SciPy's cKDTree of points [n,k]. Raises MissingExtraError without SciPy."""
    try:
        from scipy.spatial import cKDTree
    except ImportError as error:
        raise MissingExtraError.needs("searching for near points", "mesh") from error
    return cKDTree(points)


def closest_on_triangles(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the point [n,3] of triangle i, corners [n,3,3], nearest to points[i]; its area may be zero.

    It is the foot of the perpendicular where that falls inside the triangle, else a point of the nearest side
    (Ericson, Real-Time Collision Detection, 2005, 5.1.5).
    """
    a, b, c = corners.transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    square = _dot(normal, normal)
    safe = np.where(square > 0, square, 1.0)
    height = _dot(points - a, normal) / safe
    foot = points - height[:, None] * normal
    u = _dot(np.cross(b - a, foot - a), normal) / safe
    v = _dot(np.cross(foot - a, c - a), normal) / safe
    # The normal of a triangle with hardly any area is rounding error; its sides are near enough.
    longest = np.maximum.reduce([_dot(side, side) for side in (b - a, c - b, a - c)])
    inside = (square > _FLAT * longest**2) & (u >= 0) & (v >= 0) & (u + v <= 1)
    sides = np.stack([_on_side(points, *side) for side in ((a, b), (b, c), (c, a))])
    distances = ((sides - points) ** 2).sum(2)
    nearest = sides[distances.argmin(0), np.arange(len(points))]
    return np.where(inside[:, None], foot, nearest)


def estimate_normals(points: np.ndarray) -> np.ndarray:
    """Return unit normals [n,3] float64 of a bare cloud [n,3], n > 2, pointing out of it.

    Each is the direction of least variance of the 16 nearest points. Signs are propagated from point to point
    along the minimum spanning tree of the differences between neighbours' normals. Then each connected part
    is flipped where it points mostly towards the cloud's middle (Hoppe et al. 1992, Surface Reconstruction
    from Unorganized Points).
    """
    _, near = kd_tree(points).query(points, min(NEIGHBOURS, len(points)))
    around = points[near] - points[near].mean(1, keepdims=True)
    normals = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))[1][:, :, 0]
    parts, signs = _agreeing(near, normals)
    normals = normals * signs[:, None]
    outward = _dot(normals, points - (points.min(0) + points.max(0)) / 2)
    turn = np.where(np.bincount(parts, outward) < 0, -1.0, 1.0)
    return np.asarray(normals * turn[parts][:, None])


def filled_normals(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Return the normals [n,3] of a cloud [n,3], with those that are zero estimated from the points around.

    Each is the direction of least variance of the 16 nearest points, on the side of the nearest normal that
    is not zero. Some normal must not be zero.
    """
    bare = np.flatnonzero(~normals.any(1))
    known = np.flatnonzero(normals.any(1))
    _, near = kd_tree(points).query(points[bare], min(NEIGHBOURS, len(points)))
    around = points[near] - points[near].mean(1, keepdims=True)
    found = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))[1][:, :, 0]
    _, nearest = kd_tree(points[known]).query(points[bare])
    away = _dot(found, normals[known[nearest]]) < 0
    result = np.array(normals, np.float64)
    result[bare] = np.where(away[:, None], -found, found)
    return result


def _agreeing(near: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each point's connected part, and the sign that makes its normal agree with its neighbours."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

    n, k = near.shape
    row, column = np.repeat(np.arange(n), k), near.ravel()
    # A weight of zero would mean that there is no edge.
    weight = 1 - np.abs(_dot(normals[row], normals[column])) + 1e-6
    tree = minimum_spanning_tree(csr_matrix((weight, (row, column)), (n, n)))
    count, parts = connected_components(tree, directed=False)
    signs = np.ones(n)
    for first in np.unique(parts, return_index=True)[1][:count]:
        order, before = breadth_first_order(tree, first, directed=False)
        agree = _dot(normals[order[1:]], normals[before[order[1:]]]) >= 0
        for node, same in zip(order[1:].tolist(), agree.tolist(), strict=True):
            signs[node] = signs[before[node]] * (1.0 if same else -1.0)
    return parts, signs


def _piece_centres(k: int) -> np.ndarray:
    """Return the barycentric centres [k*k,3] of the equal triangles made by cutting each side into k."""
    i, j = (grid.ravel() for grid in np.meshgrid(np.arange(k), np.arange(k)))
    up, down = i + j < k, i + j < k - 1
    u = np.concatenate([i[up] + 1 / 3, i[down] + 2 / 3]) / k
    v = np.concatenate([j[up] + 1 / 3, j[down] + 2 / 3]) / k
    return np.stack([1 - u - v, u, v], 1)


def _on_side(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    side = end - start
    square = _dot(side, side)
    t = np.clip(_dot(points - start, side) / np.where(square > 0, square, 1.0), 0, 1)
    return np.asarray(start + t[:, None] * side)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("nk,nk->n", a, b)


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(i, i + size) for i in range(0, count, size)]
