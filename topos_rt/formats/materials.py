"""The materials of a head with its parts, as all formats write them: colours, gloss and pictures.

glTF and USD have the same model of a surface (a metallic-roughness BRDF with an index of refraction of 1.5),
so one table serves both; OBJ's `.mtl` takes of it what it has words for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from topos_rt.head.mesh import HeadMesh
from topos_rt.head.part_kit import PART_MATERIALS, PIECES, SURFACES, PartKit
from topos_rt.head.parts import Parts
from topos_rt.head.rig import Rig, reduced_rig
from topos_rt.head.topology import Topology

PICTURE = "parts"  # in the names of files: the picture of teeth and lashes


@dataclass(frozen=True)
class Material:
    """A material; where it has a picture, that takes the place of the colour."""

    colour: tuple[float, float, float]  # linear
    roughness: float
    translucent: bool = False  # the picture's alpha counts, and both sides are seen


MATERIALS = {
    "skin": Material((0.72, 0.50, 0.40), 0.55),
    "eyes": Material((0.60, 0.56, 0.51), 0.06),  # wet: the cornea mirrors lights
    "mouth": Material((0.26, 0.085, 0.07), 0.75),
    "teeth": Material((0.74, 0.69, 0.60), 0.4),
    "lashes": Material((0.008, 0.005, 0.004), 0.8, translucent=True),
}
assert list(MATERIALS) == [*SURFACES, *PART_MATERIALS]


@dataclass(frozen=True, eq=False)
class PartMesh:
    """The parts of one material as a mesh of its own."""

    material: str
    positions: np.ndarray  # [m,3] float32, metres
    normals: np.ndarray  # [m,3] float32
    uvs: np.ndarray  # [m,2] float32, origin bottom left
    quads: np.ndarray  # [q,4] int32
    rig: Rig | None
    shade: np.ndarray | None  # [m] uint8, see `PartKit`; None for all the light

    @property
    def triangles(self) -> np.ndarray:
        """The triangles [2q,3] int32."""
        return np.ascontiguousarray(self.quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3))


def part_meshes(parts: Parts | None) -> list[PartMesh]:
    """Return the meshes of a head's parts, in the order of PART_MATERIALS; [] without parts."""
    if parts is None:
        return []
    found, kit = [], parts.kit
    for material in PART_MATERIALS:
        numbers = [number for number, piece in enumerate(PIECES.values()) if piece.material == material]
        ids = np.flatnonzero(np.isin(kit.pieces, numbers))
        quads = kit.quads_of(material)
        if not len(ids) or not len(quads):
            continue
        new = np.full(len(kit.pieces), -1, np.int32)
        new[ids] = np.arange(len(ids), dtype=np.int32)
        rig = None if parts.rig is None else reduced_rig(parts.rig, ids)
        shade = kit.shade[ids]
        found.append(
            PartMesh(
                material,
                parts.positions[ids],
                parts.normals[ids],
                kit.uvs[ids],
                new[quads],
                rig,
                None if (shade == 255).all() else shade,
            )
        )
    return found


def surfaces(topology: Topology, kit: PartKit, uv_ids: np.ndarray) -> np.ndarray:
    """Return the number in SURFACES of polygons [n] whose first corners have UVs `uv_ids` [n].

    All is skin where the kit is of another topology, or there are no UVs.
    """
    if len(kit.surfaces) != len(topology.uvs) or not len(uv_ids):
        return np.zeros(len(uv_ids), np.uint8)
    found: np.ndarray = kit.surfaces[uv_ids]
    return found


def triangle_surfaces(mesh: HeadMesh, kit: PartKit) -> np.ndarray:
    """Return the number in SURFACES of each triangle [F] of a head."""
    topology = mesh.topology
    if not topology.has_uvs:
        return np.zeros(len(topology.triangles), np.uint8)
    return surfaces(topology, kit, topology.triangle_uvs[:, 0])


def polygon_surfaces(mesh: HeadMesh, kit: PartKit) -> np.ndarray:
    """Return the number in SURFACES of each polygon [P] of a head."""
    topology = mesh.topology
    if not topology.has_uvs:
        return np.zeros(len(topology.polygon_sizes), np.uint8)
    first = np.cumsum(topology.polygon_sizes, dtype=np.int64) - topology.polygon_sizes
    return surfaces(topology, kit, topology.polygon_uvs[first])


def gltf_materials(
    skin: dict[str, Any], textures: dict[str, Any], kit: PartKit, view: Callable[[bytes], int]
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return glTF's materials, by the keys of MATERIALS, and the document's images, samplers and textures.

    skin: the material of a head without parts; textures: what it has of the latter. view: takes the bytes of
    a file into the buffer and returns the number of its view.
    """
    tables: dict[str, Any] = {
        name: list(textures.get(name, [])) for name in ("images", "samplers", "textures")
    }
    tables["images"].append(
        {"name": PICTURE, "mimeType": "image/png", "bufferView": view(kit.picture.tobytes())}
    )
    tables["samplers"] = tables["samplers"] or [SAMPLER]
    tables["textures"].append({"sampler": 0, "source": len(tables["images"]) - 1})
    picture = {"index": len(tables["textures"]) - 1}
    found = {"skin": skin}
    for name, about in list(MATERIALS.items())[1:]:
        surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": about.roughness}
        material: dict[str, Any] = {"name": name, "pbrMetallicRoughness": surface}
        if name in PART_MATERIALS:
            surface["baseColorTexture"] = picture
        elif "baseColorTexture" in skin["pbrMetallicRoughness"]:
            surface["baseColorTexture"] = skin["pbrMetallicRoughness"]["baseColorTexture"]
            if name == "mouth":  # it is darker further in
                material["occlusionTexture"] = skin["occlusionTexture"]
        else:
            surface["baseColorFactor"] = [*about.colour, 1.0]
        if about.translucent:
            material |= {"alphaMode": "BLEND", "doubleSided": True}
        found[name] = material
    return found, tables


_REPEAT, _LINEAR, _MIPMAPS = 10497, 9729, 9987
SAMPLER = {"magFilter": _LINEAR, "minFilter": _MIPMAPS, "wrapS": _REPEAT, "wrapT": _REPEAT}
