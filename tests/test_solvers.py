from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topos_rt.sampler import time_grid
from topos_rt.solvers import SOLVERS, Array, Step

# Name -> order of convergence, evaluations of the velocity for n steps. Every solver has a row.
FACTS: dict[str, tuple[int, int]] = {"euler": (1, 1)}
ALL = pytest.mark.parametrize("name", SOLVERS)
START = np.random.default_rng(0).standard_normal((1, 5, 2)).astype(np.float32)


def run(name: str, velocity: object, times: tuple[float, ...], start: np.ndarray = START) -> list[Step]:
    return list(SOLVERS[name](velocity, start, times))  # type: ignore[arg-type]


def test_every_solver_has_a_row() -> None:
    assert set(FACTS) == set(SOLVERS)


@ALL
@given(steps=st.integers(1, 20), shift=st.floats(0.1, 10))
def test_straight_paths_are_followed_exactly(name: str, steps: int, shift: float) -> None:
    """A flow towards one point, v = (x - x0) / t: every solver lands on the point, whatever the grid."""
    x0 = np.float64(START) * 0.5 + 1
    last = run(name, lambda x, t: (x - x0) / t, time_grid(steps, shift), np.float64(START))[-1]
    assert np.allclose(last.x_next, x0, rtol=0, atol=1e-12)


@ALL
def test_a_constant_velocity_is_integrated_exactly(name: str) -> None:
    v = np.full_like(START, 0.25)
    assert np.allclose(run(name, lambda x, t: v, time_grid(7))[-1].x_next, START - 0.25, rtol=0, atol=1e-6)


def test_euler_on_a_linear_field_is_the_product_of_its_factors() -> None:
    times = time_grid(9, 3.0)
    factor = math.prod(1 - (t - t_next) * 0.7 for t, t_next in pairwise(times))
    last = run("euler", lambda x, t: 0.7 * x, times, np.float64(START))[-1]
    assert np.allclose(last.x_next, np.float64(START) * factor, rtol=1e-13, atol=0)


@ALL
def test_order_of_convergence(name: str) -> None:
    """dx/dt = x cos(3 t): halving the steps' length divides the error by 2 to the order."""
    exact = np.float64(START) * math.exp(-math.sin(3) / 3)

    def error(steps: int) -> float:
        last = run(name, lambda x, t: x * math.cos(3 * t), time_grid(steps), np.float64(START))[-1]
        return float(np.abs(last.x_next - exact).max())

    order, _ = FACTS[name]
    assert math.log2(error(80) / error(160)) == pytest.approx(order, abs=0.1)


@ALL
def test_evaluations(name: str) -> None:
    calls: list[float] = []
    run(name, lambda x, t: (calls.append(t), x)[1], time_grid(8))
    assert len(calls) == 8 * FACTS[name][1]
    assert all(0 < t <= 1 for t in calls)


@ALL
def test_steps_join_and_hold_the_velocity_at_their_start(name: str) -> None:
    def velocity(x: Array, t: float) -> Array:
        return x * t

    start = START.copy()
    times = time_grid(6, 2.0)
    steps = run(name, velocity, times, start)
    assert [step.index for step in steps] == list(range(6))
    assert [(step.t, step.t_next) for step in steps] == list(pairwise(times))
    assert steps[0].x is start and np.array_equal(start, START)
    for step, after in pairwise(steps):
        assert step.x_next is after.x
    for step in steps:  # kept valid to the end: nothing was written in place
        assert np.array_equal(step.velocity, velocity(step.x, step.t))


@ALL
def test_float32_stays_float32(name: str) -> None:
    for step in run(name, lambda x, t: x * t, time_grid(5, 3.0)):
        assert step.x.dtype == step.x_next.dtype == np.float32


@ALL
def test_nothing_is_evaluated_before_it_is_asked_for(name: str) -> None:
    calls: list[float] = []
    steps = SOLVERS[name](lambda x, t: (calls.append(t), x)[1], START, time_grid(8))
    assert not calls
    next(steps)
    assert len(calls) <= FACTS[name][1] + 1
