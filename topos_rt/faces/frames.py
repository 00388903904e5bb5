"""Frames of a video: only the part that is looked at is converted."""

from __future__ import annotations

import numpy as np
from PIL import Image

from topos_rt.faces.warp import Square
from topos_rt.pictures.image import read_picture
from topos_rt.pictures.sources import MAX_PIXELS, MIN_SIDE, ImageSource

_MARGIN = 3  # pixels: one more than `warp.cut` looks beyond its square


class Frame:
    """A picture that is read as a whole only where it is not an array of bytes."""

    def __init__(self, source: ImageSource) -> None:
        """Take an RGB array [H,W,3] uint8 as it is; read anything else. Raises ImageError."""
        self._array: np.ndarray | None = None
        self._picture: Image.Image | None = None
        if _is_plain(source):
            assert isinstance(source, np.ndarray)
            self._array = source
            self.size = source.shape[1], source.shape[0]
        else:
            self._picture = read_picture(source)
            self.size = self._picture.size

    def picture(self) -> Image.Image:
        """Return the whole picture, RGB."""
        if self._picture is None:
            assert self._array is not None
            self._picture = Image.fromarray(np.ascontiguousarray(self._array))
        return self._picture

    def around(self, square: Square) -> tuple[Image.Image, int, int]:
        """Return a part that holds all of the picture that `cut` needs, and the place of its corner."""
        if self._array is None:
            return self.picture(), 0, 0
        corners = square.corners()
        left, top = np.floor(np.clip(corners.min(0) - _MARGIN, 0, self.size)).astype(int).tolist()
        right, bottom = np.ceil(np.clip(corners.max(0) + _MARGIN, 0, self.size)).astype(int).tolist()
        if right <= left or bottom <= top:
            return Image.new("RGB", (1, 1)), left, top
        return Image.fromarray(np.ascontiguousarray(self._array[top:bottom, left:right])), left, top


def _is_plain(source: object) -> bool:
    """Return whether a source is an array that `read_picture` would only copy."""
    if not isinstance(source, np.ndarray) or source.dtype != np.uint8 or source.ndim != 3:
        return False
    height, width, channels = source.shape
    return channels == 3 and min(height, width) >= MIN_SIDE and height * width <= MAX_PIXELS
