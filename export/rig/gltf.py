"""Read the one skinned mesh with morph targets from a GLB. Source: the glTF 2.0 specification."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.formats import gltf_primitive
from topos_rt.formats.damage import damage_refused
from topos_rt.formats.gltf_file import EXPECTED, GltfFile, open_gltf
from topos_rt.formats.gltf_primitive import Primitive
from topos_rt.formats.gltf_scene import inverse_binds, parents_first
from topos_rt.formats.limits import LIMITS, Limits

_BASES = {"base", "basis", "neutral", "rest"}  # what exporters call the shape at rest


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
    notes: tuple[str, ...] = ()  # what its owner should know of


def read_character(path: Path, limits: Limits = LIMITS) -> Character:
    """Read a GLB, or a `.gltf` with the buffers beside it.

    The mesh may be quantized or compressed, as for `topos_rt.read_scan`. Blendshapes are named by
    `targetNames` in the extras of the mesh or of a primitive, else by the names of their accessors.

    Raises MeshInputError for a file that cannot be read, or without one mesh that has skin and morph targets;
    MissingExtraError for a compressed file without the package that decodes it.
    """
    what = f"cannot use {path}"
    try:
        with damage_refused(what, EXPECTED):
            return _character(open_gltf(path, what, limits))
    except OSError as error:
        raise MeshInputError(what, got=error.strerror or str(error), expected="a .glb file") from error


def _character(file: GltfFile) -> Character:
    node = _mesh_node(file)
    mesh, skin = file.entry("meshes", node["mesh"]), file.entry("skins", node["skin"])
    entries = mesh["primitives"]
    counts = {len(entry.get("targets", [])) for entry in entries}
    if counts == {0}:
        file.refuse("a mesh without morph targets", "blendshapes as morph targets", "export with shape keys")
    if len(counts) > 1:
        file.refuse("primitives with different morph targets", "the same for all")
    count = counts.pop()
    _check_sizes(file, entries, len(skin["joints"]), count)
    parts = [_primitive(file, entry) for entry in entries]
    starts = np.cumsum([0, *(len(part.positions) for part in parts)])[:-1]
    names, parents, places, order = _skeleton(file, skin)
    shapes, notes = _shape_names(file, mesh, count)
    uvs = [part.uvs for part in parts if part.uvs is not None]
    return Character(
        positions=np.concatenate([part.positions for part in parts]),
        uvs=np.concatenate(uvs) if len(uvs) == len(parts) else None,
        triangles=np.concatenate([part.triangles + start for part, start in zip(parts, starts, strict=True)]),
        joint_names=names,
        joint_parents=parents,
        joint_positions=places,
        skin=np.concatenate([_dense_skin(part, len(order)) for part in parts])[:, order],
        shape_names=shapes,
        shapes=np.concatenate([_shapes(file, entry) for entry in entries], 1),
        notes=tuple(notes),
    )


def _mesh_node(file: GltfFile) -> dict[str, Any]:
    """Return the one node that has a mesh and a skin."""
    nodes: list[dict[str, Any]] = file.document.get("nodes", [])
    if not any("mesh" in node for node in nodes):
        file.refuse("no mesh", "a skinned mesh")
    skinned = [node for node in nodes if "mesh" in node and "skin" in node]
    if not skinned:
        file.refuse("a mesh without skin", "a mesh bound to a skeleton", "export with its armature")
    if len(skinned) > 1:
        file.refuse(f"{len(skinned)} skinned meshes", "one", "join them before export")
    return skinned[0]


def _check_sizes(file: GltfFile, entries: list[dict[str, Any]], joints: int, shapes: int) -> None:
    """Check, before any is made, how large the arrays of the character will be."""
    sizes = [gltf_primitive.size(file, entry) for entry in entries]
    vertices, triangles = (sum(column) for column in zip(*sizes, strict=True))
    file.limits.check("vertices", vertices, file.what)
    file.limits.check("triangles", triangles, file.what)
    for numbers in (vertices * joints, vertices * shapes):
        file.limits.check("rig_values", numbers, file.what, "leave out what is no head")


def _primitive(file: GltfFile, entry: dict[str, Any]) -> Primitive:
    if entry.get("mode", 4) in gltf_primitive.POINTS_AND_LINES:
        file.refuse("points or lines", "triangles")
    part = gltf_primitive.read(file, entry)
    if part.weights is None or not part.weights.any(1).all():
        file.refuse("vertices without skin weights", "a weight for every vertex", "bind all vertices")
    return part


def _dense_skin(part: Primitive, joints: int) -> np.ndarray:
    """Return the weights of a primitive for each of the skin's joints, [v,J]."""
    assert part.joints is not None and part.weights is not None
    skin = np.zeros((len(part.positions), joints))
    ids = np.where(part.weights > 0, part.joints, 0)
    np.add.at(skin, (np.arange(len(skin))[:, None], ids), part.weights)
    return skin


def _shapes(file: GltfFile, entry: dict[str, Any]) -> np.ndarray:
    """Return the offsets [S,v,3] of the morph targets of a primitive."""
    count, _ = gltf_primitive.size(file, entry)
    return np.stack(
        [
            gltf_primitive.offsets(file, target["POSITION"], count)
            if "POSITION" in target
            else np.zeros((count, 3))
            for target in entry["targets"]
        ]
    )


def _shape_names(file: GltfFile, mesh: dict[str, Any], count: int) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of the blendshapes, from wherever an exporter has put them, and notes."""
    first = mesh["primitives"][0]
    told = [str(name) for name in _extra(mesh) or _extra(first)]
    if not told:
        accessors = [target.get("POSITION") for target in first["targets"]]
        entries = [{} if number is None else file.entry("accessors", number) for number in accessors]
        told = [str(entry["name"]) for entry in entries if "name" in entry]
        told = told if len(set(told)) == count else []
    if len(told) == count + 1 and told[0].lower() in _BASES:
        told = told[1:]
    if len(told) > count:
        file.refuse(f"{len(told)} names for {count} blendshapes", "one for each", "export it again")
    notes = []
    if len(told) < count:
        numbered = [f"shape{number}" for number in range(len(told), count)]
        notes = [
            f"no names for {len(numbered)} of {count} blendshapes: they are called {numbered[0]} and so on"
        ]
        told += numbered
    return _unique(told), notes


def _extra(entry: dict[str, Any]) -> list[Any]:
    extras = entry.get("extras", {})
    names = extras.get("targetNames", []) if isinstance(extras, dict) else []
    return names if isinstance(names, list) else []


def _unique(names: list[str]) -> tuple[str, ...]:
    return tuple(name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names))


def _skeleton(
    file: GltfFile, skin: dict[str, Any]
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, list[int]]:
    """Return names, parents and positions of the joints, parents first, and their places in the skin."""
    joints: list[int] = skin["joints"]
    nodes = [file.entry("nodes", joint) for joint in joints]
    place = {node: i for i, node in enumerate(joints)}
    # Node -> the nearest joint at or above it, as its place in the skin.
    nearest: dict[int, int] = {}
    parents = [-1] * len(joints)
    order = []
    for node in parents_first(file):
        above = nearest.get(node, -1)
        if node in place:
            parents[place[node]] = above
            order.append(place[node])
        for child in file.document["nodes"][node].get("children", []):
            nearest[child] = place.get(node, above)
    if len(order) < len(joints):
        raise ValueError("a joint twice in a skin")
    if not any(parent >= joint for joint, parent in enumerate(parents)):
        order = list(range(len(joints)))  # the file's own order will do
    rank = {joint: i for i, joint in enumerate(order)} | {-1: -1}
    if "inverseBindMatrices" not in skin:
        file.refuse("a skin without inverse bind matrices", "the bind pose of every joint")
    places = np.linalg.inv(inverse_binds(file, skin))[:, :3, 3]
    names = [str(nodes[joint].get("name", f"joint{joint}")) for joint in order]
    return _unique(names), np.array([rank[parents[joint]] for joint in order]), places[order], order
