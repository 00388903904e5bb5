"""graph_conv_tiled, Hopper's kernel, against the twin, and the tables that it reads."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import needs
from tests.gpu import host_gpu, test_graph_conv
from tests.gpu.shapes import features, random_csr, random_layer
from topos_rt.errors import InputError
from topos_rt.gpu import ops
from topos_rt.gpu.device_array import DeviceArray
from topos_rt.gpu.layers import SLICES, WINDOW, centred, pack_tiled
from topos_rt.gpu.tables import TILE_ROWS, TILE_SOURCES, TILE_STEPS, Neighbours, Sources

run, compare = (partial(form, tiled=True) for form in (test_graph_conv.run, test_graph_conv.compare))
WIDTHS = [(64, 128), (128, 128), (256, 128), (256, 256), (64, 256), (512, 512), (128, 512)]


@pytest.fixture
def tiled(arena: Any) -> Any:
    """The memory of a device that has the kernel."""
    needs.machine(ops.tiles_here(), "not a GPU of compute capability 9.0, or not built for 9.0a")
    return arena


def neighbours_of(
    rng: np.random.Generator, rows: int, inputs: int, types: int = 2, most: int = 6
) -> Neighbours:
    second = Sources(None, rng.integers(0, inputs, rows).astype(np.int32))
    made = Neighbours(rows, inputs, (random_csr(rng, rows, inputs, most), second)[:types]).tiled()
    assert made.tiles is not None
    return made


@pytest.mark.parametrize("types", [1, 2])
@pytest.mark.parametrize(("c_in", "c_out"), WIDTHS, ids=str)
def test_widths(tiled: Any, c_in: int, c_out: int, types: int) -> None:
    rng = np.random.default_rng([c_in, c_out, types])
    rows = TILE_ROWS + 9
    compare(
        tiled,
        features(rng, 77, c_in),
        neighbours_of(rng, rows, 77, types),
        random_layer(rng, c_in, c_out, types),
        features(rng, 33, c_out),
        rng.integers(0, 33, rows).astype(np.int32),
    )


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 16, 63, 64, 65, 191, 192, 193, 384, 400])
def test_rows(tiled: Any, rows: int) -> None:
    rng = np.random.default_rng(rows)
    inputs = max(rows // 2, 1)
    compare(tiled, features(rng, inputs, 64), neighbours_of(rng, rows, inputs), random_layer(rng, 64, 128))


@pytest.mark.parametrize("kind", ["itself", "single"])
def test_type_one_in_every_form(tiled: Any, kind: str) -> None:
    rng = np.random.default_rng(1)
    rows, inputs = 200, 200 if kind == "itself" else 9
    second = {"itself": Sources(), "single": Sources(None, rng.integers(0, inputs, rows).astype(np.int32))}
    first = random_csr(rng, rows, 9, 6)
    for types in ((first, second[kind]), (second[kind], first)):
        neighbours = Neighbours(rows, inputs, types).tiled()
        compare(tiled, features(rng, inputs, 64), neighbours, random_layer(rng, 64, 128))
    linear = Neighbours(rows, inputs, (second[kind],)).tiled()
    compare(tiled, features(rng, inputs, 64), linear, random_layer(rng, 64, 256, 1))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("silu", [False, True])
def test_every_part_may_be_left_out(tiled: Any, norm: bool, bias: bool, silu: bool) -> None:
    rng = np.random.default_rng(2)
    layer = random_layer(rng, 64, 256, norm=norm, bias=bias)
    compare(tiled, features(rng, 20, 64), neighbours_of(rng, 30, 20), layer, None, None, silu)


def test_as_many_sources_as_a_tile_holds(tiled: Any) -> None:
    """Each 16 rows have as many as they may, too; one row has most of them, one a source several times."""
    rng = np.random.default_rng(3)
    most, warps = 16 * TILE_STEPS, TILE_ROWS // 16
    parts = [rng.permutation(30 * warp + np.arange(most)) % TILE_SOURCES for warp in range(warps)]
    edges = np.concatenate(parts).astype(np.int32)
    edges[most - 8 : most] = edges[most - 8]
    cuts = np.sort(rng.integers(0, most, (warps, 15)), 1)
    cuts[0] = np.arange(1, 16) + most - 24  # the first row has 105 edges, the last nine
    begins = np.hstack([np.zeros((warps, 1), int), cuts]) + most * np.arange(warps)[:, None]
    offsets = np.append(begins, len(edges)).astype(np.int32)
    neighbours = Neighbours(TILE_ROWS, TILE_SOURCES, (Sources(offsets, edges),)).tiled()
    assert neighbours.tiles is not None and neighbours.tiles.reads == TILE_SOURCES
    assert (neighbours.tiles.tables["steps"] == TILE_STEPS).all()
    compare(tiled, features(rng, TILE_SOURCES, 64), neighbours, random_layer(rng, 64, 128, 1))


def test_the_same_bits_whatever_the_order_of_warps(host: Any) -> None:
    from topos_rt.gpu import cuda
    from topos_rt.gpu.device_array import Arena

    rng = np.random.default_rng(4)
    with cuda.Stream() as stream, Arena(stream) as arena:
        for width in SLICES:
            x, layer = features(rng, 90, 128), random_layer(rng, 128, width)
            neighbours = neighbours_of(rng, 250, 90)
            forward = run(arena, x, neighbours, layer)
            with host_gpu.reversed_warps(host.module):
                backward = run(arena, x, neighbours, layer)
            assert np.array_equal(forward, backward)


@given(st.integers(0, 500), st.integers(1, 300), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_tables_lead_to_the_same_sources(rows: int, inputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    types = (random_csr(rng, rows, inputs, 5), Sources(None, rng.integers(0, inputs, rows).astype(np.int32)))
    tiles = Neighbours(rows, inputs, types).tiled().tiles
    assert tiles is not None and len(tiles.tables) == -(-rows // TILE_ROWS)
    assert tiles.reads == tiles.tables["count"].sum()
    for tile, table in enumerate(tiles.tables):
        sources = table["sources"][: table["count"]]
        assert len(np.unique(sources)) == len(sources) <= TILE_SOURCES
        first, last = tile * TILE_ROWS, min((tile + 1) * TILE_ROWS, rows)
        assert table["first"] == first
        assert np.array_equal(sources[table["single"][1, : last - first]], types[1].indices[first:last])
        for local in range(TILE_ROWS):
            warp, r = divmod(local, 16)
            got = []
            for k in range(16 * table["steps"][warp]):
                lane, bit = r % 8 * 4 + k % 8 // 2, r // 8 + k % 16 // 8 * 2 + k % 2 * 4
                if table["ones"][warp, k // 16, lane] >> bit & 1:
                    got.append(sources[table["slots"][warp, k]])
            row, csr = first + local, types[0]
            want = csr.indices[csr.offsets[row] : csr.offsets[row + 1]] if row < rows else []
            assert sorted(got) == sorted(want) and table["degrees"][local] == len(want)


def test_eight_sources_that_are_read_at_a_time_are_in_different_banks() -> None:
    """This holds as far as there are enough different ones."""
    rows = 400
    near = (np.arange(rows)[:, None] + [-20, -1, 1, 20]) % rows  # a grid's neighbours
    csr = Sources(np.arange(0, 4 * rows + 1, 4).astype(np.int32), near.reshape(-1).astype(np.int32))
    tiles = Neighbours(rows, rows, (csr, Sources())).tiled().tiles
    assert tiles is not None
    groups = [
        table["slots"][warp, : 16 * (table["steps"][warp] - 1)].reshape(-1, 8) % 8
        for table in tiles.tables
        for warp in range(12)
        if table["steps"][warp] > 1
    ]
    assert np.mean([np.bincount(group).max() for part in groups for group in part]) < 1.5


@pytest.mark.parametrize("what", ["rows in a tile", "edges of 16 rows", "types that are summed"])
def test_tables_that_the_kernel_cannot_take(what: str) -> None:
    """The other kernel takes them."""
    few = random_csr(np.random.default_rng(0), 5, 5)
    two = np.arange(0, 2 * TILE_ROWS + 1, 2, dtype=np.int32)
    all_of_one = np.array([0, 16 * TILE_STEPS + 1], np.int32)
    many = np.resize(np.arange(TILE_SOURCES + 1, dtype=np.int32), 2 * TILE_ROWS)
    neighbours = {
        "rows in a tile": Neighbours(TILE_ROWS, TILE_SOURCES + 1, (Sources(two, many),)),
        "edges of 16 rows": Neighbours(1, 1, (Sources(all_of_one, np.zeros(all_of_one[1], np.int32)),)),
        "types that are summed": Neighbours(5, 5, (few, few)),
    }[what]
    assert neighbours.tiled() is neighbours


def test_packing_by_the_documented_layout() -> None:
    """The numbers are counted off by hand: blocks of 8 columns of 8 numbers each, as csrc/wgmma.h says."""
    c_in, n = 128, 256
    matrix = (np.arange(2 * c_in * n) % 2039).reshape(2 * c_in, n).astype(np.float32)
    bias = 1 + np.random.default_rng(0).random((2, n))
    numbers = pack_tiled(matrix, 2, bias).reshape(-1)
    count = matrix.size
    packed = numbers[:count].reshape(1, 2, 2, 4, 32, 2, 8, 8)
    for window, kind, slab, tile, block, g in np.ndindex(2, 2, 4, 32, 2, 8):
        first = kind * c_in + window * WINDOW + 16 * slab + 8 * block
        column = tile // 4 * 32 + g // 2 * 8 + tile % 4 * 2 + g % 2
        got = packed[0, window, kind, slab, tile, block, g]
        assert np.array_equal(got, matrix[first : first + 8, column])
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
    neighbours, layer = neighbours_of(rng, 4, 4), random_layer(rng, 64, 128)
    x, out = put(features(rng, 4, 64)), put(features(rng, 4, 128))
    without = dataclasses.replace(neighbours, tiles=None).placed(put)
    with pytest.raises(InputError, match=r"got a gather table without tiles; expected neighbours\.tiled\(\)"):
        ops.graph_conv(x, without, layer.placed(put, True), out=out)
    for c_in, c_out in ((32, 128), (64, 64), (96, 96)):
        with pytest.raises(InputError, match=rf"got {c_in} -> {c_out}; expected a multiple of 64"):
            random_layer(rng, c_in, c_out).placed(put, True)
    with pytest.raises(InputError, match="below 128 also a little less"):
        random_layer(rng, 64, 250, norm=False).placed(put)
    assert isinstance(layer.placed(put).matrix, DeviceArray) and not layer.placed(put).tiled
