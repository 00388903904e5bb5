"""Stanford PLY, binary little endian: vertices with normals and a texture's colours, polygons, no rig.

UVs are left out: PLY has one per vertex, which would need copies of the vertices on seams, but a head must
keep the number and order of its vertices. Its teeth follow them. Lashes are left out, for they are a picture
with holes.
"""

from __future__ import annotations

import json

import numpy as np

from topos_rt.formats.materials import PartMesh, part_meshes
from topos_rt.formats.options import ExportOptions
from topos_rt.formats.textures import picture_colours, vertex_colours
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
    teeth = [part for part in part_meshes(options.parts_of(mesh)) if part.material == "teeth"]
    axes = "+Y up, facing +Z" if options.up == "y" else "+Z up, facing -Y"
    lines = ["ply", "format binary_little_endian 1.0", f"comment topos_rt head in {options.units}, {axes}"]
    lines += [f"comment {json.dumps(name)}: {json.dumps(value)}" for name, value in mesh.metadata.items()]
    positions = np.concatenate([mesh.positions, *(part.positions for part in teeth)])
    normals = np.concatenate([mesh.normals, *(part.normals for part in teeth)])
    polygons = _with_parts(polygons, teeth, mesh.topology.num_vertices)
    lines += [f"element vertex {len(positions)}"]
    lines += [f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")]
    colours = vertex_colours(mesh)
    if colours is not None and mesh.parts is not None:
        colours = np.concatenate(
            [colours, *(picture_colours(mesh.parts.kit.pixels, part.uvs) for part in teeth)]
        )
    if colours is not None:
        lines += [f"property uchar {name}" for name in ("red", "green", "blue")]
    lines += [f"element face {len(polygons)}", "property list uchar int vertex_indices", "end_header"]
    vertices = np.hstack([options.place(positions), options.turn(normals)]).astype("<f4")
    if colours is not None:
        row = np.dtype([("numbers", "<f4", (6,)), ("colour", "u1", (3,))])
        together = np.zeros(len(vertices), row)
        together["numbers"], together["colour"] = vertices, colours
        vertices = together
    size = polygons.shape[1]
    faces = np.zeros(len(polygons), np.dtype([("size", "u1"), ("ids", "<i4", (size,))]))
    faces["size"], faces["ids"] = size, polygons
    return "\n".join([*lines, ""]).encode("ascii") + vertices.tobytes() + faces.tobytes()


def _with_parts(polygons: np.ndarray, teeth: list[PartMesh], start: int) -> np.ndarray:
    """Return polygons [P,corners], and those of parts whose vertices begin at `start`."""
    found = [polygons]
    for part in teeth:
        found.append((part.quads if polygons.shape[1] == 4 else part.triangles) + start)
        start += len(part.positions)
    return np.concatenate(found)


def _polygons(topology: Topology) -> np.ndarray:
    """Return the vertex ids of the polygons, [P,corners], or of the triangles if polygon sizes differ."""
    sizes = topology.polygon_sizes
    if (sizes == sizes[0]).all():
        return topology.polygon_vertices.reshape(-1, int(sizes[0]))
    return topology.triangles
