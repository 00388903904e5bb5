"""Heads as objects of the library trimesh."""

from __future__ import annotations

from typing import Any

from PIL import Image

from topos_rt.errors import MissingExtraError
from topos_rt.formats.materials import MATERIALS
from topos_rt.formats.seams import split_seams
from topos_rt.head.mesh import HeadMesh


def trimesh_of(head: HeadMesh) -> Any:
    """Return a `trimesh.Trimesh` of a head, see `HeadMesh.to_trimesh`.

    Vertices 0 .. V-1 are the head's, in order; copies along UV seams follow, as in a GLB.

    Raises MissingExtraError where trimesh is not installed, MeshInputError for UVs that are not finite.
    """
    try:
        import trimesh
    except ImportError as error:
        raise MissingExtraError.needs("to_trimesh", "trimesh") from error
    split = split_seams(head.topology)
    visual = None
    if head.topology.has_uvs:
        visual = trimesh.visual.TextureVisuals(uv=split.uvs, material=_material(head, trimesh))
    return trimesh.Trimesh(
        vertices=head.positions[split.source],
        faces=split.triangles,
        vertex_normals=head.normals[split.source],
        metadata=dict(head.metadata),
        visual=visual,
        process=False,  # it would merge and reorder vertices
    )


def _material(head: HeadMesh, trimesh: Any) -> Any:
    """Return the material of the skin, with the pictures of the head's texture where it has one."""
    skin, pictures = MATERIALS["skin"], {}
    surface: dict[str, Any] = {"baseColorFactor": [*skin.colour, 1.0], "roughnessFactor": skin.roughness}
    if head.texture is not None:
        orm = Image.fromarray(head.texture.orm)
        surface = {"roughnessFactor": 1.0}
        pictures = {
            "baseColorTexture": Image.fromarray(head.texture.albedo),
            "metallicRoughnessTexture": orm,
            "occlusionTexture": orm,
            "normalTexture": Image.fromarray(head.texture.normal),
        }
    return trimesh.visual.material.PBRMaterial(name="skin", metallicFactor=0.0, **surface, **pictures)
