"""Read the one skinned mesh with morph targets from a GLB. Source: the glTF 2.0 specification."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.errors import MeshInputError

_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_MAX_BYTES = 512 * 2**20
# Reading a file that breaks the specification may raise any of these.
_DAMAGE = (KeyError, IndexError, TypeError, ValueError, OverflowError, AttributeError, struct.error)


@dataclass(frozen=True, eq=False)
class Character:
    """A skinned mesh at its bind pose, in the mesh's own axes and units."""

    positions: np.ndarray  # [W,3] float64
    uvs: np.ndarray | None  # [W,2] float64, origin bottom left
    triangles: np.ndarray  # [F,3] int64
    joint_names: tuple[str, ...]
    joint_parents: np.ndarray  # [J] int64, parents first
    joint_positions: np.ndarray  # [J,3]
    skin: np.ndarray  # [W,J] float64, rows sum to one
    shape_names: tuple[str, ...]
    shapes: np.ndarray  # [S,W,3] float64


def read_character(path: Path) -> Character:
    """Read a GLB.

    Raises MeshInputError for a file that cannot be read, or without one mesh that has skin and morph targets.
    """
    what = f"cannot use {path}"
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= _MAX_BYTES else b""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MeshInputError(what, got=reason, expected="a .glb file") from error
    if size > _MAX_BYTES:
        limit = f"at most {_MAX_BYTES // 2**20} MiB"
        raise MeshInputError(what, got=f"{size / 2**20:.0f} MiB", expected=limit)
    try:
        return _Reader(data, what).character()
    except MeshInputError:
        raise
    except _DAMAGE as error:
        raise MeshInputError(
            what,
            got=f"damaged contents ({type(error).__name__}: {error})",
            expected="a complete .glb file",
            fix="export it again",
        ) from error


class _Reader:
    def __init__(self, data: bytes, what: str) -> None:
        self._what = what
        if data[:4] != b"glTF":
            self._refuse("a file that is no binary glTF", "a .glb file", "export as glTF Binary")
        length, kind = struct.unpack_from("<I4s", data, 12)
        if struct.unpack_from("<I", data, 4)[0] != 2 or kind != b"JSON":
            self._refuse("another version of glTF", "version 2")
        self._json: dict[str, Any] = json.loads(data[20 : 20 + length])
        self._binary = data[28 + length :]
        packed = set(self._json.get("extensionsRequired", []))
        if packed:
            self._refuse(
                f"a file that needs {', '.join(sorted(packed))}",
                "plain glTF 2.0",
                "export without compression",
            )

    def character(self) -> Character:
        node = self._mesh_node()
        mesh, skin = self._json["meshes"][node["mesh"]], self._json["skins"][node["skin"]]
        primitives = mesh["primitives"]
        counts = {len(primitive.get("targets", [])) for primitive in primitives}
        if counts == {0}:
            self._refuse(
                "a mesh without morph targets", "blendshapes as morph targets", "export with shape keys"
            )
        if len(counts) > 1:
            self._refuse("primitives with different morph targets", "the same for all")
        parts = [self._primitive(primitive, len(skin["joints"])) for primitive in primitives]
        starts = np.cumsum([0, *(len(part["positions"]) for part in parts)])[:-1]
        triangles = [part["triangles"] + start for part, start in zip(parts, starts, strict=True)]
        whole = {key: [part[key] for part in parts] for key in parts[0]}
        mapped = all(uvs is not None for uvs in whole["uvs"])
        names, parents, places, order = self._skeleton(skin)
        count = counts.pop()
        told = mesh.get("extras", {}).get("targetNames", [])
        shapes = tuple(map(str, told)) if len(told) == count else tuple(f"shape{i}" for i in range(count))
        return Character(
            positions=np.concatenate(whole["positions"]),
            uvs=np.concatenate(whole["uvs"]) if mapped else None,
            triangles=np.concatenate(triangles),
            joint_names=names,
            joint_parents=parents,
            joint_positions=places,
            skin=np.concatenate(whole["skin"])[:, order],
            shape_names=shapes,
            shapes=np.concatenate(whole["shapes"], 1),
        )

    def _mesh_node(self) -> dict[str, Any]:
        """Return the one node that has a mesh and a skin."""
        nodes = self._json.get("nodes", [])
        if not any("mesh" in node for node in nodes):
            self._refuse("no mesh", "a skinned mesh")
        skinned: list[dict[str, Any]] = [node for node in nodes if "mesh" in node and "skin" in node]
        if not skinned:
            self._refuse("a mesh without skin", "a mesh bound to a skeleton", "export with its armature")
        if len(skinned) > 1:
            self._refuse(f"{len(skinned)} skinned meshes", "one", "join them before export")
        return skinned[0]

    def _primitive(self, primitive: dict[str, Any], joints: int) -> dict[str, Any]:
        if primitive.get("mode", 4) != 4:
            self._refuse("points, lines or strips", "triangles")
        attributes = primitive["attributes"]
        positions = self._values(attributes["POSITION"])
        count = len(positions)
        indices = self._values(primitive["indices"]) if "indices" in primitive else np.arange(count)
        skin = np.zeros((count, joints))
        for number in range(8):
            if f"JOINTS_{number}" not in attributes:
                break
            ids, weights = (self._values(attributes[f"{kind}_{number}"]) for kind in ("JOINTS", "WEIGHTS"))
            np.add.at(skin, (np.arange(count)[:, None], ids.astype(np.int64)), weights)
        sums = skin.sum(1, keepdims=True)
        if not (sums > 0).all():
            self._refuse("vertices without skin weights", "a weight for every vertex", "bind all vertices")
        uvs = None
        if "TEXCOORD_0" in attributes:  # glTF counts v from the top of the image
            uvs = self._values(attributes["TEXCOORD_0"]) * [1, -1] + [0, 1]
        shapes = [
            self._values(target["POSITION"]) if "POSITION" in target else np.zeros((count, 3))
            for target in primitive["targets"]
        ]
        triangles = indices.astype(np.int64).reshape(-1, 3)
        if triangles.size and not 0 <= triangles.min() <= triangles.max() < count:
            raise ValueError("an index out of range")
        return {
            "positions": positions,
            "triangles": triangles,
            "skin": skin / sums,
            "uvs": uvs,
            "shapes": np.stack(shapes),
        }

    def _skeleton(self, skin: dict[str, Any]) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, list[int]]:
        """Return names, parents and positions of the joints, parents first, and their places in the skin."""
        nodes, joints = self._json["nodes"], skin["joints"]
        above = {child: i for i, node in enumerate(nodes) for child in node.get("children", [])}
        place = {node: i for i, node in enumerate(joints)}
        parents: list[int] = []
        depth: list[int] = []
        for joint in joints:
            chain = [joint]
            while chain[-1] in above and len(chain) <= len(nodes):
                chain.append(above[chain[-1]])
            known = [node for node in chain[1:] if node in place]
            parents.append(place[known[0]] if known else -1)
            depth.append(len(known))
        order = list(range(len(joints)))
        if any(parent >= joint for joint, parent in enumerate(parents)):  # else the file's order will do
            order.sort(key=lambda joint: depth[joint])
        rank = {joint: i for i, joint in enumerate(order)} | {-1: -1}
        if "inverseBindMatrices" in skin:
            binds = self._values(skin["inverseBindMatrices"]).reshape(-1, 4, 4)
            places = np.linalg.inv(binds)[
                :, 3, :3
            ]  # matrices are stored by columns: the last row is the translation
        else:
            self._refuse("a skin without inverse bind matrices", "the bind pose of every joint")
        names = [str(nodes[joints[joint]].get("name", f"joint{joint}")) for joint in order]
        names = [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names)]
        return (tuple(names), np.array([rank[parents[joint]] for joint in order]), places[order], order)

    def _values(self, index: int) -> np.ndarray:
        """Return the values [n] or [n,width] float64 of an accessor: strided, normalised or sparse."""
        accessor = self._json["accessors"][index]
        component, count, width = accessor["componentType"], accessor["count"], _WIDTHS[accessor["type"]]
        values = np.zeros((count, width))
        if "bufferView" in accessor:
            values = self._raw(accessor["bufferView"], accessor.get("byteOffset", 0), component, count, width)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            ids, new, some = sparse["indices"], sparse["values"], sparse["count"]
            rows = self._raw(ids["bufferView"], ids.get("byteOffset", 0), ids["componentType"], some, 1)
            changed = self._raw(new["bufferView"], new.get("byteOffset", 0), component, some, width)
            values[rows[:, 0].astype(np.int64)] = changed
        if accessor.get("normalized"):
            values = np.maximum(values / np.iinfo(_TYPES[component]).max, -1)
        if not np.isfinite(values).all():
            raise ValueError("a number that is not finite")
        return values if width > 1 else values[:, 0]

    def _raw(self, view_index: int, offset: int, component: int, count: int, width: int) -> np.ndarray:
        view, dtype = self._json["bufferViews"][view_index], np.dtype(_TYPES[component])
        if view.get("buffer", 0) != 0 or "uri" in self._json["buffers"][0]:
            self._refuse("data outside of the file", "all data in the .glb", "export as glTF Binary")
        row = dtype.itemsize * width
        stride, start = view.get("byteStride", row), view.get("byteOffset", 0) + offset
        if count < 1 or start < 0 or stride < row or start + (count - 1) * stride + row > len(self._binary):
            raise ValueError("an accessor past the end of the file")
        table = np.ndarray((count, width), dtype, self._binary, start, (stride, dtype.itemsize))
        return table.astype(np.float64)

    def _refuse(self, got: str, expected: str, fix: str | None = None) -> None:
        raise MeshInputError(self._what, got=got, expected=expected, fix=fix)
