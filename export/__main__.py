"""Make model bundles: `python -m export mini --checkpoint DIR --out BUNDLE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType

from export import mini
from topos_rt.errors import ToposError

COMMANDS: dict[str, ModuleType] = {"mini": mini}


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").partition(": ")[2]
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        module.add_arguments(command)
        command.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="the directory to write")
    arguments = parser.parse_args(argv)
    try:
        manifest = COMMANDS[arguments.command].run(arguments)
    except ToposError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    size = sum(info.bytes for info in manifest.files.values())
    print(f"{arguments.out}: {manifest.name}, {len(manifest.files)} files, {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
