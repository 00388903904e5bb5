"""The header of a PLY file: what the file claims to hold, checked against what it can hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.formats.limits import LIMITS, Limits

LONGEST_LINE = 1 << 16
_MAX_HEADER = 1 << 16
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True)
class PlyProperty:
    """A number of each element or, with `count`, a list of numbers."""

    name: str
    kind: np.dtype
    count: np.dtype | None = None  # the type of a list's length


@dataclass(frozen=True)
class PlyElement:
    """One table of a PLY file."""

    name: str
    count: int
    properties: tuple[PlyProperty, ...]

    @property
    def row(self) -> np.dtype | None:
        """The type of one row; None where it has lists, whose length differs."""
        if any(found.count is not None for found in self.properties):
            return None
        return np.dtype([(found.name, found.kind) for found in self.properties])

    @property
    def least(self) -> int:
        """The fewest bytes that a row of a binary file takes."""
        return sum((found.kind if found.count is None else found.count).itemsize for found in self.properties)


@dataclass(frozen=True)
class PlyHeader:
    """The header of a PLY file."""

    order: str  # "" for ASCII, else NumPy's byte order
    elements: tuple[PlyElement, ...]  # in the order of the file
    length: int  # bytes of the header
    newline: bytes  # how the file ends its lines

    def count(self, *names: str) -> int:
        """Return how many rows the elements of these names have in all."""
        return sum(element.count for element in self.elements if element.name in names)

    @property
    def has_faces(self) -> bool:
        """Whether there is a surface, and not vertices alone."""
        return self.count("face", "tristrips") > 0


def read_ply_header(path: Path, what: str, limits: Limits = LIMITS) -> PlyHeader:
    """Read the header alone.

    Comments may be in any encoding. Raises MeshInputError where it is damaged, a count exceeds the limit of
    points, or the file is too short for it; OSError.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        data = file.read(_MAX_HEADER)
    if not data.startswith(b"ply"):
        damaged(what, "no PLY header")
    newline = next((end for end in (b"\r\n", b"\n", b"\r") if data[3:].lstrip(b" \t").startswith(end)), b"\n")
    lines, length, ended = [], 0, False
    while not ended and length < len(data):
        line, found, _ = data[length:].partition(newline)
        length += len(line) + len(found)
        ended = line.split() == [b"end_header"]
        lines.append(line.decode("latin-1"))
    if not ended:
        damaged(what, "no PLY header")
    try:
        order, elements = _parsed(lines[1:-1])
    except (LookupError, ValueError, TypeError) as error:
        damaged(what, f"a PLY header with {error}")
    for element in elements:
        limits.check("points", element.count, f"{what}: {element.name}", "thin it out")
        # In ASCII a number takes two bytes, with the space after it.
        least = element.least if order else 2 * len(element.properties)
        if element.count * least > size - length + 1:
            rows = "points" if element.name == "vertex" else f"rows of {element.name!r}"
            damaged(what, f"{size - length} bytes for {element.count} {rows}")
    return PlyHeader(order, elements, length, newline)


def _parsed(lines: list[str]) -> tuple[str, tuple[PlyElement, ...]]:
    order: str | None = None
    found: list[tuple[str, int, list[PlyProperty]]] = []
    for line in lines:
        match line.split():
            case ["format", kind, _]:
                order = _ORDERS[kind]
            case ["element", name, count]:
                found.append((name, int(count), []))
            case ["property", "list", count, kind, name]:
                found[-1][2].append(PlyProperty(name, _type(order, kind), _type(order, count)))
            case ["property", kind, name]:
                found[-1][2].append(PlyProperty(name, _type(order, kind)))
            case ["format" | "element" | "property", *_]:
                raise ValueError(f"the line {line[:60]!r}")
    if order is None or min((count for _, count, _ in found), default=-1) < 0:
        raise ValueError("no format or a negative count")
    if len({name for name, _, _ in found}) < len(found):
        raise ValueError("an element twice")
    for _, _, properties in found:
        if any(entry.count is not None and entry.count.kind not in "iu" for entry in properties):
            raise ValueError("lists whose length is no whole number")
        if len({entry.name for entry in properties}) < len(properties):
            raise ValueError("a property twice")
    return order, tuple(PlyElement(name, count, tuple(some)) for name, count, some in found)


def _type(order: str | None, kind: str) -> np.dtype:
    if order is None:
        raise ValueError("properties before the format")
    return np.dtype((order or "<") + _TYPES[kind])


def damaged(what: str, got: str) -> NoReturn:
    """Raise the MeshInputError for a damaged PLY file."""
    raise MeshInputError(what, got=got, expected="a complete .ply file", fix="export it again")
