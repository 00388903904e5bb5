"""Whether a person wears spectacles, told by their rims on the skin around the eyes.

A logistic regression over how uneven 12 x 12 places of half a face are, both halves taken together. Its
weights come from rendered people: `python -m training.spectacles` makes them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from topos_rt.head.atlas import MASK_SIDE, Atlas
from topos_rt.support.tensorfile import read_tensors
from topos_rt.texture.grids import blurred, mean_of_channels
from topos_rt.texture.plan import Plan

BINS = 12
FILE = Path(__file__).with_name("spectacles.safetensors")
LIKELY = 0.4  # from which probability on spectacles are taken off
_OUTER, _NOSE = (33, 263), 1
# The grid, in half distances of the outer corners of the eyes across, and in their distance from the tip of
# the nose downwards: its outer end, top and bottom.
_ACROSS, _TOP, _BOTTOM = 1.55, -0.75, 0.75
_SMOOTH = 4.0  # cells: what changes more slowly is shading
_SEEN, _MOST, _FLOOR = 0.1, 0.6, 0.01


def features(plan: Plan, atlas: Atlas, ratio: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the features [2*BINS*BINS] of log ratios [h,w,3] and weights [h,w] in cells of the window."""
    seen = (weight > _SEEN).astype(np.float32)
    luminance = mean_of_channels(ratio) * seen
    smooth = blurred(np.stack([luminance, seen], 2), _SMOOTH)
    uneven = (luminance - smooth[..., 0] / np.maximum(smooth[..., 1], 0.05)) * seen
    bins = _bins(atlas)[plan.cells]
    inside = bins >= 0
    count = np.maximum(np.bincount(bins[inside], seen[inside], BINS * BINS), 1e-3)
    parts = []
    for values in (np.abs(uneven), np.maximum(-uneven, 0)):
        sums = np.bincount(bins[inside], np.minimum(values, _MOST)[inside], BINS * BINS)
        parts.append(sums / count)
    return np.log(np.concatenate(parts) + _FLOOR)


def probability(found: np.ndarray) -> float:
    """Return how likely a face with these features wears spectacles, 0 to 1."""
    weights, bias = _weights()
    return float(1 / (1 + np.exp(-np.clip(found @ weights + bias, -50, 50))))


def zone(atlas: Atlas) -> np.ndarray:
    """Return where spectacles may be, [MASK_SIDE,MASK_SIDE] float32 in 0..1."""
    x, y = _frame(atlas)
    rims = np.clip(2.2 - 2 * (((np.abs(x) - 0.72) / 1.15) ** 2 + ((y - 0.15) / 1.02) ** 2), 0, 1)
    bridge = np.exp(-((x / 0.35) ** 2) - ((y + 0.02) / 0.22) ** 2)
    temples = np.exp(-(((y + 0.12) / 0.34) ** 2)) * np.clip((np.abs(x) - 0.8) / 0.2, 0, 1)
    together = np.maximum.reduce([rims, np.clip(2 * bridge, 0, 1), np.clip(2 * temples, 0, 1)])
    together *= 1 - np.clip(3 * blurred(atlas.mask("nose"), 1.5) - 0.6, 0, 1) * (y > 0.3)
    found: np.ndarray = (together * np.clip(atlas.mask("face") * 2, 0, 1)).astype(np.float32)
    return found


def _frame(atlas: Atlas) -> tuple[np.ndarray, np.ndarray]:
    """Return the place of each cell: across from the middle of the face, and down from the eyes."""
    v, u = np.mgrid[0:MASK_SIDE, 0:MASK_SIDE] + 0.5
    u, v = u / MASK_SIDE, v / MASK_SIDE
    (left, right), nose = atlas.landmark_uvs[list(_OUTER)], atlas.landmark_uvs[_NOSE]
    eyes = 1 - (left[1] + right[1]) / 2
    return (
        (u - (left[0] + right[0]) / 2) / max(abs(right[0] - left[0]) / 2, 1e-3),
        (v - eyes) / max(1 - nose[1] - eyes, 1e-3),
    )


@lru_cache(maxsize=4)
def _bins(atlas: Atlas) -> np.ndarray:
    x, y = _frame(atlas)
    column = np.floor(np.abs(x) / _ACROSS * BINS).astype(int)
    row = np.floor((y - _TOP) / (_BOTTOM - _TOP) * BINS).astype(int)
    inside = (column < BINS) & (row >= 0) & (row < BINS)
    return np.where(inside, row * BINS + column, -1)


@lru_cache(maxsize=1)
def _weights() -> tuple[np.ndarray, float]:
    tensors, _ = read_tensors(FILE)
    return tensors["weights"].astype(np.float64), float(tensors["bias"][0])
