"""Blendshapes as files store them: which vertices move, by how much, and how their normals change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.rig import Rig
from topos_rt.support.native import native


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
    compiled = native()
    if compiled is not None and positions.dtype == np.float32:
        surface = {"positions": np.ascontiguousarray(positions), "triangles": np.ascontiguousarray(triangles)}
        shapes = {"index": rig.shape_index, "delta": rig.shape_delta, "offsets": rig.shape_offsets}
        normals = compiled.morph_normals(**surface, **shapes)
    else:
        normals = _normals(positions, triangles, rig)
    for number, name in enumerate(rig.shape_names):
        part = slice(*rig.shape_offsets[number : number + 2])
        yield Morph(name, rig.shape_index[part], rig.shape_delta[part], normals[part])


def _normals(positions: np.ndarray, triangles: np.ndarray, rig: Rig) -> np.ndarray:
    """Return what the shapes add to normals [K,3] float32; the compiled pass gives the same bits."""
    rest = vertex_normals(positions, triangles)
    a, b, c = np.ascontiguousarray(triangles.T)
    local, out = np.zeros(rig.num_vertices, np.int64), np.empty_like(rig.shape_delta)
    for number in range(len(rig.shape_names)):
        part = slice(*rig.shape_offsets[number : number + 2])
        ids = rig.shape_index[part]
        moved = np.zeros(rig.num_vertices, bool)
        moved[ids] = True
        # only the triangles that a shape touches: 52 times the whole head would be slow
        touched = triangles[moved[a] | moved[b] | moved[c]]
        moved[touched] = True
        around = np.flatnonzero(moved)
        local[around] = np.arange(len(around))
        posed = positions[around]
        posed[local[ids]] += rig.shape_delta[part]
        out[part] = vertex_normals(posed, local[touched])[local[ids]] - rest[ids]
    return out
