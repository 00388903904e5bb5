"""Counts of the evaluations of the velocity and the network in one run.

All counts are taken from a run on empty arrays, so they hold for every solver of the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topos_rt.errors import choose
from topos_rt.flow.sampling import guided, sample
from topos_rt.flow.settings import SamplerSettings
from topos_rt.flow.solvers import SOLVERS
from topos_rt.support.arrays import Array

_EMPTY = np.zeros(0, np.float32)


def velocity_evaluations(solver: str, steps: int) -> int:
    """Return how often a solver evaluates the velocity in a run. Raises OptionError for an unknown solver."""
    times: list[float] = []

    def velocity(x: Array, t: float) -> Array:
        times.append(t)
        return x

    grid = [1 - k / steps for k in range(steps + 1)]
    for _ in choose(solver, SOLVERS, "solver")(velocity, _EMPTY, grid):
        pass
    return len(times)


@dataclass
class NetworkRuns:
    """A `topos_rt.flow.sampling.Field` that counts its evaluations."""

    unguided: int = 0
    guided_runs: int = 0

    def conditional(self, x: Array, t: float) -> Array:
        """Count an evaluation under the condition alone."""
        self.unguided += 1
        return x

    def guided(self, x: Array, t: float, w: float) -> tuple[Array, Array]:
        """Count an evaluation with and without the condition."""
        self.guided_runs += 1
        return x, x

    @property
    def passes(self) -> int:
        """The number of forward passes of the network: a guided evaluation takes two."""
        return self.unguided + 2 * self.guided_runs


def network_runs(settings: SamplerSettings) -> NetworkRuns:
    """Count the network's runs for one head. Raises OptionError where the guidance is None (the model's)."""
    count = NetworkRuns()
    for _ in sample(guided(count, settings), _EMPTY, settings):
        pass
    return count


def network_evaluations(settings: SamplerSettings) -> int:
    """Return the number of forward passes of the network for one head. Raises as `network_runs` does."""
    return network_runs(settings).passes
