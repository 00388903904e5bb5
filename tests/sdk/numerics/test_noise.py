"""The noise of the C++ numerics against NumPy's and against `topos_rt.flow`."""

from __future__ import annotations

import ctypes
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sdk.numerics.calls import call
from topos_rt.flow.sampling import noise
from topos_rt.flow.variation import Variation

SEEDS = (0, 1, 2, 42, 2**31, 2**32 - 1, 2**32, 2**33 + 5, 2**63, 2**64 - 1)


def made(lib: ctypes.CDLL, seed: int, count: int) -> np.ndarray:
    out = np.empty(count, np.float32)
    call(lib, "noise", seed, out, count)
    return out


@pytest.mark.parametrize("seed", SEEDS)
def test_the_words_are_those_of_numpy(lib: ctypes.CDLL, seed: int) -> None:
    out = np.empty(1001, np.uint32)
    call(lib, "words", seed, out, 1001)
    raw = np.random.Philox(seed).random_raw(501)
    assert out.tobytes() == raw.astype("<u8").view("<u4")[:1001].tobytes()


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_equals_numpy_with_its_rare_tails(lib: ctypes.CDLL, seed: int) -> None:
    count = 300_000
    want = noise(seed, (count,))
    assert np.count_nonzero(np.abs(want) > 3.6542) > 30  # the tail is drawn from, which only one in 4,000 is
    assert made(lib, seed, count).tobytes() == want.tobytes()


@given(st.integers(0, 2**64 - 1), st.integers(0, 700))
def test_noise_of_any_seed(lib: ctypes.CDLL, seed: int, count: int) -> None:
    assert made(lib, seed, count).tobytes() == noise(seed, (count,)).tobytes()


@pytest.mark.slow
def test_twenty_million_draws(lib: ctypes.CDLL) -> None:
    assert made(lib, 7, 20_000_000).tobytes() == noise(7, (20_000_000,)).tobytes()


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 1.7, 2.0])
def test_scaled_noise(lib: ctypes.CDLL, temperature: float) -> None:
    want = noise(3, (4096,)) * np.float32(temperature)
    got = noise(3, (4096,))
    call(lib, "scale_noise", got, len(got), temperature)
    assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (1, 64), (7, 64), (64, 64), (24, 1024), (256, 1024)])
@pytest.mark.parametrize(("closed", "open_"), [(0.0, 1.0), (0.4, 1.0), (1.0, 0.25), (1.0, 1.0)])
def test_noise_of_a_variation(lib: ctypes.CDLL, rows: int, size: int, closed: float, open_: float) -> None:
    basis = np.linalg.qr(np.random.default_rng(rows).standard_normal((size, rows)))[0].T
    variation = Variation(np.ascontiguousarray(basis, np.float32), open_)
    got = noise(11, (1, size // 1, 1)).reshape(-1)
    want = variation.scaled(got[None, :, None], closed).reshape(-1)
    call(lib, "scale_open_noise", got, size, closed, variation.directions, rows, open_)
    # Both sum in float64; what differs is the order, which float32 almost never shows.
    assert np.abs(got.astype(np.float64) - want).max() <= np.spacing(np.abs(want).max())
    assert np.count_nonzero(got != want) <= size // 500


def test_the_layers_of_the_ziggurat_follow_their_definition(lib: ctypes.CDLL) -> None:
    with localcontext() as context:
        context.prec = 40
        edge, scale = Decimal("3.6541528853610087963519472518"), Decimal(2**23)

        def density(x: Decimal) -> Decimal:
            return (-x * x / 2).exp()

        fraction = Decimal(0)  # of Mills' ratio
        for k in range(400, 0, -1):
            fraction = k / (edge + fraction)
        area = edge * density(edge) + density(edge) / (edge + fraction)
        edges = [edge]
        for _ in range(254):
            edges.append((-2 * (area / edges[-1] + density(edges[-1])).ln()).sqrt())
        edges = [area / density(edge), *edges[::-1]]
        sure = [edge / edges[0], Decimal(0), *(edges[i - 1] / edges[i] for i in range(2, 256))]
        want = {
            "sure": np.array([int((each * scale).to_integral_value()) for each in sure], np.uint32),
            "width": np.array([each / scale for each in edges], np.float32),
            "density": np.array([Decimal(1), *map(density, edges[1:])], np.float32),
        }
    for name, values in want.items():
        kind = np.ctypeslib.as_ctypes_type(values.dtype)
        got = call(lib, f"ziggurat_{name}", returns=ctypes.POINTER(kind * 256)).contents
        assert np.array_equal(np.array(got), values), name
