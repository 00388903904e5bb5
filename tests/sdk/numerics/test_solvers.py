"""The sampler of the C++ numerics against `topos_rt.flow`, bit for bit."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sdk.numerics.calls import call
from topos_rt.flow.counting import network_runs
from topos_rt.flow.sampling import clean_estimate, guided, noise, sample
from topos_rt.flow.settings import PRESETS, SamplerSettings, time_grid
from topos_rt.flow.solvers import SOLVERS

SHAPE, COUNT, SIGMA_MIN = (1, 7, 5), 35, 1e-5
TURN = np.linalg.qr(np.random.default_rng(4).standard_normal((COUNT, COUNT)))[0].astype(np.float32)


class Network:
    """A field that is not linear, whose values depend on every bit of x, and which keeps its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, float, bool]] = []

    def conditional(self, x: Any, t: float) -> Any:
        self.calls.append((x.tobytes(), t, False))
        return self._velocity(x, t)

    def guided(self, x: Any, t: float, w: float) -> tuple[Any, Any]:
        self.calls.append((x.tobytes(), t, True))
        v = self._velocity(x, t)
        difference = np.tanh(v - x) * np.float32(0.3)
        return v + np.float32(w) * difference, difference

    def _velocity(self, x: Any, t: float) -> Any:
        mixed = (TURN * x.reshape(-1)).sum(1, dtype=np.float32).reshape(x.shape)
        return np.sin(mixed) + x * np.float32(t) - np.float32(0.2)


def given_to_c(chosen: SamplerSettings) -> tuple[Any, ...]:
    assert chosen.guidance is not None
    guidance = np.array([chosen.guidance, *chosen.interval])
    return list(SOLVERS).index(chosen.solver), np.array(chosen.grid), chosen.steps, guidance, chosen.reuse


def steps_of(lib: ctypes.CDLL, chosen: SamplerSettings, network: Network, start: Any) -> Iterator[tuple]:
    """Yield index, times, and x, velocity, x_next and clean estimate of every step that C makes."""
    run = ctypes.c_void_p(
        call(lib, "sampler_new", *given_to_c(chosen), start, COUNT, returns=ctypes.c_void_p)
    )
    x, t = np.empty(SHAPE, np.float32), np.empty(1)
    while kind := call(lib, "sampler_wanted", run, x, COUNT, t, returns=ctypes.c_int32):
        if kind == 2:
            velocity, difference = network.guided(x, float(t[0]), chosen.guidance or 0.0)
        else:
            velocity, difference = network.conditional(x, float(t[0])), None
        if call(lib, "sampler_give", run, velocity, difference, returns=ctypes.c_int32):
            arrays, times = np.empty((4, *SHAPE), np.float32), np.empty(2)
            index = call(lib, "sampler_step", run, SIGMA_MIN, COUNT, arrays, times, returns=ctypes.c_int32)
            yield index, *times.tolist(), *(array.tobytes() for array in arrays)
    call(lib, "sampler_delete", run)


def check(lib: ctypes.CDLL, chosen: SamplerSettings, seed: int = 0) -> None:
    start, ours, theirs = noise(seed, SHAPE), Network(), Network()
    got = list(steps_of(lib, chosen, ours, start))
    want = [
        (step.index, step.t, step.t_next, step.x.tobytes(), step.velocity.tobytes(), step.x_next.tobytes(),
         clean_estimate(step, SIGMA_MIN).tobytes())
        for step in sample(guided(theirs, chosen), start, chosen)
    ]  # fmt: skip
    assert got == want
    assert ours.calls == theirs.calls
    assert len(got) == chosen.steps
    runs, counted = network_runs(chosen), np.empty(2, np.int32)
    call(lib, "evaluations", *given_to_c(chosen), counted)
    assert counted.tolist() == [runs.unguided, runs.guided_runs]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 12, 50])
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(
    ("guidance", "interval", "reuse"),
    [(0.0, (0.0, 1.0), 1), (3.0, (0.0, 1.0), 1), (2.7, (0.25, 0.75), 1), (1.3, (0.1, 1.0), 3),
     (5.0, (1.0, 1.0), 2)],
)  # fmt: skip
def test_steps(
    lib: ctypes.CDLL, solver: str, steps: int, shift: float, guidance: float, interval: Any, reuse: int
) -> None:
    check(lib, SamplerSettings(steps, solver, guidance, shift, interval, reuse))


unit = st.floats(0, 1)


@given(
    st.lists(st.integers(1, 9999).map(lambda k: k / 10_000), max_size=9, unique=True),
    st.sampled_from(list(SOLVERS)),
    st.floats(0, 9), st.tuples(unit, unit).map(sorted), st.integers(1, 5), st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=200)
def test_steps_over_any_times(
    lib: ctypes.CDLL, inner: list[float], solver: str, guidance: float, interval: Any, reuse: int, seed: int
) -> None:
    times = (1.0, *sorted(inner, reverse=True), 0.0)
    chosen = SamplerSettings(len(times) - 1, solver, guidance, 1.0, tuple(interval), reuse, times)
    check(lib, chosen, seed)


@given(st.integers(1, 1000), st.floats(1e-3, 1e3))
def test_grids(lib: ctypes.CDLL, steps: int, shift: float) -> None:
    out = np.empty(steps + 1)
    call(lib, "time_grid", steps, shift, out)
    assert tuple(out.tolist()) == time_grid(steps, shift)


def test_tables(lib: ctypes.CDLL) -> None:
    names = [call(lib, "solver_name", i, returns=ctypes.c_char_p) for i in range(len(SOLVERS) + 1)]
    assert names == [*(name.encode() for name in SOLVERS), None]
    for i, (name, chosen) in enumerate(PRESETS.items()):
        numbers, shift = np.empty(2, np.int32), np.empty(1)
        assert (
            call(lib, "preset", i, numbers[:1], numbers[1:], shift, returns=ctypes.c_char_p) == name.encode()
        )
        made = SamplerSettings(int(numbers[0]), list(SOLVERS)[numbers[1]], shift=float(shift[0]))
        assert made == chosen
    assert call(lib, "preset", len(PRESETS), numbers[:1], numbers[1:], shift, returns=ctypes.c_char_p) is None
