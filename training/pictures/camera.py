"""The camera that a picture is taken with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at a head's middle.

    A point p (metres, the head's own axes: +X its left, +Y up, +Z forward) is at R (p - centre) in camera
    space (+X right, +Y up, +Z towards the camera), `distance` - z away, and at
    focal * (x, -y) / (distance - z) + principal in the picture, in pixels from its upper left corner.
    """

    rotation: np.ndarray  # [3,3]
    centre: np.ndarray  # [3]
    distance: float  # metres
    focal: float  # pixels
    principal: np.ndarray  # [2] pixels

    def turned(self, points: np.ndarray) -> np.ndarray:
        """Return points [n,3] in camera space."""
        return ((points - self.centre) @ self.rotation.T).astype(np.float32)

    def screen(self, turned: np.ndarray, samples: int = 1) -> np.ndarray:
        """Return points [n,3] of camera space as x, y (in pixels times `samples`) and depth in metres."""
        depth = self.distance - turned[:, 2]
        scale = self.focal * samples / depth
        x = turned[:, 0] * scale + self.principal[0] * samples
        y = self.principal[1] * samples - turned[:, 1] * scale
        return np.stack([x, y, depth], 1).astype(np.float32)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return points [n,3] in metres as x, y in pixels and depth in metres."""
        return self.screen(self.turned(points))

    def numbers(self) -> np.ndarray:
        """Return the camera as 16 numbers, float32, which `from_numbers` reads."""
        parts = (self.rotation.ravel(), self.centre, [self.distance, self.focal], self.principal)
        return np.concatenate([np.asarray(p, np.float64) for p in parts]).astype(np.float32)

    @classmethod
    def from_numbers(cls, numbers: np.ndarray) -> Camera:
        """Read what `numbers` wrote."""
        n = np.asarray(numbers, np.float64)
        return cls(n[:9].reshape(3, 3), n[9:12], float(n[12]), float(n[13]), n[14:16])
