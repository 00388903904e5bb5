"""The surface that a GLB shows: the meshes of its scene, in the scene's frame, at rest.

Nodes place their meshes; a skinned mesh is placed by its joints instead, and morph targets count with the
weights of the node or, where it has none, of the mesh. Source: the Khronos glTF 2.0 specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from topos_rt.formats import gltf_primitive
from topos_rt.formats.gltf_file import GltfFile
from topos_rt.formats.gltf_primitive import Primitive
from topos_rt.formats.mesh_file import left_out

_BLOCK = 1 << 15  # vertices whose matrices are blended at once


@dataclass(frozen=True, eq=False)
class Placed:
    """A primitive in the scene's frame, as often as the scene has it."""

    positions: np.ndarray  # [v,3] float64
    triangles: np.ndarray  # [f,3] int64, counter-clockwise
    normals: np.ndarray | None  # [v,3] float64, of any length
    uvs: np.ndarray | None  # [v,2] float64


def placed(file: GltfFile) -> tuple[list[Placed], list[str]]:
    """Return the primitives of a GLB's scene, and notes on what was left out.

    Every size is checked, all instances counted, before the first primitive is read. Raises MeshInputError
    for a scene above the limits or without triangles.
    """
    nodes = _in_scene(file)
    notes: list[str] = []
    # (mesh, skin, weights) -> the nodes that have it: one mesh may be placed very often.
    groups: dict[tuple[int, Any, tuple[float, ...]], list[int]] = {}
    for node in nodes:
        entry = file.entry("nodes", node)
        if "mesh" in entry:
            skin, weights = entry.get("skin"), _weights(file, entry)
            groups.setdefault((entry["mesh"], skin, weights), []).append(node)
    _check_sizes(file, groups)
    world = _world(file)
    found: list[Placed] = []
    others: dict[str, int] = {}
    dropped = 0
    for (mesh, skin, weights), users in groups.items():
        for entry, *more in gltf_primitive.joined(file.entry("meshes", mesh)["primitives"]):
            kind = gltf_primitive.POINTS_AND_LINES.get(entry.get("mode", 4))
            if kind is not None:
                others[kind] = others.get(kind, 0) + len(users)
                continue
            primitive = gltf_primitive.read(file, entry, weights, more)
            dropped += primitive.dropped * len(users)
            if skin is not None and primitive.joints is not None:
                found.append(_skinned(file, primitive, skin, world))
            else:
                found.append(_instances(primitive, world[users if skin is None else users[:1]]))
    notes += [f"{count:,} primitives of {kind} left out" for kind, count in others.items()]
    return found, [*notes, *left_out(dropped)]


def _in_scene(file: GltfFile) -> list[int]:
    """Return the nodes of the scene, parents first. Raises ValueError for a node with two parents."""
    document, count = file.document, len(file.document.get("nodes", []))
    file.limits.check("nodes", count, file.what, "join the meshes before export")
    if document.get("scenes"):
        waiting = list(file.entry("scenes", document.get("scene", 0)).get("nodes", []))
    else:
        children = {child for node in document.get("nodes", []) for child in node.get("children", [])}
        waiting = [node for node in range(count) if node not in children]
    waiting.reverse()
    seen: dict[int, None] = {}
    while waiting:
        node = waiting.pop()
        entry = file.entry("nodes", node)
        if node in seen:
            raise ValueError(f"node {node} twice in the scene")
        seen[node] = None
        waiting += reversed(entry.get("children", []))
    return list(seen)


def _weights(file: GltfFile, node: dict[str, Any]) -> tuple[float, ...]:
    weights = node.get("weights", file.entry("meshes", node["mesh"]).get("weights", []))
    numbers = tuple(float(weight) for weight in weights)
    if not np.isfinite(numbers).all():
        raise ValueError("a weight that is not finite")
    return numbers


def _check_sizes(file: GltfFile, groups: dict[tuple[int, Any, tuple[float, ...]], list[int]]) -> None:
    vertices = triangles = primitives = offsets = 0
    for (mesh, skin, weights), users in groups.items():
        times = 1 if skin is not None else len(users)  # joints put every user in the same place
        entries = file.entry("meshes", mesh)["primitives"]
        primitives += len(entries)
        file.limits.check("primitives", primitives, file.what, "join the meshes before export")
        for entry, *more in gltf_primitive.joined(entries):
            own = gltf_primitive.size(file, entry)
            own = own[0], own[1] + sum(gltf_primitive.size(file, other)[1] for other in more)
            vertices, triangles = vertices + times * own[0], triangles + times * own[1]
            offsets += own[0] * sum(weight != 0 for weight in weights)
    file.limits.check("rig_values", offsets, file.what, "apply the blendshapes before export")
    file.limits.check("vertices", vertices, file.what)
    file.limits.check("triangles", triangles, file.what)


def _world(file: GltfFile) -> np.ndarray:
    """Return the global transform of every node, [n,4,4] float64, for columns."""
    nodes = file.document.get("nodes", [])
    own = np.stack([local_matrix(node) for node in nodes]) if nodes else np.zeros((0, 4, 4))
    for node in parents_first(file):
        for child in nodes[node].get("children", []):
            own[child] = own[node] @ own[child]
    if not np.isfinite(own).all():
        raise ValueError("a node whose transform is not finite")
    return own


def parents_first(file: GltfFile) -> list[int]:
    """Return all nodes of a file, each after its parent. Raises ValueError where they are no forest."""
    nodes = file.document.get("nodes", [])
    children = [child for node in nodes for child in node.get("children", [])]
    for child in children:
        file.entry("nodes", child)
    if len(set(children)) < len(children):
        raise ValueError("a node with two parents")
    order = sorted(set(range(len(nodes))) - set(children))
    for node in order:  # grows meanwhile
        order.extend(nodes[node].get("children", []))
    if len(order) < len(nodes):
        raise ValueError("nodes that are their own ancestors")
    return order


def local_matrix(node: dict[str, Any]) -> np.ndarray:
    """Return the transform of a node towards its parent, [4,4] float64, for columns."""
    if "matrix" in node:
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    if "rotation" in node:
        x, y, z, w = np.asarray(node["rotation"], np.float64) / (np.linalg.norm(node["rotation"]) or 1.0)
        matrix[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    if "scale" in node:
        matrix[:3, :3] *= np.asarray(node["scale"], np.float64).reshape(3)
    if "translation" in node:
        matrix[:3, 3] = np.asarray(node["translation"], np.float64).reshape(3)
    return matrix


def _instances(primitive: Primitive, matrices: np.ndarray) -> Placed:
    """Return a primitive once for each transform [n,4,4]."""
    count, turns = len(primitive.positions), matrices[:, :3, :3]
    positions = np.einsum("nij,vj->nvi", turns, primitive.positions) + matrices[:, None, :3, 3]
    triangles = primitive.triangles[None] + count * np.arange(len(matrices))[:, None, None]
    mirrored = np.linalg.det(turns) < 0  # a mirror turns surfaces inside out
    triangles[mirrored] = triangles[mirrored][:, :, ::-1]
    normals = primitive.normals
    if normals is not None:
        normals = np.einsum("nij,vj->nvi", _for_normals(turns), normals).reshape(-1, 3)
    uvs = primitive.uvs
    return Placed(
        positions.reshape(-1, 3),
        triangles.reshape(-1, 3),
        normals,
        None if uvs is None else np.tile(uvs, (len(matrices), 1)),
    )


def _skinned(file: GltfFile, primitive: Primitive, skin: Any, world: np.ndarray) -> Placed:
    """Return a skinned primitive as its joints hold it; the transform of its own node does not count."""
    entry = file.entry("skins", skin)
    joints: Sequence[int] = entry["joints"]
    for joint in joints:
        file.entry("nodes", joint)
    matrices = world[list(joints)]
    if "inverseBindMatrices" in entry:
        matrices = matrices @ inverse_binds(file, entry)
    assert primitive.joints is not None and primitive.weights is not None
    ids, weights = primitive.joints, primitive.weights
    if ids.size and not 0 <= int(ids.min()) <= int(ids[weights > 0].max(initial=0)) < len(joints):
        raise ValueError(f"joint {int(ids.max())} of a skin of {len(joints)}")
    ids = np.where(weights > 0, ids, 0)
    positions, normals = primitive.positions.copy(), primitive.normals
    normals = None if normals is None else normals.copy()
    mirrored = np.zeros(len(positions), bool)
    for start in range(0, len(positions), _BLOCK):
        rows = slice(start, start + _BLOCK)
        blended = np.einsum("vk,vkij->vij", weights[rows], matrices[ids[rows]])
        blended[~weights[rows].any(1)] = np.eye(4)  # nothing holds these vertices: they stay
        turns = blended[:, :3, :3]
        positions[rows] = np.einsum("vij,vj->vi", turns, positions[rows]) + blended[:, :3, 3]
        mirrored[rows] = np.linalg.det(turns) < 0
        if normals is not None:
            normals[rows] = np.einsum("vij,vj->vi", _for_normals(turns), normals[rows])
    triangles = primitive.triangles
    inside_out = mirrored[triangles].all(1)
    if inside_out.any():
        triangles = np.where(inside_out[:, None], triangles[:, ::-1], triangles)
    return Placed(positions, triangles, normals, primitive.uvs)


def _for_normals(turns: np.ndarray) -> np.ndarray:
    """Return what turns normals, [n,3,3], where `turns` [n,3,3] turns a surface.

    It is the matrix of cofactors, which keeps normals perpendicular to a stretched surface. Where that
    surface is mirrored and its triangles are turned around, its sign changes.
    """
    cofactors = np.cross(turns[:, [1, 2, 0]], turns[:, [2, 0, 1]])
    return np.asarray(np.where((np.linalg.det(turns) < 0)[:, None, None], -cofactors, cofactors))


def inverse_binds(file: GltfFile, skin: dict[str, Any]) -> np.ndarray:
    """Return the inverse bind matrices of a skin, [J,4,4] float64, for columns."""
    binds = file.values(skin["inverseBindMatrices"], 16).astype(np.float64).reshape(-1, 4, 4)
    if len(binds) < len(skin["joints"]):
        raise ValueError(f"{len(binds)} bind matrices for {len(skin['joints'])} joints")
    return binds[: len(skin["joints"])].transpose(0, 2, 1)  # they are stored by columns
