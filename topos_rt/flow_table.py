"""Solvers as tables of weights for `topos_rt.ops.flow_step`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from topos_rt.errors import OptionError, choose
from topos_rt.sampler import SamplerSettings
from topos_rt.solvers import weights

_EDGE = 1e-9  # as in topos_rt.sampler: times that are meant to be equal


def _euler(times: tuple[float, ...], index: int) -> tuple[float, float]:
    return times[index + 1] - times[index], 0.0


def _ab2(times: tuple[float, ...], index: int) -> tuple[float, float]:
    if index == 0:
        return _euler(times, index)
    before, now = weights(times[index - 1 : index + 1], times[index], times[index + 1])
    return now, before


# Solver -> weights of the velocity at this step and at the one before, in the sum that makes the next state.
FLOW_TABLES: dict[str, Callable[[tuple[float, ...], int], tuple[float, float]]] = {
    "euler": _euler,
    "ab2": _ab2,
}


def flow_table(settings: SamplerSettings) -> np.ndarray:
    """[steps, 2, 4] float32, for terms x, v_cond, v_uncond, the velocity before; outs x and the velocity.

    The velocity is (1 + w) v_cond - w v_uncond within `settings.interval`, else v_cond. Solvers with one
    evaluation a step that look back no further than one have such a table.

    Raises OptionError for another solver, guidance that is not settled, or reuse of guidance.
    """
    velocity_weights = choose(settings.solver, FLOW_TABLES, "solver with a table")
    w, (low, high) = settings.guidance, settings.interval
    if w is None:
        raise OptionError("guidance", got="None, the model's own", expected="that number from its manifest")
    if settings.reuse != 1:
        raise OptionError("guidance reuse", got=settings.reuse, expected="1 for a table")
    rows = []
    for index, t in enumerate(settings.grid[:-1]):
        acts = w if low - _EDGE <= t <= high + _EDGE else 0.0
        velocity = np.array([0.0, 1.0 + acts, -acts, 0.0])
        now, before = velocity_weights(settings.grid, index)
        rows.append([np.array([1.0, 0.0, 0.0, before]) + now * velocity, velocity])
    return np.array(rows, np.float32)
