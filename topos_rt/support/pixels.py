"""Square pictures inside other files, such as those of a texture."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

# What Pillow's decoders raise for damaged files, besides its own errors, which are OSErrors.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError,
    AssertionError, struct.error, zlib.error,
    MemoryError,  # a part of the file declares a size that it does not have
)  # fmt: skip
MODES = {"RGBA": (4,), "RGB": (3,), "L": ()}  # the shape of their pixels


def square_pixels(data: bytes, formats: tuple[str, ...], mode: str, sides: tuple[int, int]) -> np.ndarray:
    """Return the pixels [S,S,C] or [S,S] uint8 of a square picture.

    formats: Pillow's names of those that are read. mode: a key of MODES. sides: the least and the largest S,
    which are checked before memory is taken. Raises ValueError for anything else.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=formats) as opened:
            wide, high = opened.size
            if wide != high or not sides[0] <= wide <= sides[1] or opened.mode != mode:
                raise ValueError(f"picture, {opened.mode} {wide} x {high}")
            pixels = np.array(opened)
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if pixels.dtype != np.uint8 or pixels.shape != (wide, wide, *MODES[mode]):
        raise ValueError(f"picture of shape {list(pixels.shape)}")
    return pixels
