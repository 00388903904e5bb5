"""PSNR and SSIM between two pictures, over all pixels or those of a mask."""

from __future__ import annotations

import math

import numpy as np

from topos_rt.errors import ImageError, InputError

MOST_PIXELS = 16 * 2**20
SIGMA, RADIUS = 1.5, 5  # of SSIM's Gaussian window, pixels
SIDE = 2 * RADIUS + 1
_K1, _K2 = 0.01, 0.03


def psnr(picture: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Return the peak signal-to-noise ratio in decibels; infinity for equal pictures.

    10 log10(1 / mean squared error), over the pixels of the mask and all channels.

    Args:
        picture, truth: [H,W] or [H,W,C], uint8 in 0..255, or float32 or float64 in 0..1.
        mask: [H,W] bool, the pixels that count; None: all.

    Raises InputError for pictures of different shapes, other types or values, and an empty mask.
    """
    a, b, chosen = _checked(picture, truth, mask)
    error = float(((a - b) ** 2)[chosen].mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(picture: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Return the mean structural similarity, 1 for equal pictures.

    The window is a Gaussian of sigma 1.5 over 11 x 11 pixels, the constants 0.01 and 0.03; variances are
    those of the window, and channels are averaged. Only windows within the picture count, and with a mask
    only those around its pixels, though they reach beyond it. Source: Wang et al. 2004, Image Quality
    Assessment: From Error Visibility to Structural Similarity.

    Arguments and errors are those of `psnr`; pictures must have 11 pixels a side or more, and a mask pixels
    that are 5 or more from the rim.
    """
    a, b, chosen = _checked(picture, truth, mask)
    if min(a.shape[:2]) < SIDE:
        raise InputError("SSIM", got=f"pictures {_size(a)}", expected=f"{SIDE} pixels a side or more")
    chosen = chosen[RADIUS:-RADIUS, RADIUS:-RADIUS]
    if not chosen.any():
        raise InputError("the mask of SSIM", got="no pixel away from the rim", expected="one or more")
    channels = range(a.shape[2])  # one at a time, for the sake of memory
    return float(np.mean([_similarity(a[..., c], b[..., c])[chosen].mean() for c in channels]))


def _similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the structural similarity [H-10,W-10] of pictures [H,W]."""
    means = [_windowed(values) for values in (a, b)]
    squares = [_windowed(values) for values in (a * a, b * b, a * b)]
    product = means[0] * means[1]
    powers = means[0] ** 2 + means[1] ** 2
    c1, c2 = _K1**2, _K2**2
    covariance, variances = squares[2] - product, squares[0] + squares[1] - powers
    found: np.ndarray = (2 * product + c1) * (2 * covariance + c2) / ((powers + c1) * (variances + c2))
    return found


def _windowed(values: np.ndarray) -> np.ndarray:
    """Return the Gaussian means [H-10,W-10] around the pixels that are not at the rim."""
    weights = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        count = values.shape[axis] - 2 * RADIUS
        lead = (slice(None),) * axis
        parts = (weight * values[(*lead, slice(k, k + count))] for k, weight in enumerate(weights))
        values = sum(parts, np.zeros(1))
    return values


def _checked(
    picture: np.ndarray, truth: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, b = (np.asarray(values) for values in (picture, truth))
    if a.shape != b.shape:
        raise ImageError(
            "pictures to compare",
            got=f"sizes {_size(a)} and {_size(b)}",
            expected="one size",
            fix="scale one of them to the other",
        )
    if a.ndim not in (2, 3) or not a.size or a.shape[0] * a.shape[1] > MOST_PIXELS:
        raise ImageError(
            "pictures to compare",
            got=f"shape {list(a.shape)}",
            expected=f"[H,W] or [H,W,C] of {MOST_PIXELS:,} pixels or fewer",
        )
    chosen = np.ones(a.shape[:2], bool) if mask is None else np.asarray(mask)
    if chosen.dtype != np.bool_ or chosen.shape != a.shape[:2] or not chosen.any():
        raise InputError(
            "the mask",
            got=f"{chosen.dtype} {list(chosen.shape)}, {np.count_nonzero(chosen)} pixels",
            expected=f"bool {list(a.shape[:2])} with a pixel or more",
        )
    shape = (*a.shape[:2], -1)
    return _unit(a).reshape(shape), _unit(b).reshape(shape), chosen


def _unit(values: np.ndarray) -> np.ndarray:
    """Return a picture as float64 in 0..1. Raises ImageError."""
    if values.dtype == np.uint8:
        return values / 255.0
    if values.dtype not in (np.float32, np.float64):
        raise ImageError(
            "pictures to compare",
            got=f"dtype {values.dtype}",
            expected="uint8, or float32 or float64 in 0..1",
        )
    if not ((values >= 0) & (values <= 1)).all():  # false for NaN as well
        raise ImageError(
            "pictures to compare", got="values outside 0..1, or NaN", expected="0..1", fix="divide by 255"
        )
    return values.astype(np.float64)


def _size(values: np.ndarray) -> str:
    return f"{values.shape[1]} x {values.shape[0]}" if values.ndim > 1 else f"{list(values.shape)}"
