"""How a map is made: the release's way, and the ways that cost less.

The release takes 50 steps of Euler's method with a true CFG scale of 1.2 at every step: 100 evaluations of
the transformer. Fewer steps, guidance in an interval or reused, and other solvers change the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from topos_rt.errors import OptionError
from topos_rt.flow.counting import network_evaluations
from topos_rt.flow.settings import MAX_STEPS, SamplerSettings
from topos_rt.texture.official.manifest import TextureManifest
from topos_rt.texture.official.schedule import run_times


@dataclass(frozen=True)
class PaintOptions:
    """What a caller may choose; None is the release's. See `sampler_settings` for the errors.

    steps: the number of steps. solver: one of `topos_rt.SOLVERS`. guidance: the true CFG scale; 1 is none,
    and halves the evaluations. interval: the times at which guidance acts, 1 being noise and 0 the map.
    reuse: guidance is computed at every reuse-th guided evaluation, and its difference kept in between.
    """

    steps: int | None = None
    solver: str = "euler"
    guidance: float | None = None
    interval: Sequence[float] = (0.0, 1.0)
    reuse: int = 1


def sampler_settings(manifest: TextureManifest, options: PaintOptions) -> SamplerSettings:
    """Return the settings of a run. Raises OptionError for a value out of range."""
    steps = manifest.steps if options.steps is None else options.steps
    if type(steps) is not int or not 2 <= steps <= MAX_STEPS:
        raise OptionError(
            "steps of the texture", got=repr(steps)[:40], expected=f"a whole number from 2 to {MAX_STEPS}"
        )
    scale = manifest.guidance if options.guidance is None else options.guidance
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 1 <= scale <= 1000:
        raise OptionError(
            "guidance of the texture", got=repr(scale)[:40], expected="a number from 1 (none) to 1000"
        )
    return SamplerSettings(
        steps=steps,
        solver=options.solver,
        guidance=float(scale) - 1.0,  # of a scale s, v + (s - 1) (v - u) is what SamplerSettings calls w
        interval=tuple(options.interval),  # type: ignore[arg-type]
        reuse=options.reuse,
        times=run_times(manifest.schedule, manifest.picture.tokens, steps),
    )


def evaluations(settings: SamplerSettings) -> int:
    """Return how often the transformer runs for one map."""
    return network_evaluations(settings)
