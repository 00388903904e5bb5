"""Make model bundles; measure and compare them; give them rigs, landmarks, atlases and the like."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path
from types import ModuleType

from export import lods, mini, random
from export.atlas import command as atlas
from export.compare import command as compare
from export.face import command as face
from export.landmarks import command as landmarks
from export.landmarks import response
from export.onnx import flops
from export.parts import command as parts
from export.release import official
from export.rig import command as rig
from export.texture import command as texture
from export.texture import embeddings_command as embeddings
from export.texture import paint_command as paint
from topos_rt.errors import ToposError
from topos_rt.support.files import check_writable

MAKERS: dict[str, ModuleType] = {
    "official": official,
    "random": random,
    "mini": mini,
    "face": face,
    "texture": texture,
}
COMMANDS: dict[str, ModuleType] = {
    **MAKERS,
    "flops": flops,
    "compare": compare,
    "lods": lods,
    "rig": rig,
    "landmarks": landmarks,
    "response": response,
    "atlas": atlas,
    "parts": parts,
    "embeddings": embeddings,
    "paint": paint,
}


def main(argv: list[str] | None = None) -> int:
    """Run a command. Return its exit code: 0 done, 1 engines differ or one failed, 2 bad input."""
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").partition(": ")[2]
        first = summary.partition("\n\n")[0].rstrip(".")
        about = summary[:1].upper() + summary[1:]
        command = commands.add_parser(name, help=first, description=about, allow_abbrev=False)
        module.add_arguments(command)
        if name in MAKERS:
            command.add_argument(
                "--out",
                type=Path,
                required=True,
                metavar="BUNDLE",
                help="directory to write; an old bundle there is replaced",
            )
    arguments = parser.parse_args(argv)
    _hush()
    try:
        if arguments.command in MAKERS:
            _make(MAKERS[arguments.command], arguments)
        else:
            return COMMANDS[arguments.command].run(arguments) or 0
    except ToposError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _make(module: ModuleType, arguments: argparse.Namespace) -> None:
    check_writable(arguments.out / "any", parents=True)
    manifest = module.run(arguments)
    size = sum(info.bytes for info in manifest.files.values())
    print(f"{arguments.out}: {manifest.name}, {len(manifest.files)} files, {size / 1e6:.1f} MB")


def _hush() -> None:
    """Silence the remarks of PyTorch and its exporter, which say nothing about the user's files."""
    warnings.filterwarnings("ignore", module="torch|onnxscript|copyreg")
    warnings.filterwarnings("ignore", message="Sparse")
    for name in ("torch.onnx", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
