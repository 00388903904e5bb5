"""The One Euro filter: little jitter at rest, little delay in motion (Casiez et al., CHI 2012)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np

from topos_rt.errors import OptionError

Cutoff: TypeAlias = tuple[float, float]  # Hz at rest, and Hz more for each unit of speed

_MOST = 1e6
_SPEED_HZ = 1.0  # the cut-off at which speeds are smoothed, the paper's own


@dataclass(frozen=True)
class Smoothing:
    """How strongly a tracker smooths what it sees: pairs of a frequency and a slope.

    The cut-off frequency of a value is `frequency + slope * speed`: a low frequency removes the jitter of
    what rests, a high slope the delay of what moves. Lengths are centimetres of an average face, so that
    smoothing does not depend on how large a face is in the picture.

    Raises OptionError for a frequency that is not above 0, or a slope below 0.
    """

    landmarks: Cutoff = (1.0, 1.0)  # speed in cm/s, of each landmark in the picture
    depth: Cutoff = (1.0, 1.0)  # cm/s, of each landmark's z
    angles: Cutoff = (1.0, 0.2)  # degrees/s, of yaw, pitch and roll
    position: Cutoff = (1.0, 1.0)  # cm/s
    scale: Cutoff = (1.0, 5.0)  # 1/s, of the scale's logarithm
    expression: Cutoff = (1.5, 8.0)  # 1/s, of each score

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            try:
                hz, slope = map(float, value)
                fits = 0 < hz <= _MOST and 0 <= slope <= _MOST
            except (TypeError, ValueError):
                fits = False
            if not fits:
                raise OptionError(
                    f"smoothing, {field.name}",
                    got=repr(value),
                    expected=f"a frequency above 0 and a slope of 0 or more, both up to {_MOST:g}",
                )
            object.__setattr__(self, field.name, (hz, slope))


class OneEuro:
    """Smooths points [n,d] that arrive one set at a time; the cut-off of each point follows its own speed."""

    def __init__(self, cutoff: Cutoff) -> None:
        """Start without a past: the first set of points comes back as it is."""
        self._hz, self._slope = cutoff
        self._points: np.ndarray | None = None
        self._speed: np.ndarray | None = None

    def __call__(self, points: np.ndarray, elapsed: float, unit: float = 1.0) -> np.ndarray:
        """Return the smoothed points [n,d] float64.

        elapsed: seconds since the last set, above 0; of no meaning in the first. unit: the length by which
        speeds are divided, such as the pixels in one centimetre.
        """
        points = np.asarray(points, np.float64)
        if self._points is None or self._speed is None:
            self._points, self._speed = points, np.zeros_like(points)
            return points
        speed = (points - self._points) / (elapsed * unit)
        self._speed = self._speed + _weight(_SPEED_HZ, elapsed) * (speed - self._speed)
        fast = np.linalg.norm(self._speed, axis=1, keepdims=True)
        share = _weight(self._hz + self._slope * fast, elapsed)
        self._points = self._points + share * (points - self._points)
        return self._points


def _weight(hz: float | np.ndarray, elapsed: float) -> np.ndarray:
    """Return the share of a new value in the smoothed one of a low-pass filter of first order."""
    turns = 2 * math.pi * np.asarray(hz) * elapsed
    weight: np.ndarray = turns / (turns + 1)
    return weight
