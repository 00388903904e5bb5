"""Exporters from a HeadMesh to the bytes of a file, and readers of meshes and point clouds.

The exporters are pure functions: only `HeadMesh.save` writes to disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from topos_rt.errors import OptionError, choose
from topos_rt.formats.glb import gltf_files, write_glb, write_gltf
from topos_rt.formats.head_files import head_files, read_head, write_head
from topos_rt.formats.obj import write_obj
from topos_rt.formats.options import ExportOptions
from topos_rt.formats.ply import write_ply
from topos_rt.formats.textures import files_beside, mtl_beside
from topos_rt.formats.usd import write_usd, write_usda
from topos_rt.head.mesh import HeadMesh

__all__ = [
    "COMPANIONS",
    "EXPORTERS",
    "ExportOptions",
    "bytes_of",
    "files_of",
    "format_of",
    "read_head",
    "write_glb",
    "write_gltf",
    "write_head",
    "write_obj",
    "write_ply",
    "write_usd",
    "write_usda",
]

EXPORTERS: dict[str, Callable[[HeadMesh, ExportOptions], bytes]] = {
    "glb": write_glb,
    "gltf": write_gltf,
    "head": write_head,
    "obj": write_obj,
    "ply": write_ply,
    "usd": write_usd,
    "usda": write_usda,
}
_NAMELESS = "head"  # a path whose suffix asks for no further file
# Formats that put a part into a file beside it: head, options and the name without suffix -> files by name.
# What EXPORTERS makes of such a format is one file with everything in it, for standard output.
SEVERAL_FILES: dict[str, Callable[[HeadMesh, ExportOptions, str], dict[str, bytes]]] = {
    "gltf": gltf_files,
    "head": head_files,
}


def files_of(
    mesh: HeadMesh, format: str, options: ExportOptions, path: str | PathLike[str]
) -> dict[Path, bytes]:
    """Return the files that a head is saved in, what `path` names the last: path -> contents.

    format: a key of EXPORTERS. Raises what the exporter raises.
    """
    path = Path(path)
    options = dataclasses.replace(options, beside=path.stem)
    if format not in SEVERAL_FILES or path.suffix.lower() != f".{format}":
        beside = {path.with_name(name): data for name, data in companions(format, mesh, options).items()}
        return {**beside, path: EXPORTERS[format](mesh, options)}
    files = SEVERAL_FILES[format](mesh, options, path.stem)
    return {path.with_name(name) if name != f"{path.stem}.{format}" else path: files[name] for name in files}


def bytes_of(mesh: HeadMesh, format: str, options: ExportOptions) -> bytes:
    """Return a head as the bytes of one file, which are those that it is saved in.

    format: a key of EXPORTERS. glTF and .head come whole, without the files that they share numbers with.
    Raises what the exporter raises, and OptionError for a head that takes several files in this format.
    """
    *beside, name = files = files_of(mesh, format, options, _NAMELESS)
    if beside:
        raise OptionError(
            f"a .{format} as bytes",
            got=f"a head with {', '.join(path.name for path in beside)} beside it",
            expected="a format that is one file",
            fix=f"take 'glb', save to a path (head.{format}), or leave out texture and parts",
        )
    return files[name]


# Format -> what it needs beside its file, as file name -> bytes; only with `ExportOptions.beside`.
COMPANIONS: dict[str, Callable[[HeadMesh, ExportOptions], dict[str, bytes]]] = {
    "obj": mtl_beside,
    "usd": files_beside,
    "usda": files_beside,
}


def companions(format: str, mesh: HeadMesh, options: ExportOptions) -> dict[str, bytes]:
    """Return the files that a head of a format needs beside it, as name -> bytes."""
    return COMPANIONS[format](mesh, options) if format in COMPANIONS else {}


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
