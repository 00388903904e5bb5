"""Wavefront OBJ: the polygons as they are, with UVs and normals."""

from __future__ import annotations

import json
from itertools import accumulate

import numpy as np

from topos_rt.exporters.options import ExportOptions
from topos_rt.mesh import HeadMesh
from topos_rt.topology import Topology


def write_obj(mesh: HeadMesh, options: ExportOptions | None = None) -> bytes:
    """One object with `v` in vertex order, `vt`, `vn` (one per vertex) and `f` per polygon; no blendshapes.

    Numbers are the shortest that give the same float32 back. The same head gives the same bytes.
    """
    options = options or ExportOptions()
    axes = "+Y up, facing +Z" if options.up == "y" else "+Z up, facing -Y"
    lines = [f"# topos_rt head in {options.units}, {axes}"]
    lines += [f"# {json.dumps(name)}: {json.dumps(value)}" for name, value in mesh.metadata.items()]
    lines += ["o head"]
    lines += _rows("v", options.place(mesh.positions))
    lines += _rows("vt", mesh.topology.uvs) if mesh.topology.has_uvs else []
    lines += _rows("vn", options.turn(mesh.normals))
    lines += _faces(mesh.topology)
    return ("\n".join(lines) + "\n").encode("ascii")


def _rows(kind: str, values: np.ndarray) -> list[str]:
    text: list[list[str]] = values.astype(np.float32).astype(str).tolist()
    return [f"{kind} {' '.join(row)}" for row in text]


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
