"""How the sampler benchmark picks time grids, the front and the presets. This needs no model."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bench_sampler import FAST_MM, _front, _presets, _row, _settings, _variants
from benchmarks.time_grids import best_grids
from topos_rt.flow.counting import network_evaluations
from topos_rt.flow.settings import PRESETS, SamplerSettings

ROOT = Path(__file__).parents[2]
TIMES = np.linspace(1, 0, 9)


def trajectories(bend: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """Return x(t) = t + tanh(bend (t - 0.7)) times n amounts, and its derivative: a curve around t = 0.7."""
    amount = np.random.default_rng(0).uniform(0.5, 2, (3, 1, 4))
    t = TIMES[None, :, None]
    return (t + np.tanh(bend * (t - 0.7))) * amount, (1 + bend / np.cosh(bend * (t - 0.7)) ** 2) * amount


def cost(grid: tuple[float, ...], states: np.ndarray, velocities: np.ndarray) -> float:
    at = [int(np.flatnonzero(np.isclose(TIMES, t))[0]) for t in grid]
    misses = [
        states[:, j] - states[:, i] - (TIMES[j] - TIMES[i]) * velocities[:, i]
        for i, j in itertools.pairwise(at)
    ]
    return float(sum(np.square(miss).mean() for miss in misses))


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_no_grid_is_better_than_the_best(steps: int) -> None:
    states, velocities = trajectories()
    grid = best_grids(TIMES, states, velocities, (steps,))[steps]
    assert grid[0] == 1 and grid[-1] == 0 and len(grid) == steps + 1
    SamplerSettings(steps, times=grid)  # raises unless the times fall strictly
    inner = itertools.combinations(TIMES[1:-1], steps - 1)
    best = min(cost((1.0, *map(float, times), 0.0), states, velocities) for times in inner)
    assert cost(grid, states, velocities) == pytest.approx(best, rel=1e-9)


def test_several_grids_at_once_are_those_alone() -> None:
    states, velocities = trajectories()
    together = best_grids(TIMES, states, velocities, (2, 4))
    assert together == {n: best_grids(TIMES, states, velocities, (n,))[n] for n in (2, 4)}


def row(evaluations: int, mean: float, p99: float = 1.0, most: float = 1.0) -> dict[str, Any]:
    return {"evaluations": evaluations, "mean_mm": mean, "p99_mm": p99, "max_mm": most}


def test_the_front_beats_all_that_is_cheaper() -> None:
    rows = [row(4, 3.0), row(4, 2.0), row(4, 2.5), row(6, 2.1), row(8, 1.0), row(8, 1.5), row(9, 1.0)]
    assert _front(rows, 1) == [rows[1], rows[4]]
    assert _front(rows, 2) == [rows[1], rows[2], rows[4], rows[5]]


def test_presets_by_rule() -> None:
    reference = row(100, 0.2, 1.0, 3.0)
    worse_tail, free, dearer = row(12, 0.1, 1.2, 2.0), row(16, 0.15, 0.9, 2.9), row(20, 0.01, 0.1, 0.1)
    near, nearer = row(6, FAST_MM), row(8, 0.3)
    found = _presets([reference, near, worse_tail, free, dearer, nearer, row(4, 0.51)])
    assert found == {"reference": reference, "balanced": free, "fast": near}
    assert _presets([reference]) == {"reference": reference, "fast": reference}


def result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    return found


def test_the_presets_are_those_that_were_picked_by_rule() -> None:
    """On the weights of the second training run, which no page quotes."""
    picked = result("earlier/sampler_mini_second")
    assert {name: _settings(row) for name, row in picked["presets"].items()} == PRESETS
    assert _presets(picked["measured"]) == picked["presets"]


def test_what_is_quoted_is_of_the_presets_that_ship() -> None:
    measured = result("sampler_mini")
    assert {name: _settings(row) for name, row in measured["presets"].items()} == PRESETS
    assert all(row in measured["measured"] for row in measured["presets"].values())
    assert _presets(measured["measured"]) == measured["by_rule"]
    for name, settings in PRESETS.items():
        assert [row["step"] for row in measured["previews"][name]] == list(range(1, settings.steps))


@pytest.mark.parametrize(
    "settings",
    [
        SamplerSettings(8, "ab2", shift=2.0, interval=(0.1, 0.9), reuse=2),
        SamplerSettings(2, "heun", times=(1.0, 0.4, 0.0)),
    ],
)
def test_a_row_holds_its_settings(settings: SamplerSettings) -> None:
    made = _row(settings, np.array([[1.0, 3.0], [2.0, 2.0]]))
    assert _settings(made) == settings
    assert made["evaluations"] == network_evaluations(dataclasses.replace(settings, guidance=1.0))
    assert (made["mean_mm"], made["max_mm"], made["heads"]) == (2.0, 3.0, 2)


def test_variants_are_cheaper() -> None:
    base = SamplerSettings(10)
    variants = _variants(base)
    costs = [network_evaluations(dataclasses.replace(s, guidance=1.0)) for s in variants]
    assert base not in variants
    assert variants
    assert max(costs) < 20
