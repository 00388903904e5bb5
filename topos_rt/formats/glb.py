"""glTF 2.0 in its binary form (.glb). Source: the Khronos glTF 2.0 specification.

A file holds one mesh with one material, its texture if there is one and, with a rig, a skin, its joints as a
tree of nodes, and morph targets.

The first V vertices are the topology's, in order, for every head; copies for UV seams follow (`seams.py`), so
the indices are the same for every head too. `asset.extras` says which vertex each copy belongs to.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from topos_rt.errors import OptionError
from topos_rt.formats.morphs import Morph, morphs
from topos_rt.formats.options import ExportOptions
from topos_rt.formats.seams import SeamSplit, split_seams
from topos_rt.formats.textures import gltf_material, tangents
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.rig import Rig

_COMPONENT_TYPES = {"|u1": 5121, "<u2": 5123, "<u4": 5125, "<f4": 5126}
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
    fixes them), MeshInputError for UVs that are not finite.
    """
    options = options or ExportOptions()
    if (options.units, options.up) != ("m", "y"):
        raise OptionError(
            "units and axes of a .glb",
            got=f"units {options.units}, up {options.up}",
            expected="units m, up y: glTF is in metres with +Y up by definition",
            fix="leave --units and --up out, or write .obj, .ply or .usd",
        )
    split = split_seams(mesh.topology)
    out = _Document()
    attributes = {
        "POSITION": out.vertices(mesh.positions[split.source], bounds=True),
        "NORMAL": out.vertices(mesh.normals[split.source]),
    }
    if len(split.uvs):
        # glTF counts v from the top of the image, the topology from the bottom
        uvs = np.stack([split.uvs[:, 0], 1 - split.uvs[:, 1]], 1)
        attributes["TEXCOORD_0"] = out.vertices(uvs)
        if mesh.texture is not None:
            source = split.source
            attributes["TANGENT"] = out.vertices(
                tangents(mesh.positions[source], mesh.normals[source], uvs, split.triangles)
            )
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
    if options.rig and mesh.rig is not None:
        attributes |= out.skin(mesh.rig, split.source)
        document |= _skeleton(mesh.rig, out)
        node["skin"] = 0
        if mesh.rig.shape_names:
            primitive["targets"] = out.morph_targets(list(morphs(mesh, mesh.rig)), split.source)
            shape["weights"] = [0.0] * len(mesh.rig.shape_names)
            shape["extras"] = {"targetNames": list(mesh.rig.shape_names)}
        document["nodes"] = [node, *document["nodes"]]
    return out.finish(document)


def _skeleton(rig: Rig, out: _Document) -> dict[str, Any]:
    """Return the nodes (the joints, numbered from 1 because the mesh comes first), the skin and the scene.

    Joints are not turned at rest, so a node's translation is the offset from its parent, and the inverse of
    its bind matrix moves the joint to the origin. Several roots get a node above them: a skin has one root.
    """
    parents, positions = rig.joint_parents.tolist(), rig.joint_positions
    start = np.where(rig.joint_parents[:, None] < 0, np.float32(0), positions[rig.joint_parents])
    nodes: list[dict[str, Any]] = []
    for joint, name in enumerate(rig.joint_names):
        children = [child + 1 for child, parent in enumerate(parents) if parent == joint]
        node = {"name": name, "translation": (positions[joint] - start[joint]).tolist()}
        nodes.append(node | ({"children": children} if children else {}))
    roots = [joint + 1 for joint, parent in enumerate(parents) if parent < 0]
    if len(roots) > 1:
        nodes.append({"name": "skeleton", "children": roots})
        roots = [len(nodes)]
    skin = {
        "name": "head",
        "skeleton": roots[0],
        "joints": list(range(1, len(parents) + 1)),
        "inverseBindMatrices": out.inverse_binds(positions),
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

    def vertices(self, values: np.ndarray, bounds: bool = False) -> int:
        """Add a vertex attribute [W,2|3] float32, return its accessor; `bounds` adds minimum and maximum."""
        values = np.ascontiguousarray(values, "<f4")
        accessor = _accessor(values, f"VEC{values.shape[1]}", self._view(values, _ARRAY_BUFFER))
        if bounds:
            accessor |= _bounds(values.min(0), values.max(0))
        return self._add(accessor)

    def file(self, data: bytes) -> int:
        """Add the bytes of a file, such as a picture, and return their view."""
        return self._view(np.frombuffer(data, np.uint8))

    def indices(self, split: SeamSplit) -> int:
        """Add the triangles, three indices each, and return their accessor."""
        values = _small_ints(split.triangles.ravel(), len(split.source))
        return self._add(_accessor(values, "SCALAR", self._view(values, _ELEMENT_ARRAY_BUFFER)))

    def skin(self, rig: Rig, source: np.ndarray) -> dict[str, int]:
        """Add the joints and weights, four per vertex, and return their accessors."""
        weights = rig.skin_weights / rig.skin_weights.sum(1, keepdims=True)
        joints = np.where(weights > 0, rig.skin_joints, 0)  # joints without weight must be 0
        joints = joints[source].astype("|u1" if len(rig.joint_names) <= 0x100 else "<u2")
        weights = weights[source].astype("<f4")
        return {
            "JOINTS_0": self._add(_accessor(joints, "VEC4", self._view(joints, _ARRAY_BUFFER))),
            "WEIGHTS_0": self._add(_accessor(weights, "VEC4", self._view(weights, _ARRAY_BUFFER))),
        }

    def inverse_binds(self, positions: np.ndarray) -> int:
        """Add one column-major matrix per joint [J,3] that moves it to the origin; return their accessor."""
        matrices = np.tile(np.eye(4, dtype="<f4"), (len(positions), 1, 1))
        matrices[:, 3, :3] = 0 - positions  # not -positions: zeros stay positive
        return self._add(_accessor(matrices, "MAT4", self._view(matrices)))

    def morph_targets(self, shapes: list[Morph], source: np.ndarray) -> list[dict[str, int]]:
        """Add the blendshapes and return their morph targets: sparse accessors of the vertices that move."""
        count = len(source)
        moved = []  # per shape: the vertices that move (copies too), their offsets and changes of normals
        row = np.zeros(int(source.max()) + 1, np.int64)
        for shape in shapes:
            row[shape.vertices] = np.arange(1, len(shape.vertices) + 1)
            copies = np.flatnonzero(row[source])
            rows = row[source[copies]] - 1
            moved.append((copies, shape.offsets[rows], shape.normals[rows]))
            row[shape.vertices] = 0
        if not any(len(ids) for ids, _, _ in moved):
            return [{"POSITION": self._add(_still(count) | _NOWHERE)} for _ in moved]
        ids = _small_ints(np.concatenate([rows for rows, _, _ in moved]), count)
        values = [np.concatenate([part[which] for part in moved]).astype("<f4") for which in (1, 2)]
        views = [self._view(array + array.dtype.type(0)) for array in (ids, *values)]  # no negative zeros
        targets, start = [], 0
        for rows, offsets, _ in moved:
            target = {}
            for name, view in zip(("POSITION", "NORMAL"), views[1:], strict=True):
                accessor = _still(count)
                if len(rows):
                    accessor["sparse"] = {
                        "count": len(rows),
                        "indices": {
                            "bufferView": views[0],
                            "byteOffset": start * ids.itemsize,
                            "componentType": _COMPONENT_TYPES[ids.dtype.str],
                        },
                        "values": {"bufferView": view, "byteOffset": start * 12},
                    }
                if name == "POSITION":
                    # the bounds include the zeros of the vertices that stay
                    reach = np.vstack([offsets, np.zeros((int(len(rows) < count), 3), np.float32)])
                    accessor |= _bounds(reach.min(0), reach.max(0))
                target[name] = self._add(accessor)
            targets.append(target)
            start += len(rows)
        return targets

    def finish(self, document: dict[str, Any]) -> bytes:
        """Return the GLB: header, JSON chunk, binary chunk."""
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
    """Return an accessor without data, which glTF reads as zeros."""
    return {"componentType": _COMPONENT_TYPES["<f4"], "count": count, "type": "VEC3"}


def _bounds(low: np.ndarray, high: np.ndarray) -> dict[str, list[float]]:
    return {"min": low.tolist(), "max": high.tolist()}


def _small_ints(values: np.ndarray, limit: int) -> np.ndarray:
    """Return 16-bit numbers where all below `limit` fit, else 32-bit; graphics APIs reserve 65535 itself."""
    return values.astype("<u2" if limit <= 0xFFFF else "<u4")


def _chunk(kind: bytes, data: bytes, padding: bytes) -> bytes:
    data += padding * (-len(data) % 4)
    return struct.pack("<I4s", len(data), kind) + data
