"""Statistics against numbers worked out by hand, and verdicts on times whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from topos_rt.bench.stats import MIN_COMPARED, a_a_spread, difference, summary
from topos_rt.errors import OptionError


def test_a_summary_done_by_hand() -> None:
    row = summary([4, 1, 3, 2])
    assert row == {
        "min": 1,
        "mean": 2.5,
        "p50": 2.5,
        "p90": pytest.approx(3.7),
        "p95": pytest.approx(3.85),
        "p99": pytest.approx(3.97),
        "max": 4,
        "cv": pytest.approx((5 / 3) ** 0.5 / 2.5),
        "n": 4,
    }


def test_one_sample_has_no_spread() -> None:
    row = summary([7.0])
    assert (row["min"], row["p99"], row["max"], row["cv"], row["n"]) == (7, 7, 7, None, 1)


def drawn(seed: int, slower: float = 0.0, runs: int = 100) -> np.ndarray:
    """Return times near 10 ms that vary by 3 %, with a slow tail."""
    rng = np.random.default_rng(seed)
    tail = rng.exponential(0.3, runs) * (rng.random(runs) < 0.1)
    return (1 + slower) * (10 + 0.3 * rng.standard_normal(runs) + tail)


def verdicts(slower: float, interleaved: bool) -> list[bool]:
    found = [difference(drawn(k), drawn(1000 + k, slower), interleaved=interleaved) for k in range(40)]
    return [row.significant and (row.change > 0) == (slower >= 0) for row in found]


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("slower", [0.05, -0.05])
def test_five_percent_are_seen(slower: float, interleaved: bool) -> None:
    assert sum(verdicts(slower, interleaved)) == 40


@pytest.mark.parametrize("interleaved", [False, True])
def test_no_difference_is_seen_where_there_is_none(interleaved: bool) -> None:
    assert sum(verdicts(0.0, interleaved)) <= 2  # 5 % of 40


def test_the_change_is_that_of_the_medians() -> None:
    found = difference([10.0] * 20, [10.5] * 20)
    assert found.change == pytest.approx(0.05)
    assert (found.low, found.high, found.a_a) == (pytest.approx(0.05), pytest.approx(0.05), 0)
    assert found.significant


def test_turns_take_out_what_disturbs_both() -> None:
    """On a machine that slows down by half, a difference of 3 % shows only if the two took turns."""
    drift = np.linspace(1, 1.5, 200).repeat(1)
    a = drift * drawn(1, runs=200)
    b = drift * drawn(2, 0.03, runs=200)
    by_turns, apart = difference(a, b, interleaved=True), difference(a, b)
    assert by_turns.significant and not apart.significant
    assert by_turns.high - by_turns.low < 0.7 * (apart.high - apart.low)


def test_the_spread_grows_with_what_it_measures() -> None:
    calm, rough = drawn(3), drawn(3) * np.where(np.arange(100) // 10 % 2, 1.2, 1.0)
    assert 0 < a_a_spread(calm) < 0.02 < 0.1 < a_a_spread(rough)


def test_the_same_samples_give_the_same_verdict() -> None:
    assert difference(drawn(1), drawn(2)) == difference(drawn(1), drawn(2))


def test_results_of_different_length() -> None:
    assert difference(drawn(1, runs=100), drawn(2, 0.05, runs=43)).significant


@pytest.mark.parametrize("count", [1, MIN_COMPARED - 1])
def test_too_few_runs(count: int) -> None:
    with pytest.raises(OptionError, match=f"runs to compare: got {count}; expected {MIN_COMPARED} or more"):
        difference(drawn(1), [1.0] * count)
