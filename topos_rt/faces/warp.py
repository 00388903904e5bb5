"""Cut turned squares out of pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

_MARGIN = 2  # pixels around a region, so that the filter at its rim sees its neighbours


@dataclass(frozen=True)
class Square:
    """A square in a picture, in its pixels; angle in radians, clockwise as one sees it."""

    x: float  # the centre
    y: float
    side: float
    angle: float = 0.0

    def matrix(self, size: int) -> np.ndarray:
        """Return the map [2,3] float64 from points in a cut of size x size pixels to the picture's."""
        zoom = self.side / size
        cos, sin = math.cos(self.angle) * zoom, math.sin(self.angle) * zoom
        turn = np.array([[cos, -sin], [sin, cos]])
        return np.column_stack([turn, np.array([self.x, self.y]) - turn @ [size / 2, size / 2]])

    def corners(self) -> np.ndarray:
        """Return the corners [4,2], in the order top left, top right, bottom right, bottom left."""
        return np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]]) @ self.matrix(1).T


def cut(picture: Image.Image, square: Square, size: int, filtered: bool = False) -> Image.Image:
    """Return a square of an RGB picture as a picture of size x size; what lies beyond the picture is black.

    The picture is averaged over boxes first where the cut is much smaller, and sampled bilinearly.
    filtered: sample twice as densely and average, which keeps more detail without aliasing; and continue the
    picture beyond its edges, as far as the square reaches.
    """
    dense = 2 * size if filtered else size
    matrix = square.matrix(dense)
    reach = np.floor(square.corners().min(0)) - _MARGIN, np.ceil(square.corners().max(0)) + _MARGIN
    low, high = (np.clip(corner, 0, picture.size).astype(int) for corner in reach)
    shrink = max(1, int(square.side / dense))
    if (high - low).min() < 1:
        return Image.new(picture.mode, (size, size))
    box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    part = picture.reduce(shrink, box) if shrink > 1 else picture.crop(box)
    matrix[:, 2] -= low
    matrix /= shrink
    if filtered:
        before, after = (np.ceil(beyond / shrink).astype(int) for beyond in (low - reach[0], reach[1] - high))
        if max(*before, *after) > 0:
            x, y = zip(before, after, strict=True)
            part = Image.fromarray(np.pad(np.asarray(part), (y, x, (0, 0)), "edge"))
            matrix[:, 2] += before
    made = part.transform(
        (dense, dense), Image.Transform.AFFINE, tuple(matrix.ravel()), Image.Resampling.BILINEAR
    )
    return made.reduce(2) if filtered else made


def to_floats(picture: Image.Image) -> np.ndarray:
    """Return an RGB picture as [1,H,W,3] float32 in 0..1."""
    return np.asarray(picture, np.float32)[None] / np.float32(255)
