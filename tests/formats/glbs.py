"""GLB files made by hand, of every kind that the readers have to understand."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

_TYPES = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
_KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Glb:
    """Collects arrays and makes a file of them; `document` may be changed before."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.document: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0}],
            "meshes": [],
            "accessors": [],
            "bufferViews": [],
        }

    def view(self, data: bytes, **more: Any) -> int:
        """Add bytes, and return the number of their buffer view."""
        self.data += bytes(-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.data += data
        self.document["bufferViews"].append(view | more)
        return len(self.document["bufferViews"]) - 1

    def add(self, values: np.ndarray, **more: Any) -> int:
        """Add an array [n] or [n,width], and return its accessor."""
        table = np.ascontiguousarray(values).reshape(len(values), -1)
        accessor = self.describe(table) | {"bufferView": self.view(table.tobytes())}
        return self.accessor(**(accessor | more))

    def accessor(self, **accessor: Any) -> int:
        """Add an accessor as it is."""
        self.document["accessors"].append(accessor)
        return len(self.document["accessors"]) - 1

    @staticmethod
    def describe(table: np.ndarray) -> dict[str, Any]:
        """Return the keys of an accessor that tell its size and type."""
        kind = _TYPES[table.dtype.str.lstrip("<>|=")]
        return {"componentType": kind, "count": len(table), "type": _KINDS[table.shape[1]]}

    def mesh(self, *primitives: dict[str, Any], **more: Any) -> int:
        """Add a mesh, and return its number."""
        self.document["meshes"].append({"primitives": list(primitives)} | more)
        return len(self.document["meshes"]) - 1

    def bytes(self) -> bytes:
        """Return the file."""
        buffers = self.document.setdefault("buffers", [{}])
        buffers[0].setdefault("byteLength", len(self.data))
        return container(json.dumps(self.document).encode(), bytes(self.data))


def container(text: bytes, data: bytes) -> bytes:
    """Return a GLB of a JSON and a binary chunk."""
    chunks = b""
    for kind, chunk, padding in ((b"JSON", text, b" "), (b"BIN\0", data, b"\0")):
        chunk += padding * (-len(chunk) % 4)
        chunks += struct.pack("<I4s", len(chunk), kind) + chunk
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def plain(positions: np.ndarray, triangles: np.ndarray, **primitive: Any) -> Glb:
    """Return a GLB of one primitive of triangles."""
    glb = Glb()
    attributes = {"POSITION": glb.add(np.asarray(positions, "<f4"))}
    corners = glb.add(np.asarray(triangles, "<u2").ravel())
    glb.mesh({"attributes": attributes, "indices": corners} | primitive)
    return glb
