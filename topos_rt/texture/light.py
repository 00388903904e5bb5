"""The light of a photograph, as spherical harmonics over the normals of the head that it shows.

Source: Ramamoorthi and Hanrahan 2001, An Efficient Representation for Irradiance Environment Maps.
"""

from __future__ import annotations

import numpy as np

from topos_rt.gpu.texture_reference import TERMS, harmonics
from topos_rt.support.arrays import product
from topos_rt.texture.grids import largest_of_channels

# Stronger terms are less likely; those of the second order need more evidence.
_RIDGE = (0.0, 0.0012, 0.0012, 0.0012, 0.006, 0.006, 0.006, 0.006, 0.006)
_ROUNDS = 5
_ODD, _FIRST_ODD = 0.16, 0.35  # log units from the model at which a sample counts for half


def fit_light(normals: np.ndarray, excess: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit log light = harmonics(normals) @ light to samples, robustly.

    normals: [n,3]. excess: [n,3], log of the photograph over the base material. weights: [n], >= 0.
    Returns light [9,3] float32, whose weighted mean over the samples is zero, and that mean: the tone [3].
    """
    terms = harmonics(normals).astype(np.float64)
    middle = np.median(excess, 0)
    trust = weights / (1 + (largest_of_channels(np.abs(excess - middle)) / _FIRST_ODD) ** 4)
    light = np.zeros((TERMS, 3))
    light[0] = middle
    for _ in range(_ROUNDS):
        weighted = (terms * trust[:, None]).T
        normal = product(weighted, terms) + np.diag(_RIDGE) * trust.sum()
        light = np.linalg.solve(normal, product(weighted, excess))
        off = largest_of_channels(np.abs(excess - product(terms, light)))
        trust = weights / (1 + (off / _ODD) ** 4)
    share = (terms * trust[:, None]).sum(0) / max(float(trust.sum()), 1e-9)
    tone = share @ light
    light[0] -= tone
    return light.astype(np.float32), tone.astype(np.float32)
