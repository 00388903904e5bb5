"""`topos-rt texture`: lays a photograph on a head that was made before, or paints a colour map."""

from __future__ import annotations

import argparse
import io
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topos_rt.cli import options
from topos_rt.cli.console import Console
from topos_rt.cli.outputs import STDOUT, Item
from topos_rt.cli.painting import add_painting_options, opened_painter, painting, told
from topos_rt.cli.writing import Outputs, add_preview_option, settled_outputs, write_head
from topos_rt.errors import OptionError, one_line
from topos_rt.faces.portrait import ALL, LARGEST
from topos_rt.flow.settings import check_seed
from topos_rt.head.topology import check_level
from topos_rt.support.files import check_writable, refuse_url, write_atomic
from topos_rt.texture.stage import TextureChoice

if TYPE_CHECKING:
    from topos_rt.faces.portrait import Portrait
    from topos_rt.texture.official.painter import Painted, Painter

EPILOG = """
examples:
  topos-rt texture head.glb portrait.jpg -o textured.glb
  topos-rt texture head.glb group.jpg --face 2 -o textured.usd --texture-size 2048
  topos-rt texture --official BUNDLE portrait.jpg -o map.png
  topos-rt texture --official BUNDLE head.glb portrait.jpg -o textured.glb --model official
  topos-rt texture --official BASE_MODEL --lora LORA --prompts TOPOS-Texture.py portrait.jpg

The head is a GLB, glTF, OBJ or .head that topos-rt has written, in metres with +Y up.
The photograph may show another person than the one whose head it is.
Exit codes: 0 done; 2 bad usage or input, reported in one line; 1 a failure of topos-rt itself.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt texture`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "inputs",
        metavar="[HEAD] PHOTO",
        nargs="+",
        help="a head, as GLB, glTF, OBJ or .head, which --official does not need; then a portrait: PNG, JPEG,"
        " WebP, BMP, GIF or TIFF",
    )
    parser.add_argument(
        "-o",
        dest="out",
        metavar="OUT",
        help="a file, or - for standard output (default, of a colour map: PHOTO_texture.png here)",
    )
    parser.add_argument(
        "--face",
        metavar="N|largest",
        type=options.face_number,
        default=LARGEST,
        help="which face: its number in 'topos-rt faces', or the largest (default: largest)",
    )
    parser.add_argument(
        "--seed", metavar="K", type=options.whole, default=0, help="of --official: random seed (default: 0)"
    )
    options.add_texture_file_options(parser.add_argument_group("texture"))
    add_painting_options(parser)
    options.add_model_options(parser)
    options.add_format_options(parser)
    add_preview_option(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Look at the photograph, and write the textured head or the colour map."""
    *head, photo = arguments.inputs
    found = painting(arguments)
    if len(head) > 1 or (not head and found is None):
        raise OptionError(
            "topos-rt texture",
            got=f"{len(arguments.inputs)} file{'s' if head else ''}",
            expected="HEAD and PHOTO, or PHOTO alone with --official",
            fix="see 'topos-rt texture --help'",
        )
    if arguments.face == ALL:
        raise OptionError("--face", got=ALL, expected="one face, for there is one head")
    check_seed(arguments.seed)
    TextureChoice(None, arguments.texture_size, arguments.texture_format)
    for name in arguments.inputs:
        refuse_url(name, f"cannot use {name}")
    if found is not None:
        told(found, console)
        if arguments.requirements:
            return 0
    if not head:
        assert found is not None
        return _write_map(arguments, photo, lambda: opened_painter(found), console)
    if arguments.out is None:
        raise OptionError("-o", got="nothing", expected="where to write the head")
    outputs = settled_outputs(arguments, [Item(photo, 0)])
    console.report.update(heads=[])
    with ExitStack() as stack:
        painter = None if found is None else opened_painter(found)
        if painter is not None:
            stack.callback(painter.close)
        made = _textured(arguments, head[0], photo, painter, outputs, console)
    write_head(made, (photo, 0, None), outputs, console, {"head": head[0], "image": photo})
    return 0


def _textured(
    arguments: argparse.Namespace,
    head: str,
    photo: str,
    painter: Painter | None,
    outputs: Outputs,
    console: Console,
) -> Any:
    """Return the head with its texture: a photograph's, or a painted one."""
    from topos_rt.faces.finder import FaceFinder
    from topos_rt.model.bundle import Bundle
    from topos_rt.texture.again import read_head, texture_head
    from topos_rt.texture.official.dress import check_layout, dressed

    bundle = Bundle.open(arguments.model)
    check_level(bundle.topology, outputs.lod)
    if painter is not None:
        check_layout(bundle.topology, painter.layout, f"the model {bundle.manifest.name}")
    console.progress(0.1, f"{head}: reading")
    read = read_head(head, bundle)
    if painter is not None:
        painted = _painted(arguments, photo, painter, console)
        return dressed(read, painted, arguments.texture_size, arguments.texture_format)
    console.progress(0.3, f"{photo}: looking for the face")
    with FaceFinder.open(arguments.backend, arguments.threads) as finder:
        return texture_head(
            read,
            photo,
            model=bundle,
            face=_face(arguments),
            texture_size=arguments.texture_size,
            texture_format=arguments.texture_format,
            finder=finder,
        )


def _write_map(arguments: argparse.Namespace, photo: str, opened: Any, console: Console) -> int:
    """Paint a colour map and write it as PNG."""
    from PIL import Image

    if arguments.preview is not None:
        raise OptionError("--preview", got="no HEAD", expected="a head to draw, beside PHOTO")
    if arguments.out == STDOUT and arguments.json:
        raise OptionError("--json", got="-o -: both print to standard output", fix="drop one")
    path = Path(arguments.out or f"{Path(photo).stem}_texture.png")
    if str(path) != STDOUT:
        if path.suffix.lower() != ".png":
            raise OptionError(
                "-o", got=repr(str(path)), expected="a name that ends in .png, for a colour map"
            )
        check_writable(path, parents=True)
    painter = opened()
    try:
        painted = _painted(arguments, photo, painter, console)
    finally:
        painter.close()
    file = io.BytesIO()
    Image.fromarray(painted.albedo).save(file, "PNG")
    if str(path) == STDOUT:
        console.put(file.getvalue())
    else:
        write_atomic(path, file.getvalue(), parents=True)
    side = len(painted.albedo)
    console.report.update(
        output=str(path),
        image=photo,
        bytes=len(file.getvalue()),
        texture={"kind": "official", **painted.facts},
    )
    console.say(one_line(f"{path}  {side} x {side} colour map for the {painter.layout.name} head"))
    return 0


def _painted(arguments: argparse.Namespace, photo: str, painter: Painter, console: Console) -> Painted:
    """Look for the face, which has to be there, and paint."""
    from topos_rt.texture.official.painter import portrait

    seen = _portrait(arguments, photo, console)

    def report(stage: str, done: int, count: int) -> None:
        console.progress(0.1 + 0.9 * done / max(1, count), f"{photo}: {stage} {done}/{count}")

    return painter.paint(portrait(seen), arguments.seed, report)


def _portrait(arguments: argparse.Namespace, photo: str, console: Console) -> Portrait:
    from topos_rt.faces.finder import FaceFinder
    from topos_rt.faces.portrait import FaceChoice, portraits
    from topos_rt.pictures.image import upright_picture

    console.progress(0.0, f"{photo}: looking for the face")
    picture = upright_picture(photo)
    with FaceFinder.open(arguments.backend, arguments.threads) as finder:
        (seen,) = portraits(picture, photo, finder, FaceChoice(_face(arguments)))
    for warning in seen.warnings:
        console.note(one_line(f"{photo}: warning: {warning}"))
    return seen


def _face(arguments: argparse.Namespace) -> str | int:
    return arguments.face if isinstance(arguments.face, str) else int(arguments.face) - 1
