"""The scalp: hair cropped close, in the colour of the photograph's."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from topos_rt.flow.sampling import noise
from topos_rt.gpu.texture_reference import DARKEST
from topos_rt.head.atlas import Atlas
from topos_rt.texture.camera import Seen
from topos_rt.texture.white import WEIGHTS

DEFAULT = (0.030, 0.021, 0.015)  # linear dark brown, of heads without a photograph
_LOWEST, _HIGHEST = 0.006, 0.16  # luminance of cropped hair; hats may have any
RED_GREEN, GREEN_BLUE = (0.05, 0.75), (0.05, 0.95)  # logs of ratios that hair has
_LIKE_SKIN = 0.30  # log units: hair that differs by less from the skin is none
_STRANGE = 0.25  # log units beyond those bounds: no hair but a hat
_LEAST = 24  # vertices of the scalp that must be seen
_DARKER = 0.4  # of their colours: the share that is darker than the hair's
_COVER = 0.80
_GRAIN, _GRAIN_SEED = 0.22, 7


def seen_colour(
    atlas_scalp: np.ndarray, seen: Seen, pixels: np.ndarray, places: np.ndarray
) -> np.ndarray | None:
    """Return the linear colour [3] of what covers the scalp in a photograph; None where too little is seen.

    atlas_scalp: [V] the share of hair of each vertex. pixels: [h,w,3] linear. places: [V,2] pixels.
    """
    high, wide = pixels.shape[:2]
    x, y = places.T
    inside = (x >= 0) & (y >= 0) & (x < wide - 1) & (y < high - 1)
    rows = np.flatnonzero((atlas_scalp > 0.8) & inside & (seen.facing > 0.05))
    if len(rows) < _LEAST:
        return None
    colours = pixels[y[rows].astype(int), x[rows].astype(int)]
    # Highlights and gaps that show the background are brighter than most of the hair.
    number = int(_DARKER * (len(rows) - 1))
    found: np.ndarray = np.partition(colours, number, axis=0)[number]
    return found


def hair_colour(seen: np.ndarray | None, exposure: np.ndarray, skin: np.ndarray) -> np.ndarray | None:
    """Return the albedo [3] of the hair; None for a head that is bald.

    seen: from `seen_colour`. exposure: [3] what a log colour of the photograph is over the albedo's.
    skin: [3] log albedo.
    """
    if seen is None:
        return np.array(DEFAULT, np.float32)
    log = np.log(np.maximum(seen.astype(np.float64), DARKEST)) - exposure
    if np.abs(log - skin).max() < _LIKE_SKIN:
        return None
    ratios = np.array([log[0] - log[1], log[1] - log[2]])
    bounds = np.array([RED_GREEN, GREEN_BLUE])
    if (ratios < bounds[:, 0] - _STRANGE).any() or (ratios > bounds[:, 1] + _STRANGE).any():
        return np.array(DEFAULT, np.float32)
    luminance = np.clip(WEIGHTS @ np.exp(log), _LOWEST, _HIGHEST)
    green = log[1]
    red = green + np.clip(log[0] - green, *RED_GREEN)
    blue = green - np.clip(green - log[2], *GREEN_BLUE)
    colour = np.exp(np.array([red, green, blue]))
    scaled: np.ndarray = colour * luminance / (WEIGHTS @ colour)
    return scaled.astype(np.float32)


def cover(atlas: Atlas) -> np.ndarray:
    """Return how much of the skin cropped hair covers, [MASK_SIDE,MASK_SIDE] float32."""
    return atlas.mask("scalp") * np.float32(_COVER)


@lru_cache(maxsize=2)
def grain(side: int) -> np.ndarray:
    """Return what the colour of short hairs is multiplied with, [side,side] float32 around one."""
    fine = noise(_GRAIN_SEED, (side, side))
    hairs = fine + np.roll(fine, 1, 0) + np.roll(fine, 2, 0) + 0.5 * np.roll(fine, 3, 0)
    made: np.ndarray = 1 + np.float32(_GRAIN) * hairs / np.float32(hairs.std(dtype=np.float64))
    made.setflags(write=False)
    return made
