"""The camera that sees a head, as it is fitted to a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topos_rt.faces.pose import angles


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera, and where a head is before it.

    A point p of the head lies at `turn @ p + shift` in the camera's axes: +X right, +Y up, +Z back to the
    camera, which is at the origin. Pixels count from the picture's top left corner, y down.
    """

    turn: np.ndarray  # [3,3] float64
    shift: np.ndarray  # [3] float64, metres; its Z is negative
    focal: float  # pixels
    centre: tuple[float, float]  # where the axis of the lens meets the picture, pixels

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return the pixels [...,2] of points [...,3], metres in the head's axes, before the camera."""
        x, y, z = np.moveaxis(points @ self.turn.T + self.shift, -1, 0)
        return np.stack([self.centre[0] - self.focal * x / z, self.centre[1] + self.focal * y / z], -1)

    @property
    def distance(self) -> float:
        """How far the head's origin is from the camera, metres."""
        return float(np.linalg.norm(self.shift))

    @property
    def angles(self) -> tuple[float, float, float]:
        """Yaw, pitch and roll of the head in degrees, as `Face` counts them, about the camera's axes."""
        return angles(self.turn)
