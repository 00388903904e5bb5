"""Exporters from a HeadMesh to the bytes of a file, and readers of meshes and point clouds.

The exporters are pure functions: only `HeadMesh.save` writes to disk.
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from topos_rt.errors import OptionError, choose
from topos_rt.formats.glb import write_glb
from topos_rt.formats.obj import write_obj
from topos_rt.formats.options import ExportOptions
from topos_rt.formats.ply import write_ply
from topos_rt.formats.usd import write_usd, write_usda
from topos_rt.head.mesh import HeadMesh

__all__ = [
    "EXPORTERS",
    "ExportOptions",
    "format_of",
    "write_glb",
    "write_obj",
    "write_ply",
    "write_usd",
    "write_usda",
]

EXPORTERS: dict[str, Callable[[HeadMesh, ExportOptions], bytes]] = {
    "glb": write_glb,
    "obj": write_obj,
    "ply": write_ply,
    "usd": write_usd,
    "usda": write_usda,
}


def format_of(path: str | PathLike[str], format: str | None = None) -> str:
    """Return the key of EXPORTERS that `format`, or else the suffix of `path`, names.

    Raises OptionError where there is no such key.
    """
    name = Path(path).suffix.removeprefix(".").lower() if format is None else format
    if not name:
        raise OptionError(
            "no output format",
            got=f"{path}, a name without suffix",
            expected=f"one of: {', '.join(f'.{key}' for key in EXPORTERS)}",
            fix="add a suffix or name a format",
        )
    choose(name, EXPORTERS, "output format")
    return name
