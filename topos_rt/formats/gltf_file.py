"""The container of a GLB or `.gltf`: its JSON, its buffers, and the values of its accessors.

Source: the Khronos glTF 2.0 specification, with KHR_mesh_quantization (accessors of other types) and
EXT_meshopt_compression (`gltf_codecs.py`). What the values mean is the business of `gltf_scene.py`, and the
files beside a `.gltf` are the business of `gltf_buffers.py`.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.formats import gltf_buffers, gltf_codecs
from topos_rt.formats.limits import LIMITS, Limits, read_whole

EXPECTED = "a complete .glb or .gltf file"
_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_JSON, _BIN = 0x4E4F534A, 0x004E4942
# Required extensions that can be obeyed: those that are decoded here, and those that say nothing of geometry.
_KNOWN = re.compile(
    r"KHR_mesh_quantization|KHR_draco_mesh_compression|(EXT|KHR)_meshopt_compression"
    r"|(KHR|EXT|MSFT)_(texture|materials)_\w+|KHR_lights_punctual|KHR_xmp(_json_ld)?|VRMC?_\w+|VRM"
)


class GltfFile:
    """A GLB whose sizes have been checked: no array is larger than the bytes behind it, or the limits.

    data: a GLB, or, where `folder` is given, the JSON of a `.gltf`.
    folder: the directory that holds the buffers of a `.gltf`. No file outside of it is read.

    Raises MeshInputError for a file that is not of glTF 2.0 or needs an extension that is not known, and
    the errors that `damage.py` catches for one that breaks the specification.
    """

    def __init__(self, data: bytes, what: str, limits: Limits = LIMITS, folder: Path | None = None) -> None:
        self.what, self.limits, self._folder = what, limits, folder
        self._size = len(data)
        whole = memoryview(data)
        text, self._binary = (whole, whole[:0]) if folder else self._chunks(whole)
        limits.check("json_bytes", len(text), what, "keep less metadata in it")
        self.document: dict[str, Any] = json.loads(bytes(text))
        if not isinstance(self.document, dict):
            raise ValueError("JSON that is not an object")
        if folder:
            self._check_version(str(self.document["asset"]["version"]))
        unknown = [
            name for name in self.document.get("extensionsRequired", []) if not _KNOWN.fullmatch(str(name))
        ]
        if unknown:
            self.refuse(
                f"a file that needs {', '.join(sorted(map(str, unknown)))}",
                "glTF 2.0 with the extensions KHR_mesh_quantization, KHR_draco_mesh_compression and "
                "EXT_meshopt_compression at most",
                "export without that extension",
            )
        self._buffers: dict[int, memoryview] = {}
        self._views: dict[int, memoryview] = {}
        self._unpacked = 0
        for index in range(len(self.document.get("buffers", [])) if folder else 0):
            self._size += len(self._buffer(index))
            limits.check("file_bytes", self._size, what)

    def _check_version(self, version: str) -> None:
        if version.partition(".")[0] != "2":
            self.refuse(f"version {version[:20]} of glTF", "version 2", "export as glTF 2.0")

    def _chunks(self, data: memoryview) -> tuple[memoryview, memoryview]:
        if bytes(data[:4]) != b"glTF":
            self.refuse("a file that is no binary glTF", "a .glb file", "export as glTF Binary")
        version, told = struct.unpack_from("<II", data, 4)
        self._check_version(str(version))
        if told > len(data):
            self.refuse(f"{len(data):,} of the {told:,} bytes that it declares", EXPECTED, "copy it again")
        chunks: dict[int, memoryview] = {}
        start = 12
        while start + 8 <= told:
            length, kind = struct.unpack_from("<II", data, start)
            if start + 8 + length > told:
                raise ValueError("a chunk past the end of the file")
            chunks.setdefault(kind, data[start + 8 : start + 8 + length])
            start += 8 + length
        if _JSON not in chunks:
            raise ValueError("no JSON")
        return chunks[_JSON], chunks.get(_BIN, data[:0])

    def entry(self, table: str, index: Any) -> dict[str, Any]:
        """Return an entry of one of the document's lists. Raises IndexError where there is none."""
        entries = self.document.get(table, [])
        if type(index) is not int or not 0 <= index < len(entries):
            raise IndexError(f"{table} has no entry {str(index)[:20]}")
        found = entries[index]
        if not isinstance(found, dict):
            raise ValueError(f"{table} {index} that is not an object")
        return found

    def view(self, index: Any) -> memoryview:
        """Return the bytes of a buffer view, unpacked where it is compressed."""
        if index not in self._views:
            view = self.entry("bufferViews", index)
            packed = gltf_codecs.meshopt_of(view)
            if packed is None:
                found = self._slice(view)
            else:
                count, stride = _whole(packed, "count"), _whole(packed, "byteStride")
                self._unpacked += count * stride
                self.limits.check("file_bytes", self._unpacked, f"{self.what}: what it unpacks to")
                found = memoryview(gltf_codecs.unpack_meshopt(bytes(self._slice(packed)), packed, self.what))
            self._views[index] = found
        return self._views[index]

    def count(self, index: Any) -> int:
        """Return the number of elements of an accessor, checked against the limits and the file's size."""
        accessor = self.entry("accessors", index)
        count = _whole(accessor, "count")
        # Three indices for each triangle: no accessor of a mesh within its limits has more entries.
        if count > max(self.limits.vertices, 3 * self.limits.triangles):
            self.limits.check("vertices", count, self.what)
        if count < 1:
            raise ValueError("an accessor of no elements")
        if "bufferView" not in accessor and "extensions" not in accessor and count > self._size:
            # Zeros take no bytes, but what refers to them does.
            raise ValueError(f"an accessor of {count} elements without data in a file of {self._size} bytes")
        return count

    def values(self, index: Any, width: int | None = None) -> np.ndarray:
        """Return the values of an accessor, [n,width] float32, or float64 for normalized integers.

        width: how many numbers an element has to have; None takes any. Sparse and normalized accessors give
        what they stand for. Raises ValueError for values that are not finite.
        """
        accessor = self.entry("accessors", index)
        raw = self._raw(index, width)
        if not accessor.get("normalized"):
            values = raw.astype(np.float32)
        elif raw.dtype.kind == "f":
            raise ValueError("normalized floating-point numbers")
        else:
            values = np.maximum(raw / np.iinfo(raw.dtype).max, -1)
        if not np.isfinite(values).all():
            raise ValueError("a number that is not finite")
        return values

    def integers(self, index: Any, width: int = 1) -> np.ndarray:
        """Return the values [n,width] int64 of an accessor of integers: indices, or joints."""
        raw = self._raw(index, width)
        if raw.dtype.kind == "f":
            # JOINTS of a file that stores them as numbers with a point: some exporters do.
            raw = np.rint(raw)
        return raw.astype(np.int64)

    def _raw(self, index: Any, width: int | None) -> np.ndarray:
        accessor, count = self.entry("accessors", index), self.count(index)
        wide = _WIDTHS[accessor["type"]]
        if width is not None and wide != width:
            raise ValueError(f"an accessor of type {accessor['type']} where {width} numbers are expected")
        component = accessor["componentType"]
        sparse = accessor.get("sparse")
        if "bufferView" in accessor:
            offset = _whole(accessor, "byteOffset", 0)
            table = self._table(accessor["bufferView"], offset, component, count, wide)
            if sparse is None:
                return table
            table = table.copy()
        else:
            table = np.zeros((count, wide), _COMPONENTS[component])
        if sparse is not None:
            ids, new, some = sparse["indices"], sparse["values"], _whole(sparse, "count")
            rows = self._table(ids["bufferView"], _whole(ids, "byteOffset", 0), ids["componentType"], some, 1)
            table[rows[:, 0].astype(np.int64)] = self._table(
                new["bufferView"], _whole(new, "byteOffset", 0), component, some, wide
            )
        return table

    def _table(self, view_index: Any, offset: int, component: int, count: int, width: int) -> np.ndarray:
        data, dtype = self.view(view_index), np.dtype(_COMPONENTS[component])
        row = dtype.itemsize * width
        stride = _whole(self.entry("bufferViews", view_index), "byteStride", 0) or row
        if count < 1 or stride < row or offset + (count - 1) * stride + row > len(data):
            raise ValueError("an accessor past the end of its data")
        return np.ndarray((count, width), dtype, data, offset, (stride, dtype.itemsize))

    def _slice(self, view: dict[str, Any]) -> memoryview:
        data = self._buffer(view.get("buffer"))
        start, length = _whole(view, "byteOffset", 0), _whole(view, "byteLength")
        if start + length > len(data):
            raise ValueError("a buffer view past the end of its buffer")
        return data[start : start + length]

    def _buffer(self, index: Any) -> memoryview:
        if index not in self._buffers:
            buffer = self.entry("buffers", index)
            uri = buffer.get("uri")
            if uri is None and index == 0 and self._folder is None:
                data = self._binary
            elif isinstance(uri, str) and uri.startswith("data:"):
                data = memoryview(base64.b64decode(uri.partition(",")[2], validate=True))
            elif self._folder is not None and isinstance(uri, str):
                data = memoryview(gltf_buffers.beside(self._folder, uri, self.what, self.limits))
            else:
                self.refuse("data outside of the file", "all data in the .glb", "export as glTF Binary")
            if _whole(buffer, "byteLength") > len(data):
                raise ValueError("a buffer that is longer than its data")
            self._buffers[index] = data
        return self._buffers[index]

    def refuse(self, got: str, expected: str, fix: str | None = None) -> NoReturn:
        """Raise the MeshInputError about this file."""
        raise MeshInputError(self.what, got=got, expected=expected, fix=fix)


def open_gltf(path: Path, what: str, limits: Limits = LIMITS) -> GltfFile:
    """Return the GLB, or the `.gltf` with the buffers beside it, of a path.

    Raises MeshInputError as GltfFile does, or for a file that is too large; OSError.
    """
    data = read_whole(path, what, limits)
    text = path.suffix.lower() == ".gltf" and not data.startswith(b"glTF")
    return GltfFile(data, what, limits, path.parent if text else None)


def _whole(entry: dict[str, Any], key: str, default: int | None = None) -> int:
    """Return a whole number that is not negative. Raises ValueError for anything else."""
    value = entry.get(key, default)
    if type(value) is not int or value < 0:
        raise ValueError(f"{key} {str(value)[:20]}")
    return value
