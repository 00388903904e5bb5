"""ODE solvers of the flow, from noise at t = 1 to the latent at t = 0.

A solver is a generator function `solver(velocity, x, times)` that yields one `Step` for each pair of
neighbouring times. It keeps its own state between steps. Within a step it may evaluate the velocity as often
as it likes, but only at times 0 < t <= 1 that do not depend on the values of the states or velocities. The
times fall strictly from 1 to 0 and need not be evenly spaced: all coefficients are computed for the given
grid. Solvers never write into arrays that they receive, so that every `Step` stays valid; their coefficients
are Python floats, so that float32 states stay float32. To add a solver, write such a function and a line in
`SOLVERS`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]
Velocity: TypeAlias = Callable[[Array, float], Array]  # (x [1,N,D], t) -> dx/dt [1,N,D]
Solver: TypeAlias = Callable[[Velocity, Array, Sequence[float]], Iterator["Step"]]


@dataclass(frozen=True, eq=False)
class Step:
    """One step from t to t_next.

    `velocity` is the one at (x, t), whatever else the solver evaluates, since the clean latent is estimated
    from it.
    """

    index: int
    t: float
    t_next: float
    x: Array  # [1,N,D] at t
    velocity: Array  # [1,N,D] at (x, t)
    x_next: Array  # [1,N,D] at t_next


def euler(velocity: Velocity, x: Array, times: Sequence[float]) -> Iterator[Step]:
    """Integrate by Euler's method, as released: x <- x - (t - t_next) v.

    First order, one evaluation a step.
    """
    for index, (t, t_next) in enumerate(itertools.pairwise(times)):
        v = velocity(x, t)
        x_next = x - (t - t_next) * v
        yield Step(index, t, t_next, x, v, x_next)
        x = x_next


def heun(velocity: Velocity, x: Array, times: Sequence[float]) -> Iterator[Step]:
    """Integrate by Heun's method: Karras et al. 2022 (arXiv 2206.00364), Algorithm 1.

    Second order, two evaluations a step. The last step is Euler's, as nothing is evaluated at t = 0; that
    does not lower the order.
    """
    for index, (t, t_next) in enumerate(itertools.pairwise(times)):
        v = velocity(x, t)
        x_next = _heun_step(velocity, x, v, t, t_next)
        yield Step(index, t, t_next, x, v, x_next)
        x = x_next


def ab2(velocity: Velocity, x: Array, times: Sequence[float]) -> Iterator[Step]:
    """Integrate by two-step Adams-Bashforth for variable steps.

    Second order, one evaluation a step. The first step is Euler's; that does not lower the order. Source:
    Hairer, Norsett, Wanner, "Solving ODEs I", III.5.
    """
    nodes: tuple[tuple[float, Array], ...] = ()
    for index, (t, t_next) in enumerate(itertools.pairwise(times)):
        v = velocity(x, t)
        nodes = (*nodes[-1:], (t, v))
        x_next = _integrate(x, nodes, t, t_next)
        yield Step(index, t, t_next, x, v, x_next)
        x = x_next


def ab3(velocity: Velocity, x: Array, times: Sequence[float]) -> Iterator[Step]:
    """Integrate by three-step Adams-Bashforth for variable steps.

    Third order, one evaluation a step and one more in the first. The first step is Heun's and the second that
    of `ab2`: a single error of third order does not lower the order, but Euler's would. Source: as for `ab2`.
    """
    nodes: tuple[tuple[float, Array], ...] = ()
    for index, (t, t_next) in enumerate(itertools.pairwise(times)):
        v = velocity(x, t)
        nodes = (*nodes[-2:], (t, v))
        x_next = _integrate(x, nodes, t, t_next) if index else _heun_step(velocity, x, v, t, t_next)
        yield Step(index, t, t_next, x, v, x_next)
        x = x_next


def dpmpp_2m(velocity: Velocity, x: Array, times: Sequence[float]) -> Iterator[Step]:
    """Integrate by DPM-Solver++(2M): Lu et al. 2022 (arXiv 2211.01095), Algorithm 2.

    Second order, one evaluation a step: the estimate of the data, x - t v, is extrapolated linearly in
    log(alpha / sigma), with alpha = 1 - t and sigma = t. That is infinite at t = 1 and t = 0, so steps that
    touch an end, or look back to one, are Euler's. On a grid of n equal steps the last ones are long in
    log(alpha / sigma) for every n, so the error falls as log(n) / n^2.
    """
    before: tuple[float, Array] | None = None  # t and the data estimate of the previous step
    for index, (t, t_next) in enumerate(itertools.pairwise(times)):
        v = velocity(x, t)
        data = x - t * v
        ahead = data
        if before is not None and before[0] < 1 and t_next > 0:
            ratio = (_log_snr(t_next) - _log_snr(t)) / (_log_snr(t) - _log_snr(before[0]))
            ahead = data + (ratio / 2) * (data - before[1])
        x_next = ahead + (t_next / t) * (x - ahead)
        yield Step(index, t, t_next, x, v, x_next)
        before, x = (t, data), x_next


def unipc(velocity: Velocity, x: Array, times: Sequence[float]) -> Iterator[Step]:
    """Integrate by UniPC with p = 2, in flow form: Zhao et al. 2023 (arXiv 2302.04867).

    Third order, one evaluation a step. In flow form the linear term vanishes: the predictor is two-step
    Adams-Bashforth, and the corrector integrates the quadratic through the last two velocities and the one at
    the predicted point. The next step reuses that velocity, although the correction has moved x a little.

    A `Step` goes from one predicted point to the next, so that `Step.velocity` is the one at (x, t). The
    corrected points lie between two steps and are not yielded. The last step, to t = 0, is only predicted.
    """
    nodes: tuple[tuple[float, Array], ...] = ()
    corrected = x
    for index, (t, t_next) in enumerate(itertools.pairwise(times)):
        v = velocity(x, t)
        nodes = (*nodes[-2:], (t, v))
        if index:
            corrected = _integrate(corrected, nodes, nodes[-2][0], t)
        x_next = _integrate(corrected, nodes[-2:], t, t_next)
        yield Step(index, t, t_next, x, v, x_next)
        x = x_next


SOLVERS: dict[str, Solver] = {
    "euler": euler,
    "heun": heun,
    "ab2": ab2,
    "ab3": ab3,
    "dpmpp_2m": dpmpp_2m,
    "unipc": unipc,
}


def weights(nodes: Sequence[float], start: float, end: float) -> list[float]:
    """Return the integral from start to end of each Lagrange polynomial of up to four nodes.

    Simpson's rule is exact for cubics. These are the weights of Adams-Bashforth and Adams-Moulton.
    """

    def basis(j: int, t: float) -> float:
        return math.prod((t - node) / (nodes[j] - node) for i, node in enumerate(nodes) if i != j)

    middle = (start + end) / 2
    return [
        (end - start) / 6 * (basis(j, start) + 4 * basis(j, middle) + basis(j, end))
        for j in range(len(nodes))
    ]


def _integrate(x: Array, nodes: Sequence[tuple[float, Array]], start: float, end: float) -> Array:
    """Return x plus the integral from start to end of the polynomial through the velocities at the nodes."""
    for weight, (_, v) in zip(weights([t for t, _ in nodes], start, end), nodes, strict=True):
        x = x + weight * v
    return x


def _heun_step(velocity: Velocity, x: Array, v: Array, t: float, t_next: float) -> Array:
    """Return x at t_next by Heun's method, or by Euler's where t_next is 0; v is the velocity at (x, t)."""
    x_euler = x - (t - t_next) * v
    if t_next == 0:
        return x_euler
    return x - ((t - t_next) / 2) * (v + velocity(x_euler, t_next))


def _log_snr(t: float) -> float:
    """Return log(alpha / sigma) for 0 < t < 1."""
    return math.log1p(-t) - math.log(t)
