"""Where pictures come from: paths, bytes, open files, Pillow images and arrays. Nothing is ever fetched."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from PIL import Image

from topos_rt.errors import ImageError, shortened
from topos_rt.support.files import refuse_url, without_secrets
from topos_rt.support.streams import Readable, read_all, stream_name

ImageSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | Readable | Image.Image | np.ndarray
)

MIN_SIDE = 16  # pixels
MAX_PIXELS = 64 * 2**20  # enough for a 64-megapixel camera; more is taken for a decompression bomb
MAX_BYTES = 9 * MAX_PIXELS  # of an open file: such a picture in 16-bit RGBA, not compressed, and metadata
READABLE = "a PNG, JPEG, WebP, BMP, GIF or TIFF picture"
_NAME = 1000  # characters of a path in messages
_KINDS = "a path, bytes, a binary file, a Pillow image or a NumPy array"


def describe(source: object) -> str:
    """Return a short name for an image source, for messages: its path, or its kind of object.

    An open file has the name that it says; of a URL, only its scheme and host are told.
    """
    if isinstance(source, str | os.PathLike):
        return shortened(without_secrets(os.fsdecode(source)), _NAME)
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "")) or "(Pillow image)"
    if isinstance(source, np.ndarray):
        return "(array)"
    if isinstance(source, bytes | bytearray | memoryview):
        return "(bytes)"
    return stream_name(source)


def check_address(source: object) -> None:
    """Raise ImageError for the address of a picture on a network, before any work is done for others."""
    if isinstance(source, str | os.PathLike):
        refuse_url(os.fsdecode(source), f"cannot use the image {describe(source)}", ImageError)


@contextlib.contextmanager
def open_source(source: object, name: str) -> Iterator[IO[bytes]]:
    """Open a picture's file for reading: that of a path, or bytes in memory. Raises ImageError.

    Open files are read from where they stand to their end, MAX_BYTES at most.
    """
    what = f"cannot use the image {name}"
    if isinstance(source, str | os.PathLike):
        check_address(source)
        with _open_path(Path(os.fsdecode(source)), what) as file:
            yield file
        return
    if isinstance(source, bytes | bytearray | memoryview):
        held = _held(source, what)
    elif callable(getattr(source, "read", None)):
        held = read_all(source, MAX_BYTES, what, ImageError)  # type: ignore[arg-type]
    else:
        got = f"an object of type {type(source).__name__}"
        raise ImageError("cannot use the image", got=got, expected=_KINDS)
    if not held.getbuffer().nbytes:
        in_file = not isinstance(source, bytes | bytearray | memoryview)
        fix = "rewind it with seek(0), if it was read before" if in_file else None
        raise ImageError(what, got="no bytes", expected=READABLE, fix=fix)
    yield held


def _held(source: bytes | bytearray | memoryview, what: str) -> io.BytesIO:
    try:
        return io.BytesIO(bytes(source))  # a copy, except of bytes: others may change
    except (ValueError, BufferError) as error:
        raise ImageError(what, got=str(error), expected="the bytes of a picture") from error


def _open_path(path: Path, what: str) -> IO[bytes]:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(what, got="a directory", expected="an image file")
        if not stat.S_ISREG(status.st_mode):
            fix = "pass what it holds: an open binary file, or - for standard input"
            raise ImageError(what, got="a device or pipe", expected="an image file", fix=fix)
        if status.st_size == 0:
            raise ImageError(what, got="an empty file", expected=READABLE)
        return path.open("rb")
    except ImageError:  # it is a ValueError too
        raise
    except FileNotFoundError as error:
        raise ImageError(what, got="no such file", fix="check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte inside the name
        reason = getattr(error, "strerror", None) or str(error)
        too_long = getattr(error, "errno", None) == errno.ENAMETOOLONG
        decode = "pass the picture itself as bytes: base64.b64decode(text)" if too_long else None
        raise ImageError(what, got=reason, expected="a readable file", fix=decode) from error
