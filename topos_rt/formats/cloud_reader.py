"""Readers of point clouds: `.npz` with `points` and `normals`, and PLY without faces.

The counts in a file are checked before memory is allocated, and only a part of a large cloud is kept: a file
of ten million points costs no more memory than one of a million. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.formats.damage import damage_refused
from topos_rt.formats.limits import LIMITS, Limits
from topos_rt.formats.ply_header import LONGEST_LINE, PlyElement, PlyHeader, damaged
from topos_rt.support.spatial_hash import keys

KEPT_POINTS = 200_000
_BLOCK = 1 << 18  # rows read at once
_NPY_READERS: dict[tuple[int, int], Callable[[IO[bytes]], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, eq=False)
class CloudFile:
    """A point cloud in the units and axes of its file."""

    points: np.ndarray  # [P,3] float64
    normals: np.ndarray | None  # [P,3] float64, as in the file
    total: int  # points in the file; of a large one, `points` are some that do not depend on their order


def read_npz(path: Path, what: str, limits: Limits = LIMITS) -> CloudFile:
    """Read `points` [P,3] and, where present, `normals` [P,3]; other arrays are ignored.

    Raises MeshInputError for a damaged file, missing or misshapen arrays, types that are not numbers, NaN, or
    more than 50 million points.
    """
    with damage_refused(what, "an .npz file as numpy.savez writes it"), zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        if "points.npy" not in names:
            inside = ", ".join(sorted(n.removesuffix(".npy") for n in names)[:8]) or "nothing"
            raise MeshInputError(what, got=f"arrays: {inside}", expected="'points' [P,3] in it")
        total, blocks = _npy_blocks(archive, "points", what, None, limits)
        kept = _Kept(total)
        for start, block in blocks:
            kept.add(start, _finite(block, start, f"{what}: points"))
        ids, points = kept.rows()
        normals = None
        if "normals.npy" in names:
            _, blocks = _npy_blocks(archive, "normals", what, total, limits)
            normals = np.zeros_like(points)
            order = np.argsort(ids, kind="stable")
            for start, block in blocks:
                found = _finite(block, start, f"{what}: normals")
                low, high = np.searchsorted(ids, [start, start + len(block)], sorter=order)
                normals[order[low:high]] = found[ids[order[low:high]] - start]
        return CloudFile(points, normals, total)


def _npy_blocks(
    archive: zipfile.ZipFile, name: str, what: str, rows: int | None, limits: Limits
) -> tuple[int, Iterator[tuple[int, np.ndarray]]]:
    """Return the number of rows of an array [P,3], and its blocks with the number of their first row."""
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _NPY_READERS:
            raise ValueError(f"npy version {version}")
        shape, columnwise, dtype = _NPY_READERS[version](stream)
        begin = stream.tell()
    if dtype.kind not in "fiu":
        raise MeshInputError(what, got=f"'{name}' of type {dtype}", expected="numbers")
    if len(shape) != 2 or shape[1] != 3 or (rows is not None and shape[0] != rows):
        expected = "[P,3]" if rows is None else f"[{rows},3], one for each point"
        raise MeshInputError(what, got=f"'{name}' of shape {list(shape)}", expected=expected)
    count = limits.check("points", shape[0], what, "thin it out")
    if member.file_size != begin + count * 3 * dtype.itemsize:
        raise ValueError(f"'{name}' has {member.file_size} bytes for {count} points")
    width = 1 if columnwise else 3

    def blocks() -> Iterator[tuple[int, np.ndarray]]:
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(archive.open(member)) for _ in range(3 // width)]
            for column, stream in enumerate(streams):
                stream.seek(begin + column * count * dtype.itemsize)
            for start in range(0, count, _BLOCK):
                size = min(_BLOCK, count - start)
                parts = [stream.read(size * width * dtype.itemsize) for stream in streams]
                yield start, np.hstack([np.frombuffer(part, dtype).reshape(size, width) for part in parts])

    return count, blocks()


def _finite(block: np.ndarray, start: int, what: str) -> np.ndarray:
    """Return rows as float64. Raises MeshInputError where one is not finite."""
    bad = np.flatnonzero(~np.isfinite(block).all(1))
    if len(bad):
        raise MeshInputError(
            what,
            got=f"{block[bad[0]].tolist()} at number {start + bad[0] + 1}",
            expected="finite numbers",
            fix="drop those points",
        )
    return block.astype(np.float64)


class _Kept:
    """The rows of a cloud that are kept: all, or of a large one those whose places have the least numbers.

    Which they are, and their order, does not depend on the order in the file. Memory does not grow with it.
    """

    def __init__(self, total: int) -> None:
        self._all = total <= KEPT_POINTS
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # numbers, ids, rows
        self._waiting = 0

    def add(self, start: int, rows: np.ndarray) -> None:
        """Add rows [n,3+] of the file, the first of which has the number `start`."""
        numbers = np.zeros(0, np.uint64) if self._all else keys(rows[:, :3])
        self._parts.append((numbers, np.arange(start, start + len(rows)), rows))
        self._waiting += len(rows)
        if not self._all and self._waiting > 2 * KEPT_POINTS:
            self._least()

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of the kept rows, and the rows."""
        if not self._parts:
            return np.zeros(0, np.int64), np.zeros((0, 3))
        if not self._all:
            self._least()
        _, ids, rows = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        return ids, rows

    def _least(self) -> None:
        numbers, ids, rows = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        order = np.argsort(numbers, kind="stable")[:KEPT_POINTS]
        self._parts = [(numbers[order], ids[order], rows[order])]
        self._waiting = len(order)


def read_ply_points(path: Path, header: PlyHeader, what: str) -> CloudFile:
    """Read the vertices of a PLY file, and their normals where it has `nx`, `ny`, `nz`.

    Raises MeshInputError as `read_npz` does.
    """
    elements = {element.name: element for element in header.elements}
    vertex = elements.get("vertex", PlyElement("vertex", 0, ()))
    row, count = vertex.row, vertex.count
    names = () if row is None else row.names or ()
    before = header.elements[: [*elements].index("vertex")] if "vertex" in elements else ()
    if row is None or not {"x", "y", "z"} <= set(names):
        damaged(what, "vertices without x, y and z, or with lists")
    axes = ["x", "y", "z"] + (["nx", "ny", "nz"] if {"nx", "ny", "nz"} <= set(names) else [])
    kept = _Kept(count)
    with path.open("rb") as file:
        file.seek(header.length)
        if header.order:
            rows = [element.row for element in before]
            if any(found is None for found in rows):
                damaged(what, "lists before the vertices")
            sizes = [found.itemsize for found in rows if found is not None]
            skip = sum(size * element.count for size, element in zip(sizes, before, strict=True))
            file.seek(skip, os.SEEK_CUR)
            blocks = _binary_blocks(file, row, count, what)
        else:
            lines = _lines(file, header.newline)
            for _ in itertools.islice(lines, sum(element.count for element in before)):
                pass
            blocks = _ascii_blocks(lines, names, count, what)
        for start, block in blocks:
            table = np.stack([block[axis] for axis in axes], 1)
            kept.add(start, _finite(table, start, what))
    _, values = kept.rows()
    return CloudFile(values[:, :3], values[:, 3:] if len(axes) == 6 else None, count)


def _binary_blocks(file: IO[bytes], vertex: np.dtype, count: int, what: str) -> Iterator[tuple[int, Any]]:
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        data = file.read(size * vertex.itemsize)
        if len(data) < size * vertex.itemsize:
            damaged(what, f"an end after {start + len(data) // vertex.itemsize} of {count} points")
        yield start, np.frombuffer(data, vertex)


def _lines(file: IO[bytes], newline: bytes) -> Iterator[list[bytes]]:
    """Yield the words of the lines that are not blank."""
    if newline == b"\r":
        # A whole file of old Macintosh lines: nobody writes large clouds so.
        text = file.read(LIMITS.file_bytes)
        yield from (words for line in text.split(b"\r") if (words := line.split()))
        return
    while line := file.readline(LONGEST_LINE):
        if words := line.split():
            yield words


def _ascii_blocks(
    lines: Iterator[list[bytes]], names: tuple[str, ...], count: int, what: str
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        words = list(itertools.islice(lines, size))
        try:
            rows = np.array(words, np.float64).reshape(size, len(names))
        except ValueError as error:
            damaged(what, f"lines that are not {len(names)} numbers ({error})")
        yield start, dict(zip(names, rows.T, strict=True))
