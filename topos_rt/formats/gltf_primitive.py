"""One primitive of a glTF mesh as plain arrays: its triangles, whatever its mode, its skin and its morphs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from topos_rt.formats import gltf_codecs
from topos_rt.formats.gltf_file import GltfFile

POINTS_AND_LINES = {0: "points", 1: "lines", 2: "lines", 3: "lines"}
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_READ = ("POSITION", "NORMAL", "TEXCOORD_0", "JOINTS_", "WEIGHTS_")  # of attributes
_SETS = 8  # of four joints each: more than any exporter writes


@dataclass(frozen=True, eq=False)
class Primitive:
    """A primitive in the axes and units of its mesh."""

    positions: np.ndarray  # [v,3] float64
    triangles: np.ndarray  # [f,3] int64, those that repeat a vertex left out
    dropped: int  # triangles of a list that repeat a vertex; in strips and fans they are meant
    normals: np.ndarray | None  # [v,3] float64
    uvs: np.ndarray | None  # [v,2] float64, origin bottom left
    joints: np.ndarray | None  # [v,4k] int64, into the skin's joints
    weights: np.ndarray | None  # [v,4k] float64, rows sum to one, or are zero where nothing holds a vertex


def size(file: GltfFile, entry: dict[str, Any]) -> tuple[int, int]:
    """Return how many vertices and triangles a primitive declares; (0, 0) for points and lines."""
    mode = entry.get("mode", _TRIANGLES)
    if mode in POINTS_AND_LINES:
        return 0, 0
    vertices = file.count(entry["attributes"]["POSITION"])
    corners = file.count(entry["indices"]) if "indices" in entry else vertices
    return vertices, corners // 3 if mode == _TRIANGLES else max(0, corners - 2)


def joined(entries: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the primitives of a mesh in groups of one surface: lists of triangles among the same vertices.

    Exporters write a primitive for each material, and materials do not matter here.
    """
    groups: dict[Any, list[dict[str, Any]]] = {}
    for number, entry in enumerate(entries):
        plain = (
            entry.get("mode", _TRIANGLES) == _TRIANGLES and "indices" in entry and "extensions" not in entry
        )
        attributes = {name: at for name, at in entry["attributes"].items() if name.startswith(_READ)}
        told = json.dumps([attributes, entry.get("targets")], sort_keys=True)
        groups.setdefault(told if plain else number, []).append(entry)
    return list(groups.values())


def read(
    file: GltfFile, entry: dict[str, Any], weights: Sequence[float] = (), more: Sequence[dict[str, Any]] = ()
) -> Primitive:
    """Read a primitive of triangles, strips or fans, and with it the triangles of `more` primitives.

    weights: how much of each morph target is added; those beyond the end are zero.

    Raises what `GltfFile` does for damaged data.
    """
    attributes, decoded = entry["attributes"], _decoded(file, entry)

    def values(name: str, width: int) -> np.ndarray | None:
        if name not in attributes:
            return None
        found = decoded.get(name)
        if found is None:
            found = file.values(attributes[name], width)
        if found.shape != (count, width):
            raise ValueError(f"{name} of shape {list(found.shape)} for {count} vertices")
        return found.astype(np.float64)

    count = len(decoded["POSITION"]) if decoded else file.count(attributes["POSITION"])
    positions, normals, uvs = values("POSITION", 3), values("NORMAL", 3), values("TEXCOORD_0", 2)
    assert positions is not None
    for number, weight in enumerate(weights):
        target = entry.get("targets", [])[number] if weight else {}
        for name, base in (("POSITION", positions), ("NORMAL", normals)):
            if name in target and base is not None:
                base += float(weight) * offsets(file, target[name], count)
    joints, held = _skin(file, attributes, decoded, count)
    triangles, dropped = _triangles(file, entry, decoded, count)
    for other in more:
        further, left = _triangles(file, other, decoded, count)
        triangles, dropped = np.concatenate([triangles, further]), dropped + left
    return Primitive(
        positions=positions,
        triangles=triangles,
        dropped=dropped,
        normals=normals,
        uvs=None if uvs is None else uvs * [1, -1] + [0, 1],  # glTF counts v from the top of the image
        joints=joints,
        weights=held,
    )


def offsets(file: GltfFile, accessor: Any, count: int) -> np.ndarray:
    """Return what a morph target adds to an attribute of `count` vertices, [count,3] float64."""
    found = file.values(accessor, 3)
    if len(found) != count:
        raise ValueError(f"a morph target of {len(found)} vertices for {count}")
    return found.astype(np.float64)


def _decoded(file: GltfFile, entry: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the attributes of a primitive that Draco has compressed, and "indices"; else nothing."""
    packed = entry.get("extensions", {}).get(gltf_codecs.DRACO)
    if packed is None:
        return {}
    names: dict[str, int] = packed["attributes"]
    if "POSITION" not in names:
        raise ValueError("Draco data without positions")
    mesh = gltf_codecs.unpack_draco(
        bytes(file.view(packed["bufferView"])), names, size(file, entry), file.what
    )
    decoded: dict[str, np.ndarray] = {"indices": mesh.triangles}
    for name, values in mesh.attributes.items():
        accessor = file.entry("accessors", entry["attributes"][name])
        if values.ndim == 1:
            values = values[:, None]
        if accessor.get("normalized") and values.dtype.kind in "iu":
            values = np.maximum(values / np.iinfo(values.dtype).max, -1)
        if not np.isfinite(values).all():
            raise ValueError("a number that is not finite")
        decoded[name] = values
    return decoded


def _skin(
    file: GltfFile, attributes: dict[str, int], decoded: dict[str, np.ndarray], count: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    joints, weights = [], []
    for number in range(_SETS):
        names = f"JOINTS_{number}", f"WEIGHTS_{number}"
        if not all(name in attributes for name in names):
            break
        found = [decoded.get(name) for name in names]
        ids = file.integers(attributes[names[0]], 4) if found[0] is None else found[0].astype(np.int64)
        held = file.values(attributes[names[1]], 4) if found[1] is None else found[1]
        if ids.shape != (count, 4) or held.shape != (count, 4):
            raise ValueError(f"{names[0]} of another number of vertices")
        joints.append(ids)
        weights.append(held.astype(np.float64))
    if not joints:
        return None, None
    held = np.hstack(weights)
    sums = held.sum(1, keepdims=True)
    return np.hstack(joints), np.divide(held, sums, out=np.zeros_like(held), where=sums > 0)


def _triangles(
    file: GltfFile, entry: dict[str, Any], decoded: dict[str, np.ndarray], count: int
) -> tuple[np.ndarray, int]:
    mode = entry.get("mode", _TRIANGLES)
    if decoded:
        corners, mode = decoded["indices"].ravel(), _TRIANGLES
    elif "indices" in entry:
        corners = file.integers(entry["indices"]).ravel()
    else:
        corners = np.arange(count)
    if corners.size and not 0 <= int(corners.min()) <= int(corners.max()) < count:
        raise ValueError(f"vertex {int(corners.max())} in a triangle, where there are {count}")
    triangles = _joined(corners, mode)
    whole = (triangles != np.roll(triangles, 1, 1)).all(1)
    dropped = int(np.count_nonzero(~whole)) if mode == _TRIANGLES else 0
    return triangles[whole] if not whole.all() else triangles, dropped


def _joined(corners: np.ndarray, mode: int) -> np.ndarray:
    """Return the triangles [f,3] that a list, a strip or a fan of corners stands for.

    glTF 2.0, 3.7.2.1: triangle i of a strip is (i, i + 1 + i % 2, i + 2 - i % 2), of a fan (i + 1, i + 2, 0).
    """
    if mode == _TRIANGLES:
        return corners[: len(corners) // 3 * 3].reshape(-1, 3)
    i = np.arange(max(0, len(corners) - 2))
    if mode == _STRIP:
        odd = i % 2
        return corners[np.stack([i, i + 1 + odd, i + 2 - odd], 1)]
    if mode == _FAN:
        return corners[np.stack([i + 1, i + 2, 0 * i], 1)]
    raise ValueError(f"primitives of mode {mode}")
