"""glTF 2.0 in its binary form (.glb). Source: the Khronos glTF 2.0 specification.

The first V vertices are the topology's, in order, for every head; copies for UV seams follow (`seams.py`), so
the indices are the same for every head too. `asset.extras` says which vertex each copy belongs to.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from topos_rt.errors import OptionError
from topos_rt.exporters.options import ExportOptions
from topos_rt.exporters.seams import SeamSplit, split_seams
from topos_rt.mesh import HeadMesh, Rig

_COMPONENT_TYPES = {"<u2": 5123, "<u4": 5125, "<f4": 5126}
_ARRAY_BUFFER = 34962
_ELEMENT_ARRAY_BUFFER = 34963
_MATERIAL = {
    "name": "skin",
    "pbrMetallicRoughness": {
        "baseColorFactor": [0.72, 0.50, 0.40, 1.0],
        "metallicFactor": 0.0,
        "roughnessFactor": 0.55,
    },
}


def write_glb(mesh: HeadMesh, options: ExportOptions | None = None) -> bytes:
    """One mesh with positions, normals, UVs where the topology has them, and blendshapes as morph targets.

    The same head gives the same bytes. Raises OptionError for units or axes other than metres and +Y up (glTF
    fixes them), MeshInputError for UVs that are not finite.
    """
    options = options or ExportOptions()
    if (options.units, options.up) != ("m", "y"):
        raise OptionError("units and axes of a .glb", got=f"units {options.units}, up {options.up}",
                          expected="units m, up y: glTF is in metres with +Y up by definition",
                          fix="leave --units and --up out, or write .obj")
    split = split_seams(mesh.topology)
    out = _Document()
    attributes = {
        "POSITION": out.vertices(mesh.positions[split.source], bounds=True),
        "NORMAL": out.vertices(mesh.normals[split.source]),
    }
    if len(split.uvs):
        # glTF counts v from the top of the image, the topology from the bottom
        attributes["TEXCOORD_0"] = out.vertices(np.stack([split.uvs[:, 0], 1 - split.uvs[:, 1]], 1))
    primitive: dict[str, Any] = {"attributes": attributes, "indices": out.indices(split), "material": 0}
    shape: dict[str, Any] = {"name": "head", "primitives": [primitive]}
    if options.rig and mesh.rig is not None and mesh.rig.shape_names:
        primitive["targets"] = out.morph_targets(mesh.rig, split.source)
        shape["weights"] = [0.0] * len(mesh.rig.shape_names)
        shape["extras"] = {"targetNames": list(mesh.rig.shape_names)}
    return out.finish({
        "asset": {"version": "2.0", "generator": "topos_rt", "extras": _extras(mesh, split)},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "head", "mesh": 0}],
        "meshes": [shape],
        "materials": [_MATERIAL],
    })


def _extras(mesh: HeadMesh, split: SeamSplit) -> dict[str, Any]:
    count = mesh.topology.num_vertices
    return {
        "topologyVertices": count,
        "vertexOrder": "the topology's vertices come first, then one copy per entry of seamCopyOf",
        "seamCopyOf": split.source[count:].tolist(),
        "metadata": dict(mesh.metadata),
    }


class _Document:
    """Collects arrays into the one buffer of a GLB, with the views and accessors that describe them."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []

    def vertices(self, values: np.ndarray, bounds: bool = False) -> int:
        """Accessor of a vertex attribute [W,2|3] float32; `bounds` adds its minimum and maximum."""
        values = np.ascontiguousarray(values, "<f4")
        accessor = _accessor(values, f"VEC{values.shape[1]}", self._view(values, _ARRAY_BUFFER))
        if bounds:
            accessor |= _bounds(values.min(0), values.max(0))
        return self._add(accessor)

    def indices(self, split: SeamSplit) -> int:
        """Accessor of the triangles, three indices each."""
        values = _small_ints(split.triangles.ravel(), len(split.source))
        return self._add(_accessor(values, "SCALAR", self._view(values, _ELEMENT_ARRAY_BUFFER)))

    def morph_targets(self, rig: Rig, source: np.ndarray) -> list[dict[str, int]]:
        """Morph targets of all blendshapes: accessors that are zero but for the vertices that move."""
        count = len(source)
        moved = []  # per shape: the vertices that move (copies too), and by how much
        for name in rig.shape_names:
            offsets = rig.shape(name)[source]
            ids = np.flatnonzero(offsets.any(1))
            moved.append((ids, offsets[ids]))
        if not any(len(ids) for ids, _ in moved):
            return [{"POSITION": self._add(_still(count))} for _ in moved]
        ids_type = _small_ints(np.concatenate([ids for ids, _ in moved]), count)
        deltas = np.concatenate([delta for _, delta in moved]).astype("<f4")
        ids_view, deltas_view = self._view(ids_type), self._view(deltas)
        targets, start = [], 0
        for ids, delta in moved:
            accessor = _still(count)
            if len(ids):
                # the vertices that stay count too, with zeros
                rest = np.zeros((int(len(ids) < count), 3), np.float32)
                accessor |= _bounds(np.vstack([delta, rest]).min(0), np.vstack([delta, rest]).max(0))
                accessor["sparse"] = {
                    "count": len(ids),
                    "indices": {"bufferView": ids_view, "byteOffset": start * ids_type.itemsize,
                                "componentType": _COMPONENT_TYPES[ids_type.dtype.str]},
                    "values": {"bufferView": deltas_view, "byteOffset": start * deltas.itemsize * 3},
                }
            targets.append({"POSITION": self._add(accessor)})
            start += len(ids)
        return targets

    def finish(self, document: dict[str, Any]) -> bytes:
        """The GLB: header, JSON chunk, binary chunk."""
        document |= {
            "buffers": [{"byteLength": len(self._data)}],
            "bufferViews": self._views,
            "accessors": self._accessors,
        }
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        chunks = _chunk(b"JSON", text.encode("utf-8", "replace"), b" ")
        chunks += _chunk(b"BIN\0", bytes(self._data), b"\0")
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks

    def _view(self, values: np.ndarray, target: int | None = None) -> int:
        view = {"buffer": 0, "byteOffset": len(self._data), "byteLength": values.nbytes}
        self._views.append(view if target is None else view | {"target": target})
        self._data += values.tobytes()
        self._data += bytes(-len(self._data) % 4)
        return len(self._views) - 1

    def _add(self, accessor: dict[str, Any]) -> int:
        self._accessors.append(accessor)
        return len(self._accessors) - 1


def _accessor(values: np.ndarray, kind: str, view: int) -> dict[str, Any]:
    component = _COMPONENT_TYPES[values.dtype.str]
    return {"bufferView": view, "componentType": component, "count": len(values), "type": kind}


def _still(count: int) -> dict[str, Any]:
    """An accessor without data, which glTF reads as zeros: a blendshape that moves nothing."""
    accessor = {"componentType": _COMPONENT_TYPES["<f4"], "count": count, "type": "VEC3"}
    return accessor | _bounds(np.zeros(3), np.zeros(3))


def _bounds(low: np.ndarray, high: np.ndarray) -> dict[str, list[float]]:
    return {"min": low.tolist(), "max": high.tolist()}


def _small_ints(values: np.ndarray, limit: int) -> np.ndarray:
    """As 16-bit numbers where all below `limit` fit; 65535 itself is reserved by graphics interfaces."""
    return values.astype("<u2" if limit <= 0xFFFF else "<u4")


def _chunk(kind: bytes, data: bytes, padding: bytes) -> bytes:
    data += padding * (-len(data) % 4)
    return struct.pack("<I4s", len(data), kind) + data
