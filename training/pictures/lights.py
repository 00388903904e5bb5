"""Draw lights: one that casts shadows, a fill and a rim, and ambient light that changes from side to side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Setting:
    """Light without its shadow map, in camera space."""

    directions: np.ndarray  # [3,3] unit vectors towards the lights
    colours: np.ndarray  # [3,3] linear
    ambient: np.ndarray  # [4,3] linear: constant, and change along x, y and z
    softness: float  # of shadows: radius as a share of the shadow map


# Shares, strength of key, fill, rim and ambient light, and softness, of kinds of light.
_KINDS = {
    "soft": (0.34, 0.55, 0.25, 0.15, 0.55, 0.030),
    "window": (0.22, 0.85, 0.12, 0.15, 0.30, 0.022),
    "hard": (0.16, 1.15, 0.05, 0.20, 0.14, 0.004),
    "flash": (0.10, 0.95, 0.05, 0.05, 0.22, 0.003),
    "flat": (0.10, 0.20, 0.15, 0.05, 0.90, 0.040),
    "low": (0.08, 0.50, 0.30, 0.35, 0.12, 0.012),
}
# Linear colours of light: daylight, shade, tungsten, neon.
_WHITES = np.array(
    [[1.0, 1.0, 1.0], [0.88, 0.97, 1.14], [1.22, 0.98, 0.70], [1.1, 1.0, 0.86], [0.95, 1.06, 0.98]]
)


def draw(rng: np.random.Generator) -> Setting:
    """Draw the light of one picture."""
    shares = np.array([row[0] for row in _KINDS.values()])
    kind = str(rng.choice(list(_KINDS), p=shares / shares.sum()))
    _, key, fill, rim, around, soft = _KINDS[kind]
    across = rng.normal(0, 0.25 if kind == "flash" else 0.9)
    up = rng.normal(0.1, 0.1) if kind == "flash" else rng.normal(0.55, 0.45)
    if kind == "low":
        up = rng.normal(-0.4, 0.3)
    ahead = rng.uniform(0.15, 1.1) if kind in ("hard", "window") else rng.uniform(0.5, 1.2)
    side = -np.sign(across)
    directions = np.array([
        [across, up, ahead],
        [side * rng.uniform(0.3, 1.5), rng.normal(0.2, 0.4), rng.uniform(0.3, 1.0)],
        [rng.choice([-1, 1]) * rng.uniform(0.6, 1.2), rng.normal(0.4, 0.5), -rng.uniform(0.2, 1.0)],
    ])  # fmt: skip
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    white = _WHITES[rng.integers(len(_WHITES), size=3)]
    tinted = rng.random() < 0.06
    colour = white * np.exp(rng.normal(0, 0.35 if tinted else 0.05, (3, 3)))
    strength = np.array([key, fill, rim]) * np.exp(rng.normal(0, 0.3, 3))
    ambient = np.zeros((4, 3))
    ambient[0] = around * np.exp(rng.normal(0, 0.2)) * _WHITES[rng.integers(len(_WHITES))]
    ambient[1] = ambient[0] * rng.normal(0, 0.25) * np.exp(rng.normal(0, 0.1, 3))
    ambient[2] = ambient[0] * rng.normal(0.3, 0.2) * np.exp(rng.normal(0, 0.1, 3))
    ambient[3] = ambient[0] * rng.normal(0.1, 0.2)
    return Setting(directions, colour * strength[:, None], ambient, soft * float(np.exp(rng.normal(0, 0.3))))
