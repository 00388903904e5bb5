"""Gather tables, layers, and the order of vertices that keeps neighbours near."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topos_rt.errors import InputError, MeshInputError
from topos_rt.gpu.layers import Layer, pack
from topos_rt.gpu.reference import neighbour_sum
from topos_rt.gpu.tables import TILE_ROWS, Neighbours, Sources, degrees, inverse, local_order


@given(st.integers(0, 60), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_sums_are_those_of_the_edges(rows: int, inputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = [(rng.integers(0, inputs, n), rng.integers(0, rows, n)) for n in (3 * rows, rows)]
    made, x = Neighbours.from_edges(rows, inputs, edges), rng.standard_normal((inputs, 3))
    for kind, (source, target) in enumerate(edges):
        want = np.zeros((rows, 3))
        np.add.at(want, target, x[source])
        assert np.allclose(neighbour_sum(x, made.types[kind], rows), want, atol=1e-12)
        assert np.array_equal(degrees(made)[kind], np.bincount(target, minlength=rows))


def test_one_edge_for_each_row_needs_no_offsets() -> None:
    target = np.random.default_rng(0).permutation(9)
    others, itself = Neighbours.from_edges(9, 9, [(8 - target, target), (target, target)]).types
    assert others.offsets is None and np.array_equal(others.indices, np.arange(9)[::-1])
    assert itself.offsets is None and itself.indices is None


@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_local_order_is_a_permutation(n: int, seed: int) -> None:
    positions = np.random.default_rng(seed).uniform(-1, 1, (n, 3))
    order = local_order(positions)
    assert np.array_equal(np.sort(order), np.arange(n))
    assert np.array_equal(inverse(order)[order], np.arange(n))


@pytest.mark.parametrize(("tile", "most"), [(TILE_ROWS, 1.4), (64, 1.7), (16, 2.3)])
def test_local_order_keeps_tiles_together(tile: int, most: float) -> None:
    """A tile of a shuffled, bent grid reads few rows but its own; a square of 192 would read 1.3."""
    rng = np.random.default_rng(0)
    v, u = np.divmod(np.arange(60 * 64), 64)
    shuffled = rng.permutation(len(u))
    positions = np.stack([np.sin(u / 20), v / 20, np.cos(u / 20)], 1)[shuffled]
    row = np.empty_like(shuffled)
    row[shuffled[local_order(positions)]] = np.arange(len(row))  # the row of each grid point

    def read(rows: np.ndarray) -> float:
        grid, tiles = rows.reshape(60, 64), [set[int]() for _ in range(len(rows) // tile)]
        for a, b in ((grid[:-1], grid[1:]), (grid[:, :-1], grid[:, 1:])):
            for source, target in zip(np.r_[a.flat, b.flat], np.r_[b.flat, a.flat], strict=True):
                tiles[target // tile].update((int(source), int(target)))
        return sum(map(len, tiles)) / len(rows)

    assert read(row) <= most < 3 < read(shuffled)


TABLE = np.int32([0, 1, 2])
BAD: dict[str, tuple[Any, str]] = {
    "index too large": (
        lambda: Neighbours(2, 2, (Sources(np.int32([0, 1, 2]), np.int32([0, 2])),)),
        r"0\.\.2.*0\.\.1",
    ),
    "index negative": (
        lambda: Neighbours(2, 2, (Sources(np.int32([0, 1, 2]), np.int32([0, -1])),)),
        r"-1\.\.0",
    ),
    "offsets fall": (
        lambda: Neighbours(3, 2, (Sources(np.int32([0, 2, 1, 2]), np.int32([0, 1])),)),
        "never falling",
    ),
    "offsets do not end": (
        lambda: Neighbours(2, 2, (Sources(TABLE, np.int32([0, 1, 1])),)),
        r"expected 0\.\.3",
    ),
    "offsets do not begin": (
        lambda: Neighbours(2, 9, (Sources(np.int32([1, 1, 3]), TABLE),)),
        r"expected 0\.\.3",
    ),
    "offsets short": (lambda: Neighbours(3, 3, (Sources(TABLE, TABLE),)), r"int32 \[4\]"),
    "int64": (lambda: Neighbours(2, 3, (Sources(TABLE.astype(np.int64), TABLE),)), "int64"),
    "a list": (lambda: Neighbours(2, 3, (Sources([0, 1, 2], TABLE),)), "got list"),
    "strided": (lambda: Neighbours(3, 9, (Sources(None, np.arange(6, dtype=np.int32)[::2]),)), "strided"),
    "no indices": (lambda: Neighbours(2, 3, (Sources(TABLE),)), "without indices"),
    "too few singles": (lambda: Neighbours(4, 9, (Sources(None, TABLE),)), r"int32 \[4\]"),
    "more rows than inputs": (lambda: Neighbours(4, 3, (Sources(),)), "at most 3"),
    "no types": (lambda: Neighbours(4, 4, ()), "1 or 2"),
    "three types": (lambda: Neighbours(4, 4, (Sources(),) * 3), "1 or 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(MeshInputError, match=message):
        make()


def test_packing_by_the_documented_layout() -> None:
    """For each half of a chunk, lane 4 g + t holds four of the eight rows from 8 t on, of column g."""
    k, n = 70, 22
    matrix = np.arange(k * n, dtype=np.float32).reshape(k, n) % 2039
    full = np.zeros((96, 24))
    full[:k, :n] = matrix
    packed = pack(matrix).reshape(3, 3, 2, 32, 4)
    for chunk, tile, half, lane in np.ndindex(3, 3, 2, 32):
        first = chunk * 32 + lane % 4 * 8 + half * 4
        assert np.array_equal(packed[chunk, tile, half, lane], full[first : first + 4, tile * 8 + lane // 4])


def test_wide_layers_have_their_columns_in_the_order_of_lanes() -> None:
    """A lane's columns of four tiles are eight adjacent ones."""
    matrix = np.zeros((32, 128), np.float32)
    matrix[0] = np.arange(128)
    packed = pack(matrix).reshape(4, 4, 2, 8, 4, 4)[:, :, 0, :, 0, 0]  # row 0 by four tiles, tile, g
    for block, tile, g in np.ndindex(4, 4, 8):
        assert packed[block, tile, g] == block * 32 + g // 2 * 8 + tile * 2 + g % 2


GOOD = np.zeros((16, 16), np.float32)
BAD_LAYERS: dict[str, tuple[Any, str]] = {
    "odd rows": (lambda: Layer(np.zeros((15, 16), np.float32), 2), "2 types"),
    "empty": (lambda: Layer(np.zeros((0, 16), np.float32)), "nothing empty"),
    "bias": (lambda: Layer(GOOD, 2, np.zeros((1, 16), np.float32)), "bias"),
    "gamma alone": (lambda: Layer(GOOD, gamma=np.ones(16, np.float32)), "gamma and beta"),
    "norm of 12": (
        lambda: Layer(GOOD[:, :12], 1, None, np.ones(12, np.float32), np.ones(12, np.float32)),
        "of 8",
    ),
    "integers": (lambda: Layer(GOOD.astype(int)), "matrix: got int64"),
    "too large for FP16": (lambda: pack(GOOD + 7e4), "FP16"),
    "NaN": (lambda: pack(GOOD + np.nan), "finite"),
}


@pytest.mark.parametrize("case", BAD_LAYERS)
def test_bad_layers(case: str) -> None:
    make, message = BAD_LAYERS[case]
    with pytest.raises(InputError, match=message):
        make()


def test_widening_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    layer = Layer(rng.standard_normal((12, 16)).astype(np.float32), 2)
    wide = layer.widened()
    x = rng.standard_normal((5, 12))
    padded = np.concatenate([x[:, :6], np.ones((5, 2)), x[:, 6:], np.ones((5, 2))], 1)
    assert wide.c_in == 8 and np.allclose(padded @ wide.matrix, x @ layer.matrix)
