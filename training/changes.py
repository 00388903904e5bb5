"""Changes of a photograph that leave the person in it the same."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps


def _shifted(picture: Image.Image) -> Image.Image:
    """Move what is seen by a tenth of the picture, over black."""
    width, height = picture.size
    return ImageOps.expand(picture, (width // 10, height // 10, 0, 0)).crop((0, 0, width, height))


def _smaller(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.resize((round(width * 0.6), round(height * 0.6)), Image.Resampling.LANCZOS)


def _turned(picture: Image.Image) -> Image.Image:
    return picture.rotate(12, Image.Resampling.BICUBIC)


def _lit_from_a_side(picture: Image.Image) -> Image.Image:
    """Darken one side of the picture to 40 %, in linear light, as a lamp on the other side does."""
    light = (np.asarray(picture, np.float64) / 255) ** 2.2
    light *= np.linspace(0.4, 1, light.shape[1])[:, None]
    return Image.fromarray(np.round(255 * light ** (1 / 2.2)).astype(np.uint8))


def _compressed(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=25)
    return Image.open(buffer).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "shifted": _shifted,
    "smaller": _smaller,
    "turned": _turned,
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.5),
    "lit_from_a_side": _lit_from_a_side,
    "grey": lambda picture: ImageOps.grayscale(picture).convert("RGB"),
    "jpeg": _compressed,
}
