"""`topos-rt faces`: finds the faces of pictures."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from topos_rt.cli import options
from topos_rt.cli.console import Console
from topos_rt.cli.inputs import check_inputs, label, read_input
from topos_rt.cli.outputs import Item, is_pattern, names_directory, output_paths
from topos_rt.engines import AUTO, BACKENDS
from topos_rt.engines.contract import MAX_THREADS
from topos_rt.errors import FaceError, OptionError, ToposError, one_line
from topos_rt.support.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from topos_rt.faces.face import Face
    from topos_rt.faces.finder import FaceFinder

EPILOG = """
examples:
  topos-rt faces portrait.jpg                        one line for each face, the largest first
  topos-rt faces *.jpg --draw seen/                  also draws them on copies, as PNG
  topos-rt faces group.jpg --json                    with all landmarks and expression scores

Pixels are those of the upright picture. Yaw is positive where the face looks to the right of the
picture, pitch where it looks up, roll where the head is turned counter-clockwise.
Exit codes: 0 done; 2 bad usage or input, or a picture without a face; 1 a failure of ours.
"""
_LARGE_SCORE = 0.3


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt faces`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "images",
        metavar="PICTURE",
        nargs="+",
        help="a picture: PNG, JPEG, WebP, BMP, GIF or TIFF; - for standard input",
    )
    parser.add_argument(
        "--draw", metavar="OUT", help="draw what was found; a file, directory or pattern with {stem}"
    )
    parser.add_argument(
        "--most",
        metavar="N",
        type=options.whole_within(1, 1000),
        default=50,
        help="the largest number of faces of a picture (default: 50)",
    )
    parser.add_argument(
        "--backend",
        metavar="|".join([AUTO, *BACKENDS]),
        default=AUTO,
        help="the inference engine; auto takes the best that works here (default: auto)",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=options.whole_within(1, MAX_THREADS),
        help="number of CPU threads (default: one for each usable core)",
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Find the faces of each picture. One that fails does not stop the others."""
    check_inputs(arguments.images)
    drawings = _drawings(arguments)
    console.report.update(pictures=[])
    codes = []
    from topos_rt.faces.finder import FaceFinder

    with FaceFinder.open(arguments.backend, arguments.threads) as finder:
        for number, image in enumerate(arguments.images):
            console.progress(number / len(arguments.images), label(image))
            try:
                _one(finder, image, arguments.most, drawings.get(image), console)
            except ToposError as error:
                console.error(error, label(image), image=image)
                codes.append(error.exit_code)
    return 1 if 1 in codes else max(codes, default=0)


def _drawings(arguments: argparse.Namespace) -> dict[str, Path]:
    """Return image -> the file to draw it to, once these can be written. Raises OptionError, OutputError."""
    out = arguments.draw
    if out is None:
        return {}
    several = len(arguments.images) > 1
    if not names_directory(out) and not is_pattern(out) and not several and not out.lower().endswith(".png"):
        raise OptionError("--draw", got=repr(out), expected="a name that ends in .png, or a directory")
    items = [Item(image, 0) for image in arguments.images]
    return dict(zip(arguments.images, output_paths(out, items, "faces.png", "--draw"), strict=True))


def _one(finder: FaceFinder, image: str, most: int, drawing: Path | None, console: Console) -> None:
    from topos_rt.pictures.image import read_picture

    picture, called = read_picture(read_input(image)), label(image)
    faces = finder.find_in(picture, most)
    if drawing is not None:
        import io

        from topos_rt.faces.drawing import draw_faces

        file = io.BytesIO()
        draw_faces(picture, faces, finder.networks.bundle.canonical).save(file, "PNG")
        write_atomic(drawing, file.getvalue(), parents=True)
    console.report["pictures"].append(
        {
            "image": image,
            "width": picture.width,
            "height": picture.height,
            "drawing": None if drawing is None else str(drawing),
            "faces": [_entry(face) for face in faces],
        }
    )
    for number, face in enumerate(faces, 1):
        console.say(one_line(f"{called}  {_line(number, face)}"))
        for warning in face.warnings:
            console.note(one_line(f"{called}: warning: face {number}: {warning}"))
    if drawing is not None:
        console.say(one_line(f"{drawing}  drawing"))
    if not faces:
        raise FaceError("no face was found", fix="use another picture, or a larger one")


def _line(number: int, face: Face) -> str:
    x, y, width, height = (round(value) for value in face.box)
    turned = f"yaw {face.yaw:.0f}°, pitch {face.pitch:.0f}°, roll {face.roll:.0f}°"
    strong = sorted(face.expression.items(), key=lambda item: -item[1])[:3]
    shown = ", ".join(f"{name} {score:.2f}" for name, score in strong if score >= _LARGE_SCORE)
    told = f"face {number}: {width} x {height} at ({x}, {y}), {turned}, confidence {face.confidence:.2f}"
    return f"{told}; {shown}" if shown else told


def _entry(face: Face) -> dict[str, Any]:
    return {
        **face.facts(),
        "landmarks": [[round(float(value), 2) for value in point] for point in face.landmarks],
        "expression": {name: round(score, 4) for name, score in face.expression.items()},
    }
