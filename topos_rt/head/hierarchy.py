"""The pyramid of mesh graphs, each coarser than the last, that the VAE decoder climbs.

The recipe is that of TOPOS (arXiv 2605.14594) and of `tools/build_cluster` in its release.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.head.topology import check_ids
from topos_rt.support.tensorfile import read_tensors, write_tensors

# An edge is of type 1 where its ends are closer than this in [position | normal]; every self-loop is.
COINCIDENT = 1e-5


# Rounding may leave a vertex of the sphere-normalised frame this far outside [-1,1].
_FRAME_SLACK = 1e-3


@dataclass(frozen=True, eq=False)
class Level:
    """One mesh graph of the pyramid."""

    features: np.ndarray  # [n,6] float32 mean position | mean normal, network frame
    edges: np.ndarray  # [E,2] int64 (source, target); sorted, one self-loop per node appended last
    types: np.ndarray  # [E] uint8, 1 where the ends coincide
    cluster: np.ndarray  # [n of the level below] int64 -> node here; empty at level 0

    def neighbours(self, edge_type: int) -> np.ndarray:
        """Return the sources of the incoming edges of one type, [n,K] int64, rows padded with n."""
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
    """A pyramid of mesh graphs: level 0 is the mesh, level i is level i-1 pooled by `levels[i].cluster`.

    Raises MeshInputError when the parts of a level do not fit each other or the level below.
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
            check_ids(f"{what}: edge ends", level.edges, n)
            check_ids(f"{what}: edge types", level.types, 2)
            check_ids(f"{what}: cluster", level.cluster, n)
            below = n

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
        clusters: the maps of a `cluster.npz`; without them, voxel grids over [-1,1]^3 with cells of 2/2^depth
        at level 1, doubling per level. num_levels: counts level 0 (default depth + 1).

        Raises MeshInputError for parts that do not fit together, values that are not finite, or vertices
        outside the frame.
        """
        features = _features(vertices, normals)
        edges = np.asarray(edges)
        check_ids("edge ends", edges, len(features))
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


def voxel_cluster(positions: np.ndarray, cell: float) -> np.ndarray:
    """Return the cluster ids of positions [n,3]: [n] int64, consecutive in the order of the voxel key.

    The key is x + y*m + z*m^2, with m voxels of side `cell` along each axis.
    """
    per_axis = int(np.floor(2.0 / cell)) + 1
    voxel = np.floor((positions.astype(np.float32) + np.float32(1)) / np.float32(cell)).astype(np.int64)
    voxel = np.clip(voxel, 0, per_axis - 1)  # rounding may put a vertex just outside the grid
    key = voxel @ np.array([1, per_axis, per_axis**2])
    return np.unique(key, return_inverse=True)[1].reshape(-1)


def _level(features: np.ndarray, edges: np.ndarray, cluster: np.ndarray) -> Level:
    loops = np.repeat(np.arange(len(features))[:, None], 2, 1)
    edges = np.concatenate([edges, loops])
    difference = features[edges[:, 0]] - features[edges[:, 1]]
    types = (np.linalg.norm(difference, axis=1) <= COINCIDENT).astype(np.uint8)
    return Level(features, edges, types, cluster)


def _simple(edges: np.ndarray, n: int) -> np.ndarray:
    """Return the edges without self-loops and duplicates, sorted by (source, target)."""
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
            fix="apply topos_rt.support.similarity.sphere_frame first",
        )
    return features


def _checked_cluster(cluster: np.ndarray, below: int, level: int) -> np.ndarray:
    what, ids = f"cluster map of level {level}", np.unique(cluster)
    check_ids(what, cluster)
    if cluster.shape != (below,) or not np.array_equal(ids, np.arange(len(ids))):
        raise MeshInputError(
            what,
            got=f"shape {list(cluster.shape)}, ids up to {cluster.max(initial=-1)}",
            expected=f"[{below}] with consecutive ids from 0",
            fix="use the cluster file made for this mesh",
        )
    return cluster.astype(np.int64)
