"""pack_rows, project, add_moves and linear_out against their twins, and rounding to FP16 bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.gpu.shapes import features, random_layer
from topos_rt.errors import InputError
from topos_rt.gpu import ops


def test_every_rounding_to_half(arena: Any) -> None:
    """This rounds all FP16 numbers, the middles between them, and the numbers just beside those."""
    exact = np.arange(0, 0x7C01, dtype=np.uint16).view(np.float16).astype(np.float32)
    middle = np.append((exact[:-2] + exact[1:-1]) / 2, np.float32(65520))
    around = np.concatenate(
        [exact, middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(1e9))]
    )
    values = np.concatenate([around, -around, np.float32([np.nan, 1e38, 1e-45, 1e-8])])[:, None]
    out = arena.put(np.zeros((len(values), 8), np.float16))
    ops.pack_rows(arena.put(values), 8, out=out, stream=arena._stream.handle)
    got = arena.get(out)
    with np.errstate(over="ignore"):
        want = values.astype(np.float16)
    nan = np.isnan(want)
    assert np.array_equal(got[:, :1].view(np.uint16)[~nan], want.view(np.uint16)[~nan])
    assert np.isnan(got[:, :1][nan]).all() and not got[:, 1:].any()


@pytest.mark.parametrize(("rows", "columns"), [(0, 6), (1, 1), (37, 6), (300, 32)])
def test_rows_in_another_order(arena: Any, rows: int, columns: int) -> None:
    rng = np.random.default_rng(rows)
    x, order = rng.standard_normal((rows, columns)).astype(np.float32), rng.permutation(rows).astype(np.int32)
    width = -(-columns // 8) * 8
    out = arena.put(np.full((rows, width), np.nan, np.float16))
    ops.pack_rows(arena.put(x), width, arena.put(order), out=out, stream=arena._stream.handle)
    assert np.array_equal(arena.get(out), ops.pack_rows(x, width, order))


@pytest.mark.parametrize(("directions", "size"), [(1, 1), (3, 31), (20, 1002), (5, 129)])
def test_projection(arena: Any, directions: int, size: int) -> None:
    rng = np.random.default_rng(size)
    basis = np.linalg.qr(rng.standard_normal((size, directions)))[0].T.astype(np.float32).copy()
    x = rng.standard_normal(size).astype(np.float32)
    there, scratch = arena.put(x), arena.empty((directions,), np.float32)
    ops.project(there, arena.put(basis), scratch=scratch, out=there, stream=arena._stream.handle)
    truth = basis.astype(float).T @ (basis.astype(float) @ x)
    assert np.abs(arena.get(there) - truth).max() <= 4 * max(
        np.abs(ops.project(x, basis) - truth).max(), 1e-7
    )


@pytest.mark.parametrize(
    ("directions", "vertices", "moved", "columns"),
    [(1, 1, 1, 1), (3, 31, 3, 6), (160, 129, 3, 6), (5, 43, 2, 2)],
)
@pytest.mark.parametrize("in_place", [False, True])
def test_moves(arena: Any, directions: int, vertices: int, moved: int, columns: int, in_place: bool) -> None:
    rng = np.random.default_rng(vertices)
    coordinates, rows, base = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((directions,), (directions, vertices, moved), (vertices, columns))
    )
    there = arena.put(base)
    out = there if in_place else arena.put(np.full((vertices, columns), np.nan, np.float32))
    ops.add_moves(arena.put(coordinates), arena.put(rows), there, out=out, stream=arena._stream.handle)
    truth = base.astype(float)
    truth[:, :moved] += np.einsum("k,kvm->vm", coordinates.astype(float), rows)
    near = 4 * max(np.abs(ops.add_moves(coordinates, rows, base) - truth).max(), 1e-6)
    assert np.abs(arena.get(out) - truth).max() <= near
    assert np.array_equal(arena.get(out)[:, moved:], base[:, moved:])


@pytest.mark.parametrize("rows", [0, 1, 127, 128, 130])
@pytest.mark.parametrize("c_out", [2, 6, 8])
@pytest.mark.parametrize("placed", [False, True])
def test_linear_out(arena: Any, rows: int, c_out: int, placed: bool) -> None:
    rng = np.random.default_rng([rows, c_out])
    x, layer = features(rng, rows, 48), random_layer(rng, 48, c_out, 1, norm=False)
    more = (
        [
            rng.permutation(rows).astype(np.int32),
            rng.random(c_out).astype(np.float32),
            rng.standard_normal((rows, c_out)).astype(np.float32),
        ]
        if placed
        else []
    )
    out = arena.put(np.full((rows, c_out), np.nan, np.float32))
    ops.linear_out(
        arena.put(x), layer.placed(arena.put), *map(arena.put, more), out=out, stream=arena._stream.handle
    )
    half = type(layer)(layer.matrix.astype(np.float16).astype(np.float32), 1, layer.bias)
    truth = ops.linear_out(x.astype(np.float64), half, *more)
    assert arena.get(out).shape == truth.shape and np.allclose(arena.get(out), truth, atol=1e-5)


def test_bad_input() -> None:
    x = np.zeros((4, 6), np.float32)
    rng = np.random.default_rng(0)
    cases: list[tuple[Any, str]] = [
        (lambda: ops.pack_rows(x, 4), "1 to 4 columns"),
        (lambda: ops.pack_rows(x[0], 8), r"x: got shape \[6\]"),
        (lambda: ops.pack_rows(x.astype(np.float16), 8), "x: got float16"),
        (lambda: ops.pack_rows(x, 8, np.int32([0, 1, 2, 4])), r"indices 0\.\.4"),
        (lambda: ops.pack_rows(x, 8, np.int32([0, 1])), "source_rows: got"),
        (lambda: ops.pack_rows(x, 8, out=np.zeros((4, 8), np.float32)), "out: got float32"),
        (lambda: ops.project(x, np.zeros((2, 24), np.float32)), r"x: got float32 \[4, 6\]"),
        (lambda: ops.project(x.reshape(-1), np.zeros((2, 23), np.float32)), "basis: got"),
        (lambda: ops.add_moves(x[0], np.zeros((6, 4, 7), np.float32), x), "0 < m <= c"),
        (lambda: ops.add_moves(x[0], np.zeros((6, 4), np.float32), x), "0 < m <= c"),
        (lambda: ops.add_moves(x[0], np.zeros((5, 4, 3), np.float32), x), "coordinates: got"),
        (lambda: ops.add_moves(x[0], np.zeros((6, 3, 3), np.float32), x), "base: got"),
        (lambda: ops.linear_out(x, random_layer(rng, 6, 6, 2, norm=False)), "one type and no norm"),
        (lambda: ops.linear_out(x, random_layer(rng, 6, 8, 1)), "one type and no norm"),
        (lambda: ops.linear_out(x, random_layer(rng, 8, 6, 1, norm=False)), "x: got"),
        (
            lambda: ops.linear_out(x, random_layer(rng, 6, 6, 1, norm=False), np.int32([0, 0, 1, 2])),
            "permutation",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()


def test_more_numbers_than_the_kernel_counts(arena: Any) -> None:
    from topos_rt.gpu.device_array import DeviceArray

    layer = random_layer(np.random.default_rng(0), 48, 6, 1, norm=False).placed(arena.put)
    x = DeviceArray(256, (1 << 26, 48), np.dtype(np.float16), arena.device)
    with pytest.raises(InputError, match=r"x: got 67108864 x 48 numbers; expected less than 2147483648"):
        ops.linear_out(x, layer, out=DeviceArray(512, (1 << 26, 6), np.dtype(np.float32), arena.device))
