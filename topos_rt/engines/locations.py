"""Where an ONNX file keeps its weights: a walk over the protobuf messages that can hold tensors.

An inference library opens whatever file a tensor names, also one outside the bundle that no hash covers, and
not every version of every library checks that. So this module finds the names before any library sees them.
Field numbers are those of onnx.proto; the wire format is documented at
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

from topos_rt.errors import BundleError

# Message -> number of a field that holds a message -> that message. All others hold no tensors.
_FIELDS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
    "Entry": {},
}
_KEY, _VALUE = 1, 2  # the fields of an entry
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_FIXED = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_DEEPEST = 100  # as protobuf's own readers
_LOCATION = b"location"
_refers = re.compile(_LOCATION).search  # in a view without a copy
_ANY = range(1, 1 << 29)  # every number that a field may have
_COPIED = 1 << 16  # bytes of a message
_MORE = 0x80  # the bit of a varint's bytes that says that another follows


def locations(data: bytes) -> set[str]:
    """Return the names of the files in which tensors of the ONNX file `data` are, as the file gives them.

    Messages without references are not looked into. Raises ValueError where those around a reference are not
    of a sound ONNX file, and for a reference in any form but the plain one: a key, once, and a value, once.
    Such a file could mean one thing here and another to an inference library.
    """
    entries = [dict(entry) for entry in _entries(memoryview(data), "Model", 0)]
    found = [entry[_VALUE] for entry in entries if entry[_KEY] == _LOCATION]
    if data.count(_LOCATION) != len(found):
        raise ValueError("references in another form")
    return {name.decode("utf-8", "backslashreplace") for name in found}


def require_inside(path: Path, hashes: Mapping[Path, str]) -> None:
    """Raise BundleError where an ONNX file keeps weights outside its own directory, links followed.

    hashes: the files that `topos_rt.model.bundle` has verified, their references included. Old versions of
    onnxruntime open any file that a graph names.
    """
    if path in hashes:
        return
    try:
        found = locations(path.read_bytes())
    except OSError:  # the library says what is wrong with it
        return
    except ValueError as error:
        raise _refused(path, error) from error
    directory = os.path.realpath(path.parent)
    for name in found:
        real = os.path.realpath(os.path.join(directory, name))
        if os.path.isabs(name) or os.path.commonpath([directory, real]) != directory:
            raise _refused(path, f"weights in {name}, outside its directory")


def _refused(path: Path, got: object) -> BundleError:
    return BundleError(
        f"graph {path.name}", got=got, expected="weights beside it or inside", fix="export the bundle again"
    )


def _entries(data: bytes | memoryview, message: str, depth: int) -> Iterator[list[tuple[int, bytes]]]:
    """Yield the fields of each entry of external data below a message."""
    if len(data) <= _COPIED:  # reading bytes is faster than through a view, but copies of weights take long
        data = bytes(data)
    if depth > _DEEPEST:
        raise ValueError("messages nested too deep")
    if message == "Entry":
        fields = [(number, bytes(value)) for number, value in _contents(data, _ANY)]
        if sorted(number for number, _ in fields) != [_KEY, _VALUE]:
            raise ValueError("references in another form")
        yield fields
        return
    known = _FIELDS[message]
    for number, value in _contents(data, known):
        if _refers(value):  # a process waits for this, and few messages do
            yield from _entries(value, known[number], depth + 1)


def _contents(data: bytes | memoryview, wanted: Container[int]) -> Iterator[tuple[int, bytes | memoryview]]:
    """Yield number and content of the fields of a message that have a length and a wanted number.

    Nearly all tags and lengths are single bytes, which are read here, since a process waits for this.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = (data[at], at + 1) if data[at] < _MORE else _varint(data, at)
        number, kind = tag >> 3, tag & 7
        start = at
        if kind == _LENGTH:
            length, start = (data[at], at + 1) if at < end and data[at] < _MORE else _varint(data, at)
            at = start + length
        elif kind == _VARINT:
            at = _varint(data, at)[1]
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError("no ONNX file")
        if at > end or number == 0:
            raise ValueError("no ONNX file")
        if kind == _LENGTH and number in wanted:
            yield number, data[start:at]


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return value, at
    raise ValueError("no ONNX file")
