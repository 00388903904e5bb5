"""Read .npy and .npz files that somebody else wrote, without believing them.

`numpy.load` takes the memory that a header asks for, tokenizes it, and returns the bytes of what is no array.
Here the size that a header declares is first compared with the bytes that are there.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

LIMIT_BYTES = 1 << 30  # of all arrays of a file together, unpacked
_MOST_MEMBERS = 1000
_MAX_HEADER = 10_000
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# What NumPy, zipfile and zlib raise for damaged files; OSError for places before the start of the file.
DAMAGE = (
    ValueError, EOFError, LookupError, SyntaxError, TypeError, OverflowError, AttributeError, RecursionError,
    MemoryError, NotImplementedError, RuntimeError, tokenize.TokenError, struct.error, zlib.error,
    zipfile.BadZipFile, OSError,
)  # fmt: skip


def read_arrays(path: Path, limit: int = LIMIT_BYTES) -> np.ndarray | dict[str, np.ndarray]:
    """Return the array of an .npy file, or the arrays of an .npz file by name.

    limit: the bytes that the arrays may take together.

    Raises ValueError, with the reason, for anything damaged, foreign, larger than `limit`, or that is pickled
    (NumPy would run it); OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        if start.startswith(np.lib.format.MAGIC_PREFIX):
            size = path.stat().st_size
            return _damaged(lambda: _read(file, size, limit))
        if start[:4] not in (b"PK\x03\x04", b"PK\x05\x06"):
            raise ValueError("neither an .npy nor an .npz file")
        return _damaged(lambda: _members(file, limit))


def _damaged(read: Callable[[], np.ndarray | dict[str, np.ndarray]]) -> np.ndarray | dict[str, np.ndarray]:
    try:
        return read()
    except _Told:
        raise
    except DAMAGE as error:
        raise ValueError(f"a damaged file ({type(error).__name__})") from error


class _Told(ValueError):
    """A fault in our own words."""


def _members(file: BinaryIO, limit: int) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        if len(infos) > _MOST_MEMBERS:
            raise _Told(f"an archive of {len(infos):,} files, of {_MOST_MEMBERS:,} allowed")
        arrays: dict[str, np.ndarray] = {}
        for info in infos:
            name = info.filename.removesuffix(".npy")
            if name in arrays:
                raise _Told(f"an archive with two arrays called {name!r}")
            left = limit - sum(array.nbytes for array in arrays.values())
            with archive.open(info) as member:
                arrays[name] = _read(member, info.file_size, left)  # type: ignore[arg-type]
        return arrays


def _read(file: BinaryIO, size: int, limit: int) -> np.ndarray:
    """Read one array from a file of `size` bytes, the magic included."""
    if size > limit + _MAX_HEADER + 16:
        raise _Told(f"{size:,} bytes, of {limit:,} allowed")
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise _Told(f"version {version[0]}.{version[1]} of the .npy format")
    shape, fortran, dtype = _HEADERS[version](file, max_header_size=_MAX_HEADER)
    if dtype.hasobject:
        raise _Told("pickled objects")
    if not dtype.itemsize:
        raise _Told("an array whose items have no size")
    count = math.prod(shape)
    if any(side < 0 for side in shape) or len(shape) > 16:
        raise _Told(f"an array of shape {list(shape)[:16]}")
    needed = count * dtype.itemsize
    if needed > min(size, limit):
        raise _Told(f"an array of {needed:,} bytes in a file of {size:,}")
    data = io.BytesIO(file.read(needed)).getbuffer()
    if len(data) < needed:
        raise _Told(f"{len(data):,} bytes of an array of {needed:,}")
    array = np.frombuffer(data, dtype, count) if needed else np.zeros(count, dtype)
    return array.reshape(shape, order="F" if fortran else "C")
