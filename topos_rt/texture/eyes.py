"""The eyes: the base material's, with the iris in the photograph's colour."""

from __future__ import annotations

import numpy as np

from topos_rt.gpu.texture_reference import DARKEST
from topos_rt.pictures.colour import to_srgb_bytes
from topos_rt.texture.plan import Plan
from topos_rt.texture.white import WEIGHTS

_IRISES = ((468, (469, 470, 471, 472)), (473, (474, 475, 476, 477)))  # the middle, and points on the edge
_RING = (0.50, 0.85)  # radii between pupil and edge
_LEAST_PX = 3.0  # of an iris's radius: a smaller one shows the lashes' colour, too
_LOWEST, _HIGHEST = 0.012, 0.22  # luminance of an iris
_DARK, _BLACK = 0.30, 0.016  # luminance of the base material: above is the white, below the pupil
_STRENGTH = 0.85
_IN_SHADE = 0.4  # log units by which lids darken an iris


def iris_colour(pixels: np.ndarray, landmarks: np.ndarray, exposure: np.ndarray) -> np.ndarray | None:
    """Return the linear colour [3] of the irises; None where they are too small or hidden to tell.

    pixels: [h,w,3] linear. landmarks: [478,2] in its pixels. exposure: [3] what a log colour of the
    photograph is over the albedo's.
    """
    found = []
    for middle, edge in _IRISES:
        centre = landmarks[middle]
        radius = float(np.linalg.norm(landmarks[list(edge)] - centre, axis=1).mean())
        if radius < _LEAST_PX:
            continue
        low, high = np.floor(centre - radius).astype(int), np.ceil(centre + radius).astype(int) + 1
        if (low < 0).any() or high[0] > pixels.shape[1] or high[1] > pixels.shape[0]:
            continue
        y, x = np.mgrid[low[1] : high[1], low[0] : high[0]]
        away = np.hypot(x + 0.5 - centre[0], y + 0.5 - centre[1]) / radius
        # The upper half lies in the shadow of the lashes.
        ring = (away > _RING[0]) & (away < _RING[1]) & (y + 0.5 > centre[1] - 0.2 * radius)
        if ring.any():
            found.append(np.median(pixels[y[ring], x[ring]], axis=0))
    if not found:
        return None
    mean = np.mean(found, axis=0).astype(np.float64)
    log = np.log(np.maximum(mean, DARKEST)) - exposure + _IN_SHADE
    colour = np.exp(log)
    luminance = float(WEIGHTS @ colour)
    scaled: np.ndarray = colour * np.clip(luminance, _LOWEST, _HIGHEST) / max(luminance, 1e-6)
    return scaled.astype(np.float32)


def paint_irises(albedo: np.ndarray, plan: Plan, colour: np.ndarray) -> None:
    """Paint the irises of an albedo [S,S,3] uint8, in place."""
    eyes = plan.base.reshape(-1, 3)[plan.eyes]
    red, green, blue = WEIGHTS.astype(np.float32)
    luminance = eyes[:, 0] * red + eyes[:, 1] * green + eyes[:, 2] * blue
    iris = np.flatnonzero((luminance < _DARK) & (luminance > _BLACK))
    if not len(iris):
        return
    mean = np.float32(luminance[iris].mean(dtype=np.float64))
    tinted = colour * (luminance[iris] / mean)[:, None]
    mixed = eyes[iris] + np.float32(_STRENGTH) * (tinted - eyes[iris])
    albedo.reshape(-1, 3)[plan.eyes[iris]] = to_srgb_bytes(mixed)
