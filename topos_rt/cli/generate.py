"""`topos-rt generate`: turns portraits into heads."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from topos_rt.cli import options
from topos_rt.cli.console import Console
from topos_rt.cli.inputs import check_inputs, label, read_input
from topos_rt.cli.outputs import Item
from topos_rt.cli.painting import OFFICIAL, add_painting_options, opened_painter, painting, told
from topos_rt.cli.writing import (
    Outputs,
    add_preview_option,
    check_outputs,
    opened,
    settled_outputs,
    write_head,
)
from topos_rt.errors import FaceError, ImageError, InputError, OptionError, ToposError, one_line
from topos_rt.faces.portrait import ALL
from topos_rt.flow.settings import check_seed
from topos_rt.texture.stage import OFFICIAL as OFFICIAL_KIND

if TYPE_CHECKING:
    from topos_rt.faces.face import Face
    from topos_rt.pipeline import HeadPipeline, Progress

EPILOG = """
examples:
  topos-rt generate portrait.jpg                     writes portrait.glb
  topos-rt generate portrait.jpg -o head.obj --preview head.png
  topos-rt generate *.jpg -o heads/ --seeds 1,2,3    writes heads/NAME_seed1.glb and so on
  topos-rt generate group.jpg --face all             writes group_face1.glb and so on
  topos-rt generate - -o - < portrait.jpg > head.glb  reads standard input, writes standard output

Heads are in metres, +Y up, facing +Z. Vertex i is the same point on every head.
Exit codes: 0 done; 2 bad usage or input, reported in one line; 1 a failure of topos-rt itself.
"""

_STAGES = {
    "image": "reading the image",
    "face": "looking for the face",
    "evidence": "looking at the face",
    "image_encoder": "looking at the image",
    "dit_context": "looking at the image",
    "dit_step": "sampling",
    "vae_decoder": "building the mesh",
    "rig": "fitting the rig",
    "fit": "fitting pose and expression",
    "texture": "laying on the photograph",
}


@dataclass(frozen=True)
class _Request:
    """The checked options."""

    seeds: list[int]
    numbered: bool  # whether the seeds go into the names of files
    options: dict[str, Any]  # keywords of a pipeline's call
    outputs: Outputs | None  # None until the faces are counted, where all were asked for
    painting: Any = None  # what paints texture "official": see `topos_rt.cli.painting.painting`


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt generate`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="a portrait: PNG, JPEG, WebP, BMP, GIF or TIFF; - for standard input",
    )
    parser.add_argument(
        "-o",
        dest="out",
        metavar="OUT",
        help="a file, a directory, a pattern with {stem}, {seed} and {face}, or - for standard output "
        "(default: NAME.glb here; of standard input, stdin.glb)",
    )
    options.add_model_options(parser)
    options.add_face_options(parser)
    options.add_texture_options(parser)
    add_painting_options(parser)
    options.add_sampling_options(parser)
    options.add_format_options(parser)
    add_preview_option(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Make the heads. One that fails does not stop the others."""
    request = _check(arguments)
    console.report.update(heads=[])
    if request.painting is not None:
        told(request.painting, console)
        if arguments.requirements:
            return 0
    tasks, codes = _readable(arguments.images, console)
    if tasks:
        codes += _generate(arguments, request, tasks, console)
    return 1 if 1 in codes else max(codes, default=0)


def _check(arguments: argparse.Namespace) -> _Request:
    """Check every option before anything heavy is loaded. Raises OptionError or OutputError."""
    check_inputs(arguments.images)
    chosen = options.sampling(arguments) | options.seeing(arguments) | options.texturing(arguments)
    found = painting(arguments)
    if (found is not None) != (chosen["texture"] == OFFICIAL_KIND):
        raise OptionError(
            OFFICIAL,
            got=f"texture {chosen['texture']!r}" if found else f"texture {OFFICIAL_KIND!r} alone",
            expected=f"--texture {OFFICIAL_KIND} {OFFICIAL} DIR together",
        )
    numbered = arguments.seeds is not None
    seeds = [check_seed(seed) for seed in (arguments.seeds if numbered else [arguments.seed or 0])]
    if len(set(seeds)) < len(seeds):
        raise OptionError("--seeds", got="the same seed twice", expected="different seeds")
    every = chosen["face"] == ALL
    items = [
        Item(image, seed, numbered, 1 if every else None) for image in arguments.images for seed in seeds
    ]
    # How many faces there are is known later, but what is wrong with one name is wrong with all.
    outputs = settled_outputs(arguments, items)
    return _Request(seeds, numbered, chosen, None if every else outputs, found)


def _readable(images: Sequence[str], console: Console) -> tuple[list[_Task], list[int]]:
    """Return the images with sound headers; report the others and return their exit codes."""
    from topos_rt.pictures.image import check_image

    good, codes = [], []
    for image in images:
        try:
            source = read_input(image)
            check_image(source)
            good.append(_Task(image, source))
        except InputError as error:
            console.error(error, label(image), image=image)
            codes.append(error.exit_code)
    return good, codes


def _generate(
    arguments: argparse.Namespace, request: _Request, tasks: list[_Task], console: Console
) -> list[int]:
    """Make and write the heads of each image. Return the exit codes of failures."""
    codes: list[int] = []
    with ExitStack() as stack, opened(arguments, console) as pipeline:
        check_outputs(pipeline.bundle, arguments)
        if request.painting is not None:
            painter = opened_painter(request.painting)
            stack.callback(painter.close)
            pipeline.paint_with(painter)
        outputs = request.outputs
        if outputs is None:
            tasks, codes = _every_face(pipeline, tasks, console)
            items = [
                Item(task.image, seed, request.numbered, task.face)
                for task in tasks
                for seed in request.seeds
            ]
            outputs = settled_outputs(arguments, items)
        for number, task in enumerate(tasks):
            share = number / len(tasks), 1 / len(tasks)
            codes += _run_one(pipeline, request, task, outputs, share, console)
    return codes


@dataclass(frozen=True)
class _Task:
    """One image, or one face of it, to make heads of."""

    image: str  # as the command line names it
    source: str | bytes  # what it is read from
    face: int | None = None  # its number, from 1, where all faces were asked for
    found: Face | None = None


def _every_face(
    pipeline: HeadPipeline, images: Sequence[_Task], console: Console
) -> tuple[list[_Task], list[int]]:
    """Return a task for each face, and the exit codes of the images in which none can be used."""
    tasks: list[_Task] = []
    codes = []
    for given in images:
        image, called = given.image, label(given.image)
        console.progress(0.0, f"{called}: looking for faces")
        try:
            faces = list(enumerate(pipeline.find_faces(given.source), 1))
            for number, face in faces:
                if face.hidden:
                    console.note(one_line(f"{called}: warning: face {number} is left out: {face.hidden}"))
            usable = [_Task(image, given.source, number, face) for number, face in faces if not face.hidden]
            if not usable:
                found = "only faces that look sideways" if faces else "no face"
                raise FaceError("no face can be used", got=found, expected="a face that looks to the camera")
            tasks += usable
        except ImageError as error:
            console.error(error, called, image=image)
            codes.append(error.exit_code)
    return tasks, codes


def _run_one(
    pipeline: HeadPipeline,
    request: _Request,
    task: _Task,
    outputs: Outputs,
    share: tuple[float, float],
    console: Console,
) -> list[int]:
    """Make the heads of one face, writing each before the next. Return the exit codes of failures.

    share: the part of all work that is done, and that of this task.
    """
    image, called, codes, left = task.image, label(task.image), [], list(request.seeds)
    given = request.options if task.found is None else request.options | {"face": task.found}

    def show(progress: Progress) -> None:
        done = len(request.seeds) - progress.items + progress.item + progress.step / max(1, progress.steps)
        stage = _STAGES.get(progress.stage, progress.stage)
        counted = progress.stage in ("dit_step", "texture") and progress.steps > 0
        steps = f" {progress.step}/{progress.steps}" if counted else ""
        console.progress(share[0] + share[1] * done / len(request.seeds), f"{called}: {stage}{steps}")

    def failed(error: ToposError, seed: int) -> None:
        source = f"{called}, seed {seed}" if len(request.seeds) > 1 else called
        console.error(error, source, image=image, seed=seed)
        codes.append(error.exit_code)

    while left:
        try:
            for head in pipeline.each(task.source, seed=list(left), callback=show, **given):
                seed = left.pop(0)
                try:
                    about = {"image": image, "seed": seed, "face": task.face}
                    key = image, seed, task.face
                    write_head(head, key, outputs, console, about, task.source)
                except ToposError as error:
                    failed(error, seed)
        except ImageError as error:  # every other seed would fail in the same way
            console.error(error, called, image=image)
            return [*codes, error.exit_code]
        except ToposError as error:
            failed(error, left.pop(0))
    return codes
