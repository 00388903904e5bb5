"""Write one safetensors file tensor by tensor, so that no model must be in memory as a whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from topos_rt.errors import OutputError
from topos_rt.support.closing import Closing

_TYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16",
    "uint8": "U8", "bool": "BOOL",
}  # fmt: skip

_BLOCK = 1 << 24


@dataclass(frozen=True)
class _Entry:
    dtype: np.dtype
    shape: tuple[int, ...]
    position: int  # offset in the spool
    length: int


class WeightsFile(Closing):
    """Collects tensors in a spool file beside `path`, from which `finish` writes the file itself.

    Equal tensors are stored once, except those that must be found by their names (`keep`). Leaving the
    context removes the spool. Raises OutputError when the disk is full or not writable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._spool_path = path.with_name(f"{path.name}.spool")
        try:
            self._spool = self._spool_path.open("w+b")
        except OSError as error:
            raise _refused(path, error) from error
        self._entries: dict[str, _Entry] = {}
        self._by_digest: dict[bytes, str] = {}

    def close(self) -> None:
        """Remove the spool."""
        with contextlib.suppress(OSError):  # a full disk has been reported already
            self._spool.close()
        self._spool_path.unlink(missing_ok=True)

    def add(self, name: str, array: np.ndarray) -> str:
        """Store one tensor. Return its key: `name`, or the key of an equal tensor stored before."""
        array = np.asarray(array, order="C")
        key = self._by_digest.setdefault(_digest(array), name)
        if key == name:
            self._store(name, array)
        return key

    def keep(self, name: str, array: np.ndarray) -> None:
        """Store one tensor as `name` even if another equals it: biases that are added up train alike."""
        array = np.asarray(array, order="C")
        self._by_digest.setdefault(_digest(array), name)
        self._store(name, array)

    def _store(self, name: str, array: np.ndarray) -> None:
        try:
            self._entries[name] = _Entry(array.dtype, array.shape, self._spool.tell(), array.nbytes)
            self._spool.write(_bytes(array))
        except OSError as error:
            raise _refused(self.path, error) from error

    def finish(self) -> dict[str, tuple[int, int]]:
        """Write the file. Return the offset and length in bytes of each key's tensor."""
        # The widest types come first, as in the safetensors library, so that every tensor is aligned.
        order = sorted(self._entries, key=lambda key: (-self._entries[key].dtype.itemsize, key))
        header: dict[str, dict[str, object]] = {}
        places: dict[str, tuple[int, int]] = {}
        start = 0
        for key in order:
            entry = self._entries[key]
            header[key] = {
                "dtype": _TYPES[entry.dtype.name],
                "shape": list(entry.shape),
                "data_offsets": [start, start + entry.length],
            }
            places[key] = (start, entry.length)
            start += entry.length
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        try:
            self._spool.flush()
            with self.path.open("wb") as file:
                file.write(len(text).to_bytes(8, "little") + text)
                for key in order:
                    self._copy(self._entries[key], file)
        except OSError as error:
            raise _refused(self.path, error) from error
        begin = 8 + len(text)
        return {key: (begin + start, length) for key, (start, length) in places.items()}

    def _copy(self, entry: _Entry, file: BinaryIO) -> None:
        self._spool.seek(entry.position)
        for start in range(0, entry.length, _BLOCK):
            file.write(self._spool.read(min(_BLOCK, entry.length - start)))


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _digest(array: np.ndarray) -> bytes:
    """Hash the values with their type and shape."""
    digest = hashlib.sha256(repr((array.dtype.str, array.shape)).encode())
    digest.update(_bytes(array))
    return digest.digest()


def _refused(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}",
        got=os.strerror(error.errno) if error.errno else str(error),
        fix="choose another place, with room for the weights twice",
    )
