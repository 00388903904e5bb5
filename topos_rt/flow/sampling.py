"""One run of the sampler: seeded noise, guidance, the steps, and the estimate of the clean latent.

Time runs from 1 (noise) to 0 (data). The maths is that of `FlowEulerCfgSampler` in the TOPOS release
(arXiv 2605.14594).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from topos_rt.errors import OptionError
from topos_rt.flow.settings import SamplerSettings, check_seed
from topos_rt.flow.solvers import SOLVERS, Step, Velocity
from topos_rt.support.arrays import Array

_EDGE = 1e-9  # rounding of the grid must not decide whether guidance acts at an edge of its interval


def noise(seed: int, shape: tuple[int, ...]) -> Array:
    """Return standard normal float32 noise. Raises OptionError for a seed out of range.

    It is drawn on the host with Philox, so that a seed means the same on every backend. The release draws on
    the GPU, so its seeds do not carry over.
    """
    generator = np.random.Generator(np.random.Philox(check_seed(seed)))
    return generator.standard_normal(shape, dtype=np.float32)


class Field(Protocol):
    """The DiT bound to one context. States and velocities are [1,N,D]."""

    def conditional(self, x: Array, t: float) -> Array:
        """Return the velocity v_cond under the context."""

    def guided(self, x: Array, t: float, w: float) -> tuple[Array, Array]:
        """Return (1 + w) v_cond - w v_uncond, and v_cond - v_uncond."""


def guided(field: Field, settings: SamplerSettings) -> Velocity:
    """Return the velocity with classifier-free guidance as in the release, for one run of the sampler.

    It is (1 + w) v_cond - w v_uncond, but v_cond outside `settings.interval` (Kynkaanniemi et al. 2024, arXiv
    2404.07724), and everywhere if w = 0. With `settings.reuse` = k > 1, only every k-th guided evaluation
    computes v_uncond; the others add w times the last difference v_cond - v_uncond to v_cond.

    Raises OptionError where the guidance is None, the model's own.
    """
    w, (low, high) = settings.guidance, settings.interval
    if w is None:
        raise OptionError("guidance", got="None, the model's own", expected="that number from its manifest")
    if w == 0:
        return field.conditional
    count, difference = 0, np.zeros(0, np.float32)

    def velocity(x: Array, t: float) -> Array:
        nonlocal count, difference
        if not low - _EDGE <= t <= high + _EDGE:
            return field.conditional(x, t)
        count += 1
        if (count - 1) % settings.reuse:
            return field.conditional(x, t) + w * difference
        v, difference = field.guided(x, t, w)
        return v

    return velocity


def sample(velocity: Velocity, start: Array, settings: SamplerSettings) -> Iterator[Step]:
    """Integrate from noise `start` [1,N,D] at t = 1 to the latent at t = 0, one `Step` at a time."""
    return SOLVERS[settings.solver](velocity, start, settings.grid)


def clean_estimate(step: Step, sigma_min: float) -> Array:
    """Return an estimate of the clean latent at time t: (1 - s) x_t - (s + (1 - s) t) v, with s = sigma_min.

    It follows from x_t = (1 - t) x0 + (s + (1 - s) t) e and v = (1 - s) e - x0. A live preview decodes it.
    """
    return (1 - sigma_min) * step.x - (sigma_min + (1 - sigma_min) * step.t) * step.velocity


def corrected(velocity: Velocity, move: Callable[[Array, float], Array], sigma_min: float) -> Velocity:
    """Return the velocity that belongs to moved estimates of the clean latent.

    move: takes an estimate [1,N,D], which is that of `clean_estimate`, and its time, and returns another.
    """

    def changed(x: Array, t: float) -> Array:
        v = velocity(x, t)
        scale = sigma_min + (1 - sigma_min) * t
        estimate = (1 - sigma_min) * x - scale * v
        return v + (estimate - move(estimate, t)) / scale

    return changed
