"""The pictures that a command is given: paths, and `-` for standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from topos_rt.errors import ImageError, OptionError, shortened
from topos_rt.support.files import refuse_url

STDIN = "-"
STEM = "stdin"  # what files are called that are made of it
_LABEL = "standard input"
_LONGEST = 4096  # characters: no system has longer paths


def label(image: str) -> str:
    """Return what messages call a picture."""
    return _LABEL if image == STDIN else image


def check_inputs(images: Sequence[str]) -> None:
    """Check that all can be names, and that standard input, if it is one, can be read. Raises OptionError."""
    for image in images:
        if len(image) > _LONGEST:
            got = f"{len(image):,} characters, {shortened(image, 40)}"
            fix = "decode it, and name its file or pipe it in"
            raise OptionError("a picture", got=got, expected="a path, or - for standard input", fix=fix)
    count = images.count(STDIN)
    if count > 1:
        got, expected = f"{STDIN} {count} times", f"{STDIN} once, since it can be read once"
        raise OptionError(_LABEL, got=got, expected=expected, fix="name files")
    if count and (sys.stdin is None or sys.stdin.isatty()):
        got = "nothing" if sys.stdin is None else "a terminal"
        fix = "add < portrait.jpg, or name a file (./- for one of that name)"
        raise OptionError(_LABEL, got=got, expected="a picture", fix=fix)


def read_input(image: str) -> str | bytes:
    """Return what `load_image` takes for a picture: its path, or all bytes of standard input.

    Raises InputError for a URL, ImageError for more than a picture can have.
    """
    refuse_url(image, f"cannot use {shortened(image)}")
    if image != STDIN:
        return image
    from topos_rt.pictures.sources import MAX_BYTES
    from topos_rt.support.streams import read_all

    stream: Any = getattr(sys.stdin, "buffer", sys.stdin)  # a replaced stream need not have one
    return read_all(stream, MAX_BYTES, f"cannot use {_LABEL}", ImageError).getvalue()
