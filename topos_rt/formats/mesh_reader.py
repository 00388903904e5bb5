"""Readers of meshes: OBJ with its polygons and UVs unchanged, other formats through trimesh."""

from __future__ import annotations

import os
import stat
import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from topos_rt.errors import MeshInputError, MissingExtraError
from topos_rt.head.normals import unit_vectors
from topos_rt.head.topology import MAX_CORNERS, Topology

MAX_BYTES = 512 * 2**20
# The formats that trimesh reads without further packages.
_TRIMESH_SUFFIXES = (".glb", ".off", ".ply", ".stl")
SUFFIXES = (".obj", *_TRIMESH_SUFFIXES)
_READABLE = f"a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file"

# What trimesh's readers are known to raise on damaged files, besides OSError.
_READER_ERRORS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, EOFError,
    MemoryError, NameError, NotImplementedError, RecursionError, struct.error,
)  # fmt: skip

_ABSENT = -1


@dataclass(frozen=True, eq=False)
class MeshFile:
    """A mesh with its vertices in the order of its file."""

    topology: Topology
    positions: np.ndarray  # [V,3] float32, the file's units and axes
    normals: np.ndarray | None  # [V,3] float32, unit length; None when some corner lacks one


def read_mesh(source: str | os.PathLike[str] | Any) -> MeshFile:
    """Read a mesh from a path, or convert a trimesh.Trimesh or trimesh.Scene.

    OBJ keeps polygons of 3 to 255 corners and UVs; in a mesh with UVs, corners that lack one get (0, 0). A
    vertex whose corners name several normals gets their mean, a vertex without corners +Y. Everything else is
    ignored. GLB, OFF, PLY and STL need trimesh (`pip install 'topos-rt[mesh]'`) and arrive triangulated; the
    triangles of an STL share no vertices.

    Raises MeshInputError when the file is missing, empty, damaged, of another format or larger than 512 MiB,
    or the mesh has no polygons, bad indices, degenerate polygons or positions that are not finite;
    MissingExtraError when trimesh is needed but not installed.
    """
    if not isinstance(source, str | os.PathLike):
        return _from_trimesh(source, f"cannot use the {type(source).__name__}")
    path = Path(source)
    what = f"cannot use the mesh {path}"
    try:
        suffix = _checked_suffix(path, what)
        return _read_obj(path, what) if suffix == ".obj" else _read_with_trimesh(path, what)
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
    if status.st_size > MAX_BYTES:
        raise MeshInputError(
            what,
            got=f"{status.st_size / 2**20:.0f} MiB",
            expected=f"at most {MAX_BYTES // 2**20} MiB",
            fix="use fewer polygons",
        )
    return suffix


def _read_obj(path: Path, what: str) -> MeshFile:
    # A text file splits lines at \n, \r\n and \r. Names may be in any encoding: only ASCII matters here.
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return _ObjReader(what).read(file)


def _read_with_trimesh(path: Path, what: str) -> MeshFile:
    suffix = path.suffix.lower()
    try:
        import trimesh
    except ImportError as error:
        raise MissingExtraError.needs(f"reading {suffix} files", "mesh") from error
    try:
        # process=False: merged or reordered vertices would no longer be the file's
        loaded = trimesh.load(path, process=False)
    except FileNotFoundError:
        raise
    except _READER_ERRORS as error:
        raise MeshInputError(
            what,
            got=f"damaged contents ({error or type(error).__name__})",
            expected=f"a complete {suffix} file",
        ) from error
    return _from_trimesh(loaded, what)


def _from_trimesh(mesh: Any, what: str) -> MeshFile:
    """Join the meshes of a scene, each in its place, one after the other; a Trimesh is a scene of one."""
    if hasattr(mesh, "graph") and hasattr(mesh, "geometry"):
        placed = [mesh.graph[node] for node in mesh.graph.nodes_geometry]
        parts = [_part(mesh.geometry[name], what, np.asarray(matrix)) for matrix, name in placed]
    elif hasattr(mesh, "vertices"):
        parts = [_part(mesh, what, np.eye(4))]
    else:
        raise MeshInputError(what, got="no mesh", expected="a path, a trimesh.Trimesh or a trimesh.Scene")
    counts = [len(part.positions) for part in parts]
    offsets = np.cumsum([0, *counts])[:-1]
    faces = [part.faces + offset for part, offset in zip(parts, offsets, strict=True)]
    if not sum(len(some) for some in faces):
        _refuse_no_polygons(what)
    corners = np.concatenate(faces).reshape(-1).astype(np.int32)
    mapped = any(part.uvs is not None for part in parts)
    uvs = [
        np.zeros((count, 2)) if part.uvs is None else part.uvs
        for part, count in zip(parts, counts, strict=True)
    ]
    topology = Topology(
        sum(counts),
        np.full(len(corners) // 3, 3, np.uint8),
        corners,
        corners.copy() if mapped else np.zeros(0, np.int32),
        _finite(np.concatenate(uvs) if mapped else np.zeros((0, 2)), f"{what}: UVs"),
    )
    return MeshFile(
        topology,
        np.concatenate([part.positions for part in parts]),
        unit_vectors(np.concatenate([part.normals for part in parts])),
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """One mesh of a scene, in the scene's frame."""

    positions: np.ndarray  # [v,3] float32
    normals: np.ndarray  # [v,3]
    faces: np.ndarray  # [f,3]
    uvs: np.ndarray | None  # [v,2]


def _part(mesh: Any, what: str, matrix: np.ndarray) -> _Part:
    vertices, faces = np.asarray(mesh.vertices), np.asarray(getattr(mesh, "faces", np.zeros((0, 3), int)))
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise MeshInputError(
            what,
            got=f"vertices {list(vertices.shape)}, faces {list(faces.shape)}",
            expected="vertices [V,3] and faces [F,3]",
        )
    turn = matrix[:3, :3]
    with np.errstate(over="ignore", invalid="ignore"):  # `_finite` refuses what overflows
        positions = _finite(vertices @ turn.T + matrix[:3, 3], f"{what}: positions")
    if not len(faces):
        return _Part(positions[:0], positions[:0], faces, None)
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
    return _Part(positions, normals, faces, uvs if mapped else None)


class _ObjReader:
    """Collects the `v`, `vt`, `vn` and `f` statements of one OBJ file; all others are ignored."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.vectors = {"v": array("d"), "vt": array("d"), "vn": array("d")}
        self.sizes = array("B")
        self.lines = array("q")  # line number of each polygon
        self.corners = array("q")  # vertex, UV and normal id of each corner, from 0

    def read(self, lines: Iterable[str]) -> MeshFile:
        for number, words in _statements(lines):
            try:
                if words[0] == "f":
                    self._polygon(number, words[1:])
                elif words[0] in self.vectors:
                    self._vector(words[0], words[1:])
            except MeshInputError:
                raise
            except (ValueError, OverflowError):
                self._refuse(number, repr(" ".join(words)[:60]), "numbers and indices as OBJ has them")
        return self._mesh()

    def _vector(self, kind: str, numbers: list[str]) -> None:
        if kind == "vt":
            u, v = (*numbers[:2], "0")[:2]
            self.vectors[kind].extend((float(u), float(v)))
        else:
            x, y, z = numbers[:3]  # a weight or a colour may follow
            self.vectors[kind].extend((float(x), float(y), float(z)))

    def _polygon(self, number: int, corners: list[str]) -> None:
        if not 3 <= len(corners) <= MAX_CORNERS:
            self._refuse(number, f"a polygon of {len(corners)} corners", f"3 to {MAX_CORNERS}")
        counts = len(self.vectors["v"]) // 3, len(self.vectors["vt"]) // 2, len(self.vectors["vn"]) // 3
        for corner in corners:
            ids = corner.split("/")
            if len(ids) > 3 or not ids[0]:
                raise ValueError(f"the corner {corner!r}")
            for text, count in zip(ids, counts, strict=False):
                # A negative id counts back from the newest entry.
                self.corners.append(_from_zero(int(text), count) if text else _ABSENT)
            self.corners.extend([_ABSENT] * (3 - len(ids)))
        self.sizes.append(len(corners))
        self.lines.append(number)

    def _mesh(self) -> MeshFile:
        if not self.sizes:
            _refuse_no_polygons(self.what)
        positions = _finite(np.array(self.vectors["v"]).reshape(-1, 3), f"{self.what}: positions")
        uvs = _finite(np.array(self.vectors["vt"]).reshape(-1, 2), f"{self.what}: UVs")
        vertex_ids, uv_ids, normal_ids = np.array(self.corners).reshape(-1, 3).T
        self._check_ids("vertex", vertex_ids, len(positions))
        self._check_ids("UV", uv_ids, len(uvs))
        self._check_ids("normal", normal_ids, len(self.vectors["vn"]) // 3)
        bare = uv_ids == _ABSENT
        if bare.all():
            uvs, uv_ids = uvs[:0], uv_ids[:0]
        elif bare.any():
            uv_ids = np.where(bare, len(uvs), uv_ids)
            uvs = np.concatenate([uvs, np.zeros((1, 2), np.float32)])
        topology = Topology(
            len(positions), np.array(self.sizes), vertex_ids.astype(np.int32), uv_ids.astype(np.int32), uvs
        )
        return MeshFile(topology, positions, self._normals(vertex_ids, normal_ids, len(positions)))

    def _normals(self, vertex_ids: np.ndarray, normal_ids: np.ndarray, count: int) -> np.ndarray | None:
        if (normal_ids == _ABSENT).any():
            return None
        corners = _finite(np.array(self.vectors["vn"]).reshape(-1, 3), f"{self.what}: normals")[normal_ids]
        return unit_vectors(np.stack([np.bincount(vertex_ids, axis, count) for axis in corners.T], 1))

    def _check_ids(self, kind: str, ids: np.ndarray, count: int) -> None:
        bad = np.flatnonzero(ids >= count)
        if len(bad):
            line = np.repeat(np.array(self.lines), np.array(self.sizes))[bad[0]]
            self._refuse(int(line), f"{kind} {ids[bad[0]] + 1}", f"1..{count}" if count else f"no {kind}s")

    def _refuse(self, line: int, got: str, expected: str) -> NoReturn:
        raise MeshInputError(
            f"{self.what}: line {line}", got=got, expected=expected, fix="export the mesh again"
        ) from None


def _statements(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the last line's number and the words of each statement; a trailing backslash continues a line."""
    words: list[str] = []
    number = 0
    for number, line in enumerate(lines, 1):
        words += line.partition("#")[0].split()
        if words and words[-1].endswith("\\"):
            words[-1:] = words[-1][:-1].split()
        elif words:
            yield number, words
            words = []
    if words:
        yield number, words


def _from_zero(one_based: int, count: int) -> int:
    index = one_based - 1 if one_based > 0 else count + one_based
    if one_based == 0 or index < 0:
        raise ValueError(f"index {one_based}")
    return index


def _refuse_no_polygons(what: str) -> NoReturn:
    raise MeshInputError(what, got="no polygons", expected="a surface", fix="export the faces as well")


def _finite(values: Any, what: str) -> np.ndarray:
    """Return `values` as float32. Raises MeshInputError for NaN, infinity and what float32 cannot hold."""
    with np.errstate(over="ignore"):
        array32 = np.ascontiguousarray(values, np.float32)
    bad = np.flatnonzero(~np.isfinite(array32).all(1))
    if len(bad):
        raise MeshInputError(
            what,
            got=f"{np.asarray(values)[bad[0]].tolist()} at number {bad[0] + 1}",
            expected="finite numbers",
            fix="export the mesh again",
        )
    return array32
