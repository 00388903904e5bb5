"""LPIPS: how far apart two pictures are in the feature maps of a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from topos_rt.errors import InputError

_FLOOR = 1e-8  # under the root of a length, as torchmetrics has it; the release of the paper adds 1e-10 to it


def lpips(
    maps: Sequence[np.ndarray], others: Sequence[np.ndarray], weights: Sequence[np.ndarray] | None = None
) -> float:
    """Return the perceptual distance between two pictures, 0 for equal ones.

    The features of each place are scaled to unit length; the squared differences are weighted by channel,
    summed over channels, averaged over places, and summed over the maps. Source: Zhang et al. 2018, The
    Unreasonable Effectiveness of Deep Features as a Perceptual Metric, equation 1.

    Args:
        maps, others: the feature maps of each picture, [C,H,W] or [1,C,H,W], one for each layer.
        weights: [C] for each layer, not below zero: what the authors trained. None: all one, which they call
            uncalibrated.

    Raises InputError for maps or weights that do not fit each other, and for values that are not finite.
    """
    if not len(maps) or len(maps) != len(others) or (weights is not None and len(weights) != len(maps)):
        counts = f"{len(maps)} and {len(others)} maps, {'no' if weights is None else len(weights)} weights"
        raise InputError("LPIPS", got=counts, expected="one map of each picture for every layer")
    total = 0.0
    for number, (mine, other) in enumerate(zip(maps, others, strict=True)):
        a, b = (_map(values, number) for values in (mine, other))
        if a.shape != b.shape:
            raise InputError(
                f"map {number} of LPIPS",
                got=f"shapes {list(a.shape)} and {list(b.shape)}",
                expected="one shape",
                fix="compare pictures of one size",
            )
        difference = (_unit(a) - _unit(b)) ** 2
        if weights is not None:
            difference *= _weights(weights[number], len(a), number)[:, None, None]
        total += float(difference.sum(0).mean())
    return total


def _map(values: np.ndarray, number: int) -> np.ndarray:
    array = np.asarray(values)
    shape = array.shape
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3 or not array.size or array.dtype.kind != "f":
        got = f"{array.dtype} {list(shape)}"
        raise InputError(f"map {number} of LPIPS", got=got, expected="floats [C,H,W] or [1,C,H,W]")
    if not np.isfinite(array).all():
        raise InputError(f"map {number} of LPIPS", got="NaN or infinity", expected="finite numbers")
    return array.astype(np.float64)


def _weights(values: np.ndarray, channels: int, number: int) -> np.ndarray:
    array = np.asarray(values).reshape(-1)
    if array.dtype.kind != "f" or array.size != channels or not (np.isfinite(array) & (array >= 0)).all():
        raise InputError(
            f"weights {number} of LPIPS",
            got=f"{array.dtype} {list(np.shape(values))}, or values that are negative or not finite",
            expected=f"{channels} numbers from 0, one for each channel",
        )
    return array.astype(np.float64)


def _unit(values: np.ndarray) -> np.ndarray:
    unit: np.ndarray = values / np.sqrt(_FLOOR + (values * values).sum(0))
    return unit
