"""Blendshapes as files store them: which vertices move, by how much, and how their normals change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.rig import Rig


@dataclass(frozen=True, eq=False)
class Morph:
    """One blendshape of a head."""

    name: str
    vertices: np.ndarray  # [k] int32, rising
    offsets: np.ndarray  # [k,3] float32, metres
    normals: np.ndarray  # [k,3] float32, to add to the normals at rest; no longer of unit length


def morphs(mesh: HeadMesh, rig: Rig) -> Iterator[Morph]:
    """Yield the blendshapes of a head, in the rig's order. See `surface_morphs`."""
    return surface_morphs(mesh.positions, mesh.triangles, rig)


def surface_morphs(positions: np.ndarray, triangles: np.ndarray, rig: Rig) -> Iterator[Morph]:
    """Yield the blendshapes of a surface of vertices [V,3] and triangles [F,3], in the rig's order.

    Only the normals of moved vertices change. Those of the ring around them would turn a little as well, but
    are left as they are, so that offsets and normals belong to the same vertices.
    """
    rest = vertex_normals(positions, triangles)
    a, b, c = np.ascontiguousarray(triangles.T)
    local = np.zeros(rig.num_vertices, np.int64)
    for number, name in enumerate(rig.shape_names):
        part = slice(*rig.shape_offsets[number : number + 2])
        ids, offsets = rig.shape_index[part], rig.shape_delta[part]
        moved = np.zeros(rig.num_vertices, bool)
        moved[ids] = True
        # only the triangles that a shape touches: 52 times the whole head would be slow
        touched = triangles[moved[a] | moved[b] | moved[c]]
        moved[touched] = True
        around = np.flatnonzero(moved)
        local[around] = np.arange(len(around))
        posed = positions[around]
        posed[local[ids]] += offsets
        normals = vertex_normals(posed, local[touched])
        yield Morph(name, ids, offsets, normals[local[ids]] - rest[ids])
