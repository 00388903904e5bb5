"""The work of requests, as plain functions for a worker thread: pictures and scans in, heads out."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np

from topos_rt.errors import MeshInputError, OptionError, ScanWarning
from topos_rt.faces.face import Face
from topos_rt.faces.portrait import ALL, LARGEST
from topos_rt.formats.seams import split_seams
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.topology import Topology
from topos_rt.pictures.image import check_image, read_picture, upright_picture
from topos_rt.pipeline import HeadPipeline
from topos_rt.scan.read import read_scan
from topos_rt.server.problems import Problem
from topos_rt.server.schemas import Options, ScanFormat, ScanOptions
from topos_rt.server.settings import MOST_HEADS
from topos_rt.server.uploads import Upload
from topos_rt.server.work import Job
from topos_rt.support.progress import Progress
from topos_rt.support.tensorfile import tensor_bytes


def faces_of(pipeline: HeadPipeline, picture: bytes, job: Job) -> dict[str, Any]:
    """Return the faces of a picture as `topos-rt faces --json` tells them."""
    job.require()
    opened = read_picture(picture)
    job.require()
    found = pipeline.find_faces(opened)
    return {"width": opened.width, "height": opened.height, "faces": [face_entry(face) for face in found]}


def face_entry(face: Face) -> dict[str, Any]:
    """Return a face as JSON values."""
    return {
        **face.facts(),
        "landmarks": [[round(float(value), 2) for value in point] for point in face.landmarks],
        "expression": {name: round(score, 4) for name, score in face.expression.items()},
    }


def heads_of(pipeline: HeadPipeline, picture: bytes, options: Options, job: Job) -> list[HeadMesh]:
    """Return the heads of a picture. Raises what a pipeline's call raises."""
    call = options.call()
    if options.face == ALL:
        count = len(pipeline.find_faces(picture)) * len(options.seeds)
        if count > MOST_HEADS:
            raise OptionError("heads of one request", got=count, expected=f"at most {MOST_HEADS}")
    elif isinstance(options.face, int):
        call["face"] = chosen(pipeline.find_faces(picture), options.face)
    return list(pipeline.each(picture, seed=options.seeds, callback=job.check, **call))


def chosen(faces: list[Face], number: int) -> Face:
    """Return a face by its number, from 0, as clients count them. Raises Problem where there is none."""
    if number < len(faces):
        return faces[number]
    count = f"{len(faces)} face{'' if len(faces) == 1 else 's'}"
    last = f" to {len(faces) - 1}" if len(faces) > 1 else ""
    expected = f"0{last}, counted from the largest" if faces else "a picture with a face"
    raise Problem("no-face", f"face {number}", got=f"a picture with {count}", expected=expected)


def check_picture(picture: bytes) -> None:
    """Raise ImageError from the header alone, before a picture waits for a worker."""
    check_image(picture)


def stream_of(
    pipeline: HeadPipeline, picture: bytes, options: Options, job: Job, told: dict[str, Callable[..., None]]
) -> None:
    """Make the heads of a picture, one for each seed, and tell of each step.

    told: "faces" gets the answer of `faces_of` and the number of the chosen one, "preview" a head, its step
    and the number of steps, "head" a finished head.
    """
    call = options.call()
    opened = upright_picture(picture)
    if options.face_check or options.crop == "auto":
        job.require()
        found = pipeline.find_faces(opened)
        entry = {
            "width": opened.width,
            "height": opened.height,
            "faces": [face_entry(face) for face in found],
        }
        number = 0 if options.face == LARGEST else int(options.face)
        boxed = options.face == LARGEST and isinstance(options.crop, list)  # the largest in that box
        told["faces"](entry, number if number < len(found) and not boxed else None)
        if not boxed and (found or options.face != LARGEST):
            call["face"] = chosen(found, number)  # it is not looked for again
    for seed in options.seeds:
        steps = 0

        def check(progress: Progress) -> bool:
            nonlocal steps
            steps = max(steps, progress.steps)
            return job.check()

        for head in pipeline.stream(opened, seed=seed, callback=check, **call):
            step = head.metadata.get("preview_step")
            if step is None:
                told["head"](head, seed)
            else:
                told["preview"](head, step, steps, seed)


def scan_of(
    pipeline: HeadPipeline, scan: Upload, options: ScanOptions, job: Job, notes: list[str]
) -> HeadMesh:
    """Return the model's topology laid over a scan. Raises what `read_scan` and `retopologize` raise.

    notes: gets what the reader has to say of the scan.

    The readers take paths: the scan lies in a directory of its own meanwhile, under a name of ours.
    """
    suffix = options.format or scan.suffix
    if suffix not in get_args(ScanFormat):
        expected = f"one of: {', '.join(get_args(ScanFormat))}"
        raise Problem("bad-input", "the scan's format", got=repr(suffix), expected=expected, fix="set format")
    with tempfile.TemporaryDirectory(prefix="topos-rt-scan-") as folder:
        path = Path(folder) / f"scan.{suffix}"
        path.write_bytes(scan.data)
        try:
            read = read_scan(path, units=options.units)
        except MeshInputError as error:  # which names the file that nobody knows of
            what = error.what.replace(str(path), "the scan")
            raise MeshInputError(what, got=error.got, expected=error.expected, fix=error.fix) from error
    notes += [*read.warnings, *read.notes]
    job.require()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScanWarning)
        return pipeline.retopologize(
            read.points,
            read.normals,
            seed=options.seed,
            align=options.align,
            passes=options.passes,
            callback=job.check,
        )


def picture_of(frame: bytes) -> np.ndarray:
    """Return a frame of a camera, [H,W,3] uint8. Raises ImageError."""
    return np.asarray(read_picture(frame))


@lru_cache(maxsize=2)
def topology_bytes(topology: Topology) -> bytes:
    """Return what a page needs to draw heads from their positions alone, as a safetensors file.

    Every array is of 4-byte numbers, little endian:
    source [W] uint32: the topology's vertex that each drawn vertex stands for; source[:V] counts up.
    triangles [F,3] uint32: drawn vertices, counter-clockwise from outside. uvs [W,2] float32, origin bottom
    left; [0,2] without. edges [E,2] uint32: the polygons' sides as topology vertices, for a wireframe.
    region.NAME [n] uint32: topology vertices.
    """
    split = split_seams(topology)
    edges = topology.edges
    arrays = {
        "source": split.source,
        "triangles": split.triangles,
        "edges": edges[edges[:, 0] < edges[:, 1]],
        **{f"region.{name}": ids for name, ids in topology.regions.items()},
    }
    made: dict[str, np.ndarray] = {name: np.asarray(array, "<u4") for name, array in arrays.items()}
    made["uvs"] = np.asarray(split.uvs, "<f4")
    return tensor_bytes(made, {"vertices": str(topology.num_vertices)})


def positions_bytes(head: HeadMesh) -> bytes:
    """Return a head's positions [V,3] as little-endian float32, metres."""
    return np.asarray(head.positions, "<f4").tobytes()
