"""Heads with teeth and lashes for tests, and a kit of a few vertices for readers."""

from __future__ import annotations

import dataclasses
import io
from functools import cache

import numpy as np
from PIL import Image

from tests.meshes import bundled_head
from topos_rt.head.atlas import laid
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.part_kit import PIECES, PartKit
from topos_rt.head.parts import parts_of
from topos_rt.head.rig_fit import fit_rig
from topos_rt.model.bundle import Bundle
from topos_rt.texture.plan import plan_of
from topos_rt.texture.stage import BASE, TextureChoice, base_texture

SIZE = 512


@cache
def kit() -> PartKit:
    """Return the kit of `mini`."""
    found = Bundle.open("mini", verify=False).parts
    assert found is not None
    return found


@cache
def plain() -> HeadMesh:
    """Return the mean head of `mini` with its rig and parts, without a texture."""
    template = bundled_head()
    assert template.rig is not None
    rig = fit_rig(template.rig, template.positions)
    return dataclasses.replace(template, rig=rig, parts=parts_of(kit(), template.positions, rig))


@cache
def dressed() -> HeadMesh:
    """Return that head with the base material."""
    bundle, head = Bundle.open("mini", verify=False), plain()
    assert bundle.atlas is not None
    texture = base_texture(
        plan_of(bundle.topology, bundle.atlas, SIZE), bundle.atlas, TextureChoice(BASE, SIZE)
    )
    return dataclasses.replace(head, topology=laid(bundle.topology, bundle.atlas), texture=texture)


def small_kit() -> PartKit:
    """Return a kit for a head of eight vertices and 14 UVs: a quad of teeth and one of each lash."""
    count = 4 * len(PIECES)
    rng = np.random.default_rng(4)
    weights = np.tile(np.eye(4), (len(PIECES), 1)).astype(np.float16)
    picture = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (64, 64, 4), np.uint8) & 0xC0).save(picture, "PNG")
    return PartKit(
        anchors=np.tile([0, 1, 3, 2], (len(PIECES), 1)),
        weights=weights,
        pieces=np.repeat(np.arange(len(PIECES)), 4),
        holders=np.tile(np.arange(4), len(PIECES)),
        quads=np.arange(count).reshape(-1, 4),
        uvs=np.tile([[0.0, 0.0], [1, 0], [1, 1], [0, 1]], (len(PIECES), 1)),
        rest=rng.normal(0, 0.01, (count, 3)),
        motion_shapes=("jawOpen",),
        motion_pieces=np.array([1]),
        motions=np.concatenate([np.eye(3), [[0.0], [-0.01], [0]]], 1)[None],
        surfaces=np.arange(14) % 3,
        head_shade=np.arange(8) * 30,
        shade=np.full(count, 255),
        picture=np.frombuffer(picture.getvalue(), np.uint8),
        source="a test",
    )
