from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.meshes import QUADS, cube_topology
from topos_rt.formats.seams import split_seams
from topos_rt.head.topology import Topology


def check(topology: Topology) -> None:
    split = split_seams(topology)
    count = topology.num_vertices
    assert np.array_equal(split.source[:count], np.arange(count))
    assert (np.diff(split.source[count:]) >= 0).all()
    assert np.array_equal(split.source[split.triangles], topology.triangles)
    assert np.array_equal(split.uvs[split.triangles], topology.uvs[topology.triangle_uvs])
    # every copy is used, and none is made twice
    assert np.isin(np.arange(count, len(split.source)), split.triangles).all()
    made = [(int(s), *uv.tolist()) for s, uv in zip(split.source, split.uvs, strict=True)]
    assert len(set(made)) == len(made)


def test_cube() -> None:
    check(cube_topology())
    split = split_seams(cube_topology())
    # vertex 4 is first met at the start of the strip, then at its end
    assert np.flatnonzero(split.source == 4).tolist() == [4, 12]
    assert split.uvs[[4, 12]].tolist() == cube_topology().uvs[[0, 8]].tolist()


def test_ids_with_equal_uvs_are_no_seam() -> None:
    corners = [corner for quad in QUADS for corner in quad]
    uvs = np.random.default_rng(0).random((8, 2)).astype(np.float32)[corners]
    ids = np.arange(len(corners)).reshape(-1, 4).tolist()
    assert len(split_seams(Topology.from_polygons(8, QUADS, uvs, ids)).source) == 8


def test_unused_vertices_and_uvs_are_harmless() -> None:
    uvs = np.float32([[9, 9], [0, 0], [1, 0], [1, 1]])
    split = split_seams(Topology.from_polygons(5, [[4, 1, 2]], uvs, [[1, 2, 3]]))
    assert split.source.tolist() == [0, 1, 2, 3, 4]
    assert split.triangles.tolist() == [[4, 1, 2]]
    assert split.uvs.tolist() == [[0, 0], [1, 0], [1, 1], [0, 0], [0, 0]]


def test_once_per_topology() -> None:
    topology = cube_topology()
    assert split_seams(topology) is split_seams(topology)
    assert not split_seams(topology).source.flags.writeable


@given(st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=6, max_size=6))
def test_any_uvs(ids: list[list[int]]) -> None:
    uvs = np.float32([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5], [0, 0]])
    check(Topology.from_polygons(8, QUADS, uvs, ids))
