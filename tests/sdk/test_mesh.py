"""Meshes, rigs and poses that the C library writes, against the Python package."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.sdk import capi
from topos_rt import HeadMesh, HeadPipeline
from topos_rt.formats.morphs import morphs
from topos_rt.formats.seams import split_seams

EXAMPLE = Path(__file__).parents[2] / "examples/astronaut.jpg"
RIG_M = 1e-6  # the fit of the rig sums in another order than NumPy's BLAS
AXES = {"gltf": 0, "unity": 1, "unreal": 2, "opengl": 3, "godot": 4}


@dataclass(frozen=True)
class Pair:
    """The same head on both sides."""

    api: capi.Api
    model: capi.Handle
    head: capi.Handle
    mesh: HeadMesh

    def stream(self, attribute: int, form: int, array: np.ndarray, stride: int = 0, offset: int = 0) -> Any:
        return capi.struct(
            "stream", attribute=attribute, format=form, data=array.ctypes.data, capacity=array.nbytes,
            stride=stride, offset=offset,
        )  # fmt: skip

    def write(self, streams: list[Any], layout: Any = None, pose: Any = None, rotations: Any = None) -> None:
        kept = (type(streams[0]) * len(streams))(*streams)
        self.api.ok("write_vertices", self.model, self.head, layout, pose, rotations, kept, len(streams))

    def counts(self, layout: Any = None) -> Any:
        return self.api.told("model_counts", "mesh_counts", self.model, layout)


@pytest.fixture(scope="module")
def pair(api: capi.Api, models: Any) -> Iterator[Pair]:
    model, pipe = models("mini")
    pixels = np.asarray(Image.open(EXAMPLE).convert("RGB"))
    (head,) = capi.generate(api, model, capi.request([capi.image(pixels)], [3], steps=4))
    mesh = pipe(pixels, seed=3, steps=4, crop="none", face_check=False, texture="none")
    yield Pair(api, model, head, mesh)
    api.call("head_release", head)


def test_the_rig_is_fitted_alike(pair: Pair) -> None:
    rig = pair.mesh.rig
    assert rig is not None and pair.api.told("head_get_info", "head_info", pair.head).has_rig
    joints = len(rig.joint_names)
    translations, binds = np.empty((joints, 3), np.float32), np.empty((joints, 4, 4), np.float32)
    pair.api.ok("write_joints", pair.head, None, translations, binds)
    places = np.zeros((joints, 3))
    for joint, parent in enumerate(rig.joint_parents):
        places[joint] = translations[joint] + (places[parent] if parent >= 0 else 0)
    np.testing.assert_allclose(places, rig.joint_positions, rtol=0, atol=RIG_M)
    np.testing.assert_allclose(-binds[:, 3, :3], rig.joint_positions, rtol=0, atol=RIG_M)
    assert (binds[:, :3, :3] == np.eye(3)).all() and (binds[:, :, 3] == [0, 0, 0, 1]).all()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_blendshapes_and_their_normals(pair: Pair, level: int) -> None:
    mesh = pair.mesh.lod(level)
    layout = capi.struct("layout", flags=1, lod=level)
    found = list(morphs(mesh, mesh.rig))  # type: ignore[arg-type]
    assert pair.counts(layout).num_shapes == len(found)
    for number in range(0, len(found), 3):
        morph, count = found[number], ctypes.c_uint32()
        assert pair.api.call("model_shape_name", pair.model, number).decode() == morph.name
        assert (
            pair.api.call("write_shape_vertices", pair.model, layout, number, None, 0, ctypes.byref(count))
            == 0
        )
        ids = np.empty(count.value, np.uint32)
        call = ("write_shape_vertices", pair.model, layout, number, ids)
        assert pair.api.call(*call, len(ids) - 1, ctypes.byref(count)) == capi.constants()["TOPOS_E_CAPACITY"]
        assert pair.api.call(*call, len(ids), ctypes.byref(count)) == 0
        np.testing.assert_array_equal(ids, morph.vertices)
        offsets, normals = np.empty((2, len(ids), 3), np.float32)
        streams = [pair.stream(2, 2, array) for array in (offsets, normals)]
        pair.api.ok("write_shape", pair.head, layout, number, 1, *streams)
        np.testing.assert_allclose(offsets, morph.offsets, rtol=0, atol=RIG_M)
        np.testing.assert_allclose(normals, morph.normals, rtol=0, atol=3e-3)  # of tiny triangles
        dense = np.full((pair.counts(layout).num_vertices, 4), 9, np.float32)
        pair.api.ok("write_shape", pair.head, layout, number, 0, pair.stream(2, 3, dense), None)
        np.testing.assert_array_equal(dense[ids, :3], offsets)
        assert (np.delete(dense, ids, 0) == 0).all() and (dense[:, 3] == 0).all()


def test_poses(pair: Pair) -> None:
    rig, mesh = pair.mesh.rig, pair.mesh
    assert rig is not None
    weights = np.zeros(len(rig.shape_names), np.float32)
    weights[rig.shape_names.index("jawOpen")], weights[rig.shape_names.index("eyeBlinkLeft")] = 0.7, 1.0
    turns = np.tile(np.array([0, 0, 0, 1], np.float32), (len(rig.joint_names), 1))
    half = np.radians(20) / 2
    turns[rig.joint_names.index("head")] = [0, np.sin(half), 0, np.cos(half)]
    wanted = mesh.posed({"jawOpen": 0.7, "eyeBlinkLeft": 1.0}, degrees={"head": (0, 20, 0)})
    out = np.empty((2, len(mesh.positions), 3), np.float32)
    streams = [pair.stream(attribute, 2, array) for attribute, array in zip((1, 2), out, strict=True)]
    pair.write(streams, capi.struct("layout", flags=1), weights, turns)
    np.testing.assert_allclose(out[0], wanted.positions, rtol=0, atol=3e-6)
    assert np.percentile(np.abs(out[1] - wanted.normals).max(1), 99) < 1e-3
    for bad in (np.float32(np.nan), np.float32(np.inf)):
        with pytest.raises(capi.CError, match="finite"):
            pair.write(streams, capi.struct("layout", flags=1), np.full_like(weights, bad))
    with pytest.raises(capi.CError, match="zeros"):
        pair.write(streams, capi.struct("layout", flags=1), None, turns * 0)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_levels_with_seams_split(pair: Pair, level: int) -> None:
    mesh = pair.mesh.lod(level)
    split = split_seams(mesh.topology)
    layout = capi.struct("layout", lod=level)
    counts = pair.counts(layout)
    assert (counts.num_vertices, counts.num_indices) == (len(split.source), split.triangles.size)
    positions, uvs = (
        np.empty((len(split.source), 3), np.float32),
        np.empty((len(split.source), 2), np.float32),
    )
    joints = np.empty((len(split.source), 4), np.uint16)
    weights = np.empty((len(split.source), 4), np.float32)
    pair.write(
        [
            pair.stream(1, 2, positions),
            pair.stream(4, 1, uvs),
            pair.stream(5, 12, joints),
            pair.stream(6, 3, weights),
        ],
        layout,
    )
    np.testing.assert_array_equal(positions, mesh.positions[split.source])
    np.testing.assert_array_equal(uvs, np.stack([split.uvs[:, 0], 1 - split.uvs[:, 1]], 1))
    assert mesh.rig is not None
    np.testing.assert_array_equal(weights, mesh.rig.skin_weights[split.source])
    held = mesh.rig.skin_weights[split.source] > 0
    np.testing.assert_array_equal(joints[held], mesh.rig.skin_joints[split.source][held])
    indices = np.empty(split.triangles.shape, np.uint16)
    pair.api.ok("write_indices", pair.model, layout, 13, indices, indices.nbytes)
    np.testing.assert_array_equal(indices, split.triangles)
    wide = np.empty(split.triangles.shape, np.uint32)
    pair.api.ok("write_indices", pair.model, capi.struct("layout", lod=level, flags=1), 14, wide, wide.nbytes)
    np.testing.assert_array_equal(wide, mesh.triangles)


def region(pair: Pair, name: str) -> np.ndarray:
    for number in range(100):
        ids, count = ctypes.POINTER(ctypes.c_int32)(), ctypes.c_uint32()
        found = pair.api.call("model_region", pair.model, number, ctypes.byref(ids), ctypes.byref(count))
        if found is None:
            break
        if found.decode() == name:
            return np.ctypeslib.as_array(ids, (count.value,)).copy()
    raise KeyError(name)


@pytest.mark.parametrize("axes", AXES)
def test_axes_by_named_regions_and_joints(pair: Pair, axes: str) -> None:
    """Up, ahead and the head's own left are where each engine has them, and faces look outwards."""
    layout = capi.struct("layout", axes=AXES[axes], flags=1)
    positions, normals = capi.vertices(pair.api, pair.model, pair.head, layout)
    indices = np.empty((len(pair.mesh.triangles), 3), np.uint32)
    pair.api.ok("write_indices", pair.model, layout, 14, indices, indices.nbytes)
    # The last is the side that a front face's cross product points to, by its formula: outwards where faces
    # are counter-clockwise in right-handed axes or clockwise in left-handed, inwards in the other cases.
    up, ahead, left, unit, outwards = {
        "gltf": ((0, 1, 0), (0, 0, 1), (1, 0, 0), 1, 1),
        "opengl": ((0, 1, 0), (0, 0, 1), (1, 0, 0), 1, 1),
        "unity": ((0, 1, 0), (0, 0, 1), (-1, 0, 0), 1, 1),
        "unreal": ((0, 0, 1), (1, 0, 0), (0, -1, 0), 100, -1),
        "godot": ((0, 1, 0), (0, 0, 1), (1, 0, 0), 1, -1),
    }[axes]
    np.testing.assert_array_equal(region(pair, "lips"), pair.mesh.topology.regions["lips"])
    lips, brows = (positions[region(pair, name)].mean(0) for name in ("lips", "brows"))
    assert (brows - lips) @ up > 0.03 * unit
    assert (lips - positions.mean(0)) @ ahead > 0.03 * unit
    rig = pair.mesh.rig
    assert rig is not None
    eye = rig.joint_positions[rig.joint_names.index("eye_L")]
    near = np.argmin(np.linalg.norm(pair.mesh.positions - eye, axis=1))
    assert positions[near] @ left > 0.01 * unit
    a, b, c = np.moveaxis(positions[indices].astype(np.float64), 1, 0)
    faces = np.cross(b - a, c - a) * outwards
    assert ((faces * normals[indices[:, 0]]).sum(1) > 0).mean() > 0.97


def test_interleaved_and_packed_streams_touch_only_their_bytes(pair: Pair) -> None:
    count = pair.counts().num_vertices
    stride, lead = 32, 5
    memory = np.full(lead + count * stride, 0xAB, np.uint8)
    streams = []
    for attribute, form, offset in ((1, 2, 5), (2, 7, 17), (4, 4, 25)):
        streams.append(pair.stream(attribute, form, memory, stride, offset))
    pair.write(streams)
    rows = memory[lead:].reshape(count, stride)
    split = split_seams(pair.mesh.topology)
    positions = np.ascontiguousarray(rows[:, :12]).view(np.float32)
    np.testing.assert_array_equal(positions, pair.mesh.positions[split.source])
    normals = np.ascontiguousarray(rows[:, 12:20]).view(np.int16)[:, :3] / 32767
    np.testing.assert_allclose(normals, pair.mesh.normals[split.source], atol=1 / 32767)
    assert (rows[:, 24:] == 0xAB).all() and (memory[:lead] == 0xAB).all()


def test_bad_streams_are_refused_and_nothing_is_written(pair: Pair) -> None:
    count = pair.counts().num_vertices
    room = np.full((count, 3), 7, np.float32)
    codes = capi.constants()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"capacity": room.nbytes - 1}, "TOPOS_E_CAPACITY"),
        ({"offset": 1}, "TOPOS_E_CAPACITY"),
        ({"offset": 2**32 - 1}, "TOPOS_E_CAPACITY"),
        ({"stride": 2**32 - 1}, "TOPOS_E_CAPACITY"),
        ({"stride": 11}, "TOPOS_E_ARGUMENT"),
        ({"data": None}, "TOPOS_E_ARGUMENT"),
        ({"attribute": 0}, "TOPOS_E_ARGUMENT"),
        ({"attribute": 99}, "TOPOS_E_ARGUMENT"),
        ({"format": 0}, "TOPOS_E_ARGUMENT"),
        ({"format": 99}, "TOPOS_E_ARGUMENT"),
        ({"format": 11}, "TOPOS_E_ARGUMENT"),
        ({"struct_size": 8}, "TOPOS_E_ARGUMENT"),
    ]
    for change, name in cases:
        stream = pair.stream(1, 2, room)
        for key, value in change.items():
            setattr(stream, key, value)
        with pytest.raises(capi.CError) as caught:
            pair.write([stream])
        assert caught.value.status == codes[name], change
    good = pair.stream(1, 2, room)
    layouts: list[dict[str, Any]] = [
        {"lod": 3},
        {"axes": 5},
        {"axes": -1},
        {"flags": 4},
        {"unit": -1.0},
        {"unit": float("nan")},
    ]
    for layout in layouts:
        with pytest.raises(capi.CError):
            pair.write([good], capi.struct("layout", **layout))
    assert (room == 7).all()
    with pytest.raises(capi.CError, match="TOPOS_E_UNSUPPORTED"):  # no head
        pair.api.ok("write_vertices", pair.model, None, None, None, None, good, 1)
    short = np.full(3, 7, np.uint16)
    with pytest.raises(capi.CError, match="TOPOS_E_CAPACITY"):
        pair.api.ok("write_indices", pair.model, None, 13, short, short.nbytes)
    assert (short == 7).all()


def test_a_model_without_uvs_and_with_a_rig_that_is_not_fitted(
    api: capi.Api, rt: capi.Handle, packs: Any
) -> None:
    bundle, pack = packs["tiny"]
    pixels = np.full((20, 20, 3), 128, np.uint8)
    with HeadPipeline.open(bundle, "onnxruntime", threads=1, decoder="engine") as pipe:
        mesh = pipe(pixels, crop="none", face_check=False)
    model = capi.load(api, rt, pack)
    (head,) = capi.generate(api, model, capi.request([capi.image(pixels)]))
    assert mesh.rig is not None
    binds = np.empty((2, 4, 4), np.float32)
    api.ok("write_joints", head, None, None, binds)
    np.testing.assert_array_equal(-binds[:, 3, :3], mesh.rig.joint_positions)
    room = np.empty((42, 2), np.float32)
    stream = capi.struct("stream", attribute=4, format=1, data=room.ctypes.data, capacity=room.nbytes)
    with pytest.raises(capi.CError, match="TOPOS_E_UNSUPPORTED"):
        api.ok("write_vertices", model, head, None, None, None, stream, 1)
    api.call("head_release", head)
    (head,) = capi.generate(api, model, capi.request([capi.image(pixels)], flags=2))
    assert not api.told("head_get_info", "head_info", head).has_rig
    with pytest.raises(capi.CError, match="without a rig"):
        api.ok("write_joints", head, None, None, binds)
    api.call("head_release", head)
    api.call("model_release", model)
    bare = bare_model(api, rt, pack)
    info = api.told("model_get_info", "model_info", bare)
    assert (info.num_shapes, info.num_joints) == (0, 0) and api.call("model_shape_name", bare, 0) is None
    api.call("model_release", bare)


def bare_model(api: capi.Api, rt: capi.Handle, pack: Path) -> capi.Handle:
    source = capi.struct("source", path=str(pack).encode())
    return capi.Handle(api.made("model_load", rt, source, capi.struct("load_options", flags=2)))
