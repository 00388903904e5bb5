"""The settings of a run of the sampler: presets, checks, the time grid and the seed.

Time runs from 1 (noise) to 0 (data). Source of the maths: `FlowEulerCfgSampler` of the TOPOS release
(arXiv 2605.14594).
"""

from __future__ import annotations

import dataclasses
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from topos_rt.errors import OptionError, choose
from topos_rt.flow.solvers import SOLVERS

MAX_STEPS = 1000
MAX_SHIFT = 1000.0  # a stronger shift squeezes the steps together below the resolution of float32 times
MAX_GUIDANCE = 1000.0
MAX_TEMPERATURE = 2.0
MAX_LANDMARK_PULL = 100.0
SEED_END = 2**64
DEFAULT_PRESET = "balanced"


def _real(what: str, value: object, low: float, high: float) -> float:
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
        raise OptionError(what, got=_short(value), expected=f"a number from {low:g} to {high:g}")
    return float(number)


def _whole(what: str, value: object) -> int:
    number = value.item() if isinstance(value, np.generic) else value
    if type(number) is not int or not 1 <= number <= MAX_STEPS:
        raise OptionError(what, got=_short(value), expected=f"a whole number from 1 to {MAX_STEPS}")
    return number


def _interval(value: Any) -> tuple[float, float]:
    expected = "two numbers, 0 <= LO <= HI <= 1"
    what = "guidance interval"
    numbers = _numbers(what, value, expected)
    if len(numbers) != 2 or numbers[0] > numbers[1]:
        raise OptionError(what, got=_short(value), expected=expected)
    return numbers[0], numbers[1]


def _times(value: Any) -> tuple[float, ...]:
    expected = f"2 to {MAX_STEPS + 1} numbers that fall strictly from 1 to 0"
    numbers = _numbers("times", value, expected)
    # The networks take float32 times: two times that are equal in float32 make no step.
    falling = 2 <= len(numbers) <= MAX_STEPS + 1 and bool((np.diff(np.array(numbers, np.float32)) < 0).all())
    if not falling or numbers[0] != 1 or numbers[-1] != 0:
        raise OptionError("times", got=_short(value), expected=expected)
    return numbers


def _numbers(what: str, value: Any, expected: str) -> tuple[float, ...]:
    """Return a sequence of numbers from 0 to 1 as a tuple of floats."""
    try:
        return tuple(_real(what, number, 0, 1) for number in value)
    except (TypeError, OptionError) as error:
        raise OptionError(what, got=_short(value), expected=expected) from error


def _short(value: object) -> str:
    return repr(value)[:40]


@dataclass(frozen=True)
class SamplerSettings:
    """The settings of one run. Raises OptionError for values out of range or at odds with each other."""

    steps: int = 50
    solver: str = "euler"
    guidance: float | None = None  # w, 0 to 1000; None: the model's own, from its manifest
    shift: float = 1.0  # r of `time_grid`; 1 is no shift
    interval: tuple[float, float] = (0.0, 1.0)  # guidance acts at the times lo <= t <= hi
    reuse: int = 1  # v_cond - v_uncond is computed at every reuse-th guided evaluation, and kept in between
    times: tuple[float, ...] | None = None  # steps + 1 times in place of those of `time_grid`
    temperature: float | None = None  # scale of the noise, 0 to 2; 1 as released; None: the model's own
    # How much the landmarks of the face count while sampling, 0 to 100: 1 as much as their errors allow.
    landmark_pull: float = 0.0

    def __post_init__(self) -> None:
        choose(self.solver, SOLVERS, "solver")
        self._set(
            steps=_whole("steps", self.steps),
            guidance=None if self.guidance is None else _real("guidance", self.guidance, 0, MAX_GUIDANCE),
            shift=_real("shift", self.shift, 1 / MAX_SHIFT, MAX_SHIFT),
            interval=_interval(self.interval),
            reuse=_whole("guidance reuse", self.reuse),
            landmark_pull=_real("landmark pull", self.landmark_pull, 0, MAX_LANDMARK_PULL),
        )
        if self.temperature is not None:
            self._set(temperature=_real("temperature", self.temperature, 0, MAX_TEMPERATURE))
        if self.times is not None:
            self._set(times=_times(self.times))
            if self.steps != len(self.times) - 1:
                raise OptionError("steps", got=self.steps, expected=f"{len(self.times) - 1}, as `times` has")
            if self.shift != 1:
                raise OptionError("shift", got=f"{self.shift:g}", expected="1, as `times` are the grid")

    @property
    def grid(self) -> tuple[float, ...]:
        """The steps + 1 times of the run, from 1 to 0."""
        return time_grid(self.steps, self.shift) if self.times is None else self.times

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


# `reference` is the release's; benchmarks/bench_sampler.py chooses the others from measurements, by a rule.
PRESETS: dict[str, SamplerSettings] = {
    "reference": SamplerSettings(steps=50),
    "balanced": SamplerSettings(steps=12, solver="unipc", shift=3.0),
    "fast": SamplerSettings(steps=8, solver="unipc", shift=3.0),
}


def resolve(preset: str = DEFAULT_PRESET, **given: Any) -> SamplerSettings:
    """Return the settings of a preset, overridden by the given `SamplerSettings` fields that are not None.

    `times` set the number of steps and replace the preset's shift; steps or a shift replace its times.

    Raises OptionError for an unknown preset or solver, a value out of range, or `times` that contradict the
    steps or shift given with them; TypeError for a keyword that is not a field.
    """
    fields = SamplerSettings.__dataclass_fields__
    for name in given:
        if name not in fields:
            names = ", ".join(("preset", *fields))
            raise TypeError(f"unexpected keyword argument {name!r}; expected one of: {names}")
    changes = {name: value for name, value in given.items() if value is not None}
    if "times" in changes:
        grid = _times(changes["times"])
        changes = {"steps": len(grid) - 1, "shift": 1.0} | changes | {"times": grid}
    elif not changes.keys().isdisjoint(("steps", "shift")):
        changes["times"] = None
    return dataclasses.replace(choose(preset, PRESETS, "preset"), **changes)


def time_grid(steps: int, shift: float = 1.0) -> tuple[float, ...]:
    """Return steps + 1 times from 1 to 0: equal steps t, moved to t' = r t / (1 + (r - 1) t) with r = shift.

    r > 1 spends more steps near the noise. The times are Python floats, so that float32 states stay float32.
    """
    t = np.linspace(1.0, 0.0, steps + 1)
    # The same formula, with a denominator that makes the first time 1 exactly.
    return tuple((shift * t / (shift * t + (1.0 - t))).tolist())


def check_seed(seed: int) -> int:
    """Return `seed` as an int. Raises OptionError unless it is a whole number with 0 <= seed < 2**64."""
    try:
        value = -1 if isinstance(seed, bool | np.bool_) else operator.index(seed)
    except TypeError:
        value = -1
    if not 0 <= value < SEED_END:
        raise OptionError("seed", got=repr(seed)[:40], expected="a whole number from 0 to 2**64 - 1")
    return value
