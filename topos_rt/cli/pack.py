"""`topos-rt pack`: turns a model bundle into an engine pack, the one file that the C library loads."""

from __future__ import annotations

import argparse
from pathlib import Path

from topos_rt.cli.console import Console
from topos_rt.faces.bundle import FaceBundle
from topos_rt.model.bundle import Bundle
from topos_rt.pack.container import packed
from topos_rt.pack.contents import contents
from topos_rt.support.files import check_writable, write_atomic


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt pack`."""
    parser.add_argument(
        "model",
        metavar="BUNDLE|mini",
        nargs="?",
        default="mini",
        help="a bundle's directory, or the bundled model (default: mini)",
    )
    parser.add_argument("-o", "--out", metavar="PACK", type=Path, required=True, help="the file to write")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Verify the bundle, and write the pack, whole or not at all."""
    check_writable(arguments.out)
    bundle = Bundle.open(arguments.model)
    made = contents(bundle, FaceBundle.open())
    data = packed(made)
    write_atomic(arguments.out, data)
    console.report.update(
        path=str(arguments.out), model=bundle.manifest.name, bytes=len(data), sections=len(made)
    )
    console.say(f"{arguments.out}: {bundle.manifest.name}, {len(data) / 1e6:.1f} MB in {len(made)} sections")
    return 0
