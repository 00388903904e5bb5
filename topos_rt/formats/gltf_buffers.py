"""The files beside a `.gltf` that its buffers name.

A `.gltf` may come from a stranger, so a name in it must not reach any other file of the machine.
Source: the glTF 2.0 specification, which permits relative references without `..` for data beside the file.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import unquote

from topos_rt.errors import MeshInputError
from topos_rt.formats.limits import LIMITS, Limits


def beside(folder: Path, uri: str, what: str, limits: Limits = LIMITS) -> bytes:
    """Return the bytes of the file that a URI of a buffer names.

    folder: the directory of the `.gltf`; uri: a relative reference, with percent-encoding as in URIs.

    Raises MeshInputError where the URI names a file outside of `folder`, also through a link, or one that is
    missing, no regular file or too large.
    """
    name = unquote(uri)
    got = f"the buffer {uri[:80]!r}"
    if not _stays(name):
        raise MeshInputError(
            what, got=got, expected="the name of a file beside the .gltf", fix="export as glTF Binary"
        )
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise MeshInputError(what, got=f"{got}, a link to elsewhere", expected="a file beside the .gltf")
        # A pipe would wait for ever where it is opened without O_NONBLOCK.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise MeshInputError(what, got=f"{got}, no regular file", expected="a file of bytes")
            return file.read(limits.check("file_bytes", status.st_size, what))
    except OSError as error:
        reason = "which is missing" if isinstance(error, FileNotFoundError) else error.strerror
        raise MeshInputError(
            what,
            got=f"{got}, {reason}",
            expected="the file beside the .gltf",
            fix="keep the two together, or export as glTF Binary",
        ) from error


def _stays(name: str) -> bool:
    """Tell whether a name is a relative path that goes nowhere up, on every system."""
    parts = name.replace("\\", "/").split("/")
    return "\0" not in name and ":" not in name and bool(parts[0]) and ".." not in parts
