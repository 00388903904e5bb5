"""Which files an ONNX graph consists of, and their digests, without the onnx package.

Only the few messages that can hold a reference to external data are walked; see onnx.proto3 of the ONNX
project for the field numbers.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from topos_rt.errors import BundleError

# Message -> field number -> message inside.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_DEEPEST = 100  # as protobuf's own readers have it
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_BLOCK = 1 << 20


def digests(path: Path, known: Mapping[Path, str]) -> tuple[str, dict[str, str]]:
    """SHA-256 of an ONNX file, and of each file it keeps weights in, by location.

    `known` holds digests of files verified already; none of those is read for its digest again.

    Raises:
        BundleError: no such file, it is not ONNX, or a file of weights is missing or outside its directory.
    """
    found = {os.path.abspath(file): digest for file, digest in known.items()}
    try:
        data = path.read_bytes()
        locations = sorted(set(_locations(memoryview(data), "model", 0)))
        own = found.get(os.path.abspath(path)) or hashlib.sha256(data).hexdigest()
        return own, {location: _digest(path, location, found) for location in locations}
    except OSError as error:
        raise _refused(path, error.strerror or error) from error
    except (ValueError, IndexError) as error:
        raise _refused(path, error or "not ONNX") from error


def _digest(graph: Path, location: str, known: Mapping[str, str]) -> str:
    real = Path(os.path.realpath(graph.parent / location))
    if not location or os.path.isabs(location) or not real.is_relative_to(os.path.realpath(graph.parent)):
        raise ValueError(f"weights outside its directory, in {location!r}")
    if not real.is_file():
        raise ValueError(f"weights in {location!r}, which is no file")
    digest = known.get(os.path.abspath(graph.parent / location))
    return digest or _sha256(real)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _locations(data: memoryview, message: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError("messages nested too deep")
    inside = _INSIDE[message]
    for number, content in _fields(data):
        kind = inside.get(number)
        if kind == "entry":
            entry = dict(_fields(content))
            if bytes(entry.get(1, b"")) == b"location":
                yield bytes(entry.get(2, b"")).decode()
        elif kind is not None:
            yield from _locations(content, kind, depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field that holds bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind, size = tag & 7, 0
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind == _BYTES:
            size, at = _varint(data, at)
            if size > len(data) - at:
                raise ValueError("cut short")
            yield tag >> 3, data[at : at + size]
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("not ONNX")
        at += size
    if at > len(data):
        raise ValueError("cut short")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("not ONNX")


def _refused(path: Path, got: object) -> BundleError:
    return BundleError(
        f"graph {path.name}",
        got=got,
        expected="an ONNX file with its weights beside it",
        fix="export the bundle again",
    )
