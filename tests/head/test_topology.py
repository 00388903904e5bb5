"""Topology and Hierarchy against the release's hierarchy and naive forms, and with every kind of bad part."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests.meshes import ball, cube_topology
from topos_rt.errors import BundleError, MeshInputError
from topos_rt.formats.mesh_reader import read_mesh
from topos_rt.head.hierarchy import Hierarchy, Level, voxel_cluster
from topos_rt.head.topology import Topology
from topos_rt.support.similarity import sphere_frame

OFFICIAL = Path(__file__).parents[1] / "data" / "official" / "topology"
ARRAYS = ("polygon_sizes", "polygon_vertices", "polygon_uvs", "uvs")


# ---- Topology ----

Polygons = list[list[int]]
POLYGONS = st.lists(st.lists(st.integers(0, 8), min_size=3, max_size=6, unique=True), min_size=1, max_size=8)


@settings(deadline=None)
@given(POLYGONS)
def test_triangles_are_fans(polygons: Polygons) -> None:
    naive = [[p[0], a, b] for p in polygons for a, b in pairwise(p[1:])]
    triangles = Topology.from_polygons(9, polygons).triangles
    assert triangles.tolist() == naive
    assert triangles.dtype == np.int32


@settings(deadline=None)
@given(POLYGONS)
def test_edges_are_the_polygon_sides_in_both_directions(polygons: Polygons) -> None:
    sides = [(a, b) for p in polygons for a, b in pairwise([*p, p[0]])]
    naive = sorted({*sides, *((b, a) for a, b in sides)})
    assert Topology.from_polygons(9, polygons).edges.tolist() == [list(side) for side in naive]


@settings(deadline=None)
@given(POLYGONS)
def test_uv_triangles_go_with_the_triangles(polygons: Polygons) -> None:
    uvs = np.arange(18, dtype=np.float32).reshape(9, 2)
    mapped = Topology.from_polygons(9, polygons, uvs, polygons)
    assert mapped.has_uvs
    assert np.array_equal(mapped.triangle_uvs, mapped.triangles)
    bare = Topology.from_polygons(9, polygons)
    assert not bare.has_uvs
    assert bare.triangle_uvs.shape == (0, 3)


def test_edges_have_no_diagonals() -> None:
    assert len(cube_topology().edges) == 24
    assert [4, 7] not in cube_topology().edges.tolist()


def test_arrays_cannot_be_written() -> None:
    for name in ARRAYS:
        with pytest.raises(ValueError, match="read-only"):
            getattr(cube_topology(), name)[0] = 0


def test_round_trip(tmp_path: Path) -> None:
    regions = {"top": np.array([2, 3, 6, 7], np.int32), "none": np.zeros(0, np.int32)}
    topology = dataclasses.replace(cube_topology(), regions=regions)
    topology.save(tmp_path / "topology.safetensors")
    read = Topology.load(tmp_path / "topology.safetensors")
    assert read.num_vertices == 8
    for name in ARRAYS:
        assert np.array_equal(getattr(read, name), getattr(topology, name))
        assert getattr(read, name).dtype == getattr(topology, name).dtype
    assert {name: ids.tolist() for name, ids in read.regions.items()} == {"top": [2, 3, 6, 7], "none": []}


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


BAD_PARTS: dict[str, tuple[dict[str, Any], str]] = {
    "no polygons": ({"polygon_sizes": np.zeros(0, np.uint8)}, "polygon sizes: got none"),
    "a line": ({"polygon_sizes": np.uint8([4, 4, 4, 4, 4, 2])}, "polygon sizes: got 2"),
    "sizes with fractions": ({"polygon_sizes": np.full(6, 4.0)}, "polygon sizes: got dtype float64"),
    "sizes in two rows": ({"polygon_sizes": np.full((2, 3), 4, np.uint8)}, "polygon sizes"),
    "a missing corner": ({"polygon_vertices": ids(*range(8), *range(8), *range(7))}, r"expected \[24\]"),
    "corners with fractions": ({"polygon_vertices": np.zeros(24)}, "polygon vertex ids: got dtype float64"),
    "a vertex past the end": ({"num_vertices": 7}, r"polygon vertex ids: got 0\.\.7; expected 0\.\.6"),
    "a negative vertex": ({"polygon_vertices": ids(*range(23), -1)}, r"polygon vertex ids: got -1\.\."),
    "a repeated vertex": ({"polygon_vertices": ids(*range(8), *range(8), *range(7), 4)}, "polygon 5: got"),
    "too few UV corners": ({"polygon_uvs": ids(*range(12))}, r"UV corners: got shape \[12\]"),
    "a UV past the end": ({"uvs": np.zeros((3, 2), np.float32)}, r"UV ids: got 0\.\.13; expected 0\.\.2"),
    "UVs in space": ({"uvs": np.zeros((14, 3), np.float32)}, r"UVs: got shape \[14, 3\]"),
    "a region outside": ({"regions": {"eyes": ids(1, 8)}}, "region 'eyes': got 1..8"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD_PARTS.values(), ids=BAD_PARTS)
def test_parts_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MeshInputError, match=message):
        dataclasses.replace(cube_topology(), **changes)


def test_polygons_with_more_corners_than_a_byte_counts() -> None:
    assert Topology.from_polygons(255, [list(range(255))]).triangles.shape == (253, 3)
    with pytest.raises(MeshInputError, match=r"polygons: got one of 256 corners; expected 3 to 255"):
        Topology.from_polygons(256, [list(range(256))])


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    small_hierarchy().save(path)
    with pytest.raises(MeshInputError, match="topology file file: got no valid 'num_vertices'"):
        Topology.load(path)
    cube_topology().save(path)
    with pytest.raises(MeshInputError, match="hierarchy file file: got no valid 'levels'"):
        Hierarchy.load(path)
    for load in (Topology.load, Hierarchy.load):
        with pytest.raises(BundleError, match="No such file"):
            load(tmp_path / "missing")


# ---- Hierarchy ----


@pytest.fixture(scope="module")
def template() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    arrays = np.load(OFFICIAL / "template_vertices.npz")
    return arrays["vertices"], arrays["normals"], np.load(OFFICIAL / "edges.npy")


@pytest.mark.parametrize("given_clusters", [True, False], ids=["cluster file", "voxels"])
def test_the_official_hierarchy(template: Any, given_clusters: bool) -> None:
    """Every level equals the release's output; only the order of sums may differ."""
    expected, clusters = load_file(OFFICIAL / "hierarchy.safetensors"), np.load(OFFICIAL / "cluster.npz")
    maps = [clusters[f"depth{i}"] for i in range(1, 9)] if given_clusters else None
    levels = Hierarchy.build(*template, maps).levels
    assert len(levels) == 9
    for i, level in enumerate(levels):
        assert np.abs(level.features - expected[f"level{i}.x"]).max() <= 2e-7
        assert np.array_equal(level.edges.T, expected[f"level{i}.edge_index"])
        assert np.array_equal(level.types, expected[f"level{i}.edge_attr"])
        if i:
            assert np.array_equal(level.cluster, expected[f"cluster{i}"])


def test_the_official_edges_come_from_the_polygons(template: Any) -> None:
    topology = read_mesh(OFFICIAL / "template.obj").topology
    levels = Hierarchy.build(template[0], template[1], topology.edges, num_levels=1).levels
    assert np.array_equal(levels[0].edges, Hierarchy.build(*template, num_levels=1).levels[0].edges)


def small_hierarchy(num_levels: int = 4) -> Hierarchy:
    head = ball(8, 10, radius=0.9)
    return Hierarchy.build(head.positions, head.normals, head.topology.edges, depth=4, num_levels=num_levels)


def test_levels_are_counted_with_the_mesh() -> None:
    assert [len(small_hierarchy(n).levels) for n in (1, 2, 4)] == [1, 2, 4]
    sizes = [len(level.features) for level in small_hierarchy().levels]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pooling_against_a_naive_form(seed: int) -> None:
    """Pool a random mesh graph with coincident and isolated vertices."""
    rng = np.random.default_rng(seed)
    vertices, normals = rng.uniform(-1, 1, (2, 12, 3)).astype(np.float32)
    vertices[3], normals[3] = vertices[5], normals[5]
    edges = rng.integers(0, 11, (20, 2))  # vertex 11 has none
    hierarchy = Hierarchy.build(vertices, normals, edges, depth=3, num_levels=4)
    features, sides = np.concatenate([vertices, normals], 1).astype(np.float64), {tuple(e) for e in edges}
    for i, level in enumerate(hierarchy.levels):
        if i:
            cell, below = np.float32(2 / 2**3 * 2 ** (i - 1)), hierarchy.levels[i - 1].features
            voxels = [tuple(np.floor((p + np.float32(1)) / cell).astype(int)[::-1]) for p in below[:, :3]]
            order = sorted(set(voxels))
            cluster = [order.index(voxel) for voxel in voxels]
            assert level.cluster.tolist() == cluster
            features = np.stack([features[np.array(cluster) == k].mean(0) for k in range(len(order))])
            sides = {(cluster[a], cluster[b]) for a, b in sides}
        expected = sorted((a, b) for a, b in sides if a != b) + [(k, k) for k in range(len(features))]
        assert np.abs(level.features - features).max() <= 1e-6
        assert [tuple(edge) for edge in level.edges] == expected
        apart = [np.linalg.norm(level.features[a] - level.features[b]) > 1e-5 for a, b in expected]
        assert level.types.tolist() == [int(not far) for far in apart]


def test_edge_types_of_coincident_vertices() -> None:
    vertices = np.float32([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0.5, 0, 0]])
    normals = np.float32([[0, 0, 1], [0, 0, 1], [0, 1, 0], [0, 0, 1]])
    edges = [[a, b] for a in range(4) for b in range(4) if a != b]
    level = Hierarchy.build(vertices, normals, np.array(edges), num_levels=1).levels[0]
    ones = {tuple(edge) for edge in level.edges[level.types == 1].tolist()}
    assert ones == {(0, 1), (1, 0), (0, 0), (1, 1), (2, 2), (3, 3)}


def test_isolated_vertices_keep_a_self_loop() -> None:
    vertices = np.float32([[0, 0, 0], [0.9, 0, 0], [-0.9, 0, 0]])
    no_edges = np.zeros((0, 2), np.int64)
    for level in Hierarchy.build(vertices, vertices, no_edges, depth=2).levels:
        count = len(level.features)
        assert level.edges.tolist() == [[k, k] for k in range(count)]
        assert level.neighbours(0).tolist() == [[count]] * count
        assert level.neighbours(1).tolist() == [[k] for k in range(count)]


@pytest.mark.parametrize("edge_type", [0, 1])
def test_neighbour_tables(edge_type: int) -> None:
    for level in small_hierarchy().levels:
        count, table = len(level.features), level.neighbours(edge_type)
        for node in range(count):
            kept = (level.edges[:, 1] == node) & (level.types == edge_type)
            sources = sorted(level.edges[kept, 0].tolist())
            assert table[node].tolist() == sources + [count] * (table.shape[1] - len(sources))
        assert (table < count).any(0).all()  # as narrow as it can be


def test_direction_of_edges() -> None:
    level = Level(np.zeros((2, 6), np.float32), np.array([[0, 1]]), np.uint8([0]), np.zeros(0, np.int64))
    assert level.neighbours(0).tolist() == [[2], [0]]  # from 0 to 1


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([-1.0000001, -1, -0.9999, -0.5, -1e-9, 0, 0.5, 0.9999, 1, 1.0000001]),
        min_size=3,
        max_size=30,
    ),
    st.sampled_from([1 / 128, 1 / 8, 0.5, 1, 2]),
)
def test_voxels_at_the_border_never_wrap(values: list[float], cell: float) -> None:
    positions = np.float32(values[: len(values) // 3 * 3]).reshape(-1, 3)
    cluster = voxel_cluster(positions, cell)
    cells = np.floor((np.clip(positions, -1, 1) + np.float32(1)) / np.float32(cell)).astype(int)
    order = sorted({tuple(c[::-1]) for c in cells})
    assert cluster.tolist() == [order.index(tuple(c[::-1])) for c in cells]


def test_sphere_frame() -> None:
    points = np.random.default_rng(0).uniform(-3, 5, (50, 3))
    centre, radius = sphere_frame(points)
    assert centre == pytest.approx((points.max(0) + points.min(0)) / 2)
    moved = (points - centre) / radius
    assert np.linalg.norm(moved, axis=1).max() == pytest.approx(1)
    assert moved.max(0) == pytest.approx(-moved.min(0))


def test_hierarchy_round_trip(tmp_path: Path) -> None:
    hierarchy = small_hierarchy()
    hierarchy.save(tmp_path / "hierarchy.safetensors")
    read = Hierarchy.load(tmp_path / "hierarchy.safetensors")
    assert len(read.levels) == len(hierarchy.levels)
    for got, want in zip(read.levels, hierarchy.levels, strict=True):
        for name in ("features", "edges", "types", "cluster"):
            assert np.array_equal(getattr(got, name), getattr(want, name))
            assert getattr(got, name).dtype == getattr(want, name).dtype


BAD_INPUTS: dict[str, tuple[Callable[[Any, Any, Any], Any], str]] = {
    "an edge past the end": (lambda v, n, e: (v[:-1], n[:-1], e), "edge ends: got 0..865; expected 0..864"),
    "a negative edge": (lambda v, n, e: (v, n, e - 1), "edge ends: got -1"),
    "edges with fractions": (lambda v, n, e: (v, n, e / 2), "edge ends: got dtype float64"),
    "fewer normals": (lambda v, n, e: (v, n[1:], e), r"got shapes \[866, 3\] and \[865, 3\]"),
    "flat vertices": (lambda v, n, e: (v[:, :2], n, e), r"got shapes \[866, 2\]"),
    "NaN": (lambda v, n, e: (v, n * np.nan, e), "got NaN"),
    "another frame": (lambda v, n, e: (v * 3, n, e), r"vertices: got a coordinate of \d.* expected -1\.\.1"),
    "clusters of another mesh": (lambda v, n, e: (v, n, e, [np.zeros(9, int)]), r"level 1: got shape \[9\]"),
    "a gap in the clusters": (lambda v, n, e: (v, n, e, [np.full(866, 10**15)]), "level 1: .* ids up to 10+"),
    "clusters with fractions": (lambda v, n, e: (v, n, e, [np.zeros(866)]), "level 1: got dtype float64"),
    "a wrong second map": (
        lambda v, n, e: (v, n, e, [np.arange(866), np.zeros(5, int)]), "cluster map of level 2"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_inputs_that_do_not_fit(template: Any, change: Callable[..., Any], message: str) -> None:
    with pytest.raises(MeshInputError, match=message):
        Hierarchy.build(*change(*template))


BAD_LEVELS: dict[str, tuple[dict[str, Any], str]] = {
    "features of another size": ({"features": np.zeros((3, 5), np.float32)}, r"hierarchy level 1: features"),
    "an edge past the end": ({"edges": np.array([[0, 99]]), "types": np.uint8([0])}, "level 1: edge ends"),
    "a third type": ({"edges": np.array([[0, 1]]), "types": np.uint8([2])}, "level 1: edge types: got 2"),
    "fewer types than edges": ({"types": np.uint8([0])}, "hierarchy level 1: features, edges, types"),
    "a cluster past the end": ({"features": np.zeros((1, 6), np.float32), "edges": np.zeros((0, 2), int),
                                "types": np.zeros(0, np.uint8)}, "level 1: cluster"),
    "clusters of another level": ({"cluster": np.zeros(3, int)}, "hierarchy level 1: features"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD_LEVELS.values(), ids=BAD_LEVELS)
def test_levels_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    bottom, level = small_hierarchy(2).levels
    with pytest.raises(MeshInputError, match=message):
        Hierarchy((bottom, dataclasses.replace(level, **changes)))
