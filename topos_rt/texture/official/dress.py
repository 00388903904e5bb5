"""Lay a painted map on a head whose UVs it was painted for."""

from __future__ import annotations

import dataclasses

import numpy as np

from topos_rt.errors import BackendError, BundleError
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.texture import Texture
from topos_rt.head.topology import Topology
from topos_rt.texture.material import flat_normals
from topos_rt.texture.official.manifest import LayoutSpec
from topos_rt.texture.official.painter import Painted
from topos_rt.texture.stage import OFFICIAL

# The release paints colours alone: the skin's roughness is that of the base material, everywhere.
_ORM = (255, 143, 0)


def check_layout(topology: Topology, layout: LayoutSpec, whose: str) -> None:
    """Raise BundleError unless a topology is the one in whose UVs a map is painted.

    whose: what the message calls the head or the model.
    """
    found = (topology.num_vertices, len(topology.polygon_sizes))
    if found == (layout.vertices, layout.polygons) and len(topology.uvs):
        return
    told = f"{found[0]:,} vertices and {found[1]:,} polygons" + ("" if len(topology.uvs) else ", no UVs")
    raise BundleError(
        f"texture 'official' on {whose}",
        got=told,
        expected=f"the {layout.name} head of {layout.vertices:,} and {layout.polygons:,}, in whose UVs it is"
        " painted",
        fix="use the model that 'python -m export official' makes, or texture 'projected'",
    )


def official_texture(painted: Painted, size: int, format: str) -> Texture:
    """Return a map as a texture of size x size pixels; all of it is made up, so its confidence is 0.

    Raises BackendError for a map that is no square of colours.
    """
    albedo = painted.albedo
    if albedo.dtype != np.uint8 or albedo.shape != (len(albedo), len(albedo), 3):
        raise BackendError(
            "texture 'official'", got=f"{albedo.dtype} {list(albedo.shape)}", expected="uint8 [S, S, 3]"
        )
    if len(albedo) != size:
        from PIL import Image

        albedo = np.asarray(Image.fromarray(albedo).resize((size, size), Image.Resampling.LANCZOS))
    return Texture(
        albedo,
        np.tile(np.array(_ORM, np.uint8), (4, 4, 1)),
        flat_normals(),
        np.zeros((4, 4), np.uint8),
        {"kind": OFFICIAL, **painted.facts, "size": size},
        format,
    )


def dressed(head: HeadMesh, painted: Painted, size: int, format: str) -> HeadMesh:
    """Return a head with a painted map, in the UVs that it has."""
    texture = official_texture(painted, size, format)
    metadata = {**head.metadata, "texture": dict(texture.metadata)}
    return dataclasses.replace(head, texture=texture, metadata=metadata)
