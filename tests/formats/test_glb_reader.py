"""GLB: every way in which glTF 2.0 stores a surface gives that surface."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.formats.glb_ways import HEAD, POINTS, TRIANGLES, WAYS, assert_same, read, skinned, surface
from tests.formats.glbs import Glb, plain
from topos_rt.errors import MeshInputError


@pytest.mark.parametrize("make", WAYS.values(), ids=WAYS)
def test_the_same_surface_however_it_is_stored(make: Callable[[], Glb], tmp_path: Path) -> None:
    mesh = read(tmp_path, make())
    assert_same(mesh)
    assert mesh.notes == ()


def test_eight_bits_are_normalized_by_127_and_never_below_minus_one(tmp_path: Path) -> None:
    whole = np.array([[127, 0, 0], [-127, 127, 0], [-128, 0, 127], [0, 0, 0]], "<i1")
    glb = plain(whole, np.array([[0, 1, 2], [0, 2, 3]]))
    glb.document["accessors"][0] = glb.describe(whole) | {
        "bufferView": glb.view(whole.tobytes()),
        "normalized": True,
    }
    assert read(tmp_path, glb).positions.tolist() == [[1, 0, 0], [-1, 1, 0], [-1, 0, 1], [0, 0, 0]]


def test_skins_in_two_sets_of_joints_and_of_bytes(tmp_path: Path) -> None:
    glb = skinned()
    primitive = glb.document["meshes"][0]["primitives"][0]
    ones = np.zeros((len(POINTS), 4), "<u1")
    ones[:, 0] = 255
    primitive["attributes"] |= {
        "WEIGHTS_0": glb.add(ones, normalized=True),
        "JOINTS_1": glb.add(np.ones((len(POINTS), 4), "<u2")),
        "WEIGHTS_1": glb.add(ones, normalized=True),
    }
    assert_same(read(tmp_path, glb))


def test_vertices_that_no_joint_holds_stay(tmp_path: Path) -> None:
    glb = skinned()
    primitive = glb.document["meshes"][0]["primitives"][0]
    primitive["attributes"]["WEIGHTS_0"] = glb.add(np.zeros((len(POINTS), 4), "<f4"))
    assert_same(read(tmp_path, glb))


def test_quantized_and_skinned(tmp_path: Path) -> None:
    glb = plain(POINTS, TRIANGLES)
    whole = np.rint(POINTS / 0.25 * 32767).astype("<i2")
    glb.document["meshes"][0]["primitives"][0]["attributes"]["POSITION"] = glb.add(whole, normalized=True)
    skinned(glb)
    binds = np.diag([0.25, 0.25, 0.25, 1])  # what undoes the quantization is in the bind matrices
    world = np.eye(4)
    world[:3, :3] = 2 * np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    both = np.stack([np.linalg.inv(world) @ binds] * 2).transpose(0, 2, 1).reshape(2, 16)
    glb.document["skins"][0]["inverseBindMatrices"] = glb.add(both.astype("<f4"))
    assert_same(read(tmp_path, glb))


def as_strip(triangles: np.ndarray) -> np.ndarray:
    """Return one strip of all triangles, joined by degenerate ones."""
    strip: list[int] = []
    for a, b, c in triangles.tolist():
        strip += [] if not strip else [strip[-1], a] if len(strip) % 2 == 0 else [strip[-1], a, a]
        strip += [a, b, c]
    return np.array(strip)


def test_strips_and_fans_with_degenerate_triangles(tmp_path: Path) -> None:
    strip = as_strip(TRIANGLES)
    mesh = read(tmp_path, plain(POINTS, strip, mode=5))
    assert np.array_equal(surface(POINTS, mesh.topology.triangles), surface(POINTS, TRIANGLES))
    assert mesh.notes == ()
    rim = np.array([[np.cos(a), np.sin(a), 0] for a in np.linspace(0, 6, 7)])
    fan = np.array([0, 1, 2, 3, 3, 4, 5, 6])
    mesh = read(tmp_path, plain(rim, fan, mode=6))
    expected = [[0, i, i + 1] for i in range(1, 6)]
    assert np.array_equal(surface(rim, mesh.topology.triangles), surface(rim, np.array(expected)))


def test_without_indices_the_vertices_count_in_order(tmp_path: Path) -> None:
    glb = plain(POINTS[TRIANGLES].reshape(-1, 3), TRIANGLES)
    del glb.document["meshes"][0]["primitives"][0]["indices"]
    mesh = read(tmp_path, glb)
    assert np.array_equal(surface(mesh.positions, mesh.topology.triangles), surface(POINTS, TRIANGLES))


def test_points_and_lines_are_named_and_left_out(tmp_path: Path) -> None:
    glb = plain(POINTS, TRIANGLES)
    attributes = glb.document["meshes"][0]["primitives"][0]["attributes"]
    glb.document["meshes"][0]["primitives"] += [
        {"attributes": attributes, "mode": 0},
        {"attributes": attributes, "mode": 1},
        {"attributes": attributes, "mode": 3},
    ]
    mesh = read(tmp_path, glb)
    assert_same(mesh)
    assert mesh.notes == ("1 primitives of points left out", "2 primitives of lines left out")
    with pytest.raises(MeshInputError, match=r"got no polygons \(1 primitives of points left out\)"):
        read(tmp_path, plain(POINTS, TRIANGLES, mode=0))


def test_triangles_with_a_repeated_corner_are_left_out_and_counted(tmp_path: Path) -> None:
    more = np.concatenate([TRIANGLES, [[1, 1, 2], [3, 4, 3]]])
    mesh = read(tmp_path, plain(POINTS, more))
    assert_same(mesh)
    assert mesh.notes == ("2 polygons without three different corners left out",)


def test_instances_and_mirrors_face_outwards(tmp_path: Path) -> None:
    glb = plain(HEAD.positions, TRIANGLES)
    normals = glb.add(HEAD.normals.astype("<f4"))
    glb.document["meshes"][0]["primitives"][0]["attributes"]["NORMAL"] = normals
    glb.document["nodes"] = [{"mesh": 0}, {"mesh": 0, "scale": [-2, 1, 0.5], "translation": [5, 0, 0]}]
    glb.document["scenes"][0]["nodes"] = [0, 1]
    mesh = read(tmp_path, glb)
    count = len(HEAD.positions)
    assert mesh.positions[count:] == pytest.approx(HEAD.positions * [-2, 1, 0.5] + [5, 0, 0], abs=1e-6)
    corners = mesh.positions[mesh.topology.triangles]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middles = np.where(np.arange(len(corners))[:, None] < len(TRIANGLES), [0, 0, 0], [5, 0, 0])
    assert ((corners.mean(1) - middles) * crosses).sum(1).min() > 0
    assert mesh.normals is not None
    outwards = mesh.positions - np.where(np.arange(2 * count)[:, None] < count, [0, 0, 0], [5, 0, 0])
    assert (mesh.normals * outwards).sum(1).min() > 0


def test_only_the_scene_counts(tmp_path: Path) -> None:
    glb = plain(POINTS, TRIANGLES)
    glb.document["nodes"].append({"mesh": 0, "translation": [9, 9, 9]})
    assert_same(read(tmp_path, glb))
    glb = plain(POINTS, TRIANGLES)
    glb.document["scenes"].insert(0, {"nodes": []})
    with pytest.raises(MeshInputError, match="no polygons"):
        read(tmp_path, glb)
    glb.document["scene"] = 1
    assert_same(read(tmp_path, glb))
