"""Code shared by the commands that make heads: settling and checking the outputs, and writing them."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topos_rt.cli import options
from topos_rt.cli.console import Console
from topos_rt.cli.outputs import STDOUT, Item, choose_format, is_pattern, names_directory, output_paths
from topos_rt.errors import OptionError, one_line
from topos_rt.formats import EXPORTERS, ExportOptions, files_of
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import unit_vectors
from topos_rt.head.topology import Topology, check_level
from topos_rt.head.visemes import with_morphs
from topos_rt.support.files import write_atomic, write_files

if TYPE_CHECKING:
    from topos_rt.model.bundle import Bundle
    from topos_rt.pipeline import HeadPipeline

# The input of a head, its seed, and the number of the face where all were asked for.
Key = tuple[str, int, int | None]

_PORTRAIT_PX = 640  # the height of a preview


@dataclass(frozen=True)
class Outputs:
    """The files that heads are written to, and their format."""

    format: str
    export: ExportOptions
    lod: int
    paths: Mapping[Key, Path]
    previews: Mapping[Key, Path]


def add_preview_option(parser: argparse.ArgumentParser) -> None:
    """Add --preview."""
    parser.add_argument(
        "--preview", metavar="PNG", help="also draw each head; a file, directory or pattern like OUT"
    )


def settled_outputs(arguments: argparse.Namespace, items: Sequence[Item]) -> Outputs:
    """Settle and check the outputs before anything heavy is loaded.

    Raises OptionError or OutputError for anything wrong with them.
    """
    keys: list[Key] = [(item.source, item.seed, item.face) for item in items]
    name = choose_format(arguments.out, arguments.format, options.DEFAULT_FORMAT, len(items) > 1)
    options.engines(arguments)
    if arguments.out == STDOUT and arguments.json:
        raise OptionError("--json", got="-o -: both print to standard output", fix="drop one")
    export = options.exporting(arguments)
    EXPORTERS[name](triangle(), export)
    paths = output_paths(arguments.out, items, name, "-o")
    previews = []
    if arguments.preview is not None:
        _check_preview(arguments.preview, len(items) > 1)
        previews = output_paths(arguments.preview, items, "png", "--preview")
    return Outputs(
        name,
        export,
        options.lod(arguments),
        dict(zip(keys, paths, strict=True)),
        dict(zip(keys, previews, strict=False)),
    )


def check_outputs(bundle: Bundle, arguments: argparse.Namespace) -> None:
    """Check what only the model knows, before heads are made: levels of detail and names of blendshapes.

    Raises OptionError.
    """
    check_level(bundle.topology, options.lod(arguments))
    export = options.exporting(arguments)
    if bundle.rig is not None and export.rig:
        with_morphs(bundle.rig, export.morphs)


@contextmanager
def opened(arguments: argparse.Namespace, console: Console) -> Iterator[HeadPipeline]:
    """Open the requested model and describe it in the report and, once heads are made, in two lines."""
    from topos_rt.pipeline import HeadPipeline

    console.progress(0.0, f"loading {arguments.model}")
    started = time.perf_counter()

    def building(graph: str, share: float) -> None:
        console.progress(0.0, f"building {graph}: {share:.0%}")

    with HeadPipeline.open(arguments.model, **options.engines(arguments), progress=building) as pipeline:
        manifest = pipeline.bundle.manifest
        about = {
            "model": manifest.name,
            "weights": manifest.weights.note,
            "backend": pipeline.backend,
            "backend_reason": pipeline.backend_reason,
            "loading_s": round(time.perf_counter() - started, 4),
        }
        console.report = about | console.report
        yield pipeline
        if console.report["heads"]:
            console.note(f"model {manifest.name}: {manifest.weights.note}")
            console.note(f"backend {pipeline.backend}: {pipeline.backend_reason}")


def write_head(
    head: HeadMesh,
    key: Key,
    outputs: Outputs,
    console: Console,
    about: Mapping[str, Any],
    portrait: str | bytes | None = None,
) -> None:
    """Write a head and its preview, once both are encoded.

    about: more keys of the head's entry in the JSON object. portrait: the picture that the head was made of;
    None is the file that `key` names.
    """
    path, preview = outputs.paths[key], outputs.previews.get(key)
    head = head.lod(outputs.lod)
    if not outputs.export.parts:
        head = dataclasses.replace(head, parts=None)
    stdout = str(path) == STDOUT
    if stdout:
        files = {path: EXPORTERS[outputs.format](head, outputs.export)}
    else:
        files = files_of(head, outputs.format, outputs.export, path)
    picture = None
    if preview is not None:
        from topos_rt.pictures.preview import render_preview

        console.progress(1.0, f"drawing {preview}")
        picture = render_preview(_upright(head), beside=_seen(head, portrait or key[0]))
    if stdout:
        console.put(files[path])
    else:
        write_files(files, parents=True)
    if preview is not None and picture is not None:
        write_atomic(preview, picture, parents=True)
    vertices, triangles = len(head.positions), len(head.triangles)
    console.report["heads"].append(
        {
            **about,
            "output": str(path),
            "format": outputs.format,
            "files": [str(file) for file in files],
            "bytes": sum(map(len, files.values())),
            "preview": None if preview is None else str(preview),
            "lod": outputs.lod,
            "vertices": vertices,
            "triangles": triangles,
            "metadata": dict(head.metadata),
            "timings_s": {stage: round(seconds, 4) for stage, seconds in head.timings.items()},
        }
    )
    seed = head.metadata.get("seed")
    told = "" if seed is None else f", seed {seed}"
    told += f", {head.timings['total']:.2f} s" if "total" in head.timings else ""
    console.say(one_line(f"{path}  {vertices:,} vertices, {triangles:,} triangles{told}"))
    for warning in head.metadata.get("warnings", ()):
        console.note(one_line(f"{path}: warning: {warning}"))
    if preview is not None:
        console.say(one_line(f"{preview}  preview"))


def _seen(head: HeadMesh, source: str | bytes) -> np.ndarray | None:
    """Return the part of the portrait that the model saw, with the landmarks drawn on it, if there is one."""
    crop = head.metadata.get("crop")
    if crop is None:
        return None
    from topos_rt.faces.drawing import draw_portrait
    from topos_rt.faces.warp import Square
    from topos_rt.pictures.image import read_picture

    (x, y), angle = crop["centre"], float(np.radians(crop["angle_degrees"]))
    square = Square(x, y, crop["side"], angle)
    return draw_portrait(read_picture(source), head.face, square, _PORTRAIT_PX)


def _upright(head: HeadMesh) -> HeadMesh:
    """Return the head to draw: one with the orientation of a scan is turned upright."""
    if "rotation" not in head.metadata:
        return head
    turn = np.array(head.metadata["rotation"])
    return dataclasses.replace(
        head,
        positions=head.positions @ turn,
        normals=unit_vectors(head.normals @ turn),
        rig=None,
        parts=None if head.parts is None else head.parts.turned(turn),
    )


def _check_preview(preview: str, several: bool) -> None:
    directory = names_directory(preview) or (several and not is_pattern(preview) and not Path(preview).suffix)
    if preview and not directory and Path(preview).suffix.lower() != ".png":
        raise OptionError("--preview", got=repr(preview), expected="a name that ends in .png, or a directory")


def triangle() -> HeadMesh:
    """Return the smallest mesh, on which an exporter refuses bad options before the work, not after it."""
    corners = np.eye(3, dtype=np.float32)
    topology = Topology(3, np.array([3], np.uint8), np.arange(3, dtype=np.int32))
    return HeadMesh(corners, corners, topology)
