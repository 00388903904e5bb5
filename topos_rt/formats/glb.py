"""glTF 2.0: .glb, and .gltf with its numbers in a file beside it. Source: the Khronos specification.

A file holds one mesh, its texture if there is one and, with a rig, a skin, its joints as a tree of nodes, and
morph targets. The joints of a humanoid say so in their `extras.humanoid`. A head with parts has a primitive
for each material: skin, eyes and mouth share the head's vertices, teeth and lashes have their own.

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
from topos_rt.formats.gltf_document import Document
from topos_rt.formats.gltf_numbers import EXTENSION, Plain, Quantized, Storage, floats, greys
from topos_rt.formats.materials import PartMesh, gltf_materials, part_meshes, triangle_surfaces
from topos_rt.formats.morphs import morphs, surface_morphs
from topos_rt.formats.options import ExportOptions
from topos_rt.formats.seams import SeamSplit, split_seams
from topos_rt.formats.textures import gltf_material, tangents
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.part_kit import SURFACES
from topos_rt.head.rig import Rig
from topos_rt.head.skeleton import humanoid_joints

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
    rig, parts = options.rig_of(mesh), options.parts_of(mesh)
    storage: Storage = Quantized(mesh.positions) if options.quantize else Plain()
    split = split_seams(mesh.topology)
    out = Document()
    attributes = _attributes(mesh, split, out, storage)
    primitives = _primitives(
        attributes, split, None if parts is None else triangle_surfaces(mesh, parts.kit), out
    )
    shape: dict[str, Any] = {"name": "head", "primitives": primitives}
    node: dict[str, Any] = {"name": "head_mesh", "mesh": 0}
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "topos_rt", "extras": _extras(mesh, split)},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [shape],
        "materials": [],
    }
    materials: dict[str, dict[str, Any]] = {"skin": MATERIAL}
    if mesh.texture is not None:
        materials["skin"], textures = gltf_material(mesh.texture, MATERIAL["name"], out.file)
        document |= textures
    if parts is not None:
        materials, textures = gltf_materials(materials["skin"], document, parts.kit, out.file)
        document |= textures
    if rig is not None:
        attributes |= out.skin(rig, split.source, storage)
        document |= _skeleton(rig, out, storage)
        node["skin"] = 0
        if rig.shape_names:
            targets = out.morph_targets(list(morphs(mesh, rig)), split.source, storage)
            for primitive in primitives:
                primitive["targets"] = targets
            shape["weights"] = [0.0] * len(rig.shape_names)
            shape["extras"] = {"targetNames": list(rig.shape_names)}
        document["nodes"] = [node, *document["nodes"]]
    meshes = part_meshes(parts)
    primitives += [_part_primitive(part, out, storage) for part in meshes]
    if parts is not None and len(parts.kit.head_shade) == mesh.topology.num_vertices:
        inside = ("mouth",) if mesh.texture is not None else ("mouth", "eyes")
        _shaded(primitives, inside, parts.kit.head_shade[split.source], out)
    document["materials"] = _numbered(primitives, materials)
    if isinstance(storage, Quantized):
        document |= {"extensionsUsed": [EXTENSION], "extensionsRequired": [EXTENSION]}
        if rig is None:  # the node of a skinned mesh does not place it: the skin does
            node |= {"translation": storage.origin.tolist(), "scale": [storage.scale] * 3}
        rigs = [each for each in (rig, *(part.rig for part in meshes)) if each is not None]
        deltas = np.concatenate([np.zeros((0, 3)), *(each.shape_delta for each in rigs)])
        stored = np.concatenate([mesh.positions, *(part.positions for part in meshes)])
        errors = storage.error_mm(stored, deltas)
        document["asset"]["extras"]["quantizationErrorMm"] = dict(
            zip(("positions", "blendshapes"), (round(error, 6) for error in errors), strict=True)
        )
    return out.finish(document)


def _attributes(mesh: HeadMesh, split: SeamSplit, out: Document, storage: Storage) -> dict[str, int]:
    """Add the vertices of a head, and return their attributes."""
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
    return attributes


def _primitives(
    attributes: dict[str, int], split: SeamSplit, surface: np.ndarray | None, out: Document
) -> list[dict[str, Any]]:
    """Return a primitive of the head's vertices for each of SURFACES, whose numbers are `surface` [F]."""
    count, triangles, found = len(split.source), split.triangles, []
    if surface is None:
        surface = np.zeros(len(triangles), np.uint8)
    for number in sorted({*surface.tolist()}):
        indices = out.indices(triangles[surface == number], count)
        found.append({"attributes": attributes, "indices": indices, "material": SURFACES[number]})
    return found


def _shaded(
    primitives: list[dict[str, Any]], materials: tuple[str, ...], shade: np.ndarray, out: Document
) -> None:
    """Give primitives of materials vertex colours by `shade` [W] uint8: viewers multiply by them.

    They darken the inside of the mouth and, on eyes without a picture, draw irises.
    """
    colours = None
    for primitive in primitives:
        if primitive["material"] in materials:
            colours = out.vertices(greys(shade)) if colours is None else colours
            primitive["attributes"] = primitive["attributes"] | {"COLOR_0": colours}


def _numbered(primitives: list[dict[str, Any]], materials: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the materials that primitives name, and put their numbers in place of the names."""
    used = list(dict.fromkeys(primitive["material"] for primitive in primitives))
    for primitive in primitives:
        if "normalTexture" not in materials[primitive["material"]]:  # tangents are for that alone
            attributes = primitive["attributes"]
            primitive["attributes"] = {name: at for name, at in attributes.items() if name != "TANGENT"}
        primitive["material"] = used.index(primitive["material"])
    return [materials[name] for name in used]


def _part_primitive(part: PartMesh, out: Document, storage: Storage) -> dict[str, Any]:
    """Add the vertices of a part, with skin and morph targets, and return its primitive."""
    count = len(part.positions)
    attributes = {
        "POSITION": out.vertices(storage.positions(part.positions), bounds=True),
        "NORMAL": out.vertices(storage.normals(part.normals)),
        "TEXCOORD_0": out.vertices(storage.uvs(np.stack([part.uvs[:, 0], 1 - part.uvs[:, 1]], 1))),
    }
    if part.shade is not None:
        attributes["COLOR_0"] = out.vertices(greys(part.shade))
    primitive: dict[str, Any] = {
        "attributes": attributes,
        "indices": out.indices(part.triangles, count),
        "material": part.material,
    }
    if part.rig is not None:
        every = np.arange(count)
        attributes |= out.skin(part.rig, every, storage)
        if part.rig.shape_names:
            shapes = list(surface_morphs(part.positions, part.triangles, part.rig))
            primitive["targets"] = out.morph_targets(shapes, every, storage)
    return primitive


def _skeleton(rig: Rig, out: Document, storage: Storage) -> dict[str, Any]:
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


def _json(document: dict[str, Any]) -> bytes:
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace")


def _chunk(kind: bytes, data: bytes, padding: bytes) -> bytes:
    data += padding * (-len(data) % 4)
    return struct.pack("<I4s", len(data), kind) + data
