"""The fixed mesh graph (`Topology`) and the pyramid of coarser graphs the VAE decoder climbs (`Hierarchy`).

Source of the recipe: TOPOS (arXiv 2605.14594) and its release's `tools/build_cluster`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.head.lod import Lod, check_level, lods_from_tensors, lods_to_tensors, reduced_topology
from topos_rt.support.tensorfile import read_tensors, write_tensors

# Two ends of an edge closer than this in [position | normal] make it an edge of type 1 (a self-loop is one).
COINCIDENT = 1e-5
# Polygon sizes are stored as uint8.
MAX_CORNERS = 255
# Rounding may leave a vertex of the sphere-normalised frame this far outside [-1,1].
_FRAME_SLACK = 1e-3
_NO_UVS = np.zeros((0, 2), np.float32)


@dataclass(frozen=True, eq=False)
class Topology:
    """Polygons, UVs and named regions that every head of a model shares.

    Raises MeshInputError when an array has another shape or type, indices are out of range, a polygon has
    fewer than three corners or repeats a vertex, or the UV corners do not match the polygon corners.
    """

    num_vertices: int
    polygon_sizes: np.ndarray  # [P] uint8
    polygon_vertices: np.ndarray  # [sum of sizes] int32, polygon after polygon, counter-clockwise
    polygon_uvs: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))  # same length, or empty
    uvs: np.ndarray = field(default_factory=lambda: _NO_UVS)  # [U,2] float32, origin bottom left
    regions: Mapping[str, np.ndarray] = field(default_factory=dict)  # name -> [n] int32 vertex ids
    lods: tuple[Lod, ...] = ()  # levels of detail 1, 2 …

    def __post_init__(self) -> None:
        self._check()
        for array in (self.polygon_sizes, self.polygon_vertices, self.polygon_uvs, self.uvs):
            array.setflags(write=False)

    def _check(self) -> None:
        sizes, corners = self.polygon_sizes, self.polygon_vertices
        _check_ids("polygon sizes", sizes)
        if sizes.ndim != 1 or len(sizes) == 0 or int(sizes.min()) < 3:
            raise MeshInputError(
                "polygon sizes",
                got=sizes.min() if sizes.size else "none",
                expected="at least one polygon, 3 corners or more each",
                fix="drop points and lines",
            )
        count = int(sizes.sum(dtype=np.int64))
        if corners.shape != (count,):
            raise MeshInputError(
                "polygon corners",
                got=f"shape {list(corners.shape)}",
                expected=f"[{count}], the sum of the sizes",
                fix="rebuild the topology",
            )
        _check_ids("polygon vertex ids", corners, self.num_vertices)
        repeated = _first_repeated(sizes, corners)
        if repeated is not None:
            raise MeshInputError(
                f"polygon {repeated}",
                got="the same vertex twice",
                expected="distinct corners",
                fix="remove degenerate polygons",
            )
        if self.polygon_uvs.shape not in ((0,), (count,)):
            raise MeshInputError(
                "UV corners",
                got=f"shape {list(self.polygon_uvs.shape)}",
                expected=f"[0] or [{count}]",
                fix="give one UV per corner or none at all",
            )
        if self.uvs.ndim != 2 or self.uvs.shape[1] != 2:
            raise MeshInputError(
                "UVs", got=f"shape {list(self.uvs.shape)}", expected="[U,2]", fix="rebuild the topology"
            )
        _check_ids("UV ids", self.polygon_uvs, len(self.uvs))
        for name, ids in self.regions.items():
            _check_ids(f"region '{name}'", ids, self.num_vertices)
        for level, lod in enumerate(self.lods, 1):
            _check_ids(f"level of detail {level}: vertices", lod.vertices, self.num_vertices)
            _check_ids(f"level of detail {level}: UVs", lod.triangle_uvs, len(self.uvs))

    def lod(self, level: int) -> Topology:
        """The topology of a level of detail; the same object each time. See `topos_rt.head.lod`.

        Raises OptionError for a level that there is none of.
        """
        check_level(self, level)
        if level not in self._reduced:
            self._reduced.setdefault(level, reduced_topology(self, level))  # or that of a thread before
        return self._reduced[level]

    @cached_property
    def _reduced(self) -> dict[int, Topology]:
        return {}

    @property
    def has_uvs(self) -> bool:
        return len(self.polygon_uvs) > 0

    @cached_property
    def _triangle_corners(self) -> np.ndarray:
        """[F,3] positions in the corner arrays: each polygon as a fan around its first corner."""
        starts = np.cumsum(self.polygon_sizes, dtype=np.int64) - self.polygon_sizes
        fans = self.polygon_sizes.astype(np.int64) - 2
        first = np.repeat(starts, fans)
        step = np.arange(len(first)) - np.repeat(np.cumsum(fans) - fans, fans)
        return np.stack([first, first + step + 1, first + step + 2], 1)

    @cached_property
    def triangles(self) -> np.ndarray:
        """[F,3] int32 vertex ids, counter-clockwise; the same for every head."""
        return self.polygon_vertices[self._triangle_corners]

    @cached_property
    def triangle_uvs(self) -> np.ndarray:
        """[F,3] int32 into `uvs` ([0,3] without UVs)."""
        return self.polygon_uvs[self._triangle_corners] if self.has_uvs else np.zeros((0, 3), np.int32)

    @cached_property
    def edges(self) -> np.ndarray:
        """[E,2] int64 polygon sides (no diagonals) in both directions, sorted, without duplicates."""
        sizes = self.polygon_sizes.astype(np.int64)
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        index = np.arange(len(self.polygon_vertices))
        follower = starts + (index - starts + 1) % np.repeat(sizes, sizes)
        sides = np.stack([self.polygon_vertices, self.polygon_vertices[follower]], 1).astype(np.int64)
        return np.unique(np.concatenate([sides, sides[:, ::-1]]), axis=0)

    @classmethod
    def from_polygons(
        cls,
        num_vertices: int,
        polygons: Sequence[Sequence[int]],
        uvs: np.ndarray | None = None,
        polygon_uvs: Sequence[Sequence[int]] | None = None,
    ) -> Topology:
        """Build from a list of polygons (vertex ids), with optional UVs [U,2] and one UV id per corner.

        Raises MeshInputError as the class does, and for a polygon of more than 255 corners.
        """
        largest = max(map(len, polygons), default=0)
        if largest > MAX_CORNERS:
            raise MeshInputError(
                "polygons",
                got=f"one of {largest} corners",
                expected=f"3 to {MAX_CORNERS}",
                fix="split large polygons",
            )
        flat = [i for polygon in polygons for i in polygon]
        flat_uv = [i for polygon in polygon_uvs or () for i in polygon]
        return cls(
            num_vertices,
            np.array([len(p) for p in polygons], np.uint8),
            np.array(flat, np.int32),
            np.array(flat_uv, np.int32),
            _NO_UVS if uvs is None else np.array(uvs, np.float32),
        )

    @classmethod
    def from_mesh(cls, mesh: str | PathLike[str] | Any) -> Topology:
        """Read the polygons of a file (OBJ keeps its quads and n-gons and UVs) or of a trimesh.Trimesh.

        Formats other than OBJ are read by trimesh (`pip install 'topos-rt[mesh]'`) and arrive triangulated.
        """
        from topos_rt.formats.mesh_reader import read_mesh

        return read_mesh(mesh).topology

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file (atomically)."""
        tensors = (
            {
                "polygon_sizes": self.polygon_sizes,
                "polygon_vertices": self.polygon_vertices,
                "polygon_uvs": self.polygon_uvs,
                "uvs": self.uvs,
            }
            | {f"region.{name}": ids for name, ids in self.regions.items()}
            | lods_to_tensors(self.lods)
        )
        write_tensors(path, tensors, {"num_vertices": str(self.num_vertices)})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Topology:
        """Read what `save` wrote.

        Raises BundleError for a file that cannot be read, MeshInputError for one that holds something else.
        """
        tensors, metadata = read_tensors(path)
        try:
            return cls(
                int(metadata["num_vertices"]),
                tensors.pop("polygon_sizes"),
                tensors.pop("polygon_vertices"),
                tensors.pop("polygon_uvs"),
                tensors.pop("uvs"),
                {name.removeprefix("region."): ids for name, ids in tensors.items() if name[:3] != "lod"},
                lods_from_tensors({name: ids for name, ids in tensors.items() if name[:3] == "lod"}),
            )
        except (KeyError, ValueError) as error:
            raise MeshInputError(
                f"topology file {Path(path).name}",
                got=f"no valid {error}",
                expected="a file written by Topology.save",
                fix="export the bundle again",
            ) from error


@dataclass(frozen=True, eq=False)
class Level:
    """One graph of the pyramid."""

    features: np.ndarray  # [n,6] float32 mean position | mean normal, network frame
    edges: np.ndarray  # [E,2] int64 (source, target); sorted, one self-loop per node appended last
    types: np.ndarray  # [E] uint8, 1 where the ends coincide
    cluster: np.ndarray  # [n of the level below] int64 -> node here; empty at level 0

    def neighbours(self, edge_type: int) -> np.ndarray:
        """[n,K] int64 sources of the incoming edges of one type, rows padded with n."""
        n = len(self.features)
        source, target = self.edges[self.types == edge_type].T
        order = np.lexsort((source, target))
        source, target = source[order], target[order]
        degree = np.bincount(target, minlength=n)
        table = np.full((n, max(1, int(degree.max(initial=0)))), n, np.int64)
        table[target, np.arange(len(target)) - np.repeat(np.cumsum(degree) - degree, degree)] = source
        return table


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Level 0 is the mesh; level i is level i-1 pooled by `levels[i].cluster`.

    Raises MeshInputError when the parts of a level do not fit together or to the level below.
    """

    levels: tuple[Level, ...]

    def __post_init__(self) -> None:
        below = 0
        for i, level in enumerate(self.levels):
            n, edges, what = len(level.features), len(level.edges), f"hierarchy level {i}"
            expected = [(n, 6), (edges, 2), (edges,), (below,)]
            got = [level.features.shape, level.edges.shape, level.types.shape, level.cluster.shape]
            if got != expected:
                raise MeshInputError(
                    f"{what}: features, edges, types, cluster",
                    got=f"shapes {got}",
                    expected=f"{expected}",
                    fix="export the bundle again",
                )
            _check_ids(f"{what}: edge ends", level.edges, n)
            _check_ids(f"{what}: edge types", level.types, 2)
            _check_ids(f"{what}: cluster", level.cluster, n)
            below = n

    @classmethod
    def from_mesh(
        cls, mesh: str | PathLike[str] | Any, depth: int = 8, num_levels: int | None = None
    ) -> Hierarchy:
        """Of any mesh that `Topology.from_mesh` reads, brought into the sphere-normalised frame.

        Normals that the mesh lacks are computed from it. depth and num_levels: see `build`. Raises
        MeshInputError for a mesh that cannot be used.
        """
        from topos_rt.formats.mesh_reader import read_mesh
        from topos_rt.head.mesh import vertex_normals

        found = read_mesh(mesh)
        centre, radius = sphere_frame(found.positions)
        if not radius > 0:
            raise MeshInputError("mesh", got="the same point for every vertex", expected="a surface")
        normals = found.normals
        if normals is None:
            normals = vertex_normals(found.positions, found.topology.triangles)
        positions = (found.positions - centre) / radius
        return cls.build(positions, normals, found.topology.edges, depth=depth, num_levels=num_levels)

    @classmethod
    def build(
        cls,
        vertices: np.ndarray,
        normals: np.ndarray,
        edges: np.ndarray,
        clusters: Sequence[np.ndarray] | None = None,
        depth: int = 8,
        num_levels: int | None = None,
    ) -> Hierarchy:
        """Pool a mesh graph as the release does.

        vertices, normals: [V,3] in the sphere-normalised frame. edges: [E,2], both directions.
        clusters: the maps of a `cluster.npz`; without them voxel grids over [-1,1]^3 are used, with cells
        of 2/2^depth at level 1, doubling per level. num_levels counts level 0 (default depth + 1).

        Raises MeshInputError for parts that do not fit together, values that are not finite, or vertices
        outside of the frame.
        """
        features = _features(vertices, normals)
        edges = np.asarray(edges)
        _check_ids("edge ends", edges, len(features))
        edges = _simple(edges.astype(np.int64), len(features))
        empty = np.zeros(0, np.int64)
        levels = [_level(features, edges, empty)]
        available = depth if clusters is None else len(clusters)
        for i in range(1, available + 1 if num_levels is None else num_levels):
            if clusters is None:
                cluster = voxel_cluster(features[:, :3], 2.0 / 2**depth * 2 ** (i - 1))
            else:
                cluster = _checked_cluster(np.asarray(clusters[i - 1]), len(features), i)
            features = _mean_by(features, cluster)
            edges = _simple(cluster[edges], len(features))
            levels.append(_level(features, edges, cluster))
        return cls(tuple(levels))

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file (atomically)."""
        write_tensors(
            path,
            {
                f"level{i}.{name}": getattr(level, name)
                for i, level in enumerate(self.levels)
                for name in ("features", "edges", "types", "cluster")
            },
            {"levels": json.dumps(len(self.levels))},
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Hierarchy:
        """Read what `save` wrote.

        Raises BundleError for a file that cannot be read, MeshInputError for one that holds something else.
        """
        tensors, metadata = read_tensors(path)
        try:
            return cls(
                tuple(
                    Level(
                        *(tensors[f"level{i}.{name}"] for name in ("features", "edges", "types", "cluster"))
                    )
                    for i in range(int(metadata["levels"]))
                )
            )
        except (KeyError, ValueError) as error:
            raise MeshInputError(
                f"hierarchy file {Path(path).name}",
                got=f"no valid {error}",
                expected="a file written by Hierarchy.save",
                fix="export the bundle again",
            ) from error


def sphere_frame(vertices: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre [3] (of the axis-aligned box) and radius (largest distance from it) of the networks' frame."""
    centre = (vertices.min(0) + vertices.max(0)) / 2
    return centre, float(np.linalg.norm(vertices - centre, axis=1).max())


def voxel_cluster(positions: np.ndarray, cell: float) -> np.ndarray:
    """[n] -> cluster ids, consecutive in the order of the voxel key x + y*n + z*n^2."""
    per_axis = int(np.floor(2.0 / cell)) + 1
    voxel = np.floor((positions.astype(np.float32) + np.float32(1)) / np.float32(cell)).astype(np.int64)
    voxel = np.clip(voxel, 0, per_axis - 1)  # rounding may put a vertex just outside of the grid
    key = voxel @ np.array([1, per_axis, per_axis**2])
    return np.unique(key, return_inverse=True)[1].reshape(-1)


def _level(features: np.ndarray, edges: np.ndarray, cluster: np.ndarray) -> Level:
    loops = np.repeat(np.arange(len(features))[:, None], 2, 1)
    edges = np.concatenate([edges, loops])
    difference = features[edges[:, 0]] - features[edges[:, 1]]
    types = (np.linalg.norm(difference, axis=1) <= COINCIDENT).astype(np.uint8)
    return Level(features, edges, types, cluster)


def _simple(edges: np.ndarray, n: int) -> np.ndarray:
    """Drop self-loops and duplicates, sort by (source, target)."""
    edges = edges[edges[:, 0] != edges[:, 1]]
    key = np.unique(edges[:, 0] * n + edges[:, 1])
    return np.stack([key // n, key % n], 1)


def _mean_by(features: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    sums = np.zeros((int(cluster.max()) + 1, features.shape[1]), np.float64)
    np.add.at(sums, cluster, features)
    return (sums / np.bincount(cluster)[:, None]).astype(np.float32)


def _features(vertices: np.ndarray, normals: np.ndarray) -> np.ndarray:
    if vertices.ndim != 2 or vertices.shape[1] != 3 or normals.shape != vertices.shape:
        raise MeshInputError(
            "vertices and normals",
            expected="[V,3] each",
            fix="pass those of one mesh",
            got=f"shapes {list(vertices.shape)} and {list(normals.shape)}",
        )
    features = np.concatenate([vertices, normals], 1).astype(np.float32)
    if not np.isfinite(features).all():
        raise MeshInputError("vertices and normals", got="NaN or infinite values", expected="finite numbers")
    farthest = np.abs(vertices).max(initial=0)
    if farthest > 1 + _FRAME_SLACK:
        raise MeshInputError(
            "vertices",
            got=f"a coordinate of {farthest:g}",
            expected="-1..1",
            fix="apply topos_rt.head.topology.sphere_frame first",
        )
    return features


def _checked_cluster(cluster: np.ndarray, below: int, level: int) -> np.ndarray:
    what, ids = f"cluster map of level {level}", np.unique(cluster)
    _check_ids(what, cluster)
    if cluster.shape != (below,) or not np.array_equal(ids, np.arange(len(ids))):
        raise MeshInputError(
            what,
            got=f"shape {list(cluster.shape)}, ids up to {cluster.max(initial=-1)}",
            expected=f"[{below}] with consecutive ids from 0",
            fix="use the cluster file made for this mesh",
        )
    return cluster.astype(np.int64)


def _check_ids(what: str, ids: np.ndarray, count: int | None = None) -> None:
    """Whole numbers, of which each is below `count`."""
    if ids.dtype.kind not in "iu":
        raise MeshInputError(what, got=f"dtype {ids.dtype}", expected="integers", fix="rebuild the topology")
    if count is not None and ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < count:
        raise MeshInputError(
            what,
            got=f"{int(ids.min())}..{int(ids.max())}",
            expected=f"0..{count - 1}",
            fix="check that all files describe the same mesh",
        )


def _first_repeated(sizes: np.ndarray, corners: np.ndarray) -> int | None:
    polygon = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((corners, polygon))
    same = (np.diff(corners[order]) == 0) & (np.diff(polygon[order]) == 0)
    return int(polygon[order][:-1][same][0]) if same.any() else None
