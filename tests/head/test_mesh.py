from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import needs
from tests.meshes import CORNERS, QUADS, ball, cube, cube_rig, cube_topology
from topos_rt.errors import MeshInputError, OptionError, OutputError
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import unit_vectors, vertex_normals

UNIT = np.sign(CORNERS) / np.sqrt(3)


def test_arrays_are_own_contiguous_float32_and_read_only() -> None:
    for positions in (CORNERS.copy(), np.asfortranarray(CORNERS, np.float64)):
        head = HeadMesh(positions, UNIT, cube_topology())
        positions[0] = 9
        for array in (head.positions, head.normals):
            assert array.dtype == np.float32 and array.flags.c_contiguous and not array.flags.writeable
        assert np.array_equal(head.positions, CORNERS)


def test_bounds_and_triangles() -> None:
    low, high = cube().bounds
    assert low.tolist() == [-0.5] * 3 and high.tolist() == [0.5] * 3
    assert cube().triangles.shape == (12, 3)


def test_arrays_are_writable_copies_that_dlpack_takes() -> None:
    head = cube()
    arrays = head.arrays()
    assert set(arrays) == {"positions", "normals", "triangles", "uvs", "triangle_uvs"}
    for name in ("positions", "normals", "triangles"):
        assert arrays[name].flags.writeable and np.array_equal(arrays[name], getattr(head, name))
        shared = np.from_dlpack(arrays[name])
        assert np.shares_memory(shared, arrays[name]) and shared.dtype == getattr(head, name).dtype
    arrays["positions"][:] = 9
    assert np.array_equal(head.positions, CORNERS)


def test_torch_takes_the_arrays_without_a_copy() -> None:
    torch = needs.module("torch")
    positions = cube().arrays()["positions"]
    tensor = torch.from_dlpack(positions)
    tensor[0, 0] = 5
    assert positions[0, 0] == 5 and tensor.dtype == torch.float32


def test_a_head_can_be_posed() -> None:
    posed = cube(rig=True).posed({"jawOpen": 0.5})
    lifted = posed.positions[:, 1] - CORNERS[:, 1]
    assert lifted == pytest.approx(np.where(CORNERS[:, 1] > 0, 0.05, 0)) and posed.rig is None


def test_metadata_becomes_plain_json() -> None:
    told = {"seed": np.int64(3), "w": np.float32(0.5), "t": (1, 2)}
    head = HeadMesh(CORNERS, UNIT, cube_topology(), None, told)
    assert head.metadata == {"seed": 3, "w": 0.5, "t": [1, 2]}
    assert json.dumps(head.metadata)


def nan_at(array: np.ndarray, value: float) -> np.ndarray:
    array = array.astype(np.float32)
    array[3, 1] = value
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": CORNERS[:7]}, r"positions: got shape \[7, 3\]; expected \[8, 3\]"),
        ({"positions": CORNERS[:, :2]}, r"positions: got shape \[8, 2\]"),
        ({"positions": nan_at(CORNERS, np.nan)}, "positions: got nan; expected finite"),
        ({"positions": nan_at(CORNERS, -np.inf)}, "positions: got -inf"),
        ({"positions": CORNERS.astype(np.float64) * 1e300}, "positions: got -?inf"),
        ({"positions": CORNERS * 0}, "positions: got the same point"),
        ({"positions": CORNERS.astype(str)}, "positions: got dtype <U"),
        ({"normals": UNIT[:7]}, "normals: got shape"),
        ({"normals": nan_at(UNIT, np.nan)}, "normals: got nan"),
        ({"normals": UNIT * 1.01}, r"normals: got one of length 1.01; expected unit length"),
        ({"normals": UNIT * 0}, "normals: got one of length 0"),
        ({"metadata": {"seed": float("nan")}}, "metadata: got a value JSON cannot hold"),
        ({"metadata": {"where": object()}}, "metadata: got a value JSON cannot hold"),
        ({"topology": ball().topology}, "positions: got shape"),
    ],
)
def test_bad_heads_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MeshInputError, match=message) as caught:
        dataclasses.replace(cube(), **changes)
    assert "\n" not in str(caught.value)


def test_a_rig_of_another_topology_is_refused() -> None:
    head = ball()
    with pytest.raises(MeshInputError, match="the rig: got 8 vertices"):
        dataclasses.replace(head, rig=cube_rig())


# normals


def test_normals_of_a_ball_point_outwards() -> None:
    head = ball()
    assert (head.normals * unit_vectors(head.positions)).sum(1).min() > 0.999


def test_normals_weigh_triangles_by_area() -> None:
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])  # areas 1 (facing z) and 3 (facing x)
    normal = vertex_normals(positions, np.array([[0, 1, 2], [0, 2, 3]]))[0]
    assert normal == pytest.approx(np.array([3, 0, 1]) / np.sqrt(10))


def test_vertices_without_a_direction_point_up() -> None:
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 1], [2, 0, 0], [5, 5, 5]])
    opposite = np.array([[0, 1, 2], [0, 2, 1]])
    no_area = np.array([[0, 1, 3]])
    for triangles in (opposite, no_area):
        assert np.array_equal(vertex_normals(positions, triangles), np.tile(np.float32([0, 1, 0]), (5, 1)))


@given(hnp.arrays(np.float64, (6, 3), elements=st.floats(allow_nan=True, allow_infinity=True)))
def test_unit_vectors_are_units_whatever_comes(vectors: np.ndarray) -> None:
    result = unit_vectors(vectors)
    assert result.dtype == np.float32
    assert np.linalg.norm(result.astype(np.float64), axis=1) == pytest.approx(1, abs=1e-6)


@given(st.lists(st.floats(-np.pi, np.pi), min_size=3, max_size=3), st.floats(1e-3, 1e3))
def test_normals_turn_with_the_mesh_and_ignore_its_size(angles: list[float], scale: float) -> None:
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        turn = turn @ np.roll(np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), (axis, axis), (0, 1))
    head = ball(6, 8)
    turned = vertex_normals(head.positions @ turn * scale, head.triangles)
    assert turned == pytest.approx(head.normals @ turn, abs=1e-5)


# save


@pytest.mark.parametrize("name", ["head.glb", "HEAD.GLB", "head.obj", "head.ply"])
def test_save_takes_the_format_from_the_suffix(tmp_path: Path, name: str) -> None:
    cube().save(tmp_path / name)
    start = {"glb": b"glTF", "obj": b"# topos_rt", "ply": b"ply\n"}[name.lower()[-3:]]
    assert (tmp_path / name).read_bytes().startswith(start)


def test_save_prefers_the_format_given(tmp_path: Path) -> None:
    cube().save(str(tmp_path / "head.bin"), "obj", units="cm", up="z")
    assert (tmp_path / "head.bin").read_bytes().startswith(b"# topos_rt head in cm, +Z up")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("head.gbl", {}, r"unknown output format: got 'gbl'; expected one of: glb, gltf.*did you mean 'glb'"),
        ("head", {}, r"no output format: .*expected one of: \.glb, \.gltf, \.head"),
        ("head.glb", {"format": "stl"}, "unknown output format: got 'stl'"),
        ("head.obj", {"units": "inch"}, "unknown unit of length: got 'inch'; expected one of: m, cm"),
        ("head.obj", {"up": "x"}, "unknown up axis: got 'x'; expected one of: y, z"),
        ("head.glb", {"units": "cm"}, "glTF is in metres with [+]Y up by definition"),
    ],
)
def test_save_refuses_before_it_writes(
    tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        cube().save(tmp_path / name, **options)
    assert os.listdir(tmp_path) == []


def test_save_reports_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        cube().save(tmp_path / "missing" / "head.glb")


def test_polygons_of_the_test_cube_face_outwards() -> None:
    for quad in QUADS:
        a, b, c = CORNERS[quad[:3]]
        assert np.cross(b - a, c - a) @ CORNERS[quad].mean(0) > 0
