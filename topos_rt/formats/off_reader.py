"""The reader of OFF meshes in text form, with or without colours and normals."""

from __future__ import annotations

import io
import re
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.formats.damage import damage_refused
from topos_rt.formats.limits import LIMITS, Limits, read_whole
from topos_rt.formats.mesh_file import MeshFile, joined, polygons_to_part

# [ST][C][N]OFF: texture coordinates, colours and normals follow the three coordinates of a vertex.
_KEYWORD = re.compile(rb"(ST)?C?N?OFF")


def read_off(path: Path, what: str, limits: Limits = LIMITS) -> MeshFile:
    """Read the surface of an OFF file. Its faces are cut into triangles; colours and normals are ignored.

    Source: Geomview's manual, "OFF Files".

    Raises MeshInputError for a damaged or binary file, one above the limits, or of other dimensions;
    MissingExtraError for polygons that are not convex where mapbox-earcut is missing; OSError.
    """
    data = read_whole(path, what, limits)
    with damage_refused(what, "a complete .off file"):
        text = data.replace(b"\r", b"\n") if b"\n" not in data else data
        lines = (words for line in io.BytesIO(text) if (words := line.partition(b"#")[0].split()))
        vertices, faces = _counts(lines, what)
        limits.check("vertices", vertices, what)
        limits.check("triangles", faces, what)
        # "0 0 0" and a line's end, and "3 0 1 2" and a line's end, are the shortest lines.
        if 6 * vertices + 8 * faces > len(data) + 8:
            raise ValueError(f"{len(data)} bytes for {vertices} vertices and {faces} faces")
        positions = _positions(lines, vertices)
        sizes, ids = _faces(lines, faces)
        part, notes = polygons_to_part(sizes, ids, positions, what, limits)
        return joined([part], what, notes)


def _counts(lines: Iterator[list[bytes]], what: str) -> tuple[int, int]:
    words = next(lines, [])
    if words and _KEYWORD.fullmatch(words[0]):
        if b"BINARY" in words:
            raise MeshInputError(
                what, got="a binary OFF file", expected="one in text form", fix="convert it to PLY or OBJ"
            )
        words = words[1:] or next(lines, [])
    if not 2 <= len(words) <= 3:  # the number of edges may be missing
        raise ValueError("no OFF header")
    vertices, faces = (int(word) for word in words[:2])
    if vertices < 0 or faces < 0:
        raise ValueError("a negative count")
    return vertices, faces


def _positions(lines: Iterator[list[bytes]], count: int) -> np.ndarray:
    numbers = array("d")
    for number in range(count):
        words = next(lines, [])
        if len(words) < 3:
            raise ValueError(f"vertex {number + 1} with {len(words)} numbers")
        numbers.extend(map(float, words[:3]))
    return np.array(numbers, np.float64).reshape(-1, 3)


def _faces(lines: Iterator[list[bytes]], count: int) -> tuple[np.ndarray, np.ndarray]:
    sizes, ids = array("q"), array("q")
    for number in range(count):
        words = next(lines, [b"0"])
        size = int(words[0])
        if not 1 <= size < len(words):
            raise ValueError(f"face {number + 1} with {len(words) - 1} numbers for {size} corners")
        sizes.append(size)
        ids.extend(map(int, words[1 : 1 + size]))
    return np.array(sizes, np.int64), np.array(ids, np.int64)
