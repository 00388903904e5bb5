"""Brows, lips and irises that are painted on a head, because the landmark network looks for them.

A stroke is a chain of discs, each spanned by two landmarks. Regions of the topology would not do for brows:
that of `mini` reaches far up the forehead, and the network then takes the head for another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Pairs of landmarks across the right brow and the lips, from one end to the other; those of the left brow are
# their mirror images.
_BROW = ((70, 46), (63, 53), (105, 52), (66, 65), (107, 55))
_UPPER_LIP = (
    (61, 78), (185, 191), (40, 80), (39, 81), (37, 82), (0, 13), (267, 312), (269, 311), (270, 310),
    (409, 415), (291, 308),
)  # fmt: skip
_LOWER_LIP = (
    (61, 78), (146, 95), (91, 88), (181, 178), (84, 87), (17, 14), (314, 317), (405, 402), (321, 318),
    (375, 324), (291, 308),
)  # fmt: skip
# The factors that multiply the colour below, and the width as a share of what the landmarks span.
_BROW_TINT, _BROW_WIDTH = (0.22, 0.20, 0.20), 1.2
_LIP_TINT, _LIP_WIDTH = (0.80, 0.38, 0.40), 1.0
_IRIS_TINT, _IRIS_WIDTH = (0.10, 0.09, 0.09), 0.066  # the radius as a share of the outer-eye distance
_OUTER_EYES = (33, 263)
_RIM = 0.45  # share of the radius over which a stroke fades


@dataclass(frozen=True, eq=False)
class Stroke:
    """A painted band."""

    centres: np.ndarray  # [n,3] on the head at rest
    radii: np.ndarray  # [n]
    tint: tuple[float, float, float]

    def factors(self, points: np.ndarray) -> np.ndarray:
        """Return what the colour at points [m,3] of the head at rest is multiplied with: [m,3]."""
        low, high = self.centres.min(0) - self.radii.max(), self.centres.max(0) + self.radii.max()
        near = np.flatnonzero(((points > low) & (points < high)).all(1))
        ways = np.diff(self.centres, axis=0)
        squares = np.maximum((ways**2).sum(1), 1e-18)
        offsets = points[near, None] - self.centres[:-1]
        along = np.clip((offsets * ways).sum(2) / squares, 0, 1)
        away = np.linalg.norm(offsets - along[..., None] * ways, axis=2)
        radius = self.radii[:-1] * (1 - along) + self.radii[1:] * along
        depth = (1 - away / radius).max(1)
        cover = np.clip(depth / _RIM, 0, 1)[:, None]
        factors = np.ones((len(points), 3))
        factors[near] += cover * (np.array(self.tint) - 1)
        return factors


def strokes(landmarks: np.ndarray, mirrored: np.ndarray, lips: bool) -> list[Stroke]:
    """Return the brows and, if wanted, the lips of a head whose landmarks at rest are [468,3]."""
    brow = np.array(_BROW)
    bands = [(brow, _BROW_WIDTH, _BROW_TINT), (mirrored[brow], _BROW_WIDTH, _BROW_TINT)]
    if lips:
        bands += [(np.array(pairs), _LIP_WIDTH, _LIP_TINT) for pairs in (_UPPER_LIP, _LOWER_LIP)]
    made = []
    for pairs, width, tint in bands:
        ends = landmarks[pairs]
        radii = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) / 2 * width
        made.append(Stroke(ends.mean(1), np.maximum(radii, 1e-6), tint))
    return made


def iris_strokes(irises: np.ndarray, landmarks: np.ndarray) -> list[Stroke]:
    """Return irises around their middles [n,3], on a head whose landmarks at rest are [468,3]."""
    right, left = landmarks[list(_OUTER_EYES)]
    radius = np.full(2, _IRIS_WIDTH * np.linalg.norm(left - right))
    return [Stroke(np.stack([middle, middle]), radius, _IRIS_TINT) for middle in irises]
