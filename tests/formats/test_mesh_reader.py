"""Meshes from files: what OBJ statements mean, what trimesh reads, and one clear error for every bad mesh."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import needs
from tests.meshes import ball, cube
from topos_rt.errors import MeshInputError
from topos_rt.formats import ExportOptions, write_obj
from topos_rt.formats.limits import Limits
from topos_rt.formats.mesh_file import MeshFile
from topos_rt.formats.mesh_reader import read_mesh
from topos_rt.formats.obj_reader import ObjReader
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.topology import Topology

OFFICIAL = Path(__file__).parents[1] / "data" / "official" / "topology"
TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
FOUR = TRIANGLE + "v -1 0 0\n"


def read_text(directory: Path, text: str | bytes) -> MeshFile:
    path = directory / "mesh.obj"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_mesh(path)


def polygons(topology: Topology) -> list[list[int]]:
    ends = np.cumsum(topology.polygon_sizes)
    return [part.tolist() for part in np.split(topology.polygon_vertices, ends[:-1])]


# ---- OBJ ----

UNKNOWN = "mtllib a b.mtl\no x\nvp 1\ng a\nusemtl b\ns off\np 1\nl 1 2\ncurv 0 1\n"
STATEMENTS = {
    "vertices only": (FOUR + "f 1 2 3 4", [[0, 1, 2, 3]]),
    "an n-gon and a triangle": (FOUR + "v 0 .5 0\nf 1 2 3 4 5\nf 1 2 3", [[0, 1, 2, 3, 4], [0, 1, 2]]),
    "negative indices": (TRIANGLE + "f -3 -2 -1\nv 9 9 9\nf -4 -3 -1", [[0, 1, 2], [0, 1, 3]]),
    "colours and weights after a position": ("v 0 0 0 1 .5 .5\nv 1 0 0 1\nv 0 1 0\nf 1 2 3", [[0, 1, 2]]),
    "comments": ("# v 7 7 7\n" + TRIANGLE + "f 1 2 3 # f 3 2 1\n#\\\n", [[0, 1, 2]]),
    "continued lines": (TRIANGLE + "f 1 \\\n  2 \\\n3\nf 3\\\n2 1\\", [[0, 1, 2], [2, 1, 0]]),
    "carriage returns and line feeds": ((FOUR + "f 1 \\\n2 3 4\n").replace("\n", "\r\n"), [[0, 1, 2, 3]]),
    "carriage returns alone": ((FOUR + "f 1 2 3 4\n").replace("\n", "\r"), [[0, 1, 2, 3]]),
    "tabs, spaces and no line end": ("\n \n" + TRIANGLE.replace(" ", "\t ") + "  f 1  2 3  ", [[0, 1, 2]]),
    "faces before vertices": ("f 1 2 3\n" + TRIANGLE, [[0, 1, 2]]),
    "a byte order mark": ("\ufeff" + TRIANGLE + "f 1 2 3", [[0, 1, 2]]),
    "unknown statements": (UNKNOWN + TRIANGLE + UNKNOWN + "f 1 2 3\nfoo", [[0, 1, 2]]),
    "empty parts of a corner": (TRIANGLE + "f 1/ 2// 3", [[0, 1, 2]]),
    "exponents": ("v 0 0 -0.0\nv 1e0 0 0\nv 0 +1.0E+0 0\nf 1 2 3", [[0, 1, 2]]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), STATEMENTS.values(), ids=STATEMENTS)
def test_polygons_of_an_obj(text: str, expected: list[list[int]], tmp_path: Path) -> None:
    mesh = read_text(tmp_path, text)
    assert polygons(mesh.topology) == expected
    assert mesh.positions.dtype == np.float32
    assert mesh.positions[:3].tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert not mesh.topology.has_uvs
    assert mesh.normals is None


def test_text_in_any_encoding_is_skipped(tmp_path: Path) -> None:
    odd = "# \u2028 v 9 9 9 \x85 v 9 9 9 \x0c\n".encode() + b"g \xff\xfe \xe4\n"
    assert len(read_text(tmp_path, odd + TRIANGLE.encode() + b"f 1 2 3").positions) == 3


def test_uvs_and_normals_of_corners(tmp_path: Path) -> None:
    uvs = "vt 0 0\nvt 1 0 0\nvt 1\n"
    faces = "vn 0 0 2\nvn 0 3 0\nf 1/1/1 2/2/1 3/-1/-1\nf 3/2/1 2/1/1 1/1/1\n"
    mesh = read_text(tmp_path, TRIANGLE + uvs + faces)
    assert mesh.topology.uvs.tolist() == [[0, 0], [1, 0], [1, 0]]
    assert mesh.topology.polygon_uvs.tolist() == [0, 1, 2, 1, 0, 0]
    # vertex 2 has two normals and gets their mean, taken before they are normalised
    expected = [[0, 0, 1], [0, 0, 1], [0, 3 / 13**0.5, 2 / 13**0.5]]
    assert mesh.normals is not None
    assert mesh.normals == pytest.approx(np.array(expected))


def test_normals_without_uvs_and_loose_vertices(tmp_path: Path) -> None:
    mesh = read_text(tmp_path, TRIANGLE + "v 5 5 5\nvn 0 0 1\nf 1//1 2//1 3//1")
    assert mesh.normals is not None
    assert mesh.normals.tolist() == [[0, 0, 1]] * 3 + [[0, 1, 0]]
    assert mesh.topology.num_vertices == 4


def test_normals_that_some_corner_lacks_are_left_out(tmp_path: Path) -> None:
    assert read_text(tmp_path, TRIANGLE + "vn 0 0 1\nf 1//1 2//1 3").normals is None


def test_corners_without_a_uv_among_others_get_zero(tmp_path: Path) -> None:
    mesh = read_text(tmp_path, TRIANGLE + "vt .5 .5\nf 1/1 2/1 3/1\nf 1 3 2")
    assert mesh.topology.uvs[mesh.topology.polygon_uvs].tolist() == [[0.5, 0.5]] * 3 + [[0, 0]] * 3


def test_uvs_that_no_corner_uses_are_left_out(tmp_path: Path) -> None:
    mesh = read_text(tmp_path, TRIANGLE + "vt .5 .5\nf 1 2 3")
    assert not mesh.topology.has_uvs
    assert len(mesh.topology.uvs) == 0


def test_the_official_template() -> None:
    topology = read_mesh(OFFICIAL / "template.obj").topology
    assert np.bincount(topology.polygon_sizes).tolist() == [0, 0, 0, 110, 809]
    assert np.array_equal(topology.edges, np.unique(np.load(OFFICIAL / "edges.npy"), axis=0))
    assert topology.uvs[topology.polygon_uvs].max() <= 1


@pytest.mark.parametrize("head", [cube(), cube(uvs=False), ball()], ids=["cube", "no UVs", "ball"])
def test_what_our_writer_wrote_comes_back(head: HeadMesh, tmp_path: Path) -> None:
    mesh = read_text(tmp_path, write_obj(head))
    assert np.array_equal(mesh.positions, head.positions)
    assert mesh.normals is not None
    assert np.abs(mesh.normals - head.normals).max() < 1e-6
    for name in ("num_vertices", "polygon_sizes", "polygon_vertices", "polygon_uvs", "uvs"):
        assert np.array_equal(getattr(mesh.topology, name), getattr(head.topology, name)), name


def test_units_and_axes_are_the_file_s_own(tmp_path: Path) -> None:
    text = write_obj(cube(), ExportOptions(units="cm", up="z"))
    x, y, z = cube().positions.T * 100
    assert np.array_equal(read_text(tmp_path, text).positions, np.stack([x, -z, y], 1))


def test_a_mesh_of_the_released_size_takes_well_under_a_second(tmp_path: Path) -> None:
    side = 155  # 24,025 vertices
    row, column = np.divmod(np.arange(side * side), side)
    first = np.flatnonzero((row < side - 1) & (column < side - 1))[:, None] + [0, 1, side + 1, side]
    topology = Topology(
        side * side,
        np.full(len(first), 4, np.uint8),
        first.reshape(-1).astype(np.int32),
        first.reshape(-1).astype(np.int32),
        np.stack([row, column], 1).astype(np.float32) / side,
    )
    positions = np.stack([column, row, np.sin(row)], 1).astype(np.float32)
    head = HeadMesh(positions, vertex_normals(positions, topology.triangles), topology)
    head.save(tmp_path / "large.obj")
    started = time.process_time()
    mesh = read_mesh(tmp_path / "large.obj")
    assert time.process_time() - started < 1
    assert np.array_equal(mesh.topology.polygon_vertices, topology.polygon_vertices)


# ---- bad OBJ files ----

MANY = "".join(f"v {i} {i * i} 0\n" for i in range(256))
MANY_CORNERS = " ".join(str(i + 1) for i in range(256))
BAD_OBJ = {
    "no polygons": (TRIANGLE, "got no polygons"),
    "no statements": ("\x00\x01\x02 nothing\n", "got no polygons"),
    "two corners": (TRIANGLE + "f 1 2", "line 4: got a polygon of 2 corners; expected 3 to 255"),
    "256 corners": (MANY + "f " + MANY_CORNERS, "line 257: got a polygon of 256 corners"),
    "repeated vertices only": (TRIANGLE + "f 1 1 3\nf 1 2 2", r"got no polygons \(2 polygons without three"),
    "index 0": (TRIANGLE + "f 0 1 2", "line 4: got 'f 0 1 2'"),
    "an index past the end": (TRIANGLE + "f 1 2 3\nf 1 2 4", r"line 5: got vertex 4; expected 1\.\.3"),
    "a negative index past the start": (TRIANGLE + "f -4 -2 -1", "line 4: got 'f -4 -2 -1'"),
    "a UV past the end": (TRIANGLE + "vt 0 0\nf 1/1 2/1 3/2", r"line 5: got UV 2; expected 1\.\.1"),
    "a UV where there are none": (TRIANGLE + "f 1/1 2/1 3/1", "got UV 1; expected no UVs"),
    "a normal past the end": (TRIANGLE + "vn 0 0 1\nf 1//1 2//2 3//1", "line 5: got normal 2"),
    "a huge index": (TRIANGLE + "f 1 2 99999999999999999999", "line 4: got 'f 1 2 9+'"),
    "no number": (TRIANGLE + "f 1 2 x", "line 4: got 'f 1 2 x'; expected numbers"),
    "a corner of four": (TRIANGLE + "f 1/1/1/1 2 3", "line 4: got 'f 1/1/1/1 2 3'"),
    "a corner without a vertex": (TRIANGLE + "f /1 2 3", "line 4: got 'f /1 2 3'"),
    "a short position": ("v 0 0\n", "line 1: got 'v 0 0'"),
    "a word for a position": ("v 0 0 north\n", "line 1: got 'v 0 0 north'"),
    "an empty UV": ("vt\n", "line 1: got 'vt'"),
    "a continued line": ("v 0 \\\n0 north\n", "line 2: got 'v 0 0 north'"),
    "NaN": ("v 0 0 nan\n" + TRIANGLE + "f 2 3 4", r"positions: got \[0\.0, 0\.0, nan\] at number 1"),
    "infinity": (TRIANGLE + "v inf 0 0\nf 1 2 3", "positions: got .* at number 4"),
    "too large for float32": (TRIANGLE + "v 0 1e39 0\nf 1 2 3", "positions: got .* at number 4"),
    "a NaN UV": (TRIANGLE + "vt nan 0\nf 1/1 2/1 3/1", "UVs: got"),
    "a NaN normal": (TRIANGLE + "vn nan 0 0\nf 1//1 2//1 3//1", "normals: got"),
}


@pytest.mark.parametrize(("text", "message"), BAD_OBJ.values(), ids=BAD_OBJ)
def test_bad_obj_files(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(MeshInputError, match=message) as caught:
        read_text(tmp_path, text)
    assert "\n" not in str(caught.value)


def forms(faces: list[str]) -> str:
    return TRIANGLE * 4 + "vt 0 0\nvt 1 1\n" * 6 + "vn 0 0 1\nvn 0 1 0\n" * 6 + "\n".join(faces)


FORMS = {
    "vertices": ["f 1 2 3", "f 4 5 6", "f 2 1 3"],
    "vertices and UVs": ["f 1/1 2/2 3/3", "f 4/4 5/5 6/6"],
    "vertices and normals": ["f 1//1 2//2 3//3", "f 4//4 5//5 6//6"],
    "all": ["f 1/1/1 2/2/2 3/3/3", "f 4/4/4 5/6/7 6/6/6"],
    "of different lengths": ["f 1 2 3", "f 4 5 6 7", "f 7 6 5"],
    "lengths that seem equal": ["f 1 2 3 4", "f 4 5", "f 6 7 8 9"],
    "of different kinds": ["f 1/1 2/2 3/3", "f 4//4 5//5 6//6", "f 1 2 3"],
    "kinds within a polygon": ["f 1/1 2 3//3", "f 4 5 6"],
    "negative": ["f -1 -2 -3", "f 1 2 3"],
    "with a zero": ["f 1 2 3", "f 0 2 3"],
    "with a zero UV": ["f 1/1 2/0 3/3"],
    "with an empty end": ["f 1/ 2/ 3/", "f 4/ 5/ 6/"],
    "with words": ["f 1 2 3", "f a b c"],
    "without a vertex": ["f /1 /2 /3"],
    "comments among them": ["f 1 2 3 # f 4 5 6", "f 4 5 6"],
    "in two lines": ["f 1 2 \\", "3", "f 4 5 6"],
    "positions among them": ["f 1 2 3", "v 1 2 3 0.5", "v 1 2 x", "f 13 2 3"],
    "positions of different lengths": ["v 1 2 3", "v 1 2 3 1 0 0", "v 4 5 6", "f 13 14 15"],
}


@pytest.mark.parametrize("faces", FORMS.values(), ids=FORMS)
def test_lines_that_are_read_at_once_mean_what_they_do_one_by_one(
    faces: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_lines() -> Any:
        try:
            mesh = ObjReader("mesh").read(forms(faces).split("\n"))
        except MeshInputError as error:
            return str(error)
        topology = mesh.topology
        normals = None if mesh.normals is None else mesh.normals.tolist()
        return polygons(topology), topology.polygon_uvs.tolist(), mesh.positions.tolist(), normals

    at_once = read_lines()
    monkeypatch.setattr(ObjReader, "_positions", lambda *_: False)
    monkeypatch.setattr(ObjReader, "_faces", lambda *_: False)
    assert read_lines() == at_once


def test_a_repeated_corner_is_taken_out_and_the_rest_stays(tmp_path: Path) -> None:
    faces = "f 1 2 3\nf 1 1 2\nf 1 2 3 3\nf 2 2 3 4\nf 3 3 3\nf 4 1 2 4\n"
    mesh = read_text(tmp_path, FOUR + "vt 0 0\nvt 1 1\n" + faces)
    assert polygons(mesh.topology) == [[0, 1, 2], [0, 1, 2], [1, 2, 3], [0, 1, 3]]
    assert mesh.notes == ("2 polygons without three different corners left out",)
    assert not mesh.as_written
    assert read_text(tmp_path, FOUR + "f 1 2 3 4").as_written


def test_sizes_are_checked_while_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "mesh.obj").write_text(TRIANGLE + "f 1 2 3\n" * 60_000)
    with pytest.raises(MeshInputError, match="got 32,768 triangles; expected at most 100"):
        read_mesh(tmp_path / "mesh.obj", limits=Limits(triangles=100))
    (tmp_path / "mesh.obj").write_text("v 0 0 0\n" * 60_000)
    with pytest.raises(MeshInputError, match="vertices; expected at most 100"):
        read_mesh(tmp_path / "mesh.obj", limits=Limits(vertices=100))


WORDS = ("v", "vt", "vn", "f", "1", "2", "3", "-1", "1/1", "1//1", "0", "\\", "\n", "\n", "x", "nan")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=40))
def test_any_text_is_read_or_refused(words: list[str]) -> None:
    lines = (TRIANGLE + " ".join(words)).split("\n")
    try:
        mesh = ObjReader("mesh").read(lines)
    except MeshInputError:
        return
    assert np.isfinite(mesh.positions).all()
    assert mesh.topology.triangles.max() < len(mesh.positions)


# ---- bad paths ----


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.obj").touch()
    (tmp_path / "mesh.fbx").write_text("x")
    (tmp_path / "mesh").write_text("x")
    (tmp_path / "dir.obj").mkdir()
    (tmp_path / "large.obj").write_text(TRIANGLE + "f 1 2 3")
    expected = {
        "missing.obj": "missing.obj: got no such file; fix: check the path",
        "empty.obj": "got an empty file",
        "dir.obj": "got a directory",
        "mesh.fbx": r"got a name that ends in \.fbx; expected a \.obj, \.glb, \.gltf, \.off, \.ply or",
        "mesh": "got a name without a suffix",
        "large.obj": "got 0 MiB; expected at most",
        "nul\0.obj": "got a NUL character",
        "large.obj/mesh.obj": "got Not a directory",
        "x" * 300 + ".obj": "got File name too long",
    }
    for name, message in expected.items():
        with pytest.raises(MeshInputError, match=message):
            read_mesh(tmp_path / name, limits=Limits(file_bytes=30))
    with pytest.raises(MeshInputError, match="no such file"):
        read_mesh(str(tmp_path / "missing.obj"))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    needs.machine(hasattr(os, "mkfifo"), "there are no named pipes")
    os.mkfifo(tmp_path / "pipe.obj")
    with pytest.raises(MeshInputError, match="a device or pipe"):
        read_mesh(tmp_path / "pipe.obj")


# ---- trimesh ----


@pytest.mark.parametrize("suffix", [".ply", ".off", ".glb", ".stl"])
def test_formats_of_trimesh(suffix: str, tmp_path: Path) -> None:
    trimesh = needs.module("trimesh")
    head = ball()
    trimesh.Trimesh(head.positions, head.triangles, process=False).export(tmp_path / f"ball{suffix}")
    mesh = read_mesh(tmp_path / f"ball{suffix}")
    expected = head.positions, head.triangles
    if suffix == ".stl":
        corners = head.positions[head.triangles].reshape(-1, 3)
        expected = corners, np.arange(len(corners)).reshape(-1, 3)
    assert mesh.positions == pytest.approx(expected[0], abs=1e-7)
    assert np.array_equal(mesh.topology.triangles, expected[1])


def test_a_glb_keeps_uvs_and_the_normals_it_stores(tmp_path: Path) -> None:
    needs.module("trimesh")
    head = cube()
    head.save(tmp_path / "cube.glb")
    mesh = read_mesh(tmp_path / "cube.glb")
    assert np.array_equal(mesh.positions[:8], head.positions)
    assert mesh.normals is not None
    assert mesh.normals[:8] == pytest.approx(head.normals, abs=1e-6)  # not those of the flat sides
    got = mesh.topology.uvs[mesh.topology.triangle_uvs]
    assert got == pytest.approx(head.topology.uvs[head.topology.triangle_uvs], abs=1e-6)


def test_a_trimesh_is_taken_over() -> None:
    trimesh = needs.module("trimesh")
    box = trimesh.creation.box()
    mesh = read_mesh(box)
    assert np.array_equal(mesh.topology.triangles, box.faces)
    assert not mesh.topology.has_uvs
    box.vertices[0] = 9
    assert not (mesh.positions == 9).any()


def test_a_scene_is_put_together_in_place() -> None:
    trimesh = needs.module("trimesh")
    sphere, scene = trimesh.creation.icosphere(subdivisions=2), trimesh.Scene()
    mapped = sphere.copy()
    mapped.visual = trimesh.visual.TextureVisuals(uv=np.full((len(sphere.vertices), 2), 0.25))
    mirror = np.diag([-2.0, 1.0, 0.5, 1.0])
    mirror[:3, 3] = [5, 0, 0]
    scene.add_geometry(sphere, transform=mirror)
    scene.add_geometry(mapped)
    mesh = read_mesh(scene)
    count = len(sphere.vertices)
    assert mesh.positions[:count] == pytest.approx(sphere.vertices * [-2, 1, 0.5] + [5, 0, 0], abs=1e-6)
    assert mesh.positions[count:] == pytest.approx(sphere.vertices, abs=1e-6)
    assert mesh.topology.uvs.tolist() == [[0, 0]] * count + [[0.25, 0.25]] * count
    normals = vertex_normals(mesh.positions, mesh.topology.triangles)
    assert (normals * mesh.positions)[count:].sum(1).min() > 0.9  # outwards
    assert (normals * (mesh.positions - [5, 0, 0]))[:count].sum(1).min() > 0
    assert mesh.normals is not None
    assert (mesh.normals * normals).sum(1).min() > 0.99


PLY = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
BAD_OTHERS = {
    "no.ply": ("north", "got no PLY header"),
    "cut.ply": (PLY, "got no PLY header"),
    "points.ply": (PLY + "end_header\n0 0 0\n1 0 0\n0 1 0\n", "got no polygons"),
    "nan.off": ("OFF\n3 1 0\n0 0 nan\n1 0 0\n0 1 0\n3 0 1 2\n", "positions: got"),
    "index.off": ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "got"),
    "double.off": ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 1\n", "got no polygons"),
    "no.glb": ("glTF", "got damaged contents"),
    "no.stl": ("solid nothing\nendsolid", "got"),
}


@pytest.mark.parametrize("name", BAD_OTHERS)
def test_bad_files_of_other_formats(name: str, tmp_path: Path) -> None:
    text, message = BAD_OTHERS[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(MeshInputError, match=message):
        read_mesh(tmp_path / name)


class Lookalike:
    def __init__(self, vertices: Any, faces: Any) -> None:
        self.vertices, self.faces = vertices, faces
        self.vertex_normals = np.zeros_like(vertices)


LOOKALIKES = {
    "another object": ({"v": 1}, "cannot use the dict: got no mesh; expected a path, a trimesh.Trimesh"),
    "flat vertices": (Lookalike(np.zeros((3, 2)), np.array([[0, 1, 2]])), r"vertices \[3, 2\]"),
    "quads": (Lookalike(np.eye(4, 3), np.array([[0, 1, 2, 3]])), r"faces \[1, 4\]"),
    "no faces": (Lookalike(np.eye(3), np.zeros((0, 3), int)), "got no polygons"),
    "a negative id": (Lookalike(np.eye(3), np.array([[0, 1, -1]])), r"got vertex -1\.\.1 in a face"),
    "infinity": (Lookalike(np.full((3, 3), np.inf), np.array([[0, 1, 2]])), "positions: got"),
}


@pytest.mark.parametrize(("mesh", "message"), LOOKALIKES.values(), ids=LOOKALIKES)
def test_objects_that_are_no_mesh(mesh: Any, message: str) -> None:
    with pytest.raises(MeshInputError, match=message):
        read_mesh(mesh)
