"""The result of the face stage for one face."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from topos_rt.faces.pose import Placement

SMALL_PX = 64  # a face of fewer pixels across shows little of its shape
TURNED_DEGREES = 45.0  # beyond this yaw half of the face is out of sight
HIDDEN_DEGREES = 60.0  # beyond this yaw the landmarks are guesses


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a picture. Pixels are those of the upright picture, from its top left corner.

    The landmarks are those of MediaPipe's face mesh: 468 on the skin, then 5 on each iris. Their z is depth
    at the scale of the pixels, smaller towards the camera, and far less accurate than x and y.
    """

    box: tuple[float, float, float, float]  # x, y, width and height of the landmarks, pixels
    landmarks: np.ndarray  # [478,3] float32; [0,3] where the face looks too far sideways for them
    yaw: float  # degrees; positive turns the face to the right of the picture
    pitch: float  # degrees; positive lifts it
    roll: float  # degrees; positive turns it counter-clockwise in the picture
    expression: Mapping[str, float]  # ARKit's 52 names -> 0 to 1, as docs/faces.md judges them; {} likewise
    confidence: float  # 0 to 1, that there is a face
    placement: Placement = field(repr=False)  # how the canonical face lies in the picture
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> float:
        """The larger side of the box, pixels."""
        return max(self.box[2:])

    @property
    def hidden(self) -> str:
        """The reason why no head can be made of the face, or "" where one can."""
        if abs(self.yaw) <= HIDDEN_DEGREES and len(self.landmarks):
            return ""
        return f"it is turned by {abs(self.yaw):.0f} degrees, and at most {HIDDEN_DEGREES:.0f} can be used"

    def moved(self, x: float, y: float) -> Face:
        """Return the face in a picture of which this face's picture is a part, from (x, y) on."""
        left, top, width, height = self.box
        shift = np.array([x, y, 0], np.float32)
        placement = dataclasses.replace(self.placement, shift=self.placement.shift + shift[:2])
        return dataclasses.replace(
            self,
            box=(left + x, top + y, width, height),
            landmarks=self.landmarks + shift,
            placement=placement,
        )

    def facts(self) -> dict[str, Any]:
        """Return everything but the landmarks and scores as JSON values, rounded."""
        return {
            "box": [round(value, 1) for value in self.box],
            "size_px": round(self.size, 1),
            "confidence": round(self.confidence, 4),
            "yaw": round(self.yaw, 1),
            "pitch": round(self.pitch, 1),
            "roll": round(self.roll, 1),
            "warnings": list(self.warnings),
        }


def warnings_of(
    box: tuple[float, float, float, float], yaw: float, picture: tuple[int, int]
) -> tuple[str, ...]:
    """Return what may spoil a head made from a face, one clause each; picture: its width and height."""
    x, y, width, height = box
    outside = max(-x, -y, x + width - picture[0], y + height - picture[1])
    told = []
    if max(width, height) < SMALL_PX:
        told.append(f"the face is only {max(width, height):.0f} pixels large; {SMALL_PX} or more are best")
    if outside > 0.02 * max(width, height):
        told.append("the face is cut off at the picture's edge")
    if abs(yaw) > TURNED_DEGREES:
        told.append(f"the face is turned by {abs(yaw):.0f} degrees; at most {TURNED_DEGREES:.0f} is best")
    return tuple(told)
