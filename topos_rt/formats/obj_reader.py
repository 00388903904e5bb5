"""The reader of Wavefront OBJ: its polygons and UVs as they are, but for repeated corners."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.formats.limits import LIMITS, Limits
from topos_rt.formats.mesh_file import MeshFile, finite, left_out, refuse_no_polygons
from topos_rt.formats.polygons import distinct
from topos_rt.head.normals import unit_vectors
from topos_rt.head.topology import MAX_CORNERS, Topology

_ABSENT = -1
_RUN = 1 << 15  # lines of one kind that are read at once


def read_obj(path: Path, what: str, limits: Limits = LIMITS) -> MeshFile:
    """Read the polygons of 3 to 255 corners of an OBJ, with their UVs and normals.

    In a mesh with UVs, corners that lack one get (0, 0). A vertex whose corners name several normals gets
    their mean, a vertex without corners +Y. Corners that repeat a vertex are taken out. Everything else is
    ignored.

    Raises MeshInputError for bad statements, with their line, or a mesh above the limits; OSError.
    """
    limits.check("file_bytes", path.stat().st_size, what)
    # A text file splits lines at \n, \r\n and \r. Names may be in any encoding: only ASCII matters here.
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return ObjReader(what, limits).read(file)


class ObjReader:
    """Collects the `v`, `vt`, `vn` and `f` statements of one OBJ file; all others are ignored."""

    def __init__(self, what: str, limits: Limits = LIMITS) -> None:
        self.what, self.limits = what, limits
        self.vectors = {"v": array("d"), "vt": array("d"), "vn": array("d")}
        self.sizes = array("B")
        self.lines = array("q")  # line number of each polygon
        self.corners = array("q")  # vertex, UV and normal id of each corner, from 0
        self._triangles = 0

    def read(self, lines: Iterable[str]) -> MeshFile:
        """Return the mesh of the statements in `lines`."""
        run: list[str] = []
        kind, first, number = "", 1, 0
        waiting: list[str] = []  # words of a statement that goes on in the next line
        for number, line in enumerate(lines, 1):
            own = line[:2] if not waiting and "\\" not in line and "#" not in line else ""
            if run and (own != kind or len(run) == _RUN):
                self._run(kind, run, first)
                run = []
            if own in ("v ", "f "):
                if not run:
                    kind, first = own, number
                run.append(line)
                continue
            words = waiting + line.partition("#")[0].split()
            if words and words[-1].endswith("\\"):
                waiting = words[:-1] + words[-1][:-1].split()
            else:
                waiting = []
                self._statement(number, words)
        if run:
            self._run(kind, run, first)
        self._statement(number, waiting)
        return self._mesh()

    def _run(self, kind: str, lines: list[str], first: int) -> None:
        """Read lines that begin alike: all at once where they have the same form, else one by one."""
        done = self._positions(lines) if kind == "v " else self._faces(lines, first)
        if not done:
            for number, line in enumerate(lines, first):
                self._statement(number, line.split())

    def _positions(self, lines: list[str]) -> bool:
        words = " ".join(lines).split()
        width, rest = divmod(len(words), len(lines))
        if rest or width < 4 or words[::width].count("v") != len(lines):
            return False
        try:
            columns = [list(map(float, words[axis::width])) for axis in (1, 2, 3)]
        except ValueError:
            return False
        self.vectors["v"].frombytes(np.array(columns).T.tobytes())
        self._check_vertices()
        return True

    def _faces(self, lines: list[str], first: int) -> bool:
        text = " ".join(lines)
        if "-" in text or "/0" in text:  # ids that count from the end; ids that are wrong
            return False
        words = text.replace("//", "/0/").split()
        width, rest = divmod(len(words), len(lines))
        if rest or not 4 <= width <= MAX_CORNERS + 1 or words[::width].count("f") != len(lines):
            return False
        del words[::width]
        slashes = words[0].count("/")
        if slashes > 2 or any(word.count("/") != slashes for word in words):
            return False
        try:
            ids = np.array(list(map(int, "/".join(words).split("/"))), np.int64).reshape(-1, slashes + 1)
        except (ValueError, OverflowError):
            return False
        if not ids[:, 0].all():
            return False
        table = np.full((len(ids), 3), _ABSENT, np.int64)
        table[:, : slashes + 1] = ids - 1  # an absent id is 0, which becomes -1
        self.corners.frombytes(table.tobytes())
        self.sizes.frombytes(bytes([width - 1]) * len(lines))
        self.lines.extend(range(first, first + len(lines)))
        self._check_triangles(len(lines) * (width - 3))
        return True

    def _statement(self, number: int, words: list[str]) -> None:
        if not words:
            return
        try:
            if words[0] == "f":
                self._polygon(number, words[1:])
            elif words[0] in self.vectors:
                self._vector(words[0], words[1:])
        except MeshInputError:
            raise
        except (ValueError, OverflowError):
            self._refuse(number, repr(" ".join(words)[:60]), "numbers and indices as OBJ has them")

    def _vector(self, kind: str, numbers: list[str]) -> None:
        if kind == "vt":
            u, v = (*numbers[:2], "0")[:2]
            self.vectors[kind].extend((float(u), float(v)))
        else:
            x, y, z = numbers[:3]  # a weight or a colour may follow
            self.vectors[kind].extend((float(x), float(y), float(z)))
            self._check_vertices()

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
        self._check_triangles(len(corners) - 2)

    def _check_vertices(self) -> None:
        self.limits.check("vertices", len(self.vectors["v"]) // 3, self.what)

    def _check_triangles(self, more: int) -> None:
        self._triangles = self.limits.check("triangles", self._triangles + more, self.what)

    def _mesh(self) -> MeshFile:
        if not self.sizes:
            refuse_no_polygons(self.what)
        positions = finite(np.array(self.vectors["v"]).reshape(-1, 3), f"{self.what}: positions")
        uvs = finite(np.array(self.vectors["vt"]).reshape(-1, 2), f"{self.what}: UVs")
        vertex_ids, uv_ids, normal_ids = np.array(self.corners).reshape(-1, 3).T
        self._check_ids("vertex", vertex_ids, len(positions))
        self._check_ids("UV", uv_ids, len(uvs))
        self._check_ids("normal", normal_ids, len(self.vectors["vn"]) // 3)
        polygons = distinct(np.array(self.sizes), vertex_ids, positions)
        as_written = np.array_equal(polygons.corners, np.arange(len(vertex_ids)))
        notes = left_out(polygons.dropped)
        if not len(polygons.sizes):
            refuse_no_polygons(self.what, notes)
        vertex_ids, uv_ids, normal_ids = (ids[polygons.corners] for ids in (vertex_ids, uv_ids, normal_ids))
        bare = uv_ids == _ABSENT
        if bare.all():
            uvs, uv_ids = uvs[:0], uv_ids[:0]
        elif bare.any():
            uv_ids = np.where(bare, len(uvs), uv_ids)
            uvs = np.concatenate([uvs, np.zeros((1, 2), np.float32)])
        topology = Topology(
            len(positions),
            polygons.sizes.astype(np.uint8),
            vertex_ids.astype(np.int32),
            uv_ids.astype(np.int32),
            uvs,
        )
        normals = self._normals(vertex_ids, normal_ids, len(positions))
        return MeshFile(topology, positions, normals, notes, as_written)

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


def _from_zero(one_based: int, count: int) -> int:
    index = one_based - 1 if one_based > 0 else count + one_based
    if one_based == 0 or index < 0:
        raise ValueError(f"index {one_based}")
    return index
