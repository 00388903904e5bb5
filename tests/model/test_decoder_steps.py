"""The gather tables of a hierarchy's levels."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tiny_bundle import HEAD
from topos_rt.gpu.reference import neighbour_sum
from topos_rt.gpu.tables import degrees, inverse
from topos_rt.head.hierarchy import Hierarchy
from topos_rt.model.decoder_steps import level_neighbours


@pytest.fixture(scope="module")
def hierarchy() -> Hierarchy:
    return Hierarchy.build(HEAD.positions, HEAD.normals, HEAD.topology.edges, depth=4, num_levels=3)


@pytest.mark.parametrize("level", [0, 1])
def test_sums_are_those_of_the_levels_edges(hierarchy: Hierarchy, level: int) -> None:
    """In the rows' own order, and through the cluster: un-pooled features never exist."""
    fine, coarse = hierarchy.levels[level], hierarchy.levels[level + 1]
    n, rng = len(fine.features), np.random.default_rng(level)
    order, coarse_order = rng.permutation(n), rng.permutation(len(coarse.features))
    x, z = rng.standard_normal((n, 3)), rng.standard_normal((len(coarse.features), 3))
    through = level_neighbours(fine, order, inverse(coarse_order)[coarse.cluster], len(z))
    plain = level_neighbours(fine, order)
    for kind in range(2):
        source, target = fine.edges[fine.types == kind].T
        for neighbours, rows, values in ((plain, x[order], x), (through, z[coarse_order], z[coarse.cluster])):
            want = np.zeros((n, 3))
            np.add.at(want, target, values[source])
            assert np.allclose(neighbour_sum(rows, neighbours.types[kind], n), want[order], atol=1e-12)
            assert np.array_equal(degrees(neighbours)[kind], np.bincount(target, minlength=n)[order])


def test_self_loops_alone_need_no_table(hierarchy: Hierarchy) -> None:
    level = hierarchy.levels[1]
    assert (np.diff(level.edges[level.types == 1]) == 0).all()
    loops = level_neighbours(level, np.arange(len(level.features))).types[1]
    assert loops.offsets is None and loops.indices is None
