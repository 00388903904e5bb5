"""Options that several commands share. Every list of choices comes from the table that holds them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from typing import Any

from topos_rt.engines import AUTO, BACKENDS, EngineOptions
from topos_rt.engines.contract import MAX_THREADS, PRECISIONS
from topos_rt.errors import choose
from topos_rt.faces.portrait import ALL, LARGEST, WHOLE, FaceChoice
from topos_rt.faces.portrait import AUTO as CROP_AUTO
from topos_rt.flow.settings import DEFAULT_PRESET, PRESETS, resolve
from topos_rt.flow.solvers import SOLVERS
from topos_rt.formats import EXPORTERS
from topos_rt.formats.options import AXES, UNITS, ExportOptions
from topos_rt.head.lod import LODS
from topos_rt.head.skeleton import SKELETONS
from topos_rt.head.texture import FORMATS, SIZES
from topos_rt.head.visemes import GROUPS
from topos_rt.texture.stage import DEFAULT_SIZE, KINDS, TextureChoice

DEFAULT_FORMAT = "glb"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --model, --backend, --precision and --threads."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="mini|PATH",
        default="mini",
        help="the bundled model, or a bundle's directory (default: mini)",
    )
    group.add_argument(
        "--backend",
        metavar=_one_of([AUTO, *BACKENDS]),
        default=AUTO,
        help="the inference engine; auto takes the best that works here (default: auto)",
    )
    group.add_argument(
        "--precision",
        metavar=_one_of(PRECISIONS),
        help="the engines' precision, if the backend offers a choice (default: fp16 where the model has it)",
    )
    group.add_argument(
        "--threads",
        metavar="N",
        type=whole_within(1, MAX_THREADS),
        help="number of CPU threads (default: one for each usable core)",
    )


def engines(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the engine options that `add_model_options` defines, as keywords of `HeadPipeline.open`.

    Raises OptionError for an unknown precision.
    """
    given = {"threads": arguments.threads, "precision": arguments.precision}
    EngineOptions(**given)
    return {"backend": arguments.backend, **given}


def add_sampling_options(parser: argparse.ArgumentParser, seeds: bool = True) -> None:
    """Add the arguments of `topos_rt.flow.settings.resolve` except times; --seed; with `seeds`, --seeds."""
    presets = ", ".join(f"{name} {settings.steps}" for name, settings in PRESETS.items())
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--preset",
        metavar=_one_of(PRESETS),
        default=DEFAULT_PRESET,
        help=f"trade quality for speed; steps of each: {presets} (default: {DEFAULT_PRESET})",
    )
    group.add_argument("--steps", metavar="N", type=whole, help="sampling steps (default: the preset's)")
    group.add_argument(
        "--solver", metavar=_one_of(SOLVERS), help="the method that takes a step (default: the preset's)"
    )
    group.add_argument(
        "--guidance",
        metavar="W",
        type=number,
        help="how strictly to follow the image; 0 is off (default: the model's)",
    )
    group.add_argument(
        "--guidance-interval",
        dest="interval",
        metavar=("LO", "HI"),
        nargs=2,
        type=number,
        help="guide only at times LO <= t <= HI; t = 1 is noise, t = 0 the head (default: the preset's)",
    )
    group.add_argument(
        "--guidance-reuse",
        dest="reuse",
        metavar="K",
        type=whole,
        help="recompute guidance only at every K-th evaluation (default: the preset's)",
    )
    group.add_argument(
        "--temperature",
        metavar="T",
        type=number,
        help="temperature of the starting noise; lower makes heads of different seeds more alike (default: "
        "the model's)",
    )
    group.add_argument(
        "--shift",
        metavar="R",
        type=number,
        help="values above 1 put more of the steps near the noise (default: the preset's)",
    )
    group.add_argument(
        "--landmark-pull",
        metavar="W",
        type=number,
        help="how much the face's landmarks count while sampling; 1 as their errors allow (default: 0, off)",
    )
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--seed", metavar="K", type=whole, help="random seed; the same seed gives the same head (default: 0)"
    )
    if seeds:
        either.add_argument(
            "--seeds", metavar="K,K...", type=_wholes, help="make several heads of each image"
        )


def sampling(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the sampling options except seeds, as keywords of a pipeline's call.

    Raises OptionError for values that no pipeline accepts.
    """
    names = (
        "preset",
        "steps",
        "solver",
        "guidance",
        "interval",
        "reuse",
        "temperature",
        "shift",
        "landmark_pull",
    )
    given = {name: getattr(arguments, name) for name in names}
    resolve(**given)
    return given


def add_face_options(parser: argparse.ArgumentParser) -> None:
    """Add --face, --crop and --no-face-check."""
    group = parser.add_argument_group("face")
    group.add_argument(
        "--face",
        metavar="N|largest|all",
        type=face_number,
        default=LARGEST,
        help="which face of a picture: its number in 'topos-rt faces', the largest, or all, one head each "
        "(default: largest)",
    )
    group.add_argument(
        "--crop",
        metavar="X,Y,W,H|none|auto",
        type=_crop,
        default=CROP_AUTO,
        help="what the model sees: a box in pixels of the upright picture, the whole picture, or the head, "
        "found and turned upright (default: auto)",
    )
    group.add_argument(
        "--no-face-check",
        action="store_true",
        help="also make heads of pictures without a face, such as drawings and renders",
    )


def seeing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that `add_face_options` defines, as keywords of a pipeline's call.

    Raises OptionError for values that no pipeline accepts.
    """
    face = arguments.face if isinstance(arguments.face, str) else arguments.face - 1
    given = {"face": face, "crop": arguments.crop, "face_check": not arguments.no_face_check}
    FaceChoice(given["face"], given["crop"], given["face_check"])
    return given


def add_texture_options(parser: argparse.ArgumentParser) -> None:
    """Add --texture, --texture-size and --texture-format."""
    group = parser.add_argument_group("texture")
    group.add_argument(
        "--texture",
        metavar=_one_of(KINDS),
        help="what the skin shows: "
        + "; ".join(f"{name}: {about}" for name, about in KINDS.items())
        + " (default: projected where a face is seen)",
    )
    add_texture_file_options(group)


def add_texture_file_options(group: Any) -> None:
    """Add --texture-size and --texture-format to a group."""
    group.add_argument(
        "--texture-size",
        metavar=_one_of(map(str, SIZES)),
        type=whole,
        default=DEFAULT_SIZE,
        help=f"pixels along a side (default: {DEFAULT_SIZE})",
    )
    group.add_argument(
        "--texture-format",
        metavar=_one_of(FORMATS),
        default=FORMATS[0],
        help=f"the format of colours in files (default: {FORMATS[0]})",
    )


def texturing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that `add_texture_options` defines, as keywords of a pipeline's call.

    Raises OptionError for values that no pipeline accepts.
    """
    kind = getattr(arguments, "texture", None)
    TextureChoice(kind, arguments.texture_size, arguments.texture_format)
    return {
        "texture": kind,
        "texture_size": arguments.texture_size,
        "texture_format": arguments.texture_format,
    }


def add_format_options(parser: argparse.ArgumentParser) -> None:
    """Add --format, --units, --up, --no-rig, --no-parts, --skeleton, --morphs, --quantize and --lod."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--format",
        metavar=_one_of(EXPORTERS),
        help=f"the format of the heads (default: the suffix of OUT, else {DEFAULT_FORMAT})",
    )
    group.add_argument("--units", metavar=_one_of(UNITS), default="m", help="the unit of length (default: m)")
    group.add_argument(
        "--up", metavar=_one_of(AXES), default="y", help="the axis that points up (default: y)"
    )
    group.add_argument("--no-rig", action="store_true", help="leave out skeleton, skin and blendshapes")
    group.add_argument(
        "--no-parts", action="store_true", help="leave out teeth and lashes, and write one material"
    )
    group.add_argument(
        "--skeleton",
        metavar=_one_of(SKELETONS),
        default="full",
        help="every joint, or only those that hold vertices, below one root (default: full)",
    )
    group.add_argument(
        "--morphs",
        metavar=f"{_one_of(GROUPS)}|NAME,...",
        default="all",
        help="the blendshapes, by group or name; visemes are Oculus LipSync's 15 (default: all of the head)",
    )
    group.add_argument(
        "--quantize",
        action="store_true",
        help="16-bit numbers, half the size, at most 0.01 mm off; .glb and .gltf only",
    )
    group.add_argument(
        "--lod",
        metavar=_one_of(map(str, LODS)),
        default="0",
        help="level of detail: "
        + ", ".join(f"{level} {share}" for level, share in LODS.items())
        + " (default: 0)",
    )


def exporting(arguments: argparse.Namespace) -> ExportOptions:
    """Return the options of exported files that `add_format_options` defines. Raises OptionError."""
    return ExportOptions(
        units=arguments.units,
        up=arguments.up,
        rig=not arguments.no_rig,
        skeleton=arguments.skeleton,
        morphs=arguments.morphs,
        quantize=arguments.quantize,
        parts=not arguments.no_parts,
    )


def lod(arguments: argparse.Namespace) -> int:
    """Return the level of detail. Raises OptionError for an unknown one."""
    choose(arguments.lod, {str(level): level for level in LODS}, "level of detail")
    return int(arguments.lod)


def _one_of(names: Iterable[str]) -> str:
    return "|".join(names)


def whole(text: str) -> int:
    """Parse a whole number, for argparse."""
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"got {_short(text)}; expected a whole number") from error


def whole_within(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`, for argparse."""

    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(
                f"got {_short(text)}; expected a whole number from {low} to {high:,}"
            )
        return int(text)

    return read


def _wholes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"got {_short(text)}; expected whole numbers with commas between"
        ) from error


def face_number(text: str) -> str | int:
    """Parse the number of a face, "largest" or "all", for argparse."""
    if text in (LARGEST, ALL):
        return text
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(
            f"got {_short(text)}; expected {LARGEST}, {ALL}, or the number of a face from 1"
        )
    return int(text)


def _crop(text: str) -> str | tuple[int, ...]:
    if text in (CROP_AUTO, WHOLE):
        return text
    if not re.fullmatch(r"\d{1,6}(,\d{1,6}){3}", text):
        raise argparse.ArgumentTypeError(
            f"got {_short(text)}; expected {CROP_AUTO}, {WHOLE}, or four whole numbers X,Y,W,H"
        )
    return tuple(int(part) for part in text.split(","))


def numbers(text: str) -> list[float]:
    """Parse numbers with commas between, for argparse."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"got {_short(text)}; expected numbers with commas between"
        ) from error


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"got {_short(text)}; expected a number") from error


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
