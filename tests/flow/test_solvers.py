from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import Polynomial

from topos_rt.errors import OptionError
from topos_rt.flow.counting import velocity_evaluations
from topos_rt.flow.sampling import clean_estimate
from topos_rt.flow.settings import time_grid
from topos_rt.flow.solvers import SOLVERS, Step, weights
from topos_rt.support.arrays import Array

# Name -> order of convergence, evaluations of the velocity in 8 steps. Every solver has a row.
FACTS: dict[str, tuple[int, int]] = {
    "euler": (1, 8),
    "heun": (2, 15),
    "ab2": (2, 8),
    "ab3": (3, 9),
    "dpmpp_2m": (2, 8),
    "unipc": (3, 8),
}
ALL = pytest.mark.parametrize("name", SOLVERS)
START = np.random.default_rng(0).standard_normal((1, 5, 2)).astype(np.float32)
WIDE = np.float64(START)
UNEVEN = (1.0, 0.93, 0.71, 0.66, 0.4, 0.18, 0.15, 0.0)


@st.composite
def grids(draw: st.DrawFn) -> tuple[float, ...]:
    inside = draw(st.lists(st.integers(1, 999), max_size=12, unique=True))
    return (1.0, *(k / 1000 for k in sorted(inside, reverse=True)), 0.0)


def run(name: str, velocity: object, times: tuple[float, ...], start: np.ndarray = START) -> list[Step]:
    return list(SOLVERS[name](velocity, start, times))  # type: ignore[arg-type]


def test_every_solver_has_a_row() -> None:
    assert set(FACTS) == set(SOLVERS)


@ALL
@given(times=grids())
def test_straight_paths_are_followed_exactly(name: str, times: tuple[float, ...]) -> None:
    """In a flow towards one point, v = (x - x0) / t, every step of every solver stays on the way there."""
    x0 = WIDE * 0.5 + 1
    for step in run(name, lambda x, t: (x - x0) / t, times, WIDE):
        on_path = x0 + step.t_next * (WIDE - x0)
        assert np.allclose(step.x_next, on_path, rtol=0, atol=1e-9)
        assert np.allclose(clean_estimate(step, 0.0), x0, rtol=0, atol=1e-9)


@ALL
def test_a_constant_velocity_is_integrated_exactly(name: str) -> None:
    v = np.full_like(START, 0.25)
    assert np.allclose(run(name, lambda x, t: v, time_grid(7))[-1].x_next, START - 0.25, rtol=0, atol=1e-6)


def test_euler_on_a_linear_field_is_the_product_of_its_factors() -> None:
    times = time_grid(9, 3.0)
    factor = math.prod(1 - (t - t_next) * 0.7 for t, t_next in pairwise(times))
    last = run("euler", lambda x, t: 0.7 * x, times, WIDE)[-1]
    assert np.allclose(last.x_next, WIDE * factor, rtol=1e-13, atol=0)


# ---- polynomials in t: the coefficients on uneven grids ----


@given(times=grids(), size=st.integers(1, 4))
def test_weights_integrate_polynomials_exactly(times: tuple[float, ...], size: int) -> None:
    nodes = times[:size]
    cubic = Polynomial([0.3, -1.0, 2.0, 0.7][: len(nodes)])
    for start, end in pairwise(times):
        exact = cubic.integ()(end) - cubic.integ()(start)
        terms = [w * cubic(node) for w, node in zip(weights(nodes, start, end), nodes, strict=True)]
        assert math.fsum(terms) == pytest.approx(exact, abs=1e-12 * (1 + math.fsum(map(abs, terms))))


def test_weights_are_those_of_the_books() -> None:
    """Compare with Adams-Bashforth and Adams-Moulton on equal steps: Hairer, Norsett, Wanner, III.1."""
    assert weights([2, 1], 1, 0) == pytest.approx([1 / 2, -3 / 2])
    assert weights([3, 2, 1], 1, 0) == pytest.approx([-5 / 12, 16 / 12, -23 / 12])
    assert weights([2, 1, 0], 1, 0) == pytest.approx([1 / 12, -8 / 12, -5 / 12])


@pytest.mark.parametrize(
    "name, degree, exempt",
    [
        ("euler", 0, ()),
        ("heun", 1, (6,)),  # the last step is Euler's
        ("ab2", 1, (0,)),  # the first step is Euler's
        ("ab3", 2, (0, 1)),  # Heun's and ab2's
    ],
)
def test_steps_are_exact_for_polynomials_in_time(name: str, degree: int, exempt: tuple[int, ...]) -> None:
    """Steps on an uneven grid are exact up to degree order - 1, apart from those in `exempt`."""
    v = Polynomial([1.0, -2.0, 3.0][: degree + 1])
    moved = v.integ()
    for step in run(name, lambda x, t: np.full_like(x, v(t)), UNEVEN, WIDE):
        exact = step.x + moved(step.t_next) - moved(step.t)
        assert np.allclose(step.x_next, exact, rtol=0, atol=1e-13) == (step.index not in exempt)


def test_unipc_is_exact_for_quadratics_up_to_its_ends() -> None:
    """The corrector removes the predictor's error, except in the first step (a trapezoid) and in the last."""
    v = Polynomial([1.0, -2.0, 3.0])
    moved = v.integ()
    steps = run("unipc", lambda x, t: np.full_like(x, v(t)), UNEVEN, WIDE)
    trapezoid = (UNEVEN[1] - UNEVEN[0]) * (v(UNEVEN[0]) + v(UNEVEN[1])) / 2
    for before, step in pairwise(steps[1:]):
        corrected = WIDE + trapezoid + moved(step.t) - moved(UNEVEN[1])
        w0, w1 = weights([before.t, step.t], step.t, step.t_next)
        assert np.allclose(step.x_next, corrected + w0 * v(before.t) + w1 * v(step.t), rtol=0, atol=1e-12)


def test_dpmpp_2m_is_the_papers_formula() -> None:
    """Compare with Lu et al. 2022, Algorithm 2, for alpha = 1 - t and sigma = t, written in exponentials."""
    steps = run("dpmpp_2m", lambda x, t: x * math.cos(3 * t) + t, UNEVEN, WIDE)
    snr = [math.log((1 - t) / t) for t in UNEVEN[1:-1]]
    data = [step.x - step.t * step.velocity for step in steps]
    for i in range(2, len(steps) - 1):
        h, h_before = snr[i] - snr[i - 1], snr[i - 1] - snr[i - 2]
        r = h_before / h
        ahead = (1 + 1 / (2 * r)) * data[i] - 1 / (2 * r) * data[i - 1]
        t, t_next = UNEVEN[i], UNEVEN[i + 1]
        expected = t_next / t * steps[i].x - (1 - t_next) * math.expm1(-h) * ahead
        assert np.allclose(steps[i].x_next, expected, rtol=0, atol=1e-12)
    for i in (0, 1, len(steps) - 1):
        step = steps[i]
        euler = step.x - (step.t - step.t_next) * step.velocity
        assert np.allclose(step.x_next, euler, rtol=0, atol=1e-12)


# ---- order of convergence ----

MEAN, SPREAD = 0.7, 0.4


def _sigma(t: float) -> float:
    return math.hypot((1 - t) * SPREAD, t)


def _gaussian(x: Array, t: float) -> Array:
    """Return the velocity for data of N(MEAN, SPREAD^2): E[noise - data | x], from both posterior means."""
    return -MEAN + (t - (1 - t) * SPREAD**2) / _sigma(t) ** 2 * (x - (1 - t) * MEAN)


def _gaussian_path(t: float, start: float) -> np.ndarray:
    path: np.ndarray = (1 - t) * MEAN + _sigma(t) / _sigma(start) * (WIDE - (1 - start) * MEAN)
    return path


def _wave(x: Array, t: float) -> Array:
    return x * math.cos(3 * t)


def _wave_path(t: float, start: float) -> np.ndarray:
    path: np.ndarray = WIDE * math.exp((math.sin(3 * t) - math.sin(3 * start)) / 3)
    return path


FLOWS = {"wave": (_wave, _wave_path), "gaussian": (_gaussian, _gaussian_path)}
FLOW = pytest.mark.parametrize("flow", FLOWS)


def order(name: str, flow: str, start: float, end: float, steps: int = 160) -> float:
    """Return the observed order of convergence: log2 of the error's ratio when the steps are doubled."""
    velocity, path = FLOWS[flow]

    def error(steps: int) -> float:
        times = (*(start + (end - start) * k / steps for k in range(steps)), end)
        return float(np.abs(run(name, velocity, times, WIDE)[-1].x_next - path(end, start)).max())

    return math.log2(error(steps) / error(2 * steps))


@FLOW
@pytest.mark.parametrize("name", sorted(set(SOLVERS) - {"dpmpp_2m"}))
def test_order_of_convergence(name: str, flow: str) -> None:
    """Twice as many steps divide the error by 2 to the power of the order."""
    assert order(name, flow, 1.0, 0.0) == pytest.approx(FACTS[name][0], abs=0.15)


@FLOW
def test_order_of_dpmpp_2m_between_the_ends(flow: str) -> None:
    assert order("dpmpp_2m", flow, 0.9, 0.1) == pytest.approx(2, abs=0.15)


def test_order_of_dpmpp_2m_up_to_the_ends() -> None:
    """The error goes with log(n) / n^2: near an end, equal steps in t are unequal in log(alpha / sigma)."""
    expected = 2 - math.log2(math.log(320) / math.log(160))
    assert expected < 1.85
    assert order("dpmpp_2m", "gaussian", 1.0, 0.0) == pytest.approx(expected, abs=0.15)


@ALL
def test_order_on_shifted_grids(name: str) -> None:
    """A smooth change of the grid does not lower the order."""

    def error(steps: int) -> float:
        last = run(name, _gaussian, time_grid(steps, 2.0), WIDE)[-1]
        return float(np.abs(last.x_next - _gaussian_path(0.0, 1.0)).max())

    assert math.log2(error(320) / error(640)) > FACTS[name][0] - 0.3


# ---- the contract ----


@ALL
def test_evaluations(name: str) -> None:
    calls: list[float] = []
    run(name, lambda x, t: (calls.append(t), x)[1], time_grid(8))
    assert len(calls) == FACTS[name][1] == velocity_evaluations(name, 8)
    assert velocity_evaluations(name, 1) == 1


def test_evaluations_of_an_unknown_solver() -> None:
    with pytest.raises(OptionError, match="unknown solver: got 'rk45'"):
        velocity_evaluations("rk45", 8)


@ALL
@settings(deadline=None)
@given(times=grids())
def test_steps_join_and_hold_the_velocity_at_their_start(name: str, times: tuple[float, ...]) -> None:
    asked: list[float] = []

    def velocity(x: Array, t: float) -> Array:
        asked.append(t)
        return x * math.cos(3 * t) + t

    start = START.copy()
    start.setflags(write=False)
    steps = run(name, velocity, times, start)
    assert all(0 < t <= 1 for t in asked) and len(asked) == velocity_evaluations(name, len(steps))
    assert [step.index for step in steps] == list(range(len(times) - 1))
    assert [(step.t, step.t_next) for step in steps] == list(pairwise(times))
    assert steps[0].x is start and np.array_equal(start, START)
    for step, after in pairwise(steps):
        assert step.x_next is after.x
    for step in steps:  # all steps stay valid, since nothing was written in place
        assert np.array_equal(step.velocity, velocity(step.x, step.t))
        assert step.x.dtype == step.velocity.dtype == step.x_next.dtype == np.float32
        assert np.isfinite(step.x_next).all()


@ALL
@given(shift=st.floats(1e-3, 1e3), steps=st.integers(1, 50))
def test_no_grid_of_the_sampler_warns_or_overflows(name: str, shift: float, steps: int) -> None:
    target = np.float32(0.25)
    with np.errstate(all="raise", under="ignore"):
        last = run(name, lambda x, t: (x - target) / np.float32(t), time_grid(steps, shift))[-1]
    assert np.isfinite(last.x_next).all()


@ALL
def test_nothing_is_written_into_what_a_velocity_gives(name: str) -> None:
    kept: list[tuple[Array, Array]] = []

    def velocity(x: Array, t: float) -> Array:
        v = x * np.float32(t)
        kept.append((v, v.copy()))
        v.setflags(write=False)
        return v

    run(name, velocity, UNEVEN)
    assert all(np.array_equal(v, copy) for v, copy in kept)


@pytest.mark.parametrize("name, first", [(name, 2 if name in ("heun", "ab3") else 1) for name in SOLVERS])
def test_nothing_is_evaluated_before_it_is_asked_for(name: str, first: int) -> None:
    calls: list[float] = []
    steps = SOLVERS[name](lambda x, t: (calls.append(t), x)[1], START, time_grid(8))
    assert not calls
    next(steps)
    assert len(calls) == first


@ALL
def test_runs_do_not_share_state(name: str) -> None:
    alone = run(name, _wave, UNEVEN)
    solver = SOLVERS[name]
    for one, other, expected in zip(
        solver(_wave, START, UNEVEN), solver(_gaussian, START, UNEVEN), alone, strict=True
    ):
        assert np.array_equal(one.x_next, expected.x_next)
        assert not np.array_equal(other.x_next, expected.x_next)
