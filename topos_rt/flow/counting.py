"""How often a run evaluates the network, counted by a run on nothing: it holds for every solver."""

from __future__ import annotations

import numpy as np

from topos_rt.errors import choose
from topos_rt.flow.sampling import guided, sample
from topos_rt.flow.settings import SamplerSettings
from topos_rt.flow.solvers import SOLVERS, Array


def evaluations(solver: str, steps: int) -> int:
    """How often a solver evaluates the velocity in that many steps. Raises OptionError for an unknown solver.

    Counted in a run on nothing, so it holds for every solver of the table.
    """
    times: list[float] = []

    def velocity(x: Array, t: float) -> Array:
        times.append(t)
        return x

    grid = [1 - k / steps for k in range(steps + 1)]
    for _ in choose(solver, SOLVERS, "solver")(velocity, np.zeros(0, np.float32), grid):
        pass
    return len(times)


def network_evaluations(settings: SamplerSettings) -> int:
    """Forward passes of the network in one run; a guided evaluation with v_uncond is two.

    Counted in a run on nothing, so it holds for every solver. Raises OptionError where the guidance is still
    the model's own.
    """
    count = _Count()
    for _ in sample(guided(count, settings), np.zeros(0, np.float32), settings):
        pass
    return count.passes


class _Count:
    """A `Field` that counts."""

    passes = 0

    def conditional(self, x: Array, t: float) -> Array:
        self.passes += 1
        return x

    def guided(self, x: Array, t: float, w: float) -> tuple[Array, Array]:
        self.passes += 2
        return x, x
