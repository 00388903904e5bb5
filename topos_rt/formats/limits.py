"""The largest meshes and point clouds that the readers accept: `docs/files.md` has a table of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from topos_rt.errors import MeshInputError, OptionError


@dataclass(frozen=True)
class Limits:
    """The largest sizes that a file may declare. They are checked before memory is taken.

    A reader also compares every size with the bytes that the file really has. Raises OptionError for a limit
    that is not a positive whole number.
    """

    file_bytes: int = 512 * 2**20  # of a mesh's file; also of what its compressed parts unpack to
    json_bytes: int = 32 * 2**20  # of the JSON of a GLB, which takes 30 times as much memory once parsed
    triangles: int = 5_000_000  # of a mesh, all of its instances counted
    vertices: int = 15_000_000  # of a mesh, all of its instances counted
    nodes: int = 250_000  # of a GLB's scene
    primitives: int = 20_000  # of a GLB's meshes
    points: int = 50_000_000  # of a cloud
    rig_values: int = 50_000_000  # weights of a skin, or offsets of blendshapes, that a GLB has in all

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise OptionError(
                    f"limit {field.name}", got=repr(value)[:40], expected="a positive whole number"
                )

    def check(self, kind: str, count: int, what: str, fix: str = "use fewer polygons") -> int:
        """Return a size that a file declares.

        kind: the name of the limit; count: the size; what: the file, for the message.

        Raises MeshInputError where the size is above the limit.
        """
        most = int(getattr(self, kind))
        if count > most:
            got, limit = _told(kind, count), _told(kind, most)
            raise MeshInputError(what, got=got, expected=f"at most {limit}", fix=fix)
        return int(count)


LIMITS = Limits()


def read_whole(path: Path, what: str, limits: Limits = LIMITS) -> bytes:
    """Return the bytes of a file. Raises MeshInputError where it is too large; OSError passes through."""
    with path.open("rb") as file:
        size = limits.check("file_bytes", os.fstat(file.fileno()).st_size, what)
        data = file.read(size + 1)  # it may have grown meanwhile
    limits.check("file_bytes", len(data), what)
    return data


def _told(kind: str, count: Any) -> str:
    if not kind.endswith("bytes"):
        return f"{count:,} {kind.replace('_', ' ')}"
    return f"{count / 2**20:.0f} MiB" + (" of JSON" if kind == "json_bytes" else "")
