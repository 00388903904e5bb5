"""Wavefront OBJ: the polygons unchanged, with UVs and normals, in one group per region."""

from __future__ import annotations

import json
import re
from itertools import accumulate

import numpy as np

from topos_rt.formats.materials import PartMesh, part_meshes, polygon_surfaces
from topos_rt.formats.options import ExportOptions
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.part_kit import SURFACES
from topos_rt.head.topology import Topology


def write_obj(mesh: HeadMesh, options: ExportOptions | None = None) -> bytes:
    """Return one object with `v` in vertex order, `vt`, `vn` (one per vertex) and `f` per polygon; no rig.

    A polygon whose corners all lie in a region of the topology is in the group (`g`) of that name, the others
    in "head". Each group is one run of polygons, since many readers make a new mesh at every `g`. Numbers are
    the shortest that give the same float32 back. The same head gives the same bytes.
    """
    options = options or ExportOptions()
    options.refuse_rig("obj")
    options.refuse_quantized("obj")
    axes = "+Y up, facing +Z" if options.up == "y" else "+Z up, facing -Y"
    lines = [f"# topos_rt head in {options.units}, {axes}"]
    lines += [f"# {json.dumps(name)}: {json.dumps(value)}" for name, value in mesh.metadata.items()]
    parts = options.parts_of(mesh)
    dressed = options.beside is not None and (mesh.texture is not None or parts is not None)
    lines += [f"mtllib {options.beside}.mtl"] if dressed else []
    lines += ["o head"]
    lines += _rows("v", options.place(mesh.positions))
    lines += _rows("vt", mesh.topology.uvs) if mesh.topology.has_uvs else []
    lines += _rows("vn", options.turn(mesh.normals))
    faces, groups = _faces(mesh.topology), _groups(mesh.topology)
    surface = np.zeros(len(faces), np.uint8) if parts is None else polygon_surfaces(mesh, parts.kit)
    for name, polygons in groups.items():
        lines += [f"g {name}"] if len(groups) > 1 else []
        for material, run in _by_material(polygons, surface).items():
            lines += [f"usemtl {material}"] if dressed else []
            lines += [faces[polygon] for polygon in run]
    start = [mesh.topology.num_vertices, len(mesh.topology.uvs) if mesh.topology.has_uvs else 0]
    for part in part_meshes(parts):
        lines += _part(part, options, start, dressed)
        start = [start[0] + len(part.positions), start[1] + len(part.uvs)]
    return ("\n".join(lines) + "\n").encode("utf-8")


def _by_material(polygons: list[int], surface: np.ndarray) -> dict[str, list[int]]:
    """Return material -> its polygons, in order; surface: the number in SURFACES of each polygon."""
    found: dict[str, list[int]] = {}
    for polygon, number in zip(polygons, surface[polygons].tolist(), strict=True):
        found.setdefault(SURFACES[number], []).append(polygon)
    return found


def _part(part: PartMesh, options: ExportOptions, start: list[int], dressed: bool) -> list[str]:
    """Return the lines of a part, an object of its own; start: vertices and UVs before it."""
    lines = [f"o {part.material}"]
    lines += _rows("v", options.place(part.positions))
    lines += _rows("vt", part.uvs)
    lines += _rows("vn", options.turn(part.normals))
    lines += [f"usemtl {part.material}"] if dressed else []
    vertices, uvs = part.quads + 1 + start[0], part.quads + 1 + start[1]
    for row, places in zip(vertices.tolist(), uvs.tolist(), strict=True):
        corners = (f"{vertex}/{uv}/{vertex}" for vertex, uv in zip(row, places, strict=True))
        lines.append(f"f {' '.join(corners)}")
    return lines


def _rows(kind: str, values: np.ndarray) -> list[str]:
    text: list[list[str]] = values.astype(np.float32).astype(str).tolist()
    return [f"{kind} {' '.join(row)}" for row in text]


def _groups(topology: Topology) -> dict[str, list[int]]:
    """Return group -> its polygons, in order. Where regions overlap, the smaller one gets the polygon."""
    sizes = topology.polygon_sizes.astype(np.int64)
    first = np.cumsum(sizes) - sizes
    regions = sorted(topology.regions.items(), key=lambda item: len(item[1]))
    group = np.zeros(len(sizes), np.int64)
    for number, (_, ids) in enumerate(regions, 1):
        inside = np.zeros(topology.num_vertices, bool)
        inside[ids] = True
        whole = np.logical_and.reduceat(inside[topology.polygon_vertices], first)
        group[whole & (group == 0)] = number
    names = ["head", *(name for name, _ in regions)]
    found: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        polygons = np.flatnonzero(group == number).tolist()
        if polygons:
            found.setdefault(_word(name), []).extend(polygons)
    return found


def _word(name: str) -> str:
    """Return a name without spaces and odd characters: a group's name ends at the first space."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _faces(topology: Topology) -> list[str]:
    vertices: list[int] = (topology.polygon_vertices + 1).tolist()
    if topology.has_uvs:
        uvs: list[int] = (topology.polygon_uvs + 1).tolist()
        corners = [f"{vertex}/{uv}/{vertex}" for vertex, uv in zip(vertices, uvs, strict=True)]
    else:
        corners = [f"{vertex}//{vertex}" for vertex in vertices]
    sizes: list[int] = topology.polygon_sizes.tolist()
    ends = accumulate(sizes)
    return [f"f {' '.join(corners[end - size : end])}" for end, size in zip(ends, sizes, strict=True)]
