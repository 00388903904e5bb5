"""The reader of STL, binary and ASCII. Its triangles share no vertices."""

from __future__ import annotations

import io
import struct
from array import array
from pathlib import Path

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.formats.damage import damage_refused
from topos_rt.formats.limits import LIMITS, Limits, read_whole
from topos_rt.formats.mesh_file import MeshFile, Part, joined, refuse_no_polygons

_HEADER, _TRIANGLE = 84, 50
_ROW = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def read_stl(path: Path, what: str, limits: Limits = LIMITS) -> MeshFile:
    """Read the triangles of an STL; those of a binary one by the count that it declares.

    Names may be in any encoding. Bytes after the triangles are ignored, and a note says so. Triangle i has
    the vertices 3i to 3i+2.

    Raises MeshInputError for a damaged or cut file, one above the limits, or without triangles; OSError.
    """
    data = read_whole(path, what, limits)
    with damage_refused(what, "a complete .stl file"):
        corners, notes = _ascii(data, limits, what) if _is_text(data) else _binary(data, limits, what)
        same = np.zeros(len(corners), bool)
        for one, other in ((0, 1), (1, 2), (2, 0)):
            same |= (corners[:, one] == corners[:, other]).all(1)
        triangles = np.arange(3 * len(corners)).reshape(-1, 3)
        if not len(triangles):
            refuse_no_polygons(what)
        return joined([Part(corners.reshape(-1, 3), triangles)], what, [*notes, *_flat(int(same.sum()))])


def _is_text(data: bytes) -> bool:
    """Tell whether an STL is ASCII: some binary ones begin with "solid" as well."""
    if data.lstrip()[:5].lower() != b"solid":
        return False
    if len(data) >= _HEADER:
        count = struct.unpack_from("<I", data, _HEADER - 4)[0]
        if len(data) == _HEADER + count * _TRIANGLE:
            return False
    # Every text has these words; the numbers of a binary file have zeros among their bytes.
    return b"facet" in data[:1024].lower() or b"endsolid" in data[-1024:].lower()


def _binary(data: bytes, limits: Limits, what: str) -> tuple[np.ndarray, list[str]]:
    if len(data) < _HEADER:
        raise ValueError(f"{len(data)} bytes")
    count = struct.unpack_from("<I", data, _HEADER - 4)[0]
    room = (len(data) - _HEADER) // _TRIANGLE
    if count > room:
        raise MeshInputError(
            what,
            got=f"{count:,} triangles in the header and {room:,} in the file",
            expected="a complete .stl file",
            fix="copy or export it again",
        )
    limits.check("triangles", count, what, "decimate it, or save its points as PLY")
    rows = np.frombuffer(data, _ROW, count, _HEADER)
    more = len(data) - _HEADER - count * _TRIANGLE
    notes = [f"{more:,} bytes after the {count:,} triangles ignored"] if more else []
    return np.ascontiguousarray(rows["corners"]), notes


def _ascii(data: bytes, limits: Limits, what: str) -> tuple[np.ndarray, list[str]]:
    numbers = array("d")
    text = data.replace(b"\r", b"\n") if b"\n" not in data else data
    corners = facets = 0
    for line in io.BytesIO(text):
        words = line.split()
        word = words[0].lower() if words else b""
        if word == b"vertex":
            x, y, z = words[1:4]
            numbers.extend((float(x), float(y), float(z)))
            corners += 1
        elif word == b"endloop":
            facets += 1
            limits.check("triangles", facets, what, "decimate it, or save its points as PLY")
            if corners != 3 * facets:
                raise ValueError(f"facet {facets} does not have 3 vertices")
    if corners != 3 * facets:
        raise ValueError("an end within a facet")
    return np.array(numbers, np.float64).reshape(-1, 3, 3), []


def _flat(count: int) -> list[str]:
    return [f"{count:,} triangles with a repeated corner have no area"] if count else []
