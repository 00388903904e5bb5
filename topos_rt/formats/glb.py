"""glTF 2.0: .glb, and .gltf with its numbers in a file beside it. Source: the Khronos specification.

A file holds one mesh with one material, its texture if there is one and, with a rig, a skin, its joints as a
tree of nodes, and morph targets. The joints of a humanoid say so in their `extras.humanoid`.

The first V vertices are the topology's, in order, for every head; copies for UV seams follow (`seams.py`), so
the indices are the same for every head too. `asset.extras` says which vertex each copy belongs to.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Any
from urllib.parse import quote

import numpy as np

from topos_rt.errors import OptionError
from topos_rt.formats.gltf_numbers import EXTENSION, Numbers, Plain, Quantized, Storage, floats
from topos_rt.formats.morphs import Morph, morphs
from topos_rt.formats.options import ExportOptions
from topos_rt.formats.seams import SeamSplit, split_seams
from topos_rt.formats.textures import gltf_material, tangents
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.rig import Rig
from topos_rt.head.skeleton import humanoid_joints

_COMPONENT_TYPES = {"|i1": 5120, "|u1": 5121, "<i2": 5122, "<u2": 5123, "<u4": 5125, "<f4": 5126}
_ARRAY_BUFFER = 34962
_ELEMENT_ARRAY_BUFFER = 34963
_NOWHERE = {"min": [0.0] * 3, "max": [0.0] * 3}
MATERIAL: dict[str, Any] = {
    "name": "skin",
    "pbrMetallicRoughness": {
        "baseColorFactor": [0.72, 0.50, 0.40, 1.0],
        "metallicFactor": 0.0,
        "roughnessFactor": 0.55,
    },
}


def write_glb(mesh: HeadMesh, options: ExportOptions | None = None) -> bytes:
    """Return a GLB of one mesh: positions, normals, UVs if present, and the rig's skin and morph targets.

    The same head gives the same bytes. Raises OptionError for units or axes other than metres and +Y up (glTF
    fixes them) and for blendshapes that the head does not have, MeshInputError for UVs that are not finite.
    """
    document, data = _contents(mesh, options or ExportOptions())
    chunks = _chunk(b"JSON", _json(document), b" ") + _chunk(b"BIN\0", data, b"\0")
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def write_gltf(mesh: HeadMesh, options: ExportOptions | None = None) -> bytes:
    """Return a .gltf that holds its numbers itself, in base64. Raises what `write_glb` raises."""
    document, data = _contents(mesh, options or ExportOptions())
    document["buffers"][0]["uri"] = f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"
    return _json(document)


def gltf_files(mesh: HeadMesh, options: ExportOptions, stem: str) -> dict[str, bytes]:
    """Return the files STEM.bin, with the numbers, and STEM.gltf. Raises what `write_glb` raises."""
    document, data = _contents(mesh, options)
    document["buffers"][0]["uri"] = quote(f"{stem}.bin")
    return {f"{stem}.bin": data, f"{stem}.gltf": _json(document)}


def _contents(mesh: HeadMesh, options: ExportOptions) -> tuple[dict[str, Any], bytes]:
    """Return the document and the one buffer that it describes."""
    if (options.units, options.up) != ("m", "y"):
        raise OptionError(
            "units and axes of glTF",
            got=f"units {options.units}, up {options.up}",
            expected="units m, up y: glTF is in metres with +Y up by definition",
            fix="leave --units and --up out, or write .obj, .ply or .usd",
        )
    rig = options.rig_of(mesh)
    storage: Storage = Quantized(mesh.positions) if options.quantize else Plain()
    split = split_seams(mesh.topology)
    out = _Document()
    attributes = {
        "POSITION": out.vertices(storage.positions(mesh.positions[split.source]), bounds=True),
        "NORMAL": out.vertices(storage.normals(mesh.normals[split.source])),
    }
    if len(split.uvs):
        # glTF counts v from the top of the image, the topology from the bottom
        uvs = np.stack([split.uvs[:, 0], 1 - split.uvs[:, 1]], 1)
        attributes["TEXCOORD_0"] = out.vertices(storage.uvs(uvs))
        if mesh.texture is not None:
            source = split.source
            found = tangents(mesh.positions[source], mesh.normals[source], uvs, split.triangles)
            attributes["TANGENT"] = out.vertices(floats(found))
    primitive: dict[str, Any] = {"attributes": attributes, "indices": out.indices(split), "material": 0}
    shape: dict[str, Any] = {"name": "head", "primitives": [primitive]}
    node: dict[str, Any] = {"name": "head_mesh", "mesh": 0}
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "topos_rt", "extras": _extras(mesh, split)},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [shape],
        "materials": [MATERIAL],
    }
    if mesh.texture is not None:
        document["materials"][0], textures = gltf_material(mesh.texture, MATERIAL["name"], out.file)
        document |= textures
    if rig is not None:
        attributes |= out.skin(rig, split.source, storage)
        document |= _skeleton(rig, out, storage)
        node["skin"] = 0
        if rig.shape_names:
            primitive["targets"] = out.morph_targets(list(morphs(mesh, rig)), split.source, storage)
            shape["weights"] = [0.0] * len(rig.shape_names)
            shape["extras"] = {"targetNames": list(rig.shape_names)}
        document["nodes"] = [node, *document["nodes"]]
    if isinstance(storage, Quantized):
        document |= {"extensionsUsed": [EXTENSION], "extensionsRequired": [EXTENSION]}
        if rig is None:  # the node of a skinned mesh does not place it: the skin does
            node |= {"translation": storage.origin.tolist(), "scale": [storage.scale] * 3}
        deltas = np.zeros((0, 3)) if rig is None else rig.shape_delta
        errors = storage.error_mm(mesh.positions, deltas)
        document["asset"]["extras"]["quantizationErrorMm"] = dict(
            zip(("positions", "blendshapes"), (round(error, 6) for error in errors), strict=True)
        )
    return out.finish(document)


def _skeleton(rig: Rig, out: _Document, storage: Storage) -> dict[str, Any]:
    """Return the nodes (the joints, numbered from 1 because the mesh comes first), the skin and the scene.

    Joints are not turned at rest, so a node's translation is the offset from its parent, and the inverse of
    its bind matrix moves the joint to the origin. Several roots get a node above them: a skin has one root.
    """
    parents, positions = rig.joint_parents.tolist(), rig.joint_positions
    start = np.where(rig.joint_parents[:, None] < 0, np.float32(0), positions[rig.joint_parents])
    nodes: list[dict[str, Any]] = []
    roles = {name: role for role, name in humanoid_joints(rig.joint_names).items()}
    for joint, name in enumerate(rig.joint_names):
        children = [child + 1 for child, parent in enumerate(parents) if parent == joint]
        node = {"name": name, "translation": (positions[joint] - start[joint]).tolist()}
        node |= {"extras": {"humanoid": roles[name]}} if name in roles else {}
        nodes.append(node | ({"children": children} if children else {}))
    roots = [joint + 1 for joint, parent in enumerate(parents) if parent < 0]
    if len(roots) > 1:
        nodes.append({"name": "skeleton", "children": roots})
        roots = [len(nodes)]
    skin = {
        "name": "head",
        "skeleton": roots[0],
        "joints": list(range(1, len(parents) + 1)),
        "inverseBindMatrices": out.inverse_binds(positions, storage),
    }
    return {"scenes": [{"nodes": [0, *roots]}], "nodes": nodes, "skins": [skin]}


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

    def vertices(self, numbers: Numbers, bounds: bool = False) -> int:
        """Add a vertex attribute [W,k], return its accessor; `bounds` adds minimum and maximum."""
        values = numbers.values
        accessor = _accessor(numbers, f"VEC{values.shape[1]}", self._rows(values))
        if bounds:
            accessor |= _bounds(values.min(0), values.max(0))
        return self._add(accessor)

    def file(self, data: bytes) -> int:
        """Add the bytes of a file, such as a picture, and return their view."""
        return self._view(np.frombuffer(data, np.uint8))

    def indices(self, split: SeamSplit) -> int:
        """Add the triangles, three indices each, and return their accessor."""
        values = _small_ints(split.triangles.ravel(), len(split.source))
        return self._add(_accessor(Numbers(values), "SCALAR", self._view(values, _ELEMENT_ARRAY_BUFFER)))

    def skin(self, rig: Rig, source: np.ndarray, storage: Storage) -> dict[str, int]:
        """Add the joints and weights, four per vertex, and return their accessors."""
        weights = rig.skin_weights / rig.skin_weights.sum(1, keepdims=True)
        joints = np.where(weights > 0, rig.skin_joints, 0)  # joints without weight must be 0
        joints = joints[source].astype("|u1" if len(rig.joint_names) <= 0x100 else "<u2")
        return {
            "JOINTS_0": self.vertices(Numbers(joints)),
            "WEIGHTS_0": self.vertices(storage.weights(weights[source])),
        }

    def inverse_binds(self, positions: np.ndarray, storage: Storage) -> int:
        """Add one column-major matrix per joint [J,3], return their accessor.

        Each takes stored positions to metres and moves its joint to the origin.
        """
        matrices = np.tile(np.eye(4, dtype="<f4"), (len(positions), 1, 1))
        matrices[:, :3, :3] *= np.float32(storage.scale)
        matrices[:, 3, :3] = storage.origin - positions
        return self._add(_accessor(floats(matrices), "MAT4", self._view(matrices)))

    def morph_targets(
        self, shapes: list[Morph], source: np.ndarray, storage: Storage
    ) -> list[dict[str, int]]:
        """Add the blendshapes and return their morph targets: sparse accessors of the vertices that move."""
        count = len(source)
        # per shape: the vertices that move, copies too, their offsets and changes of normals
        moved: list[tuple[np.ndarray, Numbers, Numbers]] = []
        row = np.zeros(int(source.max()) + 1, np.int64)
        for shape in shapes:
            row[shape.vertices] = np.arange(1, len(shape.vertices) + 1)
            copies = np.flatnonzero(row[source])
            rows = row[source[copies]] - 1
            moved.append((copies, storage.offsets(shape.offsets[rows]), storage.turns(shape.normals[rows])))
            row[shape.vertices] = 0
        if not any(len(ids) for ids, _, _ in moved):
            return [{"POSITION": self._add(_still(count) | _NOWHERE)} for _ in moved]
        ids = _small_ints(np.concatenate([rows for rows, _, _ in moved]), count)
        index_view = self._view(ids)
        columns = [
            self._sparse_values([offsets for _, offsets, _ in moved]),
            self._sparse_values([turns for _, _, turns in moved]),
        ]
        targets, start = [], 0
        for number, (rows, offsets, _) in enumerate(moved):
            target = {}
            for name, places in zip(("POSITION", "NORMAL"), columns, strict=True):
                accessor = _still(count)
                if len(rows):
                    stored, values = places[number]
                    accessor |= _types(stored)
                    accessor["sparse"] = {
                        "count": len(rows),
                        "indices": {
                            "bufferView": index_view,
                            "byteOffset": start * ids.itemsize,
                            "componentType": _COMPONENT_TYPES[ids.dtype.str],
                        },
                        "values": values,
                    }
                if name == "POSITION":
                    # the bounds include the zeros of the vertices that stay
                    reach = np.vstack(
                        [offsets.values, np.zeros((int(len(rows) < count), 3), offsets.values.dtype)]
                    )
                    accessor |= _bounds(reach.min(0), reach.max(0))
                target[name] = self._add(accessor)
            targets.append(target)
            start += len(rows)
        return targets

    def _sparse_values(self, shapes: list[Numbers]) -> list[tuple[Numbers, dict[str, int]]]:
        """Add the values of sparse accessors, those of a type in one view; return where each lies."""
        types = dict.fromkeys(numbers.values.dtype.str for numbers in shapes if len(numbers.values))
        views, ends = {}, dict.fromkeys(types, 0)
        for name in types:
            values = np.concatenate([each.values for each in shapes if each.values.dtype.str == name])
            views[name] = self._view(values + values.dtype.type(0))  # no negative zeros
        found: list[tuple[Numbers, dict[str, int]]] = []
        for numbers in shapes:
            name = numbers.values.dtype.str
            place = {"bufferView": views.get(name, 0), "byteOffset": ends.get(name, 0)}
            found.append((numbers, place))
            ends[name] = place["byteOffset"] + numbers.values.nbytes
        return found

    def finish(self, document: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return the document with its views and accessors, and the buffer."""
        document |= {
            "buffers": [{"byteLength": len(self._data)}],
            "bufferViews": self._views,
            "accessors": self._accessors,
        }
        return document, bytes(self._data)

    def _rows(self, values: np.ndarray) -> int:
        """Add the rows of a vertex attribute; each begins at a multiple of four bytes, as glTF demands."""
        row = values.itemsize * values.shape[1]
        if row % 4 == 0:
            return self._view(values, _ARRAY_BUFFER)
        padded = np.zeros((len(values), row + -row % 4), np.uint8)
        padded[:, :row] = np.ascontiguousarray(values).view(np.uint8)
        view = self._view(padded, _ARRAY_BUFFER)
        self._views[view]["byteStride"] = padded.shape[1]
        return view

    def _view(self, values: np.ndarray, target: int | None = None) -> int:
        view = {"buffer": 0, "byteOffset": len(self._data), "byteLength": values.nbytes}
        self._views.append(view if target is None else view | {"target": target})
        self._data += values.tobytes()
        self._data += bytes(-len(self._data) % 4)
        return len(self._views) - 1

    def _add(self, accessor: dict[str, Any]) -> int:
        self._accessors.append(accessor)
        return len(self._accessors) - 1


def _accessor(numbers: Numbers, kind: str, view: int) -> dict[str, Any]:
    return {"bufferView": view, **_types(numbers), "count": len(numbers.values), "type": kind}


def _types(numbers: Numbers) -> dict[str, Any]:
    component = {"componentType": _COMPONENT_TYPES[numbers.values.dtype.str]}
    return component | ({"normalized": True} if numbers.normalized else {})


def _still(count: int) -> dict[str, Any]:
    """Return an accessor without data, which glTF reads as zeros."""
    return {"componentType": _COMPONENT_TYPES["<f4"], "count": count, "type": "VEC3"}


def _bounds(low: np.ndarray, high: np.ndarray) -> dict[str, list[float]]:
    return {"min": low.tolist(), "max": high.tolist()}


def _small_ints(values: np.ndarray, limit: int) -> np.ndarray:
    """Return 16-bit numbers where all below `limit` fit, else 32-bit; graphics APIs reserve 65535 itself."""
    return values.astype("<u2" if limit <= 0xFFFF else "<u4")


def _json(document: dict[str, Any]) -> bytes:
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace")


def _chunk(kind: bytes, data: bytes, padding: bytes) -> bytes:
    data += padding * (-len(data) % 4)
    return struct.pack("<I4s", len(data), kind) + data
