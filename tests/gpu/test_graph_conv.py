"""graph_conv against its twin: every width, random topologies, remainders of every tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.gpu import host_gpu
from tests.gpu.shapes import features, naive, near, random_csr, random_layer, random_neighbours
from topos_rt.errors import InputError
from topos_rt.gpu import ops
from topos_rt.gpu.layers import WIDTHS, Layer
from topos_rt.gpu.tables import Neighbours, Sources

OFFICIAL = [(512, 512), (512, 256), (256, 256), (256, 128), (128, 128), (32, 512)]
MINI = [(96, 96), (96, 64), (64, 64), (64, 48), (48, 48), (48, 32), (32, 32), (8, 96)]
FIXTURE = [(32, 16), (16, 16), (8, 32), (8, 8), (24, 8), (40, 16)]


def run(
    arena: Any,
    x: np.ndarray,
    neighbours: Neighbours,
    layer: Layer,
    residual: Any = None,
    rows: Any = None,
    silu: bool = True,
    tiled: bool = False,
) -> np.ndarray:
    put = arena.put
    out = put(np.full((neighbours.rows, layer.c_out), np.nan, np.float16))
    ops.graph_conv(
        put(x),
        neighbours.placed(put),
        layer.placed(put, tiled),
        None if residual is None else put(residual),
        None if rows is None else put(rows),
        silu,
        out=out,
        stream=arena._stream.handle,
    )
    return np.asarray(arena.get(out))


def compare(
    arena: Any, x: np.ndarray, neighbours: Neighbours, layer: Layer, *more: Any, tiled: bool = False
) -> None:
    wide = [m.astype(np.float64) if getattr(m, "dtype", None) == np.float16 else m for m in more]
    truth = ops.graph_conv(x.astype(np.float64), neighbours, layer, *wide)
    near(run(arena, x, neighbours, layer, *more, tiled=tiled), naive(x, neighbours, layer, *more), truth)


@pytest.mark.parametrize(("c_in", "c_out"), [*OFFICIAL, *MINI, *FIXTURE], ids=str)
def test_widths(arena: Any, c_in: int, c_out: int) -> None:
    rng = np.random.default_rng([c_in, c_out])
    rows, inputs = 75, 90  # every instance has a whole tile and a part of one
    residual = features(rng, 33, c_out)
    residual_rows = rng.integers(0, 33, rows).astype(np.int32)
    compare(
        arena,
        features(rng, inputs, c_in),
        random_neighbours(rng, rows, inputs),
        random_layer(rng, c_in, c_out),
        residual,
        residual_rows,
    )


@pytest.mark.parametrize("rows", [0, 1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 300])
@pytest.mark.parametrize("width", [16, 64])
def test_rows(arena: Any, rows: int, width: int) -> None:
    rng = np.random.default_rng(rows)
    inputs = max(1, rows)
    compare(
        arena,
        features(rng, inputs, width),
        random_neighbours(rng, rows, inputs),
        random_layer(rng, width, width),
    )


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_every_part_may_be_left_out(arena: Any, norm: bool, bias: bool, silu: bool, residual: bool) -> None:
    rng = np.random.default_rng(4)
    more = features(rng, 20, 32) if residual else None
    compare(
        arena,
        features(rng, 20, 16),
        random_neighbours(rng, 20, 20),
        random_layer(rng, 16, 32, norm=norm, bias=bias),
        more,
        None,
        silu,
    )


@pytest.mark.parametrize("kind", ["itself", "single", "csr"])
def test_one_type_is_a_linear_layer(arena: Any, kind: str) -> None:
    rng = np.random.default_rng(5)
    rows = 70
    single = rng.permutation(rows).astype(np.int32)
    sources = {
        "itself": Sources(),
        "single": Sources(None, single),
        "csr": Sources(np.arange(rows + 1, dtype=np.int32), single),
    }
    compare(
        arena, features(rng, rows, 48), Neighbours(rows, rows, (sources[kind],)), random_layer(rng, 48, 48, 1)
    )


@pytest.mark.parametrize("kind", ["itself", "single", "csr"])
def test_type_one_in_every_form(arena: Any, kind: str) -> None:
    """The edges are self-loops alone, or seen through a cluster, or with coincident vertices."""
    rng = np.random.default_rng(6)
    rows, inputs = 70, 70 if kind == "itself" else 9
    second = {
        "itself": Sources(),
        "single": Sources(None, rng.integers(0, inputs, rows).astype(np.int32)),
        "csr": random_csr(rng, rows, inputs, 4),
    }
    neighbours = Neighbours(rows, inputs, (random_csr(rng, rows, inputs), second[kind]))
    compare(arena, features(rng, inputs, 96), neighbours, random_layer(rng, 96, 64))


def test_no_neighbours_anywhere(arena: Any) -> None:
    """The bias is added once per edge, so nothing is left but the norm's shift."""
    rng = np.random.default_rng(7)
    empty = Sources(np.zeros(6, np.int32), np.zeros(0, np.int32))
    layer = random_layer(rng, 16, 16)
    got = run(arena, features(rng, 3, 16), Neighbours(5, 3, (empty, empty)), layer, silu=False)
    assert np.array_equal(got, np.tile(layer.beta.astype(np.float16), (5, 1)))


def test_one_large_degree(arena: Any) -> None:
    rng = np.random.default_rng(8)
    offsets = np.array([0, 0, 1000, 1001], np.int32)
    neighbours = Neighbours(3, 50, (Sources(offsets, rng.integers(0, 50, 1001).astype(np.int32)), Sources()))
    compare(arena, features(rng, 50, 32), neighbours, random_layer(rng, 32, 32))


def test_large_and_small_values_through_the_norm(arena: Any) -> None:
    """A large mean must not drown the deviation around it."""
    rng = np.random.default_rng(9)
    neighbours = random_neighbours(rng, 40, 40)
    layer = random_layer(rng, 32, 32)
    shifted = Layer(layer.matrix, 2, layer.bias + np.float32(100), layer.gamma, layer.beta)
    compare(arena, features(rng, 40, 32), neighbours, shifted)


def test_the_same_bits_whatever_the_order_of_warps(host: Any) -> None:
    """A missing barrier shows when the last warp goes first."""
    from topos_rt.gpu import cuda
    from topos_rt.gpu.device_array import Arena

    rng = np.random.default_rng(10)
    with cuda.Stream() as stream, Arena(stream) as arena:
        for width in (w for w in WIDTHS if w > 8):
            x, neighbours = features(rng, 140, width), random_neighbours(rng, 140, 140)
            layer = random_layer(rng, width, width)
            forward = run(arena, x, neighbours, layer)
            with host_gpu.reversed_warps(host.module):
                backward = run(arena, x, neighbours, layer)
            assert np.array_equal(forward, backward)


def test_the_twin_by_hand() -> None:
    """The sums of two vertices with both types are written out."""
    x = np.float64([[1, 2], [3, 4]])
    neighbours = Neighbours(2, 2, (Sources(np.int32([0, 1, 1]), np.int32([1])), Sources()))
    matrix = np.float32([[1, 0], [0, 1], [10, 0], [0, 10]])
    bias = np.float32([[0.5, 0], [0, 0.25]])
    y = ops.graph_conv(x, neighbours, Layer(matrix, 2, bias), silu=False)
    assert np.allclose(y, [[3 + 10 + 0.5, 4 + 20 + 0.25], [30, 40 + 0.25]])


def _float(value: Any) -> Any:
    return np.zeros((4, 16), np.float16) if value is None else value


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "dtype": ({"x": np.zeros((4, 16), np.int32)}, "x: got int32"),
    "shape": ({"x": np.zeros((5, 16), np.float16)}, r"x: got float16 \[5, 16\]; expected .* \[4, 16\]"),
    "flat": ({"x": np.zeros(64, np.float16)}, "x: got"),
    "strided": ({"x": np.zeros((4, 32), np.float16)[:, ::2]}, "x: got a strided array"),
    "a list": ({"x": [[0.0] * 16] * 4}, "got list"),
    "residual of another type": ({"residual": np.zeros((4, 32), np.float32)}, "residual: got float32"),
    "residual of another width": ({"residual": np.zeros((4, 16), np.float16)}, "residual: got"),
    "rows without residual": ({"residual_rows": np.zeros(4, np.int32)}, "residual_rows: got rows"),
    "rows outside": (
        {"residual": np.zeros((2, 32), np.float16), "residual_rows": np.int32([0, 1, 2, 0])},
        r"residual_rows: got indices 0\.\.2; expected 0\.\.1",
    ),
    "out of another type": ({"out": np.zeros((4, 32), np.float32)}, "out: got float32"),
    "out read-only": ({"out": np.broadcast_to(np.float16(0), (4, 32))}, "out: got a read-only"),
    "neighbours of another layer": (
        {"neighbours": Neighbours.identity(4)}, "neighbours and layer: got 1 and 2 edge types",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_on_the_host(case: str) -> None:
    changes, message = BAD[case]
    rng = np.random.default_rng(0)
    given = {
        "x": _float(None),
        "neighbours": random_neighbours(rng, 4, 4),
        "layer": random_layer(rng, 16, 32),
    } | changes
    with pytest.raises(InputError, match=message):
        ops.graph_conv(given.pop("x"), given.pop("neighbours"), given.pop("layer"), **given)


def test_bad_input_on_a_device(arena: Any) -> None:
    from topos_rt.gpu.device_array import DeviceArray

    rng = np.random.default_rng(0)
    put = arena.put
    neighbours, layer = random_neighbours(rng, 4, 4), random_layer(rng, 16, 16)
    x, out = put(features(rng, 4, 16)), arena.empty((4, 16), np.float16)
    there = neighbours.placed(put), layer.placed(put)
    with pytest.raises(InputError, match=r"some on the host and GPU 0|some on GPU 0 and the host"):
        ops.graph_conv(x, neighbours, layer, out=out)
    with pytest.raises(InputError, match="arrays of one call"):
        ops.graph_conv(features(rng, 4, 16), *there, out=out)
    with pytest.raises(InputError, match="out: got None"):
        ops.graph_conv(x, *there)
    with pytest.raises(InputError, match="memory shared with x"):
        ops.graph_conv(x, *there, out=x)
    with pytest.raises(InputError, match="expected a multiple of 16"):
        ops.graph_conv(DeviceArray(x.address + 2, x.shape, x.dtype, x.device), *there, out=out)
    with pytest.raises(InputError, match="expected float16"):
        ops.graph_conv(put(np.zeros((4, 16), np.float32)), *there, out=out)
    with pytest.raises(InputError, match="GPU 1"):
        ops.graph_conv(DeviceArray(x.address, x.shape, x.dtype, 1), *there, out=out)
    with pytest.raises(InputError, match="output channels: got 24"):
        random_layer(rng, 16, 24).placed(put)
    with pytest.raises(InputError, match="input channels: got 12"):
        random_layer(rng, 12, 16).placed(put)
