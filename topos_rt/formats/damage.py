"""One clear error for whatever a damaged file makes a reader stumble over."""

from __future__ import annotations

import contextlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from topos_rt.errors import MeshInputError, ToposError

# What the code that reads a file may raise where the file breaks its format. OSError is not among them: the
# callers tell a file that cannot be opened from one that is damaged.
_DAMAGE = (
    LookupError, TypeError, ValueError, ArithmeticError, AttributeError, EOFError, MemoryError,
    RecursionError, NotImplementedError, RuntimeError, SyntaxError, struct.error, tokenize.TokenError,
    zipfile.BadZipFile, zlib.error, np.linalg.LinAlgError,
)  # fmt: skip
_LONGEST = 160  # characters of an error that are repeated


@contextlib.contextmanager
def damage_refused(what: str, expected: str) -> Iterator[None]:
    """Turn what a damaged file raises into a MeshInputError about `what`, which expects `expected`."""
    try:
        yield
    except ToposError:
        raise
    except _DAMAGE as error:
        # LookupErrors say only the key that was missing.
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise MeshInputError(
            what,
            got=f"damaged contents ({said[:_LONGEST] or type(error).__name__})",
            expected=expected,
            fix="export it again",
        ) from error
