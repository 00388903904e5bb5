"""The times of a run of TOPOS-Texture, from 1 (noise) to 0 (the map), as the release chooses them.

The release steps through sigmas that fall evenly from 1 to 1/steps, shifts them towards the noise by a factor
that depends on the number of tokens of the map (without those of the portrait), and stretches them so that
the last is `shift_terminal`. Source of the maths: Esser et al. 2024 (arXiv 2403.03206) for the shift, and the
release's `scheduler_config.json` for the constants.
"""

from __future__ import annotations

import math

import numpy as np

from topos_rt.texture.official.manifest import ScheduleSpec


def shift_exponent(spec: ScheduleSpec, tokens: int) -> float:
    """Return mu, the logarithm of the shift, for a map of so many tokens: a line through two given points."""
    slope = (spec.max_shift - spec.base_shift) / (spec.max_image_seq_len - spec.base_image_seq_len)
    return spec.base_shift + slope * (tokens - spec.base_image_seq_len)


def run_times(spec: ScheduleSpec, tokens: int, steps: int) -> tuple[float, ...]:
    """Return steps + 1 times from 1 to 0. They are computed in FP32, as in the release."""
    even = np.linspace(1.0, 1.0 / steps, steps).astype(np.float32)
    factor = math.exp(shift_exponent(spec, tokens))
    shifted = factor / (factor + (1 / even - 1))
    if spec.shift_terminal and steps > 1:
        below = 1 - shifted
        shifted = 1 - below / (below[-1] / (1 - spec.shift_terminal))
    return (*map(float, shifted), 0.0)


def network_time(spec: ScheduleSpec, time: float) -> np.ndarray:
    """Return the time [1] float32 that the network receives.

    The release rounds 1000 times the time to BF16, divides by 1000 and rounds again.
    """
    if spec.rounding == "fp32":
        return np.array([time], np.float32)
    scaled = _to_bf16(np.array([time], np.float32) * np.float32(1000))
    return _to_bf16(scaled / np.float32(1000))


def _to_bf16(values: np.ndarray) -> np.ndarray:
    """Round FP32 values to the nearest BF16 numbers, ties to even."""
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.astype(np.uint32).view(np.float32)
