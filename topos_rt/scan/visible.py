"""Finds the part of a head that can be seen, and so scanned, from outside."""

from __future__ import annotations

import numpy as np

from topos_rt.pictures.raster import rasterize
from topos_rt.support.similarity import sphere_frame

_VIEWS = 32
_LOWEST = -0.55  # sine of the steepest view from below; from further down the open neck would show the inside
_PIXELS = 200
_FILL = 0.98


def outer_triangles(positions: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return a mask [F] bool of the triangles of an upright head that are visible in any view from around it.

    positions: [V,3], +Y up. The inside of the mouth, the backs of the eyes and the like are not visible.
    """
    centre, radius = sphere_frame(positions)
    unit = (positions - centre) / (radius or 1.0)
    seen = np.zeros(len(triangles), bool)
    for toward in _directions():
        side = np.cross([0.0, 1.0, 0.0] if abs(toward[1]) < 0.9 else [0.0, 0.0, 1.0], toward)
        side /= np.linalg.norm(side)
        x, y, z = np.stack([side, np.cross(toward, side), toward]) @ unit.T
        half = _PIXELS / 2
        screen = np.stack([half * (1 + _FILL * x), half * (1 - _FILL * y), 2 - z], 1)
        # Triangles that face away are drawn too: they hide what lies behind them.
        front = rasterize(screen, triangles, _PIXELS, _PIXELS, cull=False)[0]
        seen[front[front >= 0]] = True
    return seen


def _directions() -> np.ndarray:
    """Return unit vectors [n,3] towards the viewer, on a Fibonacci sphere without its bottom."""
    i = np.arange(_VIEWS) + 0.5
    y, turn = 1 - 2 * i / _VIEWS, np.pi * (1 + 5**0.5) * i
    level = np.sqrt(1 - y * y)
    return np.stack([np.cos(turn) * level, y, np.sin(turn) * level], 1)[y > _LOWEST]
