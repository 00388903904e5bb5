"""Topologies with one UV per vertex, for formats that have no UV per corner."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.head.topology import Topology


@dataclass(frozen=True, eq=False)
class SeamSplit:
    """A topology whose vertices on UV seams are copied, once for every further UV that meets there.

    Vertices 0 .. V-1 are those of the topology, in order; the copies follow, in the order of their originals.
    """

    source: np.ndarray  # [W] int32, W >= V: the topology vertex that each stands for; source[:V] counts up
    uvs: np.ndarray  # [W,2] float32, origin bottom left; zero for unused vertices; [0,2] without UVs
    triangles: np.ndarray  # [F,3] int32 into the W vertices, in the order of topology.triangles


@lru_cache(maxsize=8)
def split_seams(topology: Topology) -> SeamSplit:
    """Split a topology at its UV seams. The result depends on nothing else, so all heads share it.

    A vertex keeps the UV of the first polygon corner that uses it. Raises MeshInputError for UVs that are not
    finite.
    """
    count = topology.num_vertices
    if not topology.has_uvs:
        return _frozen(np.arange(count), np.zeros((0, 2)), topology.triangles)
    if not np.isfinite(topology.uvs).all():
        raise MeshInputError(
            "UVs", got="NaN or infinite values", expected="finite numbers", fix="export the bundle again"
        )
    # Several UV ids with equal values are not a seam.
    values, same = np.unique(topology.uvs, axis=0, return_inverse=True)
    key = _keys(topology.polygon_vertices, same.reshape(-1)[topology.polygon_uvs], len(values))
    pairs, corner = np.unique(key, return_index=True)
    order = np.lexsort((corner, pairs // len(values)))
    pairs = pairs[order]
    vertex, uv = np.divmod(pairs, len(values))
    is_copy = np.concatenate([[False], vertex[1:] == vertex[:-1]])

    number = vertex.copy()  # id of each pair among the W vertices
    number[is_copy] = count + np.arange(is_copy.sum())
    source = np.concatenate([np.arange(count), vertex[is_copy]])
    uvs = np.zeros((len(source), 2), np.float32)
    uvs[number] = values[uv]

    by_key = np.argsort(pairs)
    wanted = _keys(topology.triangles, same.reshape(-1)[topology.triangle_uvs], len(values))
    return _frozen(source, uvs, number[by_key][np.searchsorted(pairs[by_key], wanted)])


def _keys(vertices: np.ndarray, uvs: np.ndarray, num_uvs: int) -> np.ndarray:
    return vertices.astype(np.int64) * num_uvs + uvs


def _frozen(source: np.ndarray, uvs: np.ndarray, triangles: np.ndarray) -> SeamSplit:
    split = SeamSplit(source.astype(np.int32), uvs.astype(np.float32), triangles.astype(np.int32))
    for array in (split.source, split.uvs, split.triangles):
        array.setflags(write=False)
    return split
