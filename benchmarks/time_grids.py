"""Time grids made for a model: where on a known trajectory a few steps are best placed."""

from __future__ import annotations

import numpy as np

_DECIMALS = 4


def best_grids(
    times: np.ndarray, states: np.ndarray, velocities: np.ndarray, steps: tuple[int, ...]
) -> dict[int, tuple[float, ...]]:
    """Return for each number of steps the grid whose Euler steps stay closest to the trajectories.

    times [M] from 1 to 0 are the candidates; states and velocities [n,M,K] lie on n trajectories. The cost of
    a step from i to j is its local error, the mean square of x_j - (x_i + (t_j - t_i) v_i). Dynamic
    programming finds the cheapest path with the given number of steps from the first time to the last.
    """
    local = np.full((len(times), len(times)), np.inf)
    for i in range(len(times) - 1):
        reach = (times[i + 1 :] - times[i])[None, :, None]
        missed = states[:, i + 1 :] - (states[:, i : i + 1] + reach * velocities[:, i : i + 1])
        local[i, i + 1 :] = np.square(missed, dtype=np.float64).mean((0, 2))
    cost = np.full(len(times), np.inf)
    cost[0] = 0
    came_from: list[np.ndarray] = []
    for _ in range(max(steps)):
        totals = cost[:, None] + local
        came_from.append(totals.argmin(0))
        cost = totals.min(0)
    grids = {}
    for count in steps:
        path = [len(times) - 1]
        for before in reversed(came_from[:count]):
            path.append(int(before[path[-1]]))
        grids[count] = tuple(round(float(times[i]), _DECIMALS) for i in reversed(path))
    return grids
