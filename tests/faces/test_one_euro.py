"""The One Euro filter against its definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from topos_rt.errors import OptionError
from topos_rt.faces.one_euro import OneEuro, Smoothing

STEP = 1 / 30


def scalar(values: list[float], hz: float, slope: float, step: float = STEP) -> list[float]:
    """Filter numbers as the paper's algorithm 1 does, whose speeds are smoothed at 1 Hz."""

    def alpha(cutoff: float) -> float:
        return 1 / (1 + 1 / (2 * math.pi * cutoff) / step)

    out, speed = [values[0]], 0.0
    for value in values[1:]:
        speed = alpha(1.0) * (value - out[-1]) / step + (1 - alpha(1.0)) * speed
        share = alpha(hz + slope * abs(speed))
        out.append(share * value + (1 - share) * out[-1])
    return out


@pytest.mark.parametrize(("hz", "slope"), [(1.0, 0.0), (0.5, 0.02), (3.0, 1.0)])
def test_it_is_the_filter_of_the_paper(hz: float, slope: float) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, 60).cumsum()
    smooth = OneEuro((hz, slope))
    found = [float(smooth(np.array([[value]]), STEP)[0, 0]) for value in values]
    np.testing.assert_allclose(found, scalar(values.tolist(), hz, slope), rtol=1e-12)


def test_each_point_has_its_own_speed_whichever_way_it_moves() -> None:
    """A point is smoothed alike along an axis and along a diagonal, and whatever others do."""
    moves = np.linspace(0, 1, 20)[:, None] ** 2
    paths = np.stack(
        [moves * [1, 0], moves * [math.sqrt(0.5), math.sqrt(0.5)], moves * [0, 0]], 1
    )  # [20,3,2]
    smooth = OneEuro((1.0, 2.0))
    last = [smooth(points, STEP) for points in paths][-1]
    np.testing.assert_allclose(np.linalg.norm(last[0]), np.linalg.norm(last[1]))
    assert not last[2].any()
    assert 0.5 < last[0, 0] < 1


def test_jitter_shrinks_at_rest_and_delay_in_motion() -> None:
    noise = np.random.default_rng(2).normal(0, 0.01, (300, 1, 1))
    rests, moves = OneEuro((1.0, 0.5)), OneEuro((1.0, 0.5))
    rest = np.array([rests(value, STEP) for value in noise])
    assert rest[60:].std() < 0.4 * noise[60:].std()
    ramp = np.arange(300)[:, None, None] * STEP * 20  # 20 units a second
    behind = (ramp - np.array([moves(value, STEP) for value in ramp]))[-1, 0, 0] / 20
    assert 0 < behind < 1 / (2 * math.pi * (1.0 + 0.5 * 20)) * 1.05  # seconds


def test_the_unit_of_length_does_not_matter() -> None:
    path = np.random.default_rng(3).normal(0, 1, (30, 5, 2)).cumsum(0)
    small, large = OneEuro((1.0, 0.3)), OneEuro((1.0, 0.3))
    for points in path:
        a, b = small(points, STEP, unit=1.0), large(points * 7, STEP, unit=7.0)
    np.testing.assert_allclose(a * 7, b)


BAD: dict[str, Any] = {
    "a number": 1.0,
    "three numbers": (1.0, 2.0, 3.0),
    "no frequency": (0.0, 1.0),
    "a negative frequency": (-1.0, 1.0),
    "a negative slope": (1.0, -0.1),
    "NaN": (float("nan"), 1.0),
    "infinity": (1.0, float("inf")),
    "text": ("fast", "slow"),
    "nothing": None,
}


@pytest.mark.parametrize("case", BAD)
def test_a_cutoff_out_of_range_is_refused(case: str) -> None:
    with pytest.raises(OptionError, match=r"smoothing, angles: got .* expected a frequency above 0"):
        Smoothing(angles=BAD[case])
