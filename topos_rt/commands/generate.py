"""`topos-rt generate`: portraits to heads."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topos_rt.commands import options
from topos_rt.commands.outputs import Item, choose_format, is_pattern, names_directory, plan_paths
from topos_rt.console import Console
from topos_rt.errors import ImageError, OptionError, ToposError, one_line
from topos_rt.exporters import EXPORTERS, ExportOptions
from topos_rt.files import write_atomic
from topos_rt.mesh import HeadMesh
from topos_rt.sampler import check_seed
from topos_rt.topology import Topology

if TYPE_CHECKING:
    from topos_rt.pipeline import HeadPipeline, Progress

EPILOG = """
examples:
  topos-rt generate portrait.jpg                     writes portrait.glb
  topos-rt generate portrait.jpg -o head.obj --preview head.png
  topos-rt generate *.jpg -o heads/ --seeds 1,2,3    writes heads/NAME_seed1.glb and so on

Heads are in metres, +Y up, facing +Z. Vertex i is the same point of the head in all of them.
Exit codes: 0 done; 2 bad usage or input, told in one line; 1 a failure of topos-rt itself.
"""

_STAGES = {
    "image": "reading the image",
    "image_encoder": "looking at the image",
    "dit_context": "looking at the image",
    "dit_step": "sampling",
    "vae_decoder": "building the mesh",
}


@dataclass(frozen=True)
class _Request:
    """What was asked for, checked."""

    seeds: list[int]
    sampling: dict[str, Any]
    format: str
    export: ExportOptions
    paths: dict[tuple[str, int], Path]
    previews: dict[tuple[str, int], Path]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The arguments of `topos-rt generate`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", help="a portrait: PNG, JPEG, WebP, BMP, GIF or TIFF"
    )
    parser.add_argument(
        "-o",
        dest="out",
        metavar="OUT",
        help="a file, a directory, or a pattern with {stem} and {seed} (default: NAME.glb here)",
    )
    options.add_model_options(parser)
    options.add_sampling_options(parser)
    options.add_format_options(parser)
    parser.add_argument(
        "--preview", metavar="PNG", help="also draw each head; a file, directory or pattern like OUT"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Make the heads. One that fails does not stop the others."""
    request = _check(arguments)
    console.report.update(heads=[])
    images, codes = _readable(arguments.images, console)
    if images:
        codes += _generate(arguments, request, images, console)
    return 1 if 1 in codes else max(codes, default=0)


def _check(arguments: argparse.Namespace) -> _Request:
    """Everything that can be wrong with the options is found here, before anything heavy is loaded."""
    sampling = options.sampling(arguments)
    numbered = arguments.seeds is not None
    seeds = [check_seed(seed) for seed in (arguments.seeds if numbered else [arguments.seed or 0])]
    if len(set(seeds)) < len(seeds):
        raise OptionError("--seeds", got="the same seed twice", expected="different seeds")
    items = [Item(image, seed, numbered) for image in arguments.images for seed in seeds]
    keys = [(item.source, item.seed) for item in items]
    name = choose_format(arguments.out, arguments.format, options.DEFAULT_FORMAT, len(items) > 1)
    export = ExportOptions(units=arguments.units, up=arguments.up, rig=not arguments.no_rig)
    EXPORTERS[name](_triangle(), export)
    paths = plan_paths(arguments.out, items, name, "-o")
    previews = []
    if arguments.preview is not None:
        _check_preview(arguments.preview, len(items) > 1)
        previews = plan_paths(arguments.preview, items, "png", "--preview")
    return _Request(
        seeds,
        sampling,
        name,
        export,
        dict(zip(keys, paths, strict=True)),
        dict(zip(keys, previews, strict=False)),
    )


def _readable(images: Sequence[str], console: Console) -> tuple[list[str], list[int]]:
    """The images whose headers are sound, and the exit codes of the others, which are reported."""
    from topos_rt.image import check_image

    good, codes = [], []
    for image in images:
        try:
            check_image(image)
            good.append(image)
        except ImageError as error:
            console.error(error, image=image)
            codes.append(error.exit_code)
    return good, codes


def _generate(
    arguments: argparse.Namespace, request: _Request, images: Sequence[str], console: Console
) -> list[int]:
    """Make and write the heads; the exit codes of what failed."""
    from topos_rt.pipeline import HeadPipeline

    codes = []
    console.progress(0.0, f"loading {arguments.model}")
    started = time.perf_counter()

    def building(graph: str, share: float) -> None:
        console.progress(0.0, f"building {graph}: {share:.0%}")

    with HeadPipeline.open(arguments.model, backend=arguments.backend, progress=building) as pipeline:
        manifest = pipeline.bundle.manifest
        about = {
            "model": manifest.name,
            "weights": manifest.weights.note,
            "backend": pipeline.backend,
            "backend_reason": pipeline.backend_reason,
            "loading_s": round(time.perf_counter() - started, 4),
        }
        console.report = about | console.report
        for number, image in enumerate(images):
            try:
                heads = _run_one(pipeline, request, image, (number, len(images)), console)
            except ToposError as error:
                console.error(error, image=image)
                codes.append(error.exit_code)
                continue
            for seed, head in zip(request.seeds, heads, strict=True):
                try:
                    _write(head, (image, seed), request, console)
                except ToposError as error:
                    console.error(error, image=image)
                    codes.append(error.exit_code)
        if console.report["heads"]:
            console.note(f"model {manifest.name}: {manifest.weights.note}")
            console.note(f"backend {pipeline.backend}: {pipeline.backend_reason}")
    return codes


def _run_one(
    pipeline: HeadPipeline, request: _Request, image: str, place: tuple[int, int], console: Console
) -> list[HeadMesh]:
    number, images = place

    def show(progress: Progress) -> None:
        head = (progress.item + progress.step / max(1, progress.steps)) / progress.items
        stage = _STAGES.get(progress.stage, progress.stage)
        steps = f" {progress.step}/{progress.steps}" if progress.stage == "dit_step" else ""
        console.progress((number + head) / images, f"{image}: {stage}{steps}")

    heads: list[HeadMesh] = pipeline(image, seed=request.seeds, callback=show, **request.sampling)
    return heads


def _write(head: HeadMesh, key: tuple[str, int], request: _Request, console: Console) -> None:
    """Write a head and its preview, once the bytes of both are there."""
    path, preview = request.paths[key], request.previews.get(key)
    data = EXPORTERS[request.format](head, request.export)
    picture = None
    if preview is not None:
        from topos_rt.preview import render_preview

        console.progress(1.0, f"drawing {preview}")
        picture = render_preview(head)
    write_atomic(path, data, parents=True)
    if preview is not None and picture is not None:
        write_atomic(preview, picture, parents=True)
    image, seed = key
    vertices, triangles = len(head.positions), len(head.triangles)
    console.report["heads"].append(
        {
            "image": image,
            "seed": seed,
            "output": str(path),
            "format": request.format,
            "bytes": len(data),
            "preview": None if preview is None else str(preview),
            "vertices": vertices,
            "triangles": triangles,
            "metadata": dict(head.metadata),
            "timings_s": {stage: round(seconds, 4) for stage, seconds in head.timings.items()},
        }
    )
    seconds = f", {head.timings['total']:.2f} s" if "total" in head.timings else ""
    console.say(one_line(f"{path}  {vertices:,} vertices, {triangles:,} triangles, seed {seed}{seconds}"))
    if preview is not None:
        console.say(one_line(f"{preview}  preview"))


def _check_preview(preview: str, several: bool) -> None:
    directory = names_directory(preview) or (several and not is_pattern(preview) and not Path(preview).suffix)
    if preview and not directory and Path(preview).suffix.lower() != ".png":
        raise OptionError("--preview", got=repr(preview), expected="a name that ends in .png, or a directory")


def _triangle() -> HeadMesh:
    """The smallest mesh: what an exporter refuses, it refuses at once instead of after the work."""
    corners = np.eye(3, dtype=np.float32)
    topology = Topology(3, np.array([3], np.uint8), np.arange(3, dtype=np.int32))
    return HeadMesh(corners, corners, topology)
