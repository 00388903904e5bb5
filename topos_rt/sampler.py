"""What a solver is given: settings and presets, the time grid, seeded noise, guidance.

Time runs from 1 (noise) to 0 (data). Source of the maths: `FlowEulerCfgSampler` of the TOPOS release
(arXiv 2605.14594).
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from topos_rt.errors import OptionError, choose
from topos_rt.solvers import SOLVERS, Array, Step, Velocity

MAX_STEPS = 1000
MAX_SHIFT = 1000.0  # a stronger shift squeezes the steps together below the resolution of float32 times
MAX_GUIDANCE = 1000.0
SEED_END = 2**64


def _real(what: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise OptionError(what, got=repr(value)[:40], expected=f"a number from {low:g} to {high:g}")
    return float(value)


@dataclass(frozen=True)
class SamplerSettings:
    """How to sample. Raises OptionError for a value out of range."""

    steps: int = 50
    solver: str = "euler"
    guidance: float | None = None  # w, 0 to 1000; None: the model's own, from its manifest
    shift: float = 1.0  # r of `time_grid`; 1 is no shift

    def __post_init__(self) -> None:
        choose(self.solver, SOLVERS, "solver")
        if type(self.steps) is not int or not 1 <= self.steps <= MAX_STEPS:
            raise OptionError(
                "steps", got=repr(self.steps)[:40], expected=f"a whole number from 1 to {MAX_STEPS}"
            )
        if self.guidance is not None:
            object.__setattr__(self, "guidance", _real("guidance", self.guidance, 0, MAX_GUIDANCE))
        object.__setattr__(self, "shift", _real("shift", self.shift, 1 / MAX_SHIFT, MAX_SHIFT))


PRESETS: dict[str, SamplerSettings] = {
    "reference": SamplerSettings(steps=50),  # as released
    "balanced": SamplerSettings(steps=12),
    "fast": SamplerSettings(steps=6),
}


def resolve(
    preset: str,
    steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    shift: float | None = None,
) -> SamplerSettings:
    """The settings of a preset, with those given put in their place.

    Raises OptionError for an unknown preset or solver or a value out of range.
    """
    given = {"steps": steps, "solver": solver, "guidance": guidance, "shift": shift}
    changes = {k: v.item() if isinstance(v, np.generic) else v for k, v in given.items() if v is not None}
    return dataclasses.replace(choose(preset, PRESETS, "preset"), **changes)  # type: ignore[arg-type]


def time_grid(steps: int, shift: float = 1.0) -> tuple[float, ...]:
    """steps + 1 times from 1 to 0: equal steps t, moved to t' = r t / (1 + (r - 1) t) with r = shift.

    r > 1 spends more steps near the noise. Python floats, so that float32 states stay float32.
    """
    t = np.linspace(1.0, 0.0, steps + 1)
    # The same formula, with a denominator that makes the first time 1 exactly.
    return tuple((shift * t / (shift * t + (1.0 - t))).tolist())


def check_seed(seed: int) -> int:
    """`seed` as an int. Raises OptionError unless it is a whole number with 0 <= seed < 2**64."""
    try:
        value = -1 if isinstance(seed, bool | np.bool_) else operator.index(seed)
    except TypeError:
        value = -1
    if not 0 <= value < SEED_END:
        raise OptionError("seed", got=repr(seed)[:40], expected="a whole number from 0 to 2**64 - 1")
    return value


def noise(seed: int, shape: tuple[int, ...]) -> Array:
    """Standard normal float32 noise, drawn on the host with Philox: a seed means the same on every backend.

    The release draws on the GPU, so its seeds do not carry over. Raises OptionError for a seed out of range.
    """
    generator = np.random.Generator(np.random.Philox(check_seed(seed)))
    return generator.standard_normal(shape, dtype=np.float32)


def guided(conditional: Velocity, unconditional: Velocity, w: float) -> Velocity:
    """Classifier-free guidance as in the release: (1 + w) v_cond - w v_uncond.

    With w = 0 that is `conditional` itself, and `unconditional` is never evaluated.
    """
    if w == 0:
        return conditional

    def velocity(x: Array, t: float) -> Array:
        return (1 + w) * conditional(x, t) - w * unconditional(x, t)

    return velocity


def sample(velocity: Velocity, start: Array, settings: SamplerSettings) -> Iterator[Step]:
    """Integrate from noise `start` [1,N,D] at t = 1 to the latent at t = 0, one `Step` at a time."""
    return SOLVERS[settings.solver](velocity, start, time_grid(settings.steps, settings.shift))


def clean_estimate(step: Step, sigma_min: float) -> Array:
    """Estimate of the clean latent at time t: (1 - s) x_t - (s + (1 - s) t) v, with s = sigma_min.

    Follows from x_t = (1 - t) x0 + (s + (1 - s) t) e and v = (1 - s) e - x0; what a live preview decodes.
    """
    return (1 - sigma_min) * step.x - (sigma_min + (1 - sigma_min) * step.t) * step.velocity
