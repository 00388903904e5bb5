"""Small pictures of weights and colours: blurring, scaling and filling them.

Sums run in a fixed order, so that a result does not depend on the number of threads. The C library has twins
of this room that give the same bits, so functions that NumPy approximates in single precision are avoided.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from topos_rt.gpu.texture_ops import box_means


def blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """Return values [H,W] or [H,W,C] blurred by three box filters, which come near a Gaussian of sigma.

    Beyond the rim lies what lies on it. Source: Kovesi 2010, Fast almost-Gaussian filtering.
    """
    ideal = np.sqrt(4 * sigma * sigma + 1)
    low = int(ideal) - (int(ideal) % 2 == 0)
    many = round((12 * sigma * sigma - 3 * low * low - 12 * low - 9) / (-4 * low - 4))
    radii = [(low if number < many else low + 2) // 2 for number in range(3)]
    return box_means(values.astype(np.float64), [radius for radius in radii if radius]).astype(np.float32)


def mean_of_channels(values: np.ndarray) -> np.ndarray:
    """Return the mean [...] of values [...,3]: `values.mean(-1)`, which is slow for so few, bit by bit."""
    found: np.ndarray = (values[..., 0] + values[..., 1] + values[..., 2]) / values.dtype.type(3)
    return found


def logs(values: np.ndarray) -> np.ndarray:
    """Return the logarithms of values float32, as float64 has them: NumPy's own are off by some units."""
    found: np.ndarray = np.log(values.astype(np.float64)).astype(np.float32)
    return found


def largest_of_channels(values: np.ndarray) -> np.ndarray:
    """Return the largest [...] of values [...,3]: `values.max(-1)`, which is slow for so few."""
    found: np.ndarray = np.maximum(np.maximum(values[..., 0], values[..., 1]), values[..., 2])
    return found


def shrunk(values: np.ndarray, step: int) -> np.ndarray:
    """Return the means of step x step blocks of values [H,W] or [H,W,C]."""
    if step == 1:
        return values
    rows: np.ndarray = values[::step].astype(np.float32)
    for k in range(1, step):
        rows += values[k::step]
    means: np.ndarray = rows[:, ::step].copy()
    for k in range(1, step):
        means += rows[:, k::step]
    return means * np.float32(1 / (step * step))


def grown(values: np.ndarray, step: int) -> np.ndarray:
    """Return values [H,W] or [H,W,C] float32, step times as large, bilinearly."""
    if values.ndim == 3:
        return np.stack([grown(values[..., c], step) for c in range(values.shape[2])], -1)
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32))
    size = (values.shape[1] * step, values.shape[0] * step)
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR))


def filled(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return values [S,S,C] where weights [S,S] are one, and smooth values between where they are less.

    Weighted means go down a pyramid, and come back up where weight lacks. S is a power of two. Source:
    Gortler et al. 1996, The Lumigraph (pull-push).
    """
    down, weight = [values * weights[..., None]], [weights]
    while len(down[-1]) > 4:
        total = shrunk(down[-1], 2) * 4
        sums = shrunk(weight[-1], 2) * 4
        keep = np.minimum(1, 1 / np.maximum(sums, 1e-8))
        down.append(total * keep[..., None])
        weight.append(sums * keep)
    out = down[-1] / np.maximum(weight[-1], 1e-6)[..., None]
    for finer, share in zip(down[-2::-1], weight[-2::-1], strict=True):
        up = np.repeat(np.repeat(out, 2, 0), 2, 1)
        up = box_means(up, [1])
        out = finer + (1 - np.minimum(share, 1))[..., None] * up
    return out.astype(np.float32)


def largest_piece(inside: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Return the part of `inside` [H,W] bool that can be reached from `seed` [H,W] bool within it."""
    reached = inside & seed
    count = -1
    while (now := int(np.count_nonzero(reached))) != count:
        count = now
        for _ in range(4):
            wide = reached.copy()
            wide[1:] |= reached[:-1]
            wide[:-1] |= reached[1:]
            wide[:, 1:] |= reached[:, :-1]
            wide[:, :-1] |= reached[:, 1:]
            reached = wide & inside
    return reached


def depth_inside(area: np.ndarray) -> np.ndarray:
    """Return how far inside an area [H,W] bool a cell is, in cells, by the larger of both axes' distances."""
    depth = np.zeros(area.shape, np.float32)
    inside = area.copy()
    while inside.any():
        depth += inside
        around = np.pad(inside, 1)
        inside = np.logical_and.reduce(
            [around[y : y + len(area), x : x + area.shape[1]] for y in range(3) for x in range(3)]
        )
    return depth
