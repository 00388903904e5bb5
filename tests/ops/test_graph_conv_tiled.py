"""Hopper's kernel of graph_conv, tile by tile, against the twin; the tables it reads."""

from __future__ import annotations

import dataclasses
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops import test_graph_conv
from tests.ops.shapes import features, random_csr, random_layer
from topos_rt import ops
from topos_rt.backends.device_array import DeviceArray
from topos_rt.errors import InputError
from topos_rt.graphs import TILE_EDGES, TILE_ROWS, TILE_SOURCES, Graph, Sources
from topos_rt.packing import CHUNK, SLICES, WINDOW, centred, pack_tiled

run, compare = (partial(form, tiled=True) for form in (test_graph_conv.run, test_graph_conv.compare))
WIDTHS = [(64, 128), (128, 128), (256, 128), (256, 256), (64, 256), (512, 512), (128, 512)]


@pytest.fixture
def tiled(arena: Any) -> Any:
    """Memory of a device that has the kernel."""
    if not ops.tiles_here():
        pytest.skip("not a GPU of compute capability 9.0, or not built for 9.0a")
    return arena


def graph_of(rng: np.random.Generator, rows: int, inputs: int, types: int = 2, most: int = 6) -> Graph:
    made = Graph(rows, inputs, tuple(random_csr(rng, rows, inputs, most) for _ in range(types))).tiled()
    assert made.tiles is not None
    return made


@pytest.mark.parametrize("types", [1, 2])
@pytest.mark.parametrize(("c_in", "c_out"), WIDTHS, ids=str)
def test_widths(tiled: Any, c_in: int, c_out: int, types: int) -> None:
    rng = np.random.default_rng([c_in, c_out, types])
    rows = TILE_ROWS + 9
    compare(
        tiled, features(rng, 77, c_in), graph_of(rng, rows, 77, types),
        random_layer(rng, c_in, c_out, types), features(rng, 33, c_out),
        rng.integers(0, 33, rows).astype(np.int32),
    )  # fmt: skip


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 16, 63, 64, 65, 191, 192, 193, 384, 400])
def test_rows(tiled: Any, rows: int) -> None:
    rng = np.random.default_rng(rows)
    inputs = max(rows // 2, 1)
    compare(tiled, features(rng, inputs, 64), graph_of(rng, rows, inputs), random_layer(rng, 64, 128))


@pytest.mark.parametrize("kind", ["itself", "single", "csr"])
def test_type_one_in_every_form(tiled: Any, kind: str) -> None:
    rng = np.random.default_rng(1)
    rows, inputs = 200, 200 if kind == "itself" else 9
    second = {
        "itself": Sources(), "single": Sources(None, rng.integers(0, inputs, rows).astype(np.int32)),
        "csr": random_csr(rng, rows, inputs, 4),
    }  # fmt: skip
    first = random_csr(rng, rows, 9, 6)
    graph = Graph(rows, inputs, (first, second[kind])).tiled()
    compare(tiled, features(rng, inputs, 64), graph, random_layer(rng, 64, 128))
    linear = Graph(rows, inputs, (second[kind],)).tiled()
    compare(tiled, features(rng, inputs, 64), linear, random_layer(rng, 64, 256, 1))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("silu", [False, True])
def test_every_part_may_be_left_out(tiled: Any, norm: bool, bias: bool, silu: bool) -> None:
    rng = np.random.default_rng(2)
    layer = random_layer(rng, 64, 256, norm=norm, bias=bias)
    compare(tiled, features(rng, 20, 64), graph_of(rng, 30, 20), layer, None, None, silu)


def test_as_many_sources_and_edges_as_a_tile_holds(tiled: Any) -> None:
    rng = np.random.default_rng(3)
    edges = rng.permutation(np.resize(np.arange(TILE_SOURCES), TILE_EDGES)).astype(np.int32)
    offsets = np.sort(rng.integers(0, TILE_EDGES + 1, TILE_ROWS + 1)).astype(np.int32)
    offsets[0], offsets[-1] = 0, TILE_EDGES
    x, layer = features(rng, TILE_SOURCES, 64), random_layer(rng, 64, 128, 1)
    compare(tiled, x, Graph(TILE_ROWS, TILE_SOURCES, (Sources(offsets, edges),)).tiled(), layer)


def test_the_same_bits_whatever_the_order_of_warps(host: Any) -> None:
    from topos_rt.backends import cuda
    from topos_rt.backends.device_array import Arena

    rng = np.random.default_rng(4)
    with cuda.Stream() as stream, Arena(stream) as arena:
        for width in SLICES:
            x, graph, layer = features(rng, 90, 128), graph_of(rng, 250, 90), random_layer(rng, 128, width)
            forward = run(arena, x, graph, layer)
            host.module.reverse_warps(True)
            try:
                backward = run(arena, x, graph, layer)
            finally:
                host.module.reverse_warps(False)
            assert np.array_equal(forward, backward)


@given(st.integers(0, 500), st.integers(1, 300), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_tables_lead_to_the_same_sources(rows: int, inputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    types = (random_csr(rng, rows, inputs, 5), Sources(None, rng.integers(0, inputs, rows).astype(np.int32)))
    tiles = Graph(rows, inputs, types).tiled().tiles
    assert tiles is not None and len(tiles.tables) == -(-rows // TILE_ROWS)
    assert tiles.reads == tiles.tables["count"].sum()
    for tile, table in enumerate(tiles.tables):
        sources = table["sources"][: table["count"]]
        assert len(np.unique(sources)) == len(sources) <= TILE_SOURCES
        begins = np.arange(len(sources)) * 128 + np.arange(len(sources)) % 2 * 64
        for (kind, csr), local in product(enumerate(types), range(TILE_ROWS)):
            row = tile * TILE_ROWS + local
            first, last = table["ranges"][local, kind]
            if row >= rows:
                assert first == last == 0
                continue
            assert csr.indices is not None
            want = csr.indices[row : row + 1]
            if csr.offsets is not None:
                want = csr.indices[csr.offsets[row] : csr.offsets[row + 1]]
            places = np.searchsorted(begins, table["edges"][first:last])
            assert np.array_equal(begins[places], table["edges"][first:last])
            assert np.array_equal(sources[places], want)


@pytest.mark.parametrize(("inputs", "degree"), [(TILE_SOURCES + 1, 2), (10, TILE_EDGES // TILE_ROWS + 1)])
def test_tiles_that_would_not_fit(inputs: int, degree: int) -> None:
    """Too many rows, too many edges: such graphs go on with the other kernel."""
    offsets = np.arange(TILE_ROWS + 1, dtype=np.int32) * degree
    indices = np.resize(np.arange(inputs, dtype=np.int32), offsets[-1])
    graph = Graph(TILE_ROWS, inputs, (Sources(offsets, indices),))
    assert graph.tiled() is graph


def test_packing_by_the_documented_layout() -> None:
    """Numbers counted off by hand: blocks of 8 columns of 8 numbers each, as csrc/wgmma.h says."""
    c_in, n = 128, 256
    matrix = (np.arange(2 * c_in * n) % 2039).reshape(2 * c_in, n).astype(np.float32)
    bias = 1 + np.random.default_rng(0).random((2, n))
    numbers = pack_tiled(matrix, 2, bias).reshape(-1)
    count = matrix.size
    packed = numbers[:count].reshape(1, 2, 2, 4, 32, 2, 8, 8)
    for window, kind, slab, tile, block, g in np.ndindex(2, 2, 4, 32, 2, 8):
        half, chunk = slab % 2, slab // 2
        # lanes t = 0..3 hold two numbers each of the eight rows from 8 t on
        rows = [kind * c_in + window * WINDOW + chunk * CHUNK + 8 * t + 4 * half + 2 * block + i
                for t in range(4) for i in range(2)]  # fmt: skip
        column = tile // 4 * 32 + g // 2 * 8 + tile % 4 * 2 + g % 2
        assert np.array_equal(packed[0, window, kind, slab, tile, block, g], matrix[rows, column])
    slab = numbers[count:].reshape(32, 2, 8, 8).astype(np.float64)
    for tile, g in np.ndindex(32, 8):
        column = tile // 4 * 32 + g // 2 * 8 + tile % 4 * 2 + g % 2
        assert not slab[tile, 1].any() and not slab[tile, 0, g, 4:].any()
        assert np.allclose(slab[tile, 0, g, :4].reshape(2, 2).sum(1), bias[:, column], rtol=2**-21)
    assert not pack_tiled(matrix, 2).reshape(-1)[count:].any()


def test_what_a_norm_takes_off_is_taken_off_before() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5, 16)).astype(np.float32) + 3
    got = centred(rows).reshape(5, 4, 4)
    assert got.dtype == np.float32 and np.abs(got.mean(-1)).max() < 1e-6
    assert np.allclose(got, rows.reshape(5, 4, 4) - rows.reshape(5, 4, 4).mean(-1, keepdims=True))


def test_slices_of_columns_lie_one_after_the_other() -> None:
    matrix = np.random.default_rng(5).standard_normal((128, 512)).astype(np.float32)
    slices = np.split(matrix, 512 // SLICES[512], 1)
    assert np.array_equal(pack_tiled(matrix, 2), np.concatenate([pack_tiled(part, 2) for part in slices]))


def test_bad_input(tiled: Any) -> None:
    rng = np.random.default_rng(6)
    put = tiled.put
    graph, layer = graph_of(rng, 4, 4), random_layer(rng, 64, 128)
    x, out = put(features(rng, 4, 64)), put(features(rng, 4, 128))
    without = dataclasses.replace(graph, tiles=None).placed(put)
    with pytest.raises(InputError, match=r"packed for tiles: got a graph without; expected graph\.tiled\(\)"):
        ops.graph_conv(x, without, layer.placed(put, True), out=out)
    for c_in, c_out in ((32, 128), (64, 64), (96, 96)):
        with pytest.raises(InputError, match=rf"got {c_in} -> {c_out}; expected a multiple of 64"):
            random_layer(rng, c_in, c_out).placed(put, True)
    with pytest.raises(InputError, match="below 128 also a little less"):
        random_layer(rng, 64, 250, norm=False).placed(put)
    assert isinstance(layer.placed(put).matrix, DeviceArray) and not layer.placed(put).tiled
