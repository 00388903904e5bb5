"""GLB files of the C++ numerics: the bytes of `HeadMesh.save("head.glb")`."""

from __future__ import annotations

import ctypes
import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest

from tests.meshes import ball, ball_rig, cube, cube_rig
from tests.part_heads import dressed, plain, small_kit
from tests.sdk.numerics.scenes import Scene
from topos_rt.formats.glb import write_glb
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.parts import Parts
from topos_rt.head.rig import Rig
from topos_rt.head.topology import Topology

METADATA = {
    "model": 'a "quoted" \\ näme\n\x01 \U0001f642',
    "seed": 2**64 - 1,
    "steps": [1, 2.5, 1e-7, None, True],
    "x": {},
}


def with_ball_rig() -> HeadMesh:
    return dataclasses.replace(ball(), rig=ball_rig())


def two_roots() -> HeadMesh:
    """A cube on two joints without a common root, of which one names a humanoid's head."""
    rig = cube_rig()
    made = Rig(
        ("head", "eye.L"),
        np.array([-1, -1]),
        np.float32([[0, 0.1, 0], [0.2, -0.3, 1e-5]]),
        rig.skin_joints + 1,
        rig.skin_weights,
        rig.shape_names,
        rig.shape_index,
        rig.shape_delta,
        rig.shape_offsets,
    )
    return dataclasses.replace(cube(), rig=made)


def without_shapes() -> HeadMesh:
    rig = dataclasses.replace(
        cube_rig(),
        shape_names=(),
        shape_index=np.zeros(0, np.int32),
        shape_delta=np.zeros((0, 3)),
        shape_offsets=np.zeros(1, np.int32),
    )
    return dataclasses.replace(cube(), rig=rig)


def still_shapes() -> HeadMesh:
    """A cube with blendshapes that move nothing."""
    rig = dataclasses.replace(
        cube_rig(),
        shape_names=("a", "b"),
        shape_index=np.zeros(0, np.int32),
        shape_delta=np.zeros((0, 3)),
        shape_offsets=np.zeros(3, np.int32),
    )
    return dataclasses.replace(cube(), rig=rig)


def cube_with_parts() -> HeadMesh:
    kit = small_kit()
    return dataclasses.replace(cube(), parts=Parts(kit, kit.rest))


def many_vertices() -> HeadMesh:
    """A strip with more vertices than 16-bit indices reach."""
    count = 70_000
    places = np.stack([np.arange(count) * 1e-5, np.arange(count) % 2 * 0.01, np.zeros(count)], 1)
    corners = np.stack([np.arange(count - 2), np.arange(1, count - 1), np.arange(2, count)], 1)
    topology = Topology(count, np.full(len(corners), 3, np.uint8), corners.reshape(-1).astype(np.int32))
    ids = np.arange(0, count, 7)
    rig = Rig(
        ("head",),
        np.array([-1]),
        np.zeros((1, 3)),
        np.zeros((count, 4), np.uint16),
        np.tile([1.0, 0, 0, 0], (count, 1)),
        ("jawOpen",),
        ids,
        np.full((len(ids), 3), 0.001),
        np.array([0, len(ids)]),
    )
    normals = np.tile(np.float32([0, 0, 1]), (count, 1))
    return HeadMesh(places.astype(np.float32), normals, topology, rig)


HEADS: dict[str, Callable[[], HeadMesh]] = {
    "cube": cube,
    "cube without UVs": lambda: cube(uvs=False),
    "cube with rig": lambda: cube(rig=True),
    "metadata": lambda: dataclasses.replace(cube(), metadata=METADATA),
    "ball": with_ball_rig,
    "two roots": two_roots,
    "no shapes": without_shapes,
    "still shapes": still_shapes,
    "parts without a rig": cube_with_parts,
    "many vertices": many_vertices,
    "mini": plain,
    "mini without rig": lambda: dataclasses.replace(plain(), rig=None, parts=None),
    "mini without parts": lambda: dataclasses.replace(plain(), parts=None),
    "textured": dressed,
    "textured without parts": lambda: dataclasses.replace(dressed(), parts=None),
    "half": lambda: plain().lod(1),
    "textured quarter": lambda: dressed().lod(2),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_bytes_are_those_of_python(lib: ctypes.CDLL, name: str) -> None:
    mesh = HEADS[name]()
    want, got = write_glb(mesh), Scene(mesh).file(lib)
    size = int.from_bytes(want[12:16], "little")
    assert json.loads(got[20 : 20 + size]) == json.loads(want[20 : 20 + size])
    assert got[: 20 + size] == want[: 20 + size]
    assert got == want
