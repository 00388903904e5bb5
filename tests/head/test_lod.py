"""Levels of detail: reduced heads, the levels of `mini`, and bad maps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.meshes import bundled_head, cube
from topos_rt.errors import MeshInputError, OptionError
from topos_rt.formats import write_glb, write_obj
from topos_rt.head.lod import Lod
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.rig import reduced_rig
from topos_rt.head.topology import Topology
from topos_rt.scan.metrics import compare
from topos_rt.scan.surface import Surface


@pytest.fixture(scope="module")
def head() -> HeadMesh:
    return bundled_head()


def open_edges(triangles: np.ndarray) -> set[tuple[int, int]]:
    sides = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1)
    edges, counts = np.unique(sides, axis=0, return_counts=True)
    assert counts.max() <= 2
    return {(int(a), int(b)) for a, b in edges[counts == 1]}


def signed_areas(corners: np.ndarray) -> np.ndarray:
    """Return twice the signed area of each triangle [F,3,2]: [F]."""
    (ux, uy), (vx, vy) = ((corners[:, i] - corners[:, 0]).T for i in (1, 2))
    return ux * vy - uy * vx


@pytest.mark.parametrize("level, share", [(1, 0.5), (2, 0.25)])
def test_levels_of_mini_have_the_shares_and_are_nested(head: HeadMesh, level: int, share: float) -> None:
    reduced = head.lod(level)
    assert len(reduced.triangles) == pytest.approx(share * len(head.triangles), abs=2)
    vertices = head.topology.lods[level - 1].vertices
    assert np.array_equal(reduced.positions, head.positions[vertices])
    assert np.array_equal(reduced.normals, head.normals[vertices])
    above = np.arange(len(head.positions)) if level == 1 else head.topology.lods[level - 2].vertices
    assert set(vertices.tolist()) < set(above.tolist())
    assert reduced.metadata["lod"] == level
    assert head.lod(level).topology is reduced.topology


@pytest.mark.parametrize("level", [1, 2])
def test_levels_keep_boundaries_regions_and_the_edges_of_uv_charts(head: HeadMesh, level: int) -> None:
    lod = head.topology.lods[level - 1]
    full, reduced = head.topology, head.topology.lod(level)
    # the open boundaries are the same: the neck and the backs of the eyes
    back = {(int(lod.vertices[a]), int(lod.vertices[b])) for a, b in open_edges(reduced.triangles)}
    assert back == open_edges(full.triangles)
    assert set(reduced.regions) == set(full.regions)
    for name, ids in reduced.regions.items():
        assert len(ids) and set(lod.vertices[ids].tolist()) <= set(full.regions[name].tolist())
    # the outline of a chart in UV space stays inside the old one: its corners are a subset
    assert {tuple(uv) for uv in reduced.uvs.tolist()} <= {tuple(uv) for uv in full.uvs.tolist()}
    pairs = set(zip(full.triangles.ravel().tolist(), full.triangle_uvs.ravel().tolist(), strict=True))
    corners = lod.vertices[lod.triangles].ravel()
    kept = set(zip(corners.tolist(), lod.triangle_uvs.ravel().tolist(), strict=True))
    assert kept <= pairs
    areas, whole = (signed_areas(part.uvs[part.triangle_uvs]) for part in (reduced, full))
    assert (np.sign(areas) == np.sign(whole.sum())).mean() > 0.99  # no chart is folded
    assert areas.sum() == pytest.approx(whole.sum(), rel=0.02)


@pytest.mark.parametrize("level, limit", [(1, 0.15), (2, 0.8)])
def test_levels_stay_on_the_surface_and_fold_nothing(head: HeadMesh, level: int, limit: float) -> None:
    for positions in (head.positions, head.positions * np.float32([0.9, 1.1, 1.0])):
        vertices = head.topology.lods[level - 1].vertices
        triangles = head.topology.lod(level).triangles
        found = compare(
            Surface(positions[vertices], triangles), Surface(positions, head.triangles), samples=4000
        )
        assert found.chamfer_l1_mm < limit
        reduced = positions[vertices]
        a, b, c = (reduced[triangles[:, i]] for i in range(3))
        around = vertex_normals(positions, head.triangles)[vertices][triangles].sum(1)
        facing = (np.cross(b - a, c - a) * around).sum(1)
        assert (facing > 0).mean() > 0.985


def test_blendshapes_and_skin_come_along(head: HeadMesh) -> None:
    assert head.rig is not None
    for level in (1, 2):
        vertices, rig = head.topology.lods[level - 1].vertices, head.lod(level).rig
        assert rig is not None
        assert np.array_equal(rig.skin_weights, head.rig.skin_weights[vertices])
        assert np.array_equal(rig.skin_joints, head.rig.skin_joints[vertices])
        for name in head.rig.shape_names:
            assert np.array_equal(rig.shape(name), head.rig.shape(name)[vertices]), name
        assert np.array_equal(rig.joint_positions, head.rig.joint_positions)
    nothing = reduced_rig(head.rig, np.array([0], np.int32))
    assert nothing.num_vertices == 1


def test_levels_are_written_and_read_back(head: HeadMesh, tmp_path: Path) -> None:
    head.topology.save(tmp_path / "topology.safetensors")
    again = Topology.load(tmp_path / "topology.safetensors")
    assert set(again.regions) == set(head.topology.regions) and len(again.lods) == 2
    for one, other in zip(again.lods, head.topology.lods, strict=True):
        assert np.array_equal(one.triangles, other.triangles)
        assert np.array_equal(one.triangle_uvs, other.triangle_uvs)
    small = head.lod(2)
    assert len(write_glb(small)) < len(write_glb(head)) / 2
    assert write_obj(small).count(b"\nf ") == len(small.triangles)


def test_a_topology_without_uvs_or_regions_and_level_0() -> None:
    plain = cube(uvs=False)
    lod = Lod(np.arange(1, 8), np.array([[0, 1, 2], [2, 3, 4]]), np.zeros((0, 3), int))
    topology = dataclasses.replace(plain.topology, lods=(lod,))
    head = dataclasses.replace(plain, topology=topology)
    assert head.lod(0) is head
    assert not head.lod(1).topology.has_uvs and len(head.lod(1).positions) == 7


@pytest.mark.parametrize("level", [-1, 3, 1.5, "1", None, True])
def test_bad_levels(head: HeadMesh, level: object) -> None:
    with pytest.raises(OptionError, match=r"level of detail: got .*; expected 0 to 2"):
        head.lod(level)  # type: ignore[arg-type]


def test_a_level_of_a_level_is_taken_from_the_full_head(head: HeadMesh) -> None:
    with pytest.raises(OptionError, match="got 2 of a head at level 1; expected the full head"):
        head.lod(1).lod(2)
    assert head.lod(1).lod(0).metadata["lod"] == 1


def test_a_topology_without_levels_says_how_to_get_them() -> None:
    with pytest.raises(OptionError, match=r"expected 0; fix: .* has no levels of detail"):
        cube().lod(1)


@pytest.mark.parametrize(
    "vertices, triangles, uvs",
    [
        ([], [[0, 1, 2]], []),
        ([0, 1, 2], [], []),
        ([0, 1, 1], [[0, 1, 2]], []),
        ([2, 1, 3], [[0, 1, 2]], []),
        ([0, 1, 2], [[0, 1, 3]], []),
        ([0, 1, 2], [[0, 1, -1]], []),
        ([-1, 1, 2], [[0, 1, 2]], []),
        ([0, 1, 2], [[0, 1]], []),
        ([0, 1, 2], [[0, 1, 2]], [[0, 1]]),
        ([[0, 1, 2]], [[0, 1, 2]], []),
    ],
)
def test_bad_maps(vertices: list, triangles: list, uvs: list) -> None:
    empty = np.zeros((0, 3), int)
    with pytest.raises(MeshInputError, match="level of detail"):
        Lod(
            np.array(vertices, int),
            np.array(triangles, int) if triangles else empty,
            np.array(uvs, int) if uvs else empty,
        )


def test_maps_of_another_topology_are_refused() -> None:
    lod = Lod(np.array([0, 1, 99]), np.array([[0, 1, 2]]), np.zeros((0, 3), int))
    with pytest.raises(MeshInputError, match=r"level of detail 1: vertices: got 0\.\.99; expected 0\.\.7"):
        dataclasses.replace(cube().topology, lods=(lod,))
