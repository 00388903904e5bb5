"""Readers of meshes, by the suffix of the file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.formats.gltf_reader import read_gltf
from topos_rt.formats.limits import LIMITS, Limits
from topos_rt.formats.mesh_file import MeshFile, Part, finite, joined
from topos_rt.formats.obj_reader import read_obj
from topos_rt.formats.off_reader import read_off
from topos_rt.formats.ply_reader import read_ply
from topos_rt.formats.stl_reader import read_stl


def read_mesh(source: str | os.PathLike[str] | Any, *, limits: Limits = LIMITS) -> MeshFile:
    """Read a mesh from a path, or convert a trimesh.Trimesh or trimesh.Scene.

    OBJ keeps its polygons and UVs. The other formats arrive triangulated; the triangles of an STL share no
    vertices. Polygons that are not convex need mapbox-earcut (`pip install 'topos-rt[mesh]'`) to be cut into
    triangles, compressed GLBs the extra `gltf`.

    Raises MeshInputError when the file is missing, empty, damaged, of another format or above the limits, or
    the mesh has no polygons, bad indices, degenerate polygons or positions that are not finite;
    MissingExtraError when a package is needed but not installed.
    """
    if not isinstance(source, str | os.PathLike):
        return _from_trimesh(source, f"cannot use the {type(source).__name__}")
    path = Path(source)
    what = f"cannot use the mesh {path}"
    try:
        suffix = _checked_suffix(path, what)
        return READERS[suffix](path, what, limits)
    except FileNotFoundError as error:
        raise MeshInputError(what, got="no such file", fix="check the path") from error
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MeshInputError(what, got=reason, expected="a readable file") from error


def check_kind(
    suffix: str, status: os.stat_result, what: str, suffixes: Sequence[str], readable: str, fix: str
) -> None:
    """Raise MeshInputError unless the file is regular, not empty, and has one of the suffixes."""
    if stat.S_ISDIR(status.st_mode):
        raise MeshInputError(what, got="a directory", expected=readable)
    if not stat.S_ISREG(status.st_mode):
        raise MeshInputError(what, got="a device or pipe", expected=readable)
    if suffix not in suffixes:
        named = f"a name that ends in {suffix}" if suffix else "a name without a suffix"
        raise MeshInputError(what, got=named, expected=readable, fix=fix)
    if status.st_size == 0:
        raise MeshInputError(what, got="an empty file", expected=readable)


def _checked_suffix(path: Path, what: str) -> str:
    if "\0" in str(path):
        raise MeshInputError(what, got="a NUL character in the name", expected="a file name")
    status, suffix = path.stat(), path.suffix.lower()
    check_kind(suffix, status, what, SUFFIXES, _READABLE, "convert it to OBJ")
    return suffix


def _from_trimesh(mesh: Any, what: str) -> MeshFile:
    """Join the meshes of a scene, each in its place, one after the other; a Trimesh is a scene of one."""
    if hasattr(mesh, "graph") and hasattr(mesh, "geometry"):
        placed = [mesh.graph[node] for node in mesh.graph.nodes_geometry]
        parts = [_part(mesh.geometry[name], what, np.asarray(matrix)) for matrix, name in placed]
    elif hasattr(mesh, "vertices"):
        parts = [_part(mesh, what, np.eye(4))]
    else:
        raise MeshInputError(what, got="no mesh", expected="a path, a trimesh.Trimesh or a trimesh.Scene")
    return joined(parts, what)


def _part(mesh: Any, what: str, matrix: np.ndarray) -> Part:
    vertices, faces = np.asarray(mesh.vertices), np.asarray(getattr(mesh, "faces", np.zeros((0, 3), int)))
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise MeshInputError(
            what,
            got=f"vertices {list(vertices.shape)}, faces {list(faces.shape)}",
            expected="vertices [V,3] and faces [F,3]",
        )
    turn = matrix[:3, :3]
    with np.errstate(over="ignore", invalid="ignore"):  # `finite` refuses what overflows
        positions = finite(vertices @ turn.T + matrix[:3, 3], f"{what}: positions")
    if not len(faces):
        return Part(positions[:0], faces)
    if not 0 <= int(faces.min()) <= int(faces.max()) < len(positions):
        raise MeshInputError(
            what,
            got=f"vertex {int(faces.min())}..{int(faces.max())} in a face",
            expected=f"0..{len(positions) - 1}",
            fix="export the mesh again",
        )
    # The cofactor matrix keeps normals perpendicular to a stretched surface.
    normals = np.asarray(mesh.vertex_normals) @ np.cross(turn[[1, 2, 0]], turn[[2, 0, 1]]).T
    if np.linalg.det(turn) < 0:  # a mirror turns surfaces inside out
        faces, normals = faces[:, ::-1], -normals
    uvs: Any = getattr(getattr(mesh, "visual", None), "uv", None)
    mapped = uvs is not None and np.shape(uvs) == (len(positions), 2)
    return Part(positions, faces, normals, uvs if mapped else None)


READERS: dict[str, Callable[[Path, str, Limits], MeshFile]] = {
    ".obj": read_obj,
    ".glb": read_gltf,
    ".gltf": read_gltf,
    ".off": read_off,
    ".ply": read_ply,
    ".stl": read_stl,
}
SUFFIXES = tuple(READERS)
_READABLE = f"a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file"
