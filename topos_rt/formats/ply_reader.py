"""The reader of PLY meshes, ASCII and binary, with polygons of any sizes and with triangle strips.

Source: Greg Turk, The PLY Polygon File Format. Vertices without faces are the business of `cloud_reader.py`.
"""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topos_rt.formats.damage import damage_refused
from topos_rt.formats.limits import LIMITS, Limits, read_whole
from topos_rt.formats.mesh_file import MeshFile, joined, polygons_to_part
from topos_rt.formats.ply_header import PlyElement, PlyHeader, damaged, read_ply_header

_LISTS = ("vertex_indices", "vertex_index")
_AXES = ("x", "y", "z")
_BLOCK = 1 << 16  # rows that are gathered at once


class _Table(NamedTuple):
    """The rows of an element."""

    numbers: dict[str, np.ndarray]  # property -> [n]; empty where the element has lists
    sizes: np.ndarray  # [n] length of the list of vertex ids in each row
    ids: np.ndarray  # [sum of sizes] int64


def read_ply(path: Path, what: str, limits: Limits = LIMITS) -> MeshFile:
    """Read the surface of a PLY. Its faces are cut into triangles; colours, UVs and textures are ignored.

    Raises MeshInputError for a damaged file, one without faces, or one above the limits; MissingExtraError
    for polygons that are not convex where mapbox-earcut is missing; OSError.
    """
    header = read_ply_header(path, what, limits)
    for name, kind in (("vertex", "vertices"), ("face", "triangles")):
        limits.check(kind, header.count(name), what)
    data = read_whole(path, what, limits)
    with damage_refused(what, "a complete .ply file"):
        tables = dict(_tables(data, header, what))
        if "vertex" not in tables or not set(_AXES) <= set(tables["vertex"].numbers):
            damaged(what, "vertices without x, y and z, or with lists")
        positions = np.stack([tables["vertex"].numbers[axis] for axis in _AXES], 1).astype(np.float64)
        sizes, ids = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        if "face" in tables:
            sizes.append(tables["face"].sizes)
            ids.append(tables["face"].ids)
        if "tristrips" in tables:
            triangles = _strips(tables["tristrips"])
            sizes.append(np.full(len(triangles), 3))
            ids.append(triangles.ravel())
        part, notes = polygons_to_part(np.concatenate(sizes), np.concatenate(ids), positions, what, limits)
        return joined([part], what, notes)


def _tables(data: bytes, header: PlyHeader, what: str) -> Iterator[tuple[str, _Table]]:
    """Yield the elements of a file in their order. What follows them is ignored."""
    if header.order:
        place = header.length
        for element in header.elements:
            table, place = _binary(data, place, element, what)
            yield element.name, table
        return
    text = data[header.length :]
    if header.newline == b"\r":
        text = text.replace(b"\r", b"\n")
    rows = (words for line in io.BytesIO(text) if (words := line.split()))
    for element in header.elements:
        yield element.name, _ascii(rows, element, what)


def _binary(data: bytes, place: int, element: PlyElement, what: str) -> tuple[_Table, int]:
    row = element.row
    if row is not None:
        end = place + element.count * row.itemsize
        if end > len(data):
            damaged(what, f"{len(data) - place} bytes for {element.count} of {element.name!r}")
        table = np.frombuffer(data, row, element.count, place)
        numbers = {name: table[name] for name in row.names or ()}
        return _Table(numbers, np.zeros(0, np.int64), np.zeros(0, np.int64)), end
    starts, sizes, end = _walk(data, place, element)
    if end > len(data):
        damaged(what, f"an end within {element.name!r}")
    wanted = next((entry for entry in element.properties if entry.name in _LISTS), None)
    lengths = np.array(sizes, np.int64)
    if wanted is None:
        return _Table({}, np.zeros(0, np.int64), np.zeros(0, np.int64)), end
    ids = np.zeros(int(lengths.sum()), np.int64)
    firsts, width = np.array(starts, np.int64), wanted.kind.itemsize
    into = np.cumsum(lengths) - lengths
    raw = np.frombuffer(data, np.uint8)
    for size in np.unique(lengths[lengths > 0]):
        same = np.flatnonzero(lengths == size)
        for start in range(0, len(same), _BLOCK):
            some = same[start : start + _BLOCK]
            cells = raw[firsts[some][:, None] + np.arange(size * width)]
            ids[into[some][:, None] + np.arange(size)] = cells.view(wanted.kind)
    return _Table({}, lengths, ids), end


def _walk(data: bytes, place: int, element: PlyElement) -> tuple[array, array, int]:
    """Return where the list of vertex ids of each row begins, its length, and where the element ends."""
    starts, sizes = array("q"), array("q")
    # One step for each list: bytes before it, those of its length, of an entry, and whether it is wanted.
    steps, before = [], 0
    for entry in element.properties:
        if entry.count is None:
            before += entry.kind.itemsize
        else:
            little = entry.count.byteorder != ">"
            signed = entry.count.kind == "i"
            steps.append(
                (before, entry.count.itemsize, entry.kind.itemsize, entry.name in _LISTS, little, signed)
            )
            before = 0
    after, limit = before, len(data)
    for _ in range(element.count):
        for skip, width, item, wanted, little, signed in steps:
            place += skip
            if width == 1 and not signed:
                size = data[place]
            else:
                size = int.from_bytes(
                    data[place : place + width], "little" if little else "big", signed=signed
                )
            place += width
            if size < 0 or place + size * item > limit:
                raise ValueError(f"a list of {size} entries")
            if wanted:
                starts.append(place)
                sizes.append(size)
            place += size * item
        place += after
    return starts, sizes, place


def _ascii(rows: Iterator[list[bytes]], element: PlyElement, what: str) -> _Table:
    names = [entry.name for entry in element.properties]
    none = np.zeros(0, np.int64)
    if element.row is not None:
        flat = array("d")
        for number in range(element.count):
            words = next(rows, [])
            if len(words) != len(names):
                damaged(
                    what, f"lines that are not {len(names)} numbers (row {number + 1} of {element.name!r})"
                )
            flat.extend(map(float, words))
        table = np.array(flat).reshape(-1, len(names))
        return _Table(dict(zip(names, table.T, strict=True)), none, none)
    sizes, ids = array("q"), array("q")
    plan = [(entry.count is not None, entry.name in _LISTS) for entry in element.properties]
    for number in range(element.count):
        words = next(rows, [])
        place = 0
        for is_list, wanted in plan:
            size = int(words[place]) if is_list and place < len(words) else 0
            if size < 0 or place + size >= len(words):
                damaged(what, f"row {number + 1} of {element.name!r} with {len(words)} numbers")
            if wanted:
                sizes.append(size)
                ids.extend(map(int, words[place + 1 : place + 1 + size]))
            place += 1 + size
    return _Table({}, np.array(sizes, np.int64), np.array(ids, np.int64))


def _strips(table: _Table) -> np.ndarray:
    """Return the triangles [f,3] of strips: lists of vertex ids, cut into strips by -1.

    Every second triangle of a strip has its first two corners swapped.
    """
    ids = table.ids
    if len(ids) < 3:
        return np.zeros((0, 3), np.int64)
    # A list ends a strip too.
    ends = np.zeros(len(ids), bool)
    last = np.cumsum(table.sizes)[:-1]
    ends[last[last < len(ids)]] = True
    strip = np.cumsum((ids < 0) | ends)
    first = np.zeros(len(ids), np.int64)
    breaks = np.flatnonzero(np.diff(strip, prepend=-1))
    # After -1 the strip begins at the next id.
    begins = breaks + (ids[breaks] < 0)
    first = begins[np.searchsorted(breaks, np.arange(len(ids)), side="right") - 1]
    i = np.arange(len(ids) - 2)
    whole = (strip[:-2] == strip[2:]) & (ids[:-2] >= 0)
    i = i[whole]
    odd = (i - first[i]) % 2
    triangles: np.ndarray = ids[np.stack([i + odd, i + 1 - odd, i + 2], 1)]
    return triangles[(triangles != np.roll(triangles, 1, 1)).all(1)]
