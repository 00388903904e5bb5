"""Good and bad pictures for tests."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from topos_rt.pictures.image import load_image

SIZE = 32


def smooth(height=48, width=48, channels=3):
    """Return a uint8 picture without symmetry or fine detail: lossy formats and resizing hardly change it."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    planes = [x, y, 0.5 + 0.3 * np.sin(3 * x + 5 * y), 0.2 + 0.7 * x * (1 - y)]
    return np.rint(255 * np.stack(planes[:channels], axis=-1)).astype(np.uint8)


def encode(picture, file_format, **options):
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


RGB = Image.fromarray(smooth())


def pixels(source, height=SIZE, width=SIZE):
    """Return the result of `load_image`, checked."""
    result = load_image(source, height, width)
    assert result.shape == (1, 3, height, width)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1
    return result


def png_header(width, height):
    """Return the start of a PNG that claims a size, with no data to decode."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + body
        + struct.pack(">I", zlib.crc32(body))
        + b"\0\0\0\0IDAT"
    )


def animation(file_format):
    frames = [RGB.rotate(90 * i) for i in range(3)]
    return encode(frames[0], file_format, save_all=True, append_images=frames[1:])


# Name -> the bytes of a file that is refused, and a part of the error message.
BAD_FILES = {
    "empty": (b"", "an empty file"),
    "not an image": (b"#!/bin/sh\necho hello\n" * 20, "a file that is not a picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "a file that is not a picture"),
    "one byte": (b"\x89", "a file that is not a picture"),
    "truncated png": (encode(RGB, "PNG")[:-300], "damaged or truncated"),
    "truncated jpeg": (encode(RGB, "JPEG")[:700], "damaged or truncated"),
    "truncated webp": (encode(RGB, "WEBP")[:200], "damaged or truncated"),
    "truncated bmp": (encode(RGB, "BMP")[:-900], "damaged or truncated"),
    "truncated gif": (encode(RGB, "GIF")[:300], "damaged or truncated"),
    "truncated tiff": (encode(RGB, "TIFF")[:-900], "damaged or truncated"),
    "header only": (encode(RGB, "PNG")[:20], "damaged or truncated"),
    "1x1": (encode(RGB.resize((1, 1)), "PNG"), "1 × 1 pixels; expected at least 16 on each side"),
    "one side too small": (encode(RGB.resize((200, 15)), "PNG"), "200 × 15 pixels"),
    "bomb 20000x20000": (png_header(20000, 20000), "expected at most 64 megapixels"),
    "bomb 10000x10000": (png_header(10000, 10000), "10000 × 10000 pixels; expected at most 64 megapixels"),
    "bomb in one direction": (png_header(2**22, 17), "4194304 × 17 pixels"),
    "animated gif": (animation("GIF"), "an animation or a stack of several frames"),
    "animated png": (animation("PNG"), "an animation or a stack of several frames"),
    "animated webp": (animation("WEBP"), "an animation or a stack of several frames"),
    "tiff of many pages": (animation("TIFF"), "an animation or a stack of several frames"),
    "grey values without a scale": (
        encode(Image.fromarray(np.full((20, 20), 70000, np.int32)), "TIFF"),
        "32-bit grey values from 70000 to 70000",
    ),
    "float grey out of range": (
        encode(Image.fromarray(np.full((20, 20), 255, np.float32)), "TIFF"),
        "from 255 to 255",
    ),
}
