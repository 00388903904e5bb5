"""The reader of Wavefront OBJ: its polygons and UVs unchanged."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.formats.limits import LIMITS, Limits
from topos_rt.formats.mesh_file import MeshFile, finite, refuse_no_polygons
from topos_rt.head.normals import unit_vectors
from topos_rt.head.topology import MAX_CORNERS, Topology

_ABSENT = -1


def read_obj(path: Path, what: str, limits: Limits = LIMITS) -> MeshFile:
    """Read the polygons of 3 to 255 corners of an OBJ, with their UVs and normals.

    In a mesh with UVs, corners that lack one get (0, 0). A vertex whose corners name several normals gets
    their mean, a vertex without corners +Y. Everything else is ignored.

    Raises MeshInputError for bad statements, with their line, or a mesh above the limits; OSError.
    """
    limits.check("file_bytes", path.stat().st_size, what)
    # A text file splits lines at \n, \r\n and \r. Names may be in any encoding: only ASCII matters here.
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return _ObjReader(what).read(file)


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
            refuse_no_polygons(self.what)
        positions = finite(np.array(self.vectors["v"]).reshape(-1, 3), f"{self.what}: positions")
        uvs = finite(np.array(self.vectors["vt"]).reshape(-1, 2), f"{self.what}: UVs")
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
        corners = finite(np.array(self.vectors["vn"]).reshape(-1, 3), f"{self.what}: normals")[normal_ids]
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
