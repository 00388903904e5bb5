from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import needs
from tests.meshes import CORNERS, DATA, ball, ball_rig, bundled_head, cube, cube_rig, cube_topology
from topos_rt.errors import MeshInputError, OptionError
from topos_rt.formats import ExportOptions, write_glb
from topos_rt.formats.seams import split_seams
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.rig import Rig
from topos_rt.head.rig_fit import fit_rig
from topos_rt.head.topology import Topology

TYPES = {
    5120: np.dtype("i1"),
    5122: np.dtype("<i2"),
    5121: np.dtype("u1"),
    5123: np.dtype("<u2"),
    5125: np.dtype("<u4"),
    5126: np.dtype("<f4"),
}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


def parse(glb: bytes) -> tuple[dict[str, Any], bytes]:
    magic, version, length = struct.unpack_from("<4sII", glb)
    assert (magic, version, length) == (b"glTF", 2, len(glb))
    json_length, json_kind = struct.unpack_from("<I4s", glb, 12)
    binary_length, binary_kind = struct.unpack_from("<I4s", glb, 20 + json_length)
    assert (json_kind, binary_kind) == (b"JSON", b"BIN\0")
    assert json_length % 4 == 0 and binary_length % 4 == 0
    assert 28 + json_length + binary_length == len(glb)
    text = glb[20 : 20 + json_length]
    assert text.rstrip(b" ").endswith(b"}")
    return json.loads(text), glb[28 + json_length :]


def read(document: dict[str, Any], binary: bytes, index: int) -> np.ndarray:
    """Return the values of an accessor, sparse or not, and check its minimum and maximum."""
    accessor = document["accessors"][index]
    width = WIDTHS[accessor["type"]]
    shape = (accessor["count"], width) if width > 1 else (accessor["count"],)

    def raw(place: dict[str, Any], component: int, shape: tuple[int, ...]) -> np.ndarray:
        view = document["bufferViews"][place["bufferView"]]
        start = view["byteOffset"] + place.get("byteOffset", 0)
        dtype = TYPES[component]
        count = int(np.prod(shape))
        assert start % dtype.itemsize == 0
        if "byteStride" in view:
            stride, end = view["byteStride"], view["byteOffset"] + view["byteLength"]
            assert stride % 4 == 0 and start + count // shape[-1] * stride <= end <= len(binary)
            return np.ndarray(shape, dtype, binary, start, (stride, dtype.itemsize))
        assert start + count * dtype.itemsize <= view["byteOffset"] + view["byteLength"] <= len(binary)
        return np.frombuffer(binary, dtype, count, start).reshape(shape)

    values = np.zeros(shape, TYPES[accessor["componentType"]])
    if "bufferView" in accessor:
        values = raw(accessor, accessor["componentType"], shape)
    if "sparse" in accessor:
        sparse = accessor["sparse"]
        ids = raw(sparse["indices"], sparse["indices"]["componentType"], (sparse["count"],))
        assert (np.diff(ids.astype(int)) > 0).all()
        values[ids] = raw(sparse["values"], accessor["componentType"], (sparse["count"], width))
    if "min" in accessor:
        assert values.min(0).tolist() == accessor["min"]
        assert values.max(0).tolist() == accessor["max"]
    return values


def contents(mesh: HeadMesh, options: ExportOptions | None = None) -> dict[str, Any]:
    """Return everything that a reader finds in the GLB of a mesh."""
    document, binary = parse(write_glb(mesh, options))
    shape = document["meshes"][0]
    primitive = shape["primitives"][0]
    found = {name: read(document, binary, index) for name, index in primitive["attributes"].items()}
    parts = {"targets": "POSITION", "target_normals": "NORMAL"}
    morphs = primitive.get("targets", [])
    targets = {
        key: [read(document, binary, target[name]) for target in morphs if name in target]
        for key, name in parts.items()
    }
    if "skins" in document:
        found["binds"] = read(document, binary, document["skins"][0]["inverseBindMatrices"])
    indices = read(document, binary, primitive["indices"])
    return {"document": document, "mesh": shape, "indices": indices} | targets | found


def test_golden_bytes() -> None:
    assert write_glb(cube(rig=True)) == (DATA / "cube.glb").read_bytes()


def test_same_head_gives_same_bytes_whatever_the_timings() -> None:
    timed = dataclasses.replace(cube(), timings={"image": 0.1})
    assert write_glb(cube()) == write_glb(timed) == write_glb(cube(topology=cube_topology()))


def test_cube_is_described_fully() -> None:
    found = contents(cube())
    document = found["document"]
    assert document["asset"]["version"] == "2.0"
    assert document["asset"]["extras"]["metadata"] == {"seed": 7, "model": "cube", "weights": "none: a cube"}
    assert document["scene"] == 0 and document["nodes"][0]["mesh"] == 0
    assert len(document["materials"]) == 1 and document["materials"][0]["name"] == "skin"
    assert not document["materials"][0].get("doubleSided", False)
    targets = [view.get("target") for view in document["bufferViews"]]
    assert targets == [34962, 34962, 34962, 34963]
    assert document["buffers"][0]["byteLength"] <= len(parse(write_glb(cube()))[1])
    assert found["POSITION"].shape == (14, 3) and found["indices"].dtype == np.uint16
    position = document["accessors"][found["mesh"]["primitives"][0]["attributes"]["POSITION"]]
    assert position["min"] == [-0.5] * 3 and position["max"] == [0.5] * 3


def test_topology_vertices_come_first_and_copies_are_listed() -> None:
    found = contents(cube())
    extras = found["document"]["asset"]["extras"]
    source = list(range(8)) + extras["seamCopyOf"]
    assert extras["topologyVertices"] == 8 and len(source) == 14
    assert np.array_equal(found["POSITION"], CORNERS[source])
    assert np.array_equal(found["NORMAL"], cube().normals[source])
    corners = np.array(source)[found["indices"]].reshape(-1, 3)
    assert np.array_equal(corners, cube().triangles)


def test_uvs_reach_every_corner_with_v_from_the_top() -> None:
    found = contents(cube())
    topology = cube_topology()
    wanted = topology.uvs[topology.triangle_uvs.ravel()] * [1, -1] + [0, 1]
    assert found["TEXCOORD_0"][found["indices"]] == pytest.approx(wanted, abs=1e-7)


def test_without_uvs_there_are_no_copies() -> None:
    found = contents(cube(uvs=False))
    assert "TEXCOORD_0" not in found
    assert np.array_equal(found["indices"].reshape(-1, 3), cube().triangles)


def test_morph_targets_are_sparse_and_reach_seam_copies() -> None:
    found = contents(cube(rig=True))
    names = found["mesh"]["extras"]["targetNames"]
    assert names == ["jawOpen", "tongueOut", "mouthRight"] and found["mesh"]["weights"] == [0, 0, 0]
    source = split_seams(cube_topology()).source
    for name, target in zip(names, found["targets"], strict=True):
        assert np.array_equal(target, cube_rig().shape(name)[source])
    primitive = found["mesh"]["primitives"][0]
    accessors = found["document"]["accessors"]
    jaw, tongue, mouth = (accessors[target["POSITION"]] for target in primitive["targets"])
    assert "bufferView" not in jaw and jaw["sparse"]["count"] < jaw["count"]
    assert "bufferView" not in tongue and "sparse" not in tongue
    assert [sorted(target) for target in primitive["targets"]] == [["NORMAL", "POSITION"]] * 3
    assert mouth["sparse"]["count"] == mouth["count"] and mouth["min"] == mouth["max"] != [0, 0, 0]


def test_normals_of_morph_targets_turn_with_the_surface() -> None:
    head = rigged_ball()
    found = contents(head)
    for number, name in enumerate(head.rig.shape_names):
        offsets = found["targets"][number]
        assert np.array_equal(offsets, head.rig.shape(name))
        posed = vertex_normals(head.positions + offsets, head.triangles)
        moved = offsets.any(1)
        expected = np.where(moved[:, None], posed - vertex_normals(head.positions, head.triangles), 0)
        assert found["target_normals"][number] == pytest.approx(expected, abs=1e-5)
        assert np.abs(expected).max() > 0.1 or name == "swell"


def rigged_ball() -> HeadMesh:
    return dataclasses.replace(ball(), rig=fit_rig(ball_rig(), ball().positions))


def test_the_skin_binds_every_vertex_to_the_skeleton() -> None:
    head = rigged_ball()
    assert head.rig is not None
    found = contents(head)
    document = found["document"]
    skin, nodes = document["skins"][0], document["nodes"]
    assert nodes[0]["skin"] == 0 and document["scenes"][0]["nodes"] == [0, skin["skeleton"]]
    assert [nodes[joint]["name"] for joint in skin["joints"]] == ["head", "cap"]
    assert found["WEIGHTS_0"] == pytest.approx(head.rig.skin_weights)
    heavy = head.rig.skin_weights > 0
    assert np.array_equal(found["JOINTS_0"][heavy], head.rig.skin_joints[heavy])
    assert not found["JOINTS_0"][~heavy].any()
    # translations down the tree add up to the joints, and inverse bind matrices undo them
    at: dict[int, np.ndarray] = {}

    def walk(node: int, start: np.ndarray) -> None:
        assert set(nodes[node]) <= {"name", "translation", "children", "extras"}
        at[node] = start + nodes[node].get("translation", [0, 0, 0])
        for child in nodes[node].get("children", []):
            walk(child, at[node])

    walk(skin["skeleton"], np.zeros(3))
    assert set(at) == set(skin["joints"])
    for joint, matrix, position in zip(skin["joints"], found["binds"], head.rig.joint_positions, strict=True):
        assert at[joint] == pytest.approx(position, abs=1e-6)
        assert matrix.reshape(4, 4).T @ [*position, 1] == pytest.approx([0, 0, 0, 1], abs=1e-6)


def test_several_roots_get_one_above_them() -> None:
    rig = dataclasses.replace(fit_rig(ball_rig(), ball().positions), joint_parents=np.array([-1, -1]))
    document = contents(dataclasses.replace(ball(), rig=rig))["document"]
    root = document["skins"][0]["skeleton"]
    assert document["nodes"][root] == {"name": "skeleton", "children": [1, 2]}
    assert document["scenes"][0]["nodes"] == [0, root] and root not in document["skins"][0]["joints"]


def test_seam_copies_carry_skin_and_normals() -> None:
    rig = dataclasses.replace(
        cube_rig(),
        joint_names=("a", "b"),
        joint_parents=np.array([-1, 0]),
        joint_positions=np.eye(2, 3),
        skin_joints=np.tile([0, 1, 0, 0], (8, 1)),
        skin_weights=np.stack([np.arange(8) / 8, 1 - np.arange(8) / 8, np.zeros(8), np.zeros(8)], 1),
    )
    found = contents(dataclasses.replace(cube(), rig=rig))
    source = split_seams(cube_topology()).source
    assert np.array_equal(found["WEIGHTS_0"], rig.skin_weights[source])
    assert np.array_equal(found["JOINTS_0"][:8][source], found["JOINTS_0"])
    for normals in found["target_normals"]:
        assert np.array_equal(normals[:8][source], normals)


def test_a_rigged_head_of_mini_is_small() -> None:
    head = bundled_head()
    assert head.rig is not None
    data = write_glb(dataclasses.replace(head, rig=fit_rig(head.rig, head.positions)))
    assert 1_000_000 < len(data) <= 3_000_000


@pytest.mark.parametrize("shapes", [(), ("a", "b")])
def test_shapes_that_move_nothing(shapes: tuple[str, ...]) -> None:
    still = dataclasses.replace(
        cube_rig(),
        shape_names=shapes,
        shape_index=np.zeros(0, int),
        shape_delta=np.zeros((0, 3)),
        shape_offsets=np.zeros(len(shapes) + 1, int),
    )
    found = contents(dataclasses.replace(cube(), rig=still))
    assert [target.any() for target in found["targets"]] == [False] * len(shapes)


def test_rig_can_be_left_out() -> None:
    assert write_glb(cube(rig=True), ExportOptions(rig=False)) == write_glb(cube())


@pytest.mark.parametrize("options", [ExportOptions(units="cm"), ExportOptions(up="z")])
def test_gltf_fixes_units_and_axes(options: ExportOptions) -> None:
    with pytest.raises(OptionError, match="glTF is in metres"):
        write_glb(cube(), options)


def test_uvs_that_are_not_finite_are_refused() -> None:
    topology = cube_topology()
    broken = dataclasses.replace(topology, uvs=np.where(topology.uvs == 0, np.nan, topology.uvs))
    with pytest.raises(MeshInputError, match="UVs: got NaN"):
        write_glb(cube(topology=broken))


@pytest.mark.parametrize(("count", "dtype"), [(65535, np.uint16), (65536, np.uint32)])
def test_indices_are_16_bit_while_they_fit(count: int, dtype: type) -> None:
    """65,535 means "restart" to graphics APIs, so the largest 16-bit index is 65,534."""
    topology = Topology.from_polygons(count, [[0, 1, count - 1]])
    positions = np.zeros((count, 3), np.float32)
    positions[:2] = np.eye(3)[:2]
    rig = Rig(
        ("j",),
        np.array([-1]),
        np.zeros((1, 3)),
        np.zeros((count, 4), int),
        np.ones((count, 4)) / 4,
        ("s",),
        np.array([count - 1]),
        np.ones((1, 3)),
        np.array([0, 1]),
    )
    found = contents(HeadMesh(positions, np.tile([0, 0, 1.0], (count, 1)), topology, rig))
    assert found["indices"].dtype == dtype and found["indices"].max() == count - 1
    assert found["targets"][0][-1].tolist() == [1, 1, 1]
    assert found["JOINTS_0"].shape == (count, 4)


def test_odd_metadata_survives() -> None:
    told = {"name": 'Zoë "\\ \n \u2028 😀', "nested": {"a": [None, True, 1.5]}}
    found = contents(dataclasses.replace(cube(), metadata=told))
    assert found["document"]["asset"]["extras"]["metadata"] == told


finite = st.floats(-1e5, 1e5, width=32)
points = hnp.arrays(np.float32, (8, 3), elements=finite).filter(lambda array: bool(np.ptp(array, 0).any()))


@given(points)
def test_positions_come_back_exactly(positions: np.ndarray) -> None:
    found = contents(dataclasses.replace(cube(), positions=positions))
    assert np.array_equal(found["POSITION"][:8], positions)


@given(points)
def test_heads_of_a_topology_share_their_indices(positions: np.ndarray) -> None:
    one, other = contents(cube()), contents(dataclasses.replace(cube(), positions=positions))
    for part in ("indices", "TEXCOORD_0"):
        assert np.array_equal(one[part], other[part])


@given(hnp.arrays(np.float32, (8, 3), elements=finite))
def test_any_blendshape_comes_back(delta: np.ndarray) -> None:
    rig = dataclasses.replace(cube_rig(), shape_delta=np.concatenate([delta[:4], delta]))
    found = contents(dataclasses.replace(cube(), rig=rig))
    assert np.array_equal(found["targets"][2][:8], delta)


def test_a_ball_comes_back() -> None:
    found = contents(ball())
    assert np.array_equal(found["POSITION"], ball().positions)
    assert np.array_equal(found["indices"].reshape(-1, 3), ball().triangles)


def test_trimesh_reads_the_same_vertices(tmp_path: Path) -> None:
    """An independent reader sees the order, positions and triangles of a rigged head."""
    trimesh = needs.module("trimesh")
    head = bundled_head()
    head.save(tmp_path / "head.glb")
    (read,) = trimesh.load(tmp_path / "head.glb", process=False).geometry.values()
    count = len(head.positions)
    assert np.array_equal(read.vertices[:count].astype(np.float32), head.positions)
    source = split_seams(head.topology).source
    assert np.array_equal(source[read.faces], head.triangles)
