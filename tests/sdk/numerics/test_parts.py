"""Teeth and lashes of the C++ numerics against `topos_rt.head.parts`."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from tests.part_heads import kit, plain, small_kit
from tests.sdk.numerics.calls import call
from topos_rt.formats.materials import part_meshes
from topos_rt.head.part_kit import PartKit
from topos_rt.head.parts import Parts, parts_of
from topos_rt.head.rig import Rig
from topos_rt.head.skeleton import humanoid_joints

ARRAYS = ("positions", "normals", "joints", "weights", "shape_index", "shape_delta", "shape_offsets")
TYPES = (np.float32, np.float32, np.uint16, np.float32, np.int32, np.float32, np.int32)


def table(arrays: list[np.ndarray]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def kit_arrays(of: PartKit, shape_names: tuple[str, ...]) -> tuple[np.ndarray, list[np.ndarray]]:
    shapes = [shape_names.index(name) if name in shape_names else -1 for name in of.motion_shapes]
    sizes = np.array([len(of.pieces), of.anchors.shape[1], len(of.quads), len(of.motion_shapes)], np.uint64)
    return sizes, [of.anchors, of.weights, of.pieces, of.holders, of.quads, of.uvs, of.rest,
                   np.array(shapes, np.int32), of.motion_pieces, of.motions, of.shade]  # fmt: skip


def made(lib: ctypes.CDLL, of: PartKit, head: np.ndarray, rig: Rig | None) -> dict[str, np.ndarray]:
    sizes, arrays = kit_arrays(of, () if rig is None else rig.shape_names)
    own: list[np.ndarray] = [np.zeros(1)] * 7
    joints = np.array([-1, -1], np.int32)
    if rig is not None:
        own = [rig.shape_index, rig.shape_delta, rig.shape_offsets, rig.joint_parents, rig.joint_positions,
               rig.skin_joints, rig.skin_weights]  # fmt: skip
        named = humanoid_joints(rig.joint_names)
        joints[:] = [rig.joint_names.index(named[name]) if name in named else -1 for name in ("head", "jaw")]
    counts = (0, 0) if rig is None else (len(rig.shape_names), len(rig.joint_names))
    call(lib, "parts_make", sizes, table(arrays), head, len(head), *counts, table(own), joints)
    found = {}
    for number, (name, dtype) in enumerate(zip(ARRAYS, TYPES, strict=True)):
        found[name] = np.empty(call(lib, "parts_array", number, None, returns=ctypes.c_uint64), dtype)
        call(lib, "parts_array", number, found[name], returns=ctypes.c_uint64)
    return found


def check(lib: ctypes.CDLL, of: PartKit, head: np.ndarray, rig: Rig | None, want: Parts) -> None:
    got = made(lib, of, head, rig)
    places = got["positions"].reshape(-1, 3)
    # Sums in float64, whose order BLAS chooses in Python: float32 hardly ever shows it.
    assert np.abs(places - want.positions).max() <= np.spacing(np.abs(want.positions).max())
    assert np.count_nonzero(places != want.positions) <= len(places) // 500
    assert np.abs(got["normals"].reshape(-1, 3) - want.normals).max() < 1e-4
    if want.rig is None:
        assert not got["joints"].size
        return
    assert got["joints"].tobytes() == want.rig.skin_joints.tobytes()
    assert got["weights"].tobytes() == want.rig.skin_weights.tobytes()
    assert np.array_equal(got["shape_index"], want.rig.shape_index)
    assert np.array_equal(got["shape_offsets"], want.rig.shape_offsets)
    assert np.abs(got["shape_delta"].reshape(-1, 3) - want.rig.shape_delta).max(initial=0) < 1e-8


@pytest.mark.parametrize("rigged", [False, True])
def test_parts_of_heads(lib: ctypes.CDLL, rigged: bool) -> None:
    mesh = plain()
    rig = mesh.rig if rigged else None
    bent = mesh.positions * np.float32([1.1, 0.9, 1.2]) + np.float32([0, 0, 0.02]) * mesh.positions[:, :1]
    for head in (mesh.positions, np.ascontiguousarray(bent)):
        check(lib, kit(), head, rig, parts_of(kit(), head, rig))


@pytest.mark.parametrize("of", [kit, small_kit])
def test_surfaces_of_materials(lib: ctypes.CDLL, of: Any) -> None:
    parts = Parts(of(), of().rest)
    want = part_meshes(parts)
    sizes, arrays = kit_arrays(of(), ())
    assert call(lib, "part_surfaces", sizes, table(arrays), returns=ctypes.c_uint64) == len(want)
    for number, mesh in enumerate(want):
        ids = np.empty(call(lib, "part_surface_array", number, 0, None, returns=ctypes.c_uint64), np.int32)
        call(lib, "part_surface_array", number, 0, ids, returns=ctypes.c_uint64)
        corners = np.empty(
            call(lib, "part_surface_array", number, 1, None, returns=ctypes.c_uint64), np.int32
        )
        call(lib, "part_surface_array", number, 1, corners, returns=ctypes.c_uint64)
        assert np.array_equal(parts.positions[ids], mesh.positions)
        assert np.array_equal(corners.reshape(-1, 3), mesh.triangles)
        kind = call(lib, "part_surface_kind", number, returns=ctypes.c_int32)
        assert abs(kind) == {"teeth": 1, "lashes": 2}[mesh.material]
        assert (kind < 0) == (mesh.shade is not None)


def test_every_half(lib: ctypes.CDLL) -> None:
    halves = np.arange(2**16, dtype=np.uint16)
    got = np.empty(len(halves), np.float32)
    call(lib, "from_halves", halves, len(halves), got)
    want = halves.view(np.float16).astype(np.float32)
    real = ~np.isnan(want)
    assert got[real].tobytes() == want[real].tobytes() and np.isnan(got[~real]).all()
