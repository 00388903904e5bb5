"""Statistics of run times, and a test of whether two sets of them differ.

Percentiles are interpolated linearly between order statistics (NumPy's default, type 7 of Hyndman and Fan
1996). Consecutive runs are not independent: a machine warms up, or another process wakes. So resampling draws
blocks of consecutive runs (block bootstrap, Kuensch 1989), never single runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from topos_rt.errors import OptionError

Row: TypeAlias = dict[str, "float | int | None"]

PERCENTILES = (50, 90, 95, 99)
_BLOCK = 5  # consecutive runs that stay together
_RESAMPLES = 2000
_CONFIDENCE = 95.0
MIN_COMPARED = 4 * _BLOCK  # runs; fewer give too few blocks to resample


def summary(samples: Sequence[float]) -> Row:
    """Return min, mean, p50, p90, p95, p99, max, cv and n of one or more samples, in the unit of the samples.

    cv is the standard deviation (with n - 1 in its denominator) over the mean, None for a single sample.
    """
    values = np.asarray(samples, np.float64)
    mean = float(values.mean())
    row: Row = {"min": float(values.min()), "mean": mean}
    for percentile, value in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True):
        row[f"p{percentile}"] = float(value)
    spread = float(values.std(ddof=1)) if len(values) > 1 else None
    return row | {
        "max": float(values.max()),
        "cv": None if spread is None or mean == 0 else spread / mean,
        "n": len(values),
    }


def a_a_spread(samples: Sequence[float], seed: int = 0) -> float:
    """Return how far apart the medians of two halves of the samples lie, as a share: the 95th percentile.

    The halves consist of blocks of consecutive runs, drawn at random. A smaller difference between two
    results is noise. Raises OptionError for fewer than `MIN_COMPARED` samples.
    """
    blocks = _blocks(samples)
    rng = np.random.default_rng(seed)
    order = rng.random((_RESAMPLES, len(blocks))).argsort(1)
    half = len(blocks) // 2
    first, second = (
        np.median(blocks[part].reshape(_RESAMPLES, -1), axis=1)
        for part in (order[:, :half], order[:, half : 2 * half])
    )
    return float(np.percentile(np.abs(second / first - 1), _CONFIDENCE))


@dataclass(frozen=True)
class Difference:
    """How much slower b is than a, as a share of a: 0.05 is 5 % slower, -0.05 is 5 % faster."""

    change: float  # of the medians
    low: float  # 95 % interval of `change`
    high: float
    a_a: float  # the larger A/A spread of the two; for interleaved runs, the spread of b[i] / a[i]

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero and the change is larger than the A/A spread."""
        return (self.low > 0 or self.high < 0) and abs(self.change) > self.a_a


def difference(
    a: Sequence[float], b: Sequence[float], *, interleaved: bool = False, seed: int = 0
) -> Difference:
    """Compare two sets of run times by their medians.

    interleaved: a[i] and b[i] ran one after the other, so that a disturbance hits the same block of both; the
    same blocks are then drawn from both. Raises OptionError for fewer than `MIN_COMPARED` samples.
    """
    first, second = _blocks(a), _blocks(b)
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(first), (_RESAMPLES, len(first)))
    others = picks if interleaved else rng.integers(0, len(second), (_RESAMPLES, len(second)))
    drawn = [
        np.median(blocks[picked % len(blocks)].reshape(_RESAMPLES, -1), axis=1)
        for blocks, picked in ((first, picks), (second, others))
    ]
    tail = (100 - _CONFIDENCE) / 2
    low, high = np.percentile(drawn[1] / drawn[0] - 1, [tail, 100 - tail])
    change = float(np.median(np.asarray(b)) / np.median(np.asarray(a)) - 1)
    if interleaved:  # a disturbance common to both is not noise in their difference
        noise = a_a_spread((np.asarray(b) / np.asarray(a)).tolist(), seed)
    else:
        noise = max(a_a_spread(a, seed), a_a_spread(b, seed))
    return Difference(change, float(low), float(high), noise)


def _blocks(samples: Sequence[float]) -> np.ndarray:
    """Return the samples in order as [blocks, _BLOCK], dropping the surplus at the beginning."""
    values = np.asarray(samples, np.float64)
    if len(values) < MIN_COMPARED:
        raise OptionError(
            "runs to compare",
            got=len(values),
            expected=f"{MIN_COMPARED} or more",
            fix="measure again with more --runs",
        )
    return values[len(values) % _BLOCK :].reshape(-1, _BLOCK)
