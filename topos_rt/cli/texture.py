"""`topos-rt texture`: lays a photograph on a head that was made before."""

from __future__ import annotations

import argparse

from topos_rt.cli import options
from topos_rt.cli.console import Console
from topos_rt.cli.outputs import Item
from topos_rt.cli.writing import add_preview_option, settled_outputs, write_head
from topos_rt.errors import OptionError
from topos_rt.faces.portrait import ALL, LARGEST
from topos_rt.head.topology import check_level
from topos_rt.support.files import refuse_url
from topos_rt.texture.stage import TextureChoice

EPILOG = """
examples:
  topos-rt texture head.glb portrait.jpg -o textured.glb
  topos-rt texture head.glb group.jpg --face 2 -o textured.usd --texture-size 2048

The head is a GLB, glTF, OBJ or .head that topos-rt has written, in metres with +Y up.
The photograph may show another person than the one whose head it is.
Exit codes: 0 done; 2 bad usage or input, reported in one line; 1 a failure of topos-rt itself.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt texture`."""
    parser.epilog = EPILOG
    parser.add_argument("head", metavar="HEAD", help="a head, as GLB, glTF, OBJ or .head")
    parser.add_argument("photo", metavar="PHOTO", help="a portrait: PNG, JPEG, WebP, BMP, GIF or TIFF")
    parser.add_argument(
        "-o", dest="out", metavar="OUT", required=True, help="a file, or - for standard output"
    )
    parser.add_argument(
        "--face",
        metavar="N|largest",
        type=options.face_number,
        default=LARGEST,
        help="which face: its number in 'topos-rt faces', or the largest (default: largest)",
    )
    options.add_texture_file_options(parser.add_argument_group("texture"))
    options.add_model_options(parser)
    options.add_format_options(parser)
    add_preview_option(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Read the head, look at the photograph, and write the textured head."""
    if arguments.face == ALL:
        raise OptionError("--face", got=ALL, expected="one face, for there is one head")
    TextureChoice(None, arguments.texture_size, arguments.texture_format)
    outputs = settled_outputs(arguments, [Item(arguments.photo, 0)])
    console.report.update(heads=[])
    from topos_rt.faces.finder import FaceFinder
    from topos_rt.model.bundle import Bundle
    from topos_rt.texture.again import read_head, texture_head

    for name in (arguments.head, arguments.photo):
        refuse_url(name, f"cannot use {name}")
    bundle = Bundle.open(arguments.model)
    check_level(bundle.topology, outputs.lod)
    console.progress(0.1, f"{arguments.head}: reading")
    head = read_head(arguments.head, bundle)
    console.progress(0.3, f"{arguments.photo}: looking for the face")
    with FaceFinder.open(arguments.backend, arguments.threads) as finder:
        made = texture_head(
            head,
            arguments.photo,
            model=bundle,
            face=arguments.face if isinstance(arguments.face, str) else arguments.face - 1,
            texture_size=arguments.texture_size,
            texture_format=arguments.texture_format,
            finder=finder,
        )
    about = {"head": arguments.head, "image": arguments.photo}
    write_head(made, (arguments.photo, 0, None), outputs, console, about)
    return 0
