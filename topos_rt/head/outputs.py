"""The ways of a head out of the program. This is the one module of its room that imports rooms above it."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from topos_rt.errors import OptionError, OutputError, choose
from topos_rt.support.files import write_files
from topos_rt.support.streams import Writable, write_all

if TYPE_CHECKING:
    from topos_rt.head.mesh import HeadMesh


class SaveOptions(TypedDict, total=False):
    """What `HeadMesh.save` and `to_bytes` take beside a place and a format; see there."""

    units: str
    up: str
    rig: bool
    skeleton: str
    morphs: str | Sequence[str]
    quantize: bool
    parts: bool


def save(
    head: HeadMesh, target: str | PathLike[str] | Writable, format: str | None, options: SaveOptions
) -> None:
    """Do what `HeadMesh.save` says."""
    from topos_rt.formats import EXPORTERS, ExportOptions, files_of, format_of

    if isinstance(target, str | PathLike):
        write_files(files_of(head, format_of(target, format), ExportOptions(**options), target))
        return
    if not callable(getattr(target, "write", None)):
        got = f"an object of type {type(target).__name__}"
        raise OutputError("cannot write the head", got=got, expected="a path or an open binary file")
    if format is None:
        expected = f"one of: {', '.join(EXPORTERS)}"
        fix = 'name the format: head.save(file, "glb")'
        raise OptionError("no output format", got="an open file", expected=expected, fix=fix)
    write_all(target, to_bytes(head, format, options))


def to_bytes(head: HeadMesh, format: str, options: SaveOptions) -> bytes:
    """Do what `HeadMesh.to_bytes` says."""
    from topos_rt.formats import EXPORTERS, ExportOptions, bytes_of

    choose(format, EXPORTERS, "output format")
    return bytes_of(head, format, ExportOptions(**options))


def read(path: str | PathLike[str]) -> HeadMesh:
    """Do what `HeadMesh.load` says."""
    from topos_rt.formats import read_head

    return read_head(path)


def preview(head: HeadMesh, size: int, beside: np.ndarray | None) -> bytes:
    """Do what `HeadMesh.preview` says."""
    from topos_rt.pictures.preview import render_preview

    return render_preview(head, size, beside)


def to_trimesh(head: HeadMesh) -> Any:
    """Do what `HeadMesh.to_trimesh` says."""
    from topos_rt.formats.trimeshes import trimesh_of

    return trimesh_of(head)
