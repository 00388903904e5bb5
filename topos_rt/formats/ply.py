"""Stanford PLY, binary little endian: vertices with normals and a texture's colours, polygons, no rig.

UVs are left out: PLY has one per vertex, which would need copies of the vertices on seams, but a head must
keep the number and order of its vertices.
"""

from __future__ import annotations

import json

import numpy as np

from topos_rt.formats.options import ExportOptions
from topos_rt.formats.textures import vertex_colours
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.topology import Topology


def write_ply(mesh: HeadMesh, options: ExportOptions | None = None) -> bytes:
    """Return the vertices in order, then the polygons in order, or the triangles if polygon sizes differ.

    Common readers, trimesh among them, take the size of the first polygon for that of all. The same head
    gives the same bytes.
    """
    options = options or ExportOptions()
    options.refuse_rig("ply")
    options.refuse_quantized("ply")
    polygons = _polygons(mesh.topology)
    axes = "+Y up, facing +Z" if options.up == "y" else "+Z up, facing -Y"
    lines = ["ply", "format binary_little_endian 1.0", f"comment topos_rt head in {options.units}, {axes}"]
    lines += [f"comment {json.dumps(name)}: {json.dumps(value)}" for name, value in mesh.metadata.items()]
    lines += [f"element vertex {mesh.topology.num_vertices}"]
    lines += [f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")]
    colours = vertex_colours(mesh)
    if colours is not None:
        lines += [f"property uchar {name}" for name in ("red", "green", "blue")]
    lines += [f"element face {len(polygons)}", "property list uchar int vertex_indices", "end_header"]
    vertices = np.hstack([options.place(mesh.positions), options.turn(mesh.normals)]).astype("<f4")
    if colours is not None:
        row = np.dtype([("numbers", "<f4", (6,)), ("colour", "u1", (3,))])
        together = np.zeros(len(vertices), row)
        together["numbers"], together["colour"] = vertices, colours
        vertices = together
    size = polygons.shape[1]
    faces = np.zeros(len(polygons), np.dtype([("size", "u1"), ("ids", "<i4", (size,))]))
    faces["size"], faces["ids"] = size, polygons
    return "\n".join([*lines, ""]).encode("ascii") + vertices.tobytes() + faces.tobytes()


def _polygons(topology: Topology) -> np.ndarray:
    """Return the vertex ids of the polygons, [P,corners], or of the triangles if polygon sizes differ."""
    sizes = topology.polygon_sizes
    if (sizes == sizes[0]).all():
        return topology.polygon_vertices.reshape(-1, int(sizes[0]))
    return topology.triangles
