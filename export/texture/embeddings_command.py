"""`python -m export embeddings`: measure whether TOPOS-Texture's prompts depend on the portrait; store them.

Where they do not, the text encoder, 8.3 billion weights, need never be loaded again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from export.texture.embeddings_file import verdict, write_embeddings
from export.texture.prompts import PROMPTS_HELP, read_instructions
from export.texture.text_encoder import SAME, TextEncoder, dependence
from export.texture.torch_options import add_torch_options, torch_options
from topos_rt.errors import InputError
from topos_rt.pictures.image import read_picture
from topos_rt.support.files import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `embeddings`."""
    parser.add_argument(
        "portraits", nargs="+", metavar="PHOTO", help="two or more portraits of different people"
    )
    parser.add_argument("--official", type=Path, required=True, metavar="DIR", help="the base model")
    parser.add_argument("--prompts", type=Path, required=True, metavar="FILE", help=PROMPTS_HELP)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to store them")
    parser.add_argument(
        "--accept",
        type=float,
        default=SAME,
        metavar="SHARE",
        help=f"store prompts that change by this much at most (default: {SAME:g}, what BF16 rounds by)",
    )
    add_torch_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and store unless the prompts depend on the portrait. Raises InputError, OutputError."""
    instructions = read_instructions(arguments.prompts)
    pictures = [read_picture(path) for path in arguments.portraits]
    check_writable(arguments.out)
    device, dtype = torch_options(arguments)
    found = dependence(TextEncoder.open(arguments.official, device, dtype), instructions, pictures)
    if not found.share <= arguments.accept:
        raise InputError(
            "prompts to store once",
            got=verdict(found.share),
            expected=f"a change of at most {arguments.accept:g}",
            fix="paint with python -m export paint, which embeds them for each portrait, or --accept more",
        )
    write_embeddings(arguments.out, found)
    print(
        f"{arguments.out}: {found.positive.shape[1]} and {found.negative.shape[1]} tokens;"
        f" {verdict(found.share)}"
    )
    return 0
