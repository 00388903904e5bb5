"""Readers of point clouds: `.npz` with `points` and `normals`, and PLY without faces.

The counts in a file are checked before memory is allocated, and only a part of a large cloud is kept: a file
of ten million points costs no more memory than one of a million. Nothing is unpickled.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.formats.damage import damage_refused
from topos_rt.formats.limits import LIMITS, Limits

KEPT_POINTS = 200_000
_MAX_HEADER = 1 << 16
_BLOCK = 1 << 18  # rows read at once
_NPY_READERS: dict[tuple[int, int], Callable[[IO[bytes]], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_PLY_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True, eq=False)
class CloudFile:
    """A point cloud in the units and axes of its file."""

    points: np.ndarray  # [P,3] float64
    normals: np.ndarray | None  # [P,3] float64, as in the file
    total: int  # points in the file; `points` may be a seeded subset of them


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
        total, points = _npy_rows(archive, "points", what, None, limits)
        normals = None
        if "normals.npy" in names:
            _, normals = _npy_rows(archive, "normals", what, total, limits)
        return CloudFile(points, normals, total)


def _npy_rows(
    archive: zipfile.ZipFile, name: str, what: str, rows: int | None, limits: Limits
) -> tuple[int, np.ndarray]:
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _NPY_READERS:
            raise ValueError(f"npy version {version}")
        shape, columnwise, dtype = _NPY_READERS[version](stream)
        if dtype.kind not in "fiu":
            raise MeshInputError(what, got=f"'{name}' of type {dtype}", expected="numbers")
        if len(shape) != 2 or shape[1] != 3 or (rows is not None and shape[0] != rows):
            expected = "[P,3]" if rows is None else f"[{rows},3], one for each point"
            raise MeshInputError(what, got=f"'{name}' of shape {list(shape)}", expected=expected)
        count = limits.check("points", shape[0], what, "thin it out")
        if member.file_size != stream.tell() + count * 3 * dtype.itemsize:
            raise ValueError(f"'{name}' has {member.file_size} bytes for {count} points")
        chosen = _chosen(count)
        if columnwise:
            columns = [_rows(stream, dtype, 1, count, chosen, f"{what}: {name}") for _ in range(3)]
            return count, np.hstack(columns)
        return count, _rows(stream, dtype, 3, count, chosen, f"{what}: {name}")


def _rows(
    stream: IO[bytes], dtype: np.dtype, width: int, count: int, chosen: np.ndarray, what: str
) -> np.ndarray:
    """Read `count` rows, all of which must be finite, and return the chosen ones."""
    parts = []
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        data = stream.read(size * width * dtype.itemsize)
        block = np.frombuffer(data, dtype).reshape(size, width)
        parts.append(_finite_part(block, start, chosen, what))
    return np.concatenate(parts) if parts else np.zeros((0, width))


def _finite_part(block: np.ndarray, start: int, chosen: np.ndarray, what: str) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(block).all(1))
    if len(bad):
        raise MeshInputError(
            what,
            got=f"{block[bad[0]].tolist()} at number {start + bad[0] + 1}",
            expected="finite numbers",
            fix="drop those points",
        )
    low, high = np.searchsorted(chosen, [start, start + len(block)])
    return block[chosen[low:high] - start].astype(np.float64)


@dataclass(frozen=True)
class PlyHeader:
    """The header of a PLY file: what the file claims to hold."""

    order: str  # "" for ASCII, else NumPy's byte order
    counts: dict[str, int]  # element -> its count
    vertex: np.dtype | None  # type of one vertex; None where it has lists or is not the first element
    length: int  # bytes of the header


def read_ply_header(path: Path, what: str, limits: Limits = LIMITS) -> PlyHeader:
    """Read the header alone. Raises MeshInputError where it is damaged or a count exceeds the limit."""
    with path.open("rb") as file:
        data = file.read(_MAX_HEADER)
    end = data.find(b"end_header")
    stop = data.find(b"\n", end) + 1
    if not data.startswith(b"ply") or end < 0 or not stop:
        _damaged(what, "no PLY header", ".ply")
    order, counts, fields = None, {}, {}
    element, plain = "", True
    try:
        for line in data[:end].decode("ascii", "replace").splitlines()[1:]:
            words = line.split()
            match words[:1]:
                case ["format"]:
                    order = _PLY_ORDERS[words[1]]
                case ["element"]:
                    element, counts[words[1]] = words[1], int(words[2])
                case ["property"] if element == "vertex":
                    plain &= words[1] != "list"
                    fields[words[-1]] = (order or "") + _PLY_TYPES.get(words[1], "f4")
        if order is None or min(counts.values(), default=-1) < 0:
            raise ValueError("no format or a negative count")
        first = next(iter(counts)) == "vertex"
        vertex = np.dtype(list(fields.items())) if plain and first and fields else None
    except (LookupError, ValueError, TypeError) as error:
        _damaged(what, f"a PLY header with {error}", ".ply")
    for kind, count in counts.items():
        limits.check("points", count, f"{what}: {kind}", "thin it out")
    return PlyHeader(order, counts, vertex, stop)


def read_ply_points(path: Path, header: PlyHeader, what: str) -> CloudFile:
    """Read the vertices of a PLY file, and their normals where it has `nx`, `ny`, `nz`.

    Raises MeshInputError as `read_npz` does.
    """
    count, vertex = header.counts.get("vertex", 0), header.vertex
    names = () if vertex is None else vertex.names or ()
    if vertex is None or not {"x", "y", "z"} <= set(names):
        _damaged(what, "vertices without x, y and z, or not first in the file", ".ply")
    axes = ["x", "y", "z"] + (["nx", "ny", "nz"] if {"nx", "ny", "nz"} <= set(names) else [])
    chosen, parts = _chosen(count), []
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size - header.length
        needs = count * (vertex.itemsize if header.order else 2 * len(names))
        if size < needs:
            _damaged(what, f"{size} bytes for {count} points", ".ply")
        file.seek(header.length)
        blocks = (
            _binary_blocks(file, vertex, count) if header.order else _ascii_blocks(file, names, count, what)
        )
        for start, block in blocks:
            rows = np.stack([block[axis] for axis in axes], 1)
            parts.append(_finite_part(rows, start, chosen, what))
    values = np.concatenate(parts) if parts else np.zeros((0, len(axes)))
    return CloudFile(values[:, :3], values[:, 3:] if len(axes) == 6 else None, count)


def _binary_blocks(file: IO[bytes], vertex: np.dtype, count: int) -> Iterator[tuple[int, Any]]:
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        yield start, np.frombuffer(file.read(size * vertex.itemsize), vertex)


def _ascii_blocks(
    file: IO[bytes], names: tuple[str, ...], count: int, what: str
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        lines = [file.readline(_MAX_HEADER) for _ in range(size)]
        try:
            rows = np.array([line.split() for line in lines], np.float64).reshape(size, len(names))
        except ValueError as error:
            _damaged(what, f"lines that are not {len(names)} numbers ({error})", ".ply")
        yield start, dict(zip(names, rows.T, strict=True))


def _chosen(count: int) -> np.ndarray:
    """Return the sorted ids of the points that are kept, the same for the same count."""
    if count <= KEPT_POINTS:
        return np.arange(count)
    draw = np.random.Generator(np.random.Philox(0))
    return np.sort(draw.choice(count, KEPT_POINTS, replace=False, shuffle=False))


def _damaged(what: str, got: str, suffix: str) -> NoReturn:
    raise MeshInputError(what, got=got, expected=f"a complete {suffix} file", fix="export it again")
