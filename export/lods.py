"""`python -m export lods`: give a bundle levels of detail, made by half-edge collapses."""

from __future__ import annotations

import argparse
import dataclasses
import heapq
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from topos_rt.head.lod import Lod
from topos_rt.head.rig import Rig
from topos_rt.head.topology import Topology
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.support.directories import replacing
from topos_rt.support.files import check_writable

SHARES = (0.5, 0.25)  # shares of the triangles that levels 1, 2 … keep
LOCKED_REGIONS = ("lips", "eyelids", "eyes")  # the borders of these regions stay as they are
# The full poses of these blendshapes count as heads of their own, so that parts which bend keep vertices.
POSES = (
    "jawOpen", "mouthSmileLeft", "mouthSmileRight", "mouthFunnel", "eyeBlinkLeft", "eyeBlinkRight",
    "browInnerUp", "tongueOut",
)  # fmt: skip
_TURNED = 0.2  # least cosine between a triangle's normals before and after a collapse
_THIN = 0.02  # least of twice a triangle's area over its longest side squared
_THINNER = 0.5  # or least share of what that was before: thin triangles may stay thin
_BOUNDARY_WEIGHT = 10.0  # weight of the planes that stand on open boundaries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lods`."""
    parser.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="directory of the bundle, which is changed"
    )


def run(arguments: argparse.Namespace) -> None:
    """Make the levels for the bundle's mean head, store them in its topology, and renew the manifest."""
    bundle = Bundle.open(arguments.bundle)
    manifest = bundle.manifest
    check_writable(bundle.path / manifest.topology)
    positions = bundle.hierarchy.levels[0].features[:, :3] @ manifest.frame.rotation.T
    topology = with_lods(bundle.topology, positions[None] * manifest.frame.radius_m, bundle.rig)
    with replacing(bundle.path, keep=True) as staging:
        topology.save(staging / manifest.topology)
        write_manifest(staging, manifest)
    for level, lod in enumerate(topology.lods, 1):
        print(f"level {level}: {len(lod.vertices):,} vertices, {len(lod.triangles):,} triangles")


def with_lods(topology: Topology, heads: np.ndarray, rig: Rig | None) -> Topology:
    """Return the topology with levels of detail.

    heads: [P,V,3] in the units of the rig, which adds the poses of its blendshapes `POSES`.
    """
    names = () if rig is None else rig.shape_names
    poses = [heads.mean(0) + rig.shape(name) for name in POSES if rig is not None and name in names]
    lods = make_lods(topology, np.concatenate([heads, poses]) if poses else heads)
    return dataclasses.replace(topology, lods=lods)


def make_lods(topology: Topology, heads: np.ndarray, shares: Sequence[float] = SHARES) -> tuple[Lod, ...]:
    """Make levels with the given shares of the triangles, each from the one before.

    A half-edge collapse takes a vertex u into its neighbour v, which stays where it is, so the vertices of a
    level are some of those of the level above. The cheapest collapse comes first. Its cost is the quadric
    error (Garland & Heckbert 1997, Surface Simplification Using Quadric Error Metrics) of v's place in the
    planes that u stands for, summed over the heads, so that parts which move or differ keep their vertices. A
    collapse is forbidden where it would

    - tear or fold the surface: it must meet the link condition (Dey et al. 1999), and may neither turn a
      triangle nor make it thin, in any head;
    - move a UV seam: each of u's UVs must have one of v's across a shared edge;
    - move an open boundary or the border of one of LOCKED_REGIONS. Other borders move only along themselves.

    heads: [P,V,3], the heads and poses, of about the same size, whose shape is kept. The same input gives the
    same levels. A level keeps more triangles than its share where nothing more may be collapsed.
    """
    work = _Collapse(topology, np.asarray(heads, np.float64))
    aims = [round(share * len(topology.triangles)) for share in shares]
    return tuple(work.down_to(aim) for aim in aims)


class _Collapse:
    """A triangle mesh that is being collapsed."""

    def __init__(self, topology: Topology, heads: np.ndarray) -> None:
        self._heads = np.ascontiguousarray(heads.transpose(1, 0, 2))  # [V,P,3]
        self._triangles = topology.triangles.astype(np.int64).copy()
        has_uvs = topology.has_uvs
        self._uvs = (topology.triangle_uvs if has_uvs else np.zeros_like(topology.triangles)).copy()
        self._has_uvs = has_uvs
        self._alive = np.ones(len(self._triangles), bool)
        self._around: list[set[int]] = [set() for _ in range(topology.num_vertices)]
        for number, corners in enumerate(self._triangles.tolist()):
            for vertex in corners:
                self._around[vertex].add(number)
        self._version = np.zeros(topology.num_vertices, np.int64)
        self._boundary = self._on_boundary()
        self._mark, self._border, self._locked = self._regions(topology)
        self._quadrics = self._first_quadrics()
        self._queue: list[tuple[float, int, int, int]] = []  # cost, u, v, version of u at that time
        for vertex in range(topology.num_vertices):
            self._push(vertex)

    def down_to(self, aim: int) -> Lod:
        """Collapse until `aim` triangles are left or nothing more may be collapsed."""
        left = int(self._alive.sum())
        while left > aim and self._queue:
            _, u, v, version = heapq.heappop(self._queue)
            if version != self._version[u] or v not in self._neighbours(u):
                continue
            wedges = self._allowed(u, v)
            if wedges is not None:
                left -= self._apply(u, v, wedges)
        kept = self._triangles[self._alive]
        vertices, triangles = np.unique(kept, return_inverse=True)
        uvs = self._uvs[self._alive] if self._has_uvs else np.zeros((0, 3), np.int64)
        return Lod(vertices, triangles.reshape(-1, 3), uvs)

    def _on_boundary(self) -> np.ndarray:
        """Mark [V] the ends of edges that have one triangle, or more than two, beside them."""
        sides = np.sort(self._triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1)
        edges, counts = np.unique(sides, axis=0, return_counts=True)
        self._open = {(int(a), int(b)) for a, b in edges[counts != 2]}
        marked = np.zeros(len(self._around), bool)
        marked[edges[counts != 2].ravel()] = True
        return marked

    def _regions(self, topology: Topology) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return each vertex's regions as bits, whether a neighbour has others, and whether it must stay."""
        count = topology.num_vertices
        mark, locking = np.zeros(count, np.int64), np.zeros(count, np.int64)
        for bit, (name, ids) in enumerate(sorted(topology.regions.items())):
            mark[ids] |= 1 << bit
            if name in LOCKED_REGIONS:
                locking[ids] |= 1 << bit
        a, b = topology.edges.T
        border, locked = np.zeros(count, bool), self._boundary.copy()
        border[a[mark[a] != mark[b]]] = True
        locked[a[locking[a] != locking[b]]] = True
        return mark, border, locked

    def _first_quadrics(self) -> np.ndarray:
        """Return the quadrics [V,P,10] of the triangles at each vertex, weighted by area.

        The ten numbers are the upper triangle of a symmetric 4x4 matrix.
        """
        quadrics = np.zeros((len(self._around), self._heads.shape[1], 10))
        corners = self._heads[self._triangles]  # [F,3,P,3]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        double = np.linalg.norm(cross, axis=2, keepdims=True)
        normals = cross / np.maximum(double, 1e-30)
        planes = _plane_quadrics(normals, corners[:, 0]) * (double / 6)
        for corner in range(3):
            np.add.at(quadrics, self._triangles[:, corner], planes)
        for triangle, ids in enumerate(self._triangles.tolist()):
            for a, b in ((ids[0], ids[1]), (ids[1], ids[2]), (ids[2], ids[0])):
                if (min(a, b), max(a, b)) in self._open:
                    side = self._heads[b] - self._heads[a]
                    upright = np.cross(side, normals[triangle])
                    square = (side**2).sum(1, keepdims=True)
                    upright /= np.maximum(np.linalg.norm(upright, axis=1, keepdims=True), 1e-30)
                    plane = _BOUNDARY_WEIGHT * square * _plane_quadrics(upright, self._heads[a])
                    quadrics[[a, b]] += plane
        return quadrics

    def _neighbours(self, vertex: int) -> set[int]:
        found = {int(i) for t in self._around[vertex] for i in self._triangles[t]}
        found.discard(vertex)
        return found

    def _push(self, u: int) -> None:
        """Queue the collapses of u into its neighbours, by cost."""
        if self._locked[u]:
            return
        others = [
            v
            for v in sorted(self._neighbours(u))
            if self._mark[v] == self._mark[u] and (not self._border[u] or self._border[v])
        ]
        if not others:
            return
        costs = _costs(self._quadrics[u], self._heads[others])
        for v, cost in zip(others, costs.tolist(), strict=True):
            heapq.heappush(self._queue, (cost, u, v, int(self._version[u])))

    def _allowed(self, u: int, v: int) -> dict[int, int] | None:
        """Return v's UV id for each of u's where u may collapse into v, else None."""
        shared = self._around[u] & self._around[v]
        tips = {int(i) for t in shared for i in self._triangles[t]} - {u, v}
        if len(shared) != 2 or len(tips) != 2 or self._neighbours(u) & self._neighbours(v) != tips:
            return None
        wedges: dict[int, int] = {}
        for t in shared:
            ids = self._triangles[t].tolist()
            own, other = int(self._uvs[t, ids.index(u)]), int(self._uvs[t, ids.index(v)])
            if wedges.setdefault(own, other) != other:
                return None
        moved = np.array(sorted(self._around[u] - shared))
        if len(moved) == 0:
            return None
        at = self._triangles[moved] == u
        if not set(self._uvs[moved][at].tolist()) <= set(wedges):
            return None
        return wedges if self._stays_sound(moved, at, v) else None

    def _stays_sound(self, moved: np.ndarray, at: np.ndarray, v: int) -> bool:
        """Tell whether no triangle turns over or gets thin in any head when its corner moves to v."""
        ids = self._triangles[moved]
        before, square_before = self._normals(ids)
        after, square_after = self._normals(np.where(at, v, ids))
        area_before, area_after = (np.linalg.norm(x, axis=2) for x in (before, after))
        if (area_after <= 0).any():
            return False
        cosine = (before * after).sum(2) / np.maximum(area_before * area_after, 1e-30)
        shape_before, shape_after = area_before / square_before, area_after / square_after
        sound = (shape_after >= _THIN) | (shape_after >= _THINNER * shape_before)
        return bool((cosine >= _TURNED).all() and sound.all())

    def _normals(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return normals [n,P,3] as long as twice the area, and the longest side squared [n,P]."""
        a, b, c = self._heads[ids].transpose(1, 0, 2, 3)
        longest = np.maximum.reduce([((x - y) ** 2).sum(2) for x, y in ((a, b), (b, c), (c, a))])
        return np.cross(b - a, c - a), np.maximum(longest, 1e-30)

    def _apply(self, u: int, v: int, wedges: dict[int, int]) -> int:
        """Collapse u into v, and return the number of triangles that this removes."""
        gone = self._around[u] & self._around[v]
        for t in gone:
            self._alive[t] = False
            for i in self._triangles[t].tolist():
                self._around[i].discard(t)
        for t in self._around[u]:
            corner = self._triangles[t].tolist().index(u)
            self._triangles[t, corner] = v
            self._uvs[t, corner] = wedges[int(self._uvs[t, corner])]
            self._around[v].add(t)
        self._around[u] = set()
        self._quadrics[v] += self._quadrics[u]
        self._version[u] += 1
        # v has new costs, its neighbours have new neighbours, and a forbidden collapse may now be allowed.
        for vertex in sorted({v} | self._neighbours(v)):
            self._version[vertex] += 1
            self._push(vertex)
        return len(gone)


def _plane_quadrics(normals: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the quadrics [...,10] of the planes through points [...,3] with unit normals [...,3]."""
    offset = -(normals * points).sum(-1, keepdims=True)
    plane = np.concatenate([normals, offset], -1)
    rows, columns = np.triu_indices(4)
    return plane[..., rows] * plane[..., columns]


def _costs(quadric: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the errors [n] of a vertex with quadrics [P,10] at places [n,P,3], summed over the heads."""
    full = np.concatenate([places, np.ones_like(places[..., :1])], -1)
    rows, columns = np.triu_indices(4)
    twice = np.where(rows == columns, 1.0, 2.0)
    return (full[..., rows] * full[..., columns] * (quadric * twice)).sum((1, 2))
