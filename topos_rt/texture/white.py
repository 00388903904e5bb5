"""The white balance of a photograph, as far as skin tells it."""

from __future__ import annotations

import numpy as np

from topos_rt.texture.grids import mean_of_channels

SKIN = (0.46, 0.265, 0.185)  # linear albedo of the base material's skin
WEIGHTS = np.array([0.2126, 0.7152, 0.0722])  # of the channels in luminance
# Bounds of log(red / green) and log(green / blue) of skin's linear albedo. Skins of all tones lie within;
# what lies without comes from the photograph.
RED_GREEN, GREEN_BLUE = (0.30, 0.80), (0.10, 0.52)
_GREY = 0.02  # below this mean difference of channels a photograph has no colours
_LEAST_CHROMA = 0.55  # of the contrast of colours, where a cast is strong


def balanced(skin: np.ndarray) -> tuple[np.ndarray, float]:
    """Return what to add to log colours, [3], so that skin [3] has a natural colour, and a scale of chroma.

    skin: log of the linear colour. The luminance stays. Nothing changes for skin within the bounds.
    """
    ratios = np.array([skin[0] - skin[1], skin[1] - skin[2]])
    bounds = np.array([RED_GREEN, GREEN_BLUE])
    wanted = np.clip(ratios, bounds[:, 0], bounds[:, 1])
    change = wanted - ratios
    shift = np.array([change[0], 0.0, -change[1]])
    before, after = WEIGHTS @ np.exp(skin), WEIGHTS @ np.exp(skin + shift)
    scale = np.clip(np.min(wanted / np.maximum(ratios, wanted)), _LEAST_CHROMA, 1)
    return shift + np.log(before / after), float(scale)


def is_grey(pixels: np.ndarray) -> bool:
    """Return whether linear pixels [h,w,3] have no colours."""
    mean = mean_of_channels(pixels)[..., None]
    return bool(np.abs(pixels - mean).mean() < _GREY * max(float(mean.mean()), 1e-6))
