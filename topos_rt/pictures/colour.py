"""What a picture's metadata say of its colours and its orientation."""

from __future__ import annotations

import functools
import io
import re
from typing import Any

import numpy as np
from PIL import Image

ORIENTATION_TAG = 0x0112
_XMP_KEYS = ("xmp", "XML:com.adobe.xmp")
_XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|>)\s*([1-8])\s*[\"'<]")
_SAME = 2  # of 255: a profile that changes no colour by more is taken for sRGB
_RELATIVE_COLORIMETRIC = 1
_STEPS = np.arange(256, dtype=np.float64) / 255
# The linear value of each of the 256 values of sRGB (IEC 61966-2-1).
LINEAR = np.where(_STEPS <= 0.04045, _STEPS / 12.92, ((_STEPS + 0.055) / 1.055) ** 2.4).astype(np.float32)
LINEAR.setflags(write=False)
# Profiles are made for these modes; other pictures become RGB first.
_PROFILED = ("RGB", "L", "CMYK")


def orientation(image: Image.Image) -> int:
    """Return the orientation 1 to 8 of EXIF or, without that, of XMP; 1 (upright) where neither says one.

    Pillow reads that of XMP itself from version 11 on, but older ones do not.
    """
    try:
        value = image.getexif().get(ORIENTATION_TAG)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError):
        value = None  # broken metadata must not spoil a picture
    if isinstance(value, int):
        return value
    found = _XMP_ORIENTATION.search(_xmp(image))
    return int(found[1]) if found else 1


def _xmp(image: Image.Image) -> bytes:
    for key in _XMP_KEYS:
        data = image.info.get(key)
        if data:
            return data.encode("utf-8", "replace") if isinstance(data, str) else bytes(data)
    segments = getattr(image, "applist", [])  # the raw segments of a JPEG
    return next((data for name, data in segments if name == "APP1" and data.startswith(_XMP_SEGMENT)), b"")


def to_srgb(image: Image.Image, profile: Any) -> Image.Image:
    """Return an 8-bit picture, its alpha untouched, with its colours taken from an ICC profile to sRGB.

    A profile that cannot be read, or is for other pictures, is ignored, as browsers do. So is one of sRGB,
    which leaves the pixels exactly as they are.
    """
    if not isinstance(profile, bytes) or not profile:
        return image
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    mode = {"RGBA": "RGB", "LA": "L"}.get(image.mode, image.mode)
    if mode not in _PROFILED:
        return image
    transform = _transform(profile, mode)
    if transform is None:
        return image
    colours: Image.Image = transform.apply(image if image.mode == mode else image.convert(mode))
    if alpha is not None:
        colours.putalpha(alpha)
    return colours


@functools.lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> Any:
    """Return what takes pictures of a mode from a profile to sRGB; None where nothing has to be done."""
    try:
        from PIL import ImageCms
    except ImportError:  # Pillow built without LittleCMS
        return None
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent(_RELATIVE_COLORIMETRIC),
        )
        if mode == "CMYK":
            return transform
        ramp = _samples(mode)
        changed = np.asarray(transform.apply(ramp), np.int16) - np.asarray(ramp.convert("RGB"), np.int16)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform if np.abs(changed).max() > _SAME else None


def _samples(mode: str) -> Image.Image:
    """Return a picture with colours from all over a mode."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    if mode == "L":
        return Image.fromarray(steps[None])
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3))


def to_srgb_bytes(linear: np.ndarray) -> np.ndarray:
    """Return linear values, of any shape and clipped to 0..1, as sRGB in 8 bits."""
    encoded: np.ndarray = SRGB[np.clip(linear * np.float32(4095) + np.float32(0.5), 0, 4095).astype(np.int16)]
    return encoded


def _srgb_table() -> np.ndarray:
    steps = np.linspace(0, 1, 4096)
    return (
        np.where(steps <= 0.0031308, 12.92 * steps, 1.055 * steps ** (1 / 2.4) - 0.055) * 255 + 0.5
    ).astype(np.uint8)


SRGB = _srgb_table()  # of 4096 steps of linear 0..1
SRGB.setflags(write=False)
