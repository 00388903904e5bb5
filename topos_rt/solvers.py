"""ODE solvers of the flow, from noise at t = 1 to the latent at t = 0.

A solver is a generator function `solver(velocity, x, times)` that yields one `Step` for each pair of
neighbouring times. It owns all of its state between steps, and may evaluate the velocity as often as it likes
in one. To add one, write such a function and a line in `SOLVERS`. Solvers never write into arrays they were
given, so that every `Step` stays valid.
"""

from __future__ import annotations

import itertools
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

    `velocity` is the one at (x, t), whatever else was evaluated: the clean latent is estimated from it.
    """

    index: int
    t: float
    t_next: float
    x: Array  # [1,N,D] at t
    velocity: Array  # [1,N,D] at (x, t)
    x_next: Array  # [1,N,D] at t_next


def euler(velocity: Velocity, x: Array, times: Sequence[float]) -> Iterator[Step]:
    """Euler's method, as released: x <- x - (t - t_next) v. One evaluation a step, error of first order."""
    for index, (t, t_next) in enumerate(itertools.pairwise(times)):
        v = velocity(x, t)
        x_next = x - (t - t_next) * v
        yield Step(index, t, t_next, x, v, x_next)
        x = x_next


SOLVERS: dict[str, Solver] = {"euler": euler}
