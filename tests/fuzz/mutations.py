"""Mutations of files, without coverage: bits, bytes, numbers, moved parts, words of the formats, sums."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

_INTERESTING = [
    0,
    1,
    2,
    3,
    127,
    128,
    255,
    256,
    32767,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    2**64 - 1,
]
_WORDS = [
    b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 40, b"9" * 5000, b"[" * 3000, b"{", b"null",
    b"true", b"\x1b[2J", b"\xff\xfe",
    b"\x00", b"../", b"/", b"location", b"\xc3\xa9", b"\xe2\x80\xae", b"\r\n", b"element face 99999999\n",
    b"f 1/1/1 2 3\n",
    b"'shape': (99999999999,)", b"'|O'", b'"count": 100000000', b'"byteLength": 4294967295', b"&a [*a,*a]",
]  # fmt: skip


def mutated(corpus: Sequence[bytes], number: int, salt: int) -> bytes:
    """Return the `number`-th mutation of a corpus; the same numbers give the same bytes."""
    draw = np.random.Generator(np.random.Philox(key=[number, salt]))
    data = bytearray(corpus[int(draw.integers(len(corpus)))])
    inside = _members(bytes(data)) if draw.random() < 0.4 else None
    if inside:  # an archive, whose members are mutated and whose sums are made anew
        name = list(inside)[int(draw.integers(len(inside)))]
        inside[name] = bytes(_changed(bytearray(inside[name]), corpus, draw))
        return _archive(inside)
    data = _changed(data, corpus, draw)
    if data[:8] == b"\x89PNG\r\n\x1a\n" and draw.random() < 0.7:
        return _with_png_sums(bytes(data))
    return bytes(data)


def _changed(data: bytearray, corpus: Sequence[bytes], draw: np.random.Generator) -> bytearray:
    for _ in range(int(draw.geometric(0.4))):
        at = int(draw.integers(len(data) + 1))
        # The headers are where readers decide, so half of all changes are among the first bytes.
        at = min(at, int(draw.integers(200))) if draw.random() < 0.5 else at
        kind = int(draw.integers(9))
        if kind == 0 and at < len(data):
            data[at] ^= 1 << int(draw.integers(8))
        elif kind == 1:
            data[at : at + 1] = draw.bytes(1)
        elif kind == 2:
            value = _INTERESTING[int(draw.integers(len(_INTERESTING)))]
            width = (1, 2, 4, 8)[int(draw.integers(4))]
            order = "<>"[int(draw.integers(2))]
            packed = struct.pack(f"{order}Q", value)
            data[at : at + width] = packed[:width] if order == "<" else packed[8 - width :]
        elif kind == 3:
            del data[at : at + int(draw.integers(1, 64))]
        elif kind == 4:
            data[at:at] = data[at : at + int(draw.integers(1, 64))]
        elif kind == 5:
            other = corpus[int(draw.integers(len(corpus)))]
            start = int(draw.integers(len(other) + 1))
            data[at : at + int(draw.integers(64))] = other[start : start + int(draw.integers(1, 256))]
        elif kind == 6:
            word = _WORDS[int(draw.integers(len(_WORDS)))]
            data[at : at + int(draw.integers(2)) * len(word)] = word
        elif kind == 7:
            data = data[:at]
        else:
            digits = [i for i, byte in enumerate(data[: 1 << 14]) if 48 <= byte <= 57]
            if digits:
                place = digits[int(draw.integers(len(digits)))]
                data[place : place + 1] = str(_INTERESTING[int(draw.integers(len(_INTERESTING)))]).encode()
    return data


def _members(data: bytes) -> dict[str, bytes] | None:
    if data[:2] != b"PK":
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, EOFError, RuntimeError):
        return None


def _archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _with_png_sums(data: bytes) -> bytes:
    """Return a PNG with the checksums of its chunks made anew, so that more than the checksum is tested."""
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + size]
        if at + 12 + size > len(data):
            break
        out += data[at : at + 4] + body + zlib.crc32(body).to_bytes(4, "big")
        at += 12 + size
    return bytes(out + data[at:])
