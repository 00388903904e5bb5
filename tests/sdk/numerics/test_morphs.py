"""Blendshapes, poses and numbers in JSON of the C++ numerics against Python's."""

from __future__ import annotations

import ctypes
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.meshes import ball, ball_rig, cube
from tests.part_heads import plain
from tests.sdk.numerics.calls import call
from topos_rt.formats.morphs import morphs
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.pose import posed_positions
from topos_rt.head.rig import Rig, reduced_rig


def ball_head() -> HeadMesh:
    made = ball()
    return HeadMesh(made.positions, made.normals, made.topology, ball_rig())


HEADS = {"cube": lambda: cube(rig=True), "ball": ball_head, "mini": plain}


def rig_of(mesh: HeadMesh) -> Rig:
    assert mesh.rig is not None
    return mesh.rig


def table(*arrays: np.ndarray) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


@pytest.mark.parametrize("name", HEADS)
def test_normals_of_every_shape(lib: ctypes.CDLL, name: str) -> None:
    mesh = HEADS[name]()
    rig, triangles = rig_of(mesh), mesh.triangles
    got = np.full(rig.shape_delta.shape, np.nan, np.float32)
    call(lib, "morph_normals", mesh.positions, len(mesh.positions), triangles, len(triangles),
         len(rig.shape_names), rig.shape_index, rig.shape_delta, rig.shape_offsets, got)  # fmt: skip
    want = np.concatenate([shape.normals for shape in morphs(mesh, rig)])
    assert got.tobytes() == want.astype(np.float32).tobytes()


def test_shapes_of_fewer_vertices(lib: ctypes.CDLL) -> None:
    mesh = plain()
    rig = rig_of(mesh)
    for lod in mesh.topology.lods:
        want = reduced_rig(rig, lod.vertices)
        new = np.full(rig.num_vertices, -1, np.int32)
        new[lod.vertices] = np.arange(len(lod.vertices), dtype=np.int32)
        index, delta = np.empty_like(rig.shape_index), np.empty_like(rig.shape_delta)
        offsets, shapes = np.empty_like(rig.shape_offsets), len(rig.shape_names)
        count = call(lib, "reduced_shapes", shapes, rig.shape_index, rig.shape_delta, rig.shape_offsets, new,
                     len(new), index, delta, offsets, returns=ctypes.c_uint64)  # fmt: skip
        assert np.array_equal(index[:count], want.shape_index)
        assert delta[:count].tobytes() == want.shape_delta.tobytes()
        assert np.array_equal(offsets, want.shape_offsets)


def quaternion(degrees: np.ndarray) -> np.ndarray:
    angle = np.radians(np.linalg.norm(degrees))
    axis = degrees / max(float(np.linalg.norm(degrees)), 1e-12)
    return np.append(axis * np.sin(angle / 2), np.cos(angle / 2))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", ["cube", "mini"])
def test_poses(lib: ctypes.CDLL, name: str, turned: bool) -> None:
    mesh, rng = HEADS[name](), np.random.default_rng(2)
    rig = rig_of(mesh)
    weights = np.where(rng.random(len(rig.shape_names)) < 0.5, rng.random(len(rig.shape_names)), 0).astype(
        np.float32
    )
    degrees = rng.normal(0, 20, (len(rig.joint_names), 3)) * turned
    turns = np.stack([quaternion(each) for each in degrees]).astype(np.float32) * np.float32(3)
    got = np.empty((len(mesh.positions), 3))
    call(lib, "posed", mesh.positions, len(got), len(weights),
         table(rig.shape_index, rig.shape_delta, rig.shape_offsets), weights, len(degrees),
         table(rig.joint_parents, rig.joint_positions, rig.skin_joints, rig.skin_weights),
         turns if turned else None, got)  # fmt: skip
    named = dict(zip(rig.shape_names, weights.tolist(), strict=True))
    joints = dict(zip(rig.joint_names, degrees.tolist(), strict=True)) if turned else {}
    want = posed_positions(mesh.positions, rig, named, joints)
    if turned:
        # quaternions of single precision are off by up to 1e-7, and a chain of joints adds that up
        assert np.abs(got - want).max() < 1e-6
    else:
        assert got.tobytes() == want.tobytes()


def number(lib: ctypes.CDLL, value: float) -> str:
    out = ctypes.create_string_buffer(40)
    size = call(lib, "number_text", float(value), out, returns=ctypes.c_uint64)
    return out.raw[:size].decode()


@pytest.mark.parametrize("value", [
    0.0, -0.0, 1.0, -1.0, 0.5, 100.0, 1e15, 1e16, 123456789012345680.0, 9999999999999998.0, 1e-4, 1e-5,
    0.00012345, 1.5e-7, 1e22, 1e100, 5e-324, 1.7976931348623157e308, -2.5e-10, 12345.678,
])  # fmt: skip
def test_numbers(lib: ctypes.CDLL, value: float) -> None:
    assert number(lib, value) == repr(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number(lib: ctypes.CDLL, value: float) -> None:
    assert number(lib, value) == repr(value)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_any_single(lib: ctypes.CDLL, value: float) -> None:
    assert number(lib, value) == repr(value)


@given(st.text(max_size=50))
def test_texts(lib: ctypes.CDLL, text: str) -> None:
    data, out = text.encode("utf-8", "replace"), ctypes.create_string_buffer(400)
    size = call(lib, "quoted", data, len(data), out, returns=ctypes.c_uint64)
    assert out.raw[:size] == json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")
