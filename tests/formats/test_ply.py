from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from tests import needs
from tests.meshes import CORNERS, QUADS, ball, bundled_head, cube
from topos_rt.formats import ExportOptions, write_ply
from topos_rt.head.mesh import HeadMesh


def parse(data: bytes) -> tuple[str, np.ndarray, list[list[int]]]:
    """Return the header, the vertices [V,6] and the vertex ids of each polygon, read byte by byte."""
    header, _, body = data.partition(b"end_header\n")
    text = header.decode("ascii")
    vertices, faces = (int(re.findall(rf"element {name} (\d+)", text)[0]) for name in ("vertex", "face"))
    table = np.frombuffer(body, "<f4", vertices * 6).reshape(vertices, 6)
    at, polygons = vertices * 24, []
    for _ in range(faces):
        count = body[at]
        polygons.append(np.frombuffer(body, "<i4", count, at + 1).tolist())
        at += 1 + 4 * count
    assert at == len(body)
    return text, table, polygons


def test_quads_keep_their_vertices() -> None:
    text, table, polygons = parse(write_ply(cube()))
    first, second, third = text.splitlines()[:3]
    assert (first, second) == ("ply", "format binary_little_endian 1.0")
    assert third == "comment topos_rt head in m, +Y up, facing +Z"
    assert 'comment "seed": 7\n' in text
    assert np.array_equal(table, np.hstack([CORNERS, cube().normals]))
    assert polygons == QUADS


def test_polygons_of_several_sizes_become_triangles() -> None:
    _, table, polygons = parse(write_ply(ball()))
    assert polygons == ball().triangles.tolist()
    assert np.array_equal(table[:, :3], ball().positions)


def test_units_and_axes() -> None:
    text, table, _ = parse(write_ply(cube(), ExportOptions(units="cm", up="z")))
    x, y, z = CORNERS.T
    assert "in cm, +Z up, facing -Y" in text
    assert np.array_equal(table[:, :3], np.stack([x, -z, y], 1) * 100)
    assert table[:, 3:] == pytest.approx(np.sign(np.stack([x, -z, y], 1)) / np.sqrt(3))


def test_odd_metadata_stays_on_its_line() -> None:
    text, *_ = parse(write_ply(dataclasses.replace(cube(), metadata={"note": "a\nend_header\nø"})))
    assert 'comment "note": "a\\nend_header\\n\\u00f8"' in text


@pytest.mark.parametrize("head", [cube(), ball(), bundled_head()], ids=["cube", "ball", "mini"])
def test_trimesh_reads_the_same_mesh(tmp_path: Path, head: HeadMesh) -> None:
    trimesh = needs.module("trimesh")
    head.save(tmp_path / "head.ply")
    read = trimesh.load(tmp_path / "head.ply", process=False)
    assert np.array_equal(read.vertices.astype(np.float32), head.positions)
    assert read.vertex_normals == pytest.approx(head.normals, abs=1e-6)
    assert len(read.faces) == len(head.triangles)
    area = trimesh.Trimesh(head.positions, head.triangles, process=False).area
    assert read.area == pytest.approx(area, rel=0.01)
