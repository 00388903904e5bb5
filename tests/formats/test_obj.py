from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import needs
from tests.meshes import CORNERS, DATA, QUAD_UVS, QUADS, ball, cube, cube_topology
from topos_rt.formats import ExportOptions, write_obj


def rows(text: bytes, kind: str) -> list[list[str]]:
    return [line.split()[1:] for line in text.decode("ascii").split("\n") if line.startswith(kind + " ")]


def numbers(text: bytes, kind: str) -> np.ndarray:
    return np.array(rows(text, kind), np.float32)


def test_golden_bytes() -> None:
    assert write_obj(cube()) == (DATA / "cube.obj").read_bytes()


def test_quads_keep_their_vertices_uvs_and_normals() -> None:
    faces = [[corner.split("/") for corner in row] for row in rows(write_obj(cube()), "f")]
    assert [[int(v) - 1 for v, _, _ in face] for face in faces] == QUADS
    assert [[int(t) - 1 for _, t, _ in face] for face in faces] == QUAD_UVS
    assert all(v == n for face in faces for v, _, n in face)


def test_polygons_of_several_sizes_without_uvs() -> None:
    text = write_obj(ball())
    faces = [[corner.split("//") for corner in row] for row in rows(text, "f")]
    assert sorted({len(face) for face in faces}) == [3, 4]
    assert [int(v) - 1 for face in faces for v, _ in face] == ball().topology.polygon_vertices.tolist()
    assert rows(text, "vt") == []


def test_lines_end_with_a_line_feed_and_comments_hold_the_metadata() -> None:
    told = {"seed": 7, "note": "first\nv 1 2 3\nø"}
    text = write_obj(dataclasses.replace(cube(), metadata=told))
    assert b"\r" not in text and text.endswith(b"\n")
    assert text.startswith(b'# topos_rt head in m, +Y up, facing +Z\n# "seed": 7\n# "note": "first\\nv 1 2 3')
    assert len(rows(text, "v")) == 8


def test_units_and_axes() -> None:
    text = write_obj(cube(), ExportOptions(units="cm", up="z"))
    x, y, z = CORNERS.T
    assert np.array_equal(numbers(text, "v"), np.stack([x, -z, y], 1) * 100)
    assert numbers(text, "vn") == pytest.approx(np.sign(np.stack([x, -z, y], 1)) / np.sqrt(3))
    assert b"-0.0" not in text


@given(hnp.arrays(np.float32, (8, 3), elements=st.floats(-1e6, 1e6, width=32)))
def test_positions_come_back_exactly(positions: np.ndarray) -> None:
    assume(np.ptp(positions, axis=0).any())
    text = write_obj(dataclasses.replace(cube(), positions=positions))
    assert np.array_equal(numbers(text, "v"), positions)


def test_trimesh_reads_the_same_vertices(tmp_path: Path) -> None:
    trimesh = needs.module("trimesh")
    for head in (ball(), cube()):
        head.save(tmp_path / "head.obj")
        read = trimesh.load(tmp_path / "head.obj", process=False, maintain_order=True)
        assert np.array_equal(read.vertices.astype(np.float32), head.positions)
        assert len(read.faces) == len(head.triangles)


def test_regions_become_groups_each_in_one_run() -> None:
    cap, hat = np.flatnonzero(ball().positions[:, 1] > 0.05), np.flatnonzero(ball().positions[:, 1] > 0.08)
    topology = dataclasses.replace(ball().topology, regions={"a cap": cap, "hat": hat, "none": cap[:0]})
    text = write_obj(dataclasses.replace(ball(), topology=topology))
    plain = write_obj(ball()).decode().splitlines()
    runs: dict[str, list[str]] = {}
    for line in text.decode().splitlines():
        if line.startswith("g "):
            assert line not in runs
            runs[line] = []
        elif line.startswith("f "):
            list(runs.values())[-1].append(line)
    assert list(runs) == ["g head", "g hat", "g a_cap"]
    faces = sorted(line for line in plain if line.startswith("f "))
    assert sorted(line for run in runs.values() for line in run) == faces
    for name, inside in (("g hat", set(hat)), ("g a_cap", set(cap))):
        corners = [{int(word.split("//")[0]) - 1 for word in line.split()[1:]} for line in runs[name]]
        assert corners and all(polygon <= inside for polygon in corners)
    assert not any(line.startswith("g") for line in plain)


def test_uvs_are_those_of_the_topology() -> None:
    assert np.array_equal(numbers(write_obj(cube()), "vt"), cube_topology().uvs)
