"""The container of an engine pack: header, hashed table and aligned sections. docs/pack.md has every byte.

Nothing here knows what the sections mean. There is one way to write the same sections, and a reader takes no
other: so every byte of a file is either checked for its one value, or covered by a hash.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from topos_rt.errors import BundleError
from topos_rt.pack.sections import ANY, BYTES, KINDS, TEXT, TYPES, Kind

MAGIC = b"TOPOSPK\n"
VERSION = 1
ALIGN = 64
MAX_SECTIONS = 4096
_HEADER = struct.Struct("<8sIIQQ32s")  # magic, version, sections, size of the file, zero, SHA-256
_ROW = struct.Struct("<HHHHQQII32s")  # kind, index, type, zero, offset, size, rows, columns, SHA-256
_HASHED = 32  # bytes of the header that its hash covers, before the table
_BLOCK = 1 << 20
_FIX = "make the pack again with 'topos-rt pack'"
_NAMES = {kind.number: name for name, kind in KINDS.items()}

Key: TypeAlias = tuple[str, int]  # the name of a kind, and an index
Value: TypeAlias = "np.ndarray | bytes | tuple[str, ...]"


@dataclass(frozen=True)
class Section:
    """A row of the table."""

    name: str
    index: int
    offset: int
    size: int
    rows: int
    columns: int
    sha256: bytes

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]


def packed(contents: Mapping[Key, Value]) -> bytes:
    """Return the bytes of a pack. The same contents give the same bytes, in whatever order they come."""
    keys = in_order(contents)
    offset, table, body = _aligned(ALIGN * (1 + len(keys))), b"", bytearray()
    for name, index in keys:
        kind, data, rows, columns = KINDS[name], *_encoded(name, contents[name, index])
        body += bytes(-len(body) % ALIGN) + data
        digest = hashlib.sha256(data).digest()
        table += _ROW.pack(
            kind.number, index, TYPES[kind.type][0], 0, offset, len(data), rows, columns, digest
        )
        end = offset + len(data)
        offset = _aligned(end)
    head = _HEADER.pack(MAGIC, VERSION, len(keys), end, 0, bytes(32))[:_HASHED]
    return b"".join((head, hashlib.sha256(head + table).digest(), table, body))


class Pack:
    """A pack on disk, whose table has been checked; contents are read when they are asked for."""

    def __init__(self, path: Path, size: int, sections: Mapping[Key, Section]) -> None:
        self.path = path
        self.size = size
        self.sections = sections

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: bool = True) -> Pack:
        """Read the table of a pack.

        verify: check the SHA-256 of every section, too. Raises BundleError for a file that cannot be read, is
        no pack, was made for a later version, or is damaged.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                sections = _table(file, size, path.name)
                if verify:
                    _check_contents(file, sections, path.name)
        except (OSError, ValueError) as error:  # ValueError: a NUL byte inside the name
            if isinstance(error, BundleError):
                raise
            reason = getattr(error, "strerror", None) or error
            raise BundleError(f"pack {path.name}", got=reason, expected="a file that can be read") from error
        return cls(path, size, sections)

    def __contains__(self, key: Key) -> bool:
        return key in self.sections

    def array(self, name: str, index: int = 0) -> np.ndarray:
        """Return a section of numbers, [rows,columns]. Raises BundleError where it is missing or damaged."""
        section = self._section(name, index)
        found = np.frombuffer(self._bytes(section), TYPES[section.kind.type][1])
        return found.reshape(section.rows, section.columns)

    def strings(self, name: str, index: int = 0) -> tuple[str, ...]:
        """Return a section of strings. Raises BundleError where it is missing or damaged."""
        section = self._section(name, index)
        return _strings(self._bytes(section), section, self.path.name)

    def file(self, name: str, index: int = 0) -> bytes:
        """Return a file within the pack. Raises BundleError where it is missing or damaged."""
        return self._bytes(self._section(name, index))

    def _section(self, name: str, index: int) -> Section:
        if (name, index) not in self.sections:
            raise BundleError(f"section {name} {index} of pack {self.path.name}", got="none", fix=_FIX)
        return self.sections[name, index]

    def _bytes(self, section: Section) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(section.offset)
                data = file.read(section.size)
        except OSError as error:
            raise BundleError(f"pack {self.path.name}", got=error.strerror or error) from error
        if hashlib.sha256(data).digest() != section.sha256:
            raise _damaged(self.path.name, f"section {section.name} {section.index}", "another SHA-256")
        return data


def in_order(keys: Iterable[Key]) -> list[Key]:
    """Return the keys of sections in the order in which a pack has them."""
    return sorted(keys, key=lambda key: (KINDS[key[0]].number, key[1]))


def _encoded(name: str, value: Value) -> tuple[bytes, int, int]:
    """Return the bytes, rows and columns of a section."""
    kind = KINDS[name]
    if kind.type == BYTES:
        assert isinstance(value, bytes)
        return value, 1, 1
    if kind.type == TEXT:
        assert isinstance(value, tuple) and not any("\0" in text for text in value)
        return "".join(f"{text}\0" for text in value).encode(), len(value), 1
    array = np.asarray(value)
    wanted = np.dtype(TYPES[kind.type][1])
    array = array.reshape(len(array), -1) if array.size else array.reshape(0, kind.columns or 1)
    columns = array.shape[1]
    assert array.dtype == wanted.newbyteorder("="), f"{name}: {array.dtype}"
    assert kind.columns in (ANY, columns), f"{name}: {columns} columns"
    return array.astype(wanted).tobytes(), len(array), columns


def _table(file: BinaryIO, size: int, name: str) -> dict[Key, Section]:
    head = file.read(ALIGN)
    if len(head) < ALIGN or head[: len(MAGIC)] != MAGIC:
        raise BundleError(f"pack {name}", got="a file that is none", expected="an engine pack", fix=_FIX)
    _, version, count, told, zero, digest = _HEADER.unpack(head)
    if version != VERSION:
        fix = "upgrade topos-rt" if version > VERSION else _FIX
        raise BundleError(f"version of pack {name}", got=version, expected=VERSION, fix=fix)
    if told != size:
        raise _damaged(name, "the file", f"{size} bytes", told)
    if zero or not 0 < count <= MAX_SECTIONS:
        raise _damaged(name, "the header", f"{count} sections")
    table = file.read(_ROW.size * count)
    if hashlib.sha256(head[:_HASHED] + table).digest() != digest:
        raise _damaged(name, "the table", "another SHA-256")
    sections: dict[Key, Section] = {}
    end, last = ALIGN * (1 + count), (-1, -1)
    for row in range(count):
        number, index, type_, zero, offset, length, rows, columns, own = _ROW.unpack_from(
            table, row * _ROW.size
        )
        kind_name = _NAMES.get(number)
        if kind_name is None or (number, index) <= last or zero:
            raise _damaged(name, f"row {row} of the table", f"kind {number}, index {index}")
        section = Section(kind_name, index, offset, length, rows, columns, own)
        _check_row(section, type_, _aligned(end), name)
        sections[kind_name, index] = section
        last, end = (number, index), offset + length
    if end != size:
        raise _damaged(name, "the file", f"{size} bytes", end)
    return sections


def _check_row(section: Section, type_: int, offset: int, name: str) -> None:
    kind, what = section.kind, f"section {section.name} {section.index}"
    if section.offset != offset or type_ != TYPES[kind.type][0]:
        raise _damaged(name, what, f"type {type_} at byte {section.offset}", f"{kind.type} at {offset}")
    if kind.columns not in (ANY, section.columns) or not section.columns:
        raise _damaged(name, what, f"{section.columns} columns", kind.columns or "some")
    if kind.type == BYTES:
        fits = section.rows == 1
    elif kind.type == TEXT:
        fits = section.rows <= section.size
    else:
        fits = section.size == section.rows * section.columns * kind.item
    if not fits:
        raise _damaged(name, what, f"{section.size} bytes for {section.rows} rows")


def _check_contents(file: BinaryIO, sections: Mapping[Key, Section], name: str) -> None:
    end = ALIGN * (1 + len(sections))
    for section in sections.values():
        what = f"section {section.name} {section.index}"
        file.seek(end)
        if any(file.read(section.offset - end)):
            raise _damaged(name, f"the gap before {what}", "other bytes than zero")
        digest, left, text = hashlib.sha256(), section.size, b""
        while left:
            block = file.read(min(left, _BLOCK))
            if not block:
                raise _damaged(name, what, "the end of the file")
            digest.update(block)
            left -= len(block)
            if section.kind.type == TEXT:
                text += block
        if digest.digest() != section.sha256:
            raise _damaged(name, what, "another SHA-256")
        if section.kind.type == TEXT:
            _strings(text, section, name)
        end = section.offset + section.size


def _strings(data: bytes, section: Section, name: str) -> tuple[str, ...]:
    try:
        found = data.decode().split("\0")
    except UnicodeDecodeError as error:
        raise _damaged(name, f"section {section.name}", error) from error
    if len(found) != section.rows + 1 or found[-1]:
        raise _damaged(name, f"section {section.name}", f"{len(found) - 1} strings", section.rows)
    return tuple(found[:-1])


def _damaged(name: str, what: str, got: object, expected: object = "an unchanged pack") -> BundleError:
    return BundleError(f"pack {name} is damaged: {what}", got=got, expected=expected, fix=_FIX)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN
