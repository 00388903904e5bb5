"""The `topos-rt` command: finds the subcommand, and turns every outcome into an exit code.

0 means done; 2 bad usage or input; 3 that `bench` found a larger slowdown than allowed; 1 a failure of
topos-rt itself; 130 an interruption, 143 and 129 SIGTERM and SIGHUP. Nothing heavy is imported before a
command needs it, so that `topos-rt doctor` works where the dependencies are broken.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, Protocol, cast

from topos_rt import __version__
from topos_rt.cli.console import Console
from topos_rt.errors import OptionError, ToposError, choose
from topos_rt.support.boundary import (
    DEBUG,
    abandon,
    ending,
    occupy_standard_streams,
    only_ours_on_stdout,
    terminated_cleanly,
)

PROGRAM = "topos-rt"

# Name -> its module under topos_rt.cli, and what the command does.
COMMANDS: dict[str, tuple[str, str]] = {
    "generate": ("generate", "turn portraits into 3D heads"),
    "texture": ("texture", "texture a head that was made before, or paint its colour map"),
    "faces": ("faces", "find the faces of pictures, with landmarks, pose and expression"),
    "retopologize": ("retopologize", "convert scans or meshes of heads to the model's topology"),
    "eval": ("eval", "measure how far one surface is from another"),
    "metrics": ("metrics", "measure how alike two pictures, or two folders of pictures, are"),
    "serve": ("serve", "serve heads over HTTP"),
    "studio": ("studio", "make heads in the browser, on this machine"),
    "build": ("build", "build a model's TensorRT engines ahead of time"),
    "pack": ("pack", "turn a model into the one file that the C library loads"),
    "bench": ("bench", "measure speed on this machine, cold and warm, and compare results"),
    "info": ("info", "show what is in a model bundle or an engine pack"),
    "doctor": ("doctor", "check what works on this machine, and say how to fix what does not"),
}


class Command(Protocol):
    """The interface of a command's module."""

    def add_options(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace, console: Console) -> int: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `topos-rt` with the given arguments (those of the process, by default) and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _quieten()
    outcome = _Outcome(words)
    # Warnings go through the console, like all text: they name files, whose names may hold anything.
    with terminated_cleanly(), only_ours_on_stdout(), outcome, warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: outcome.console.warn(str(message))
        outcome.code = _run(words, outcome)
    return outcome.code


class _Outcome:
    """Turns whatever ends a command into an exit code, one line on stderr and, with --json, a JSON object."""

    def __init__(self, words: Sequence[str]) -> None:
        self.code = 0
        self._debug = DEBUG in words
        command = next((word for word in words if word in COMMANDS), "")
        self.console = Console(command, "--json" in words, self._debug)

    def __enter__(self) -> _Outcome:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is not None and not isinstance(error, Exception | KeyboardInterrupt):
            return False
        try:
            if error is not None:
                self.code = self._explain(error)
            self.console.finish(self.code)
        except BrokenPipeError:
            abandon(sys.stdout)
            self.code = 1
        except ToposError as unwritable:
            self.console.note(f"{PROGRAM}: error: {unwritable}")
            self.code = unwritable.exit_code
        return True

    def _explain(self, error: BaseException) -> int:
        self.console.clear()
        if isinstance(error, BrokenPipeError):
            raise error
        if isinstance(error, ToposError):
            self.console.error(error)
            return error.exit_code
        self.console.trace(error)
        found = ending(error, PROGRAM, self._debug)
        self.console.fault(found.kind, found.message)
        return found.code


class _Parser(argparse.ArgumentParser):
    """A parser that raises OptionError instead of exiting, so that a mistake is one line like any other."""

    def __init__(
        self, prog: str, description: str, epilog: str | None = None, usage: str | None = None
    ) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog=epilog,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=34),
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise OptionError(message, fix=f"see '{self.prog} --help'")


def _run(words: Sequence[str], outcome: _Outcome) -> int:
    # Split by hand: how argparse treats options that it should pass on differs between versions of Python.
    before = list(itertools.takewhile(lambda word: word.startswith("-"), words))
    _top_parser().parse_args(before)
    if len(before) == len(words):
        names = ", ".join(COMMANDS)
        raise OptionError("no command", expected=f"one of: {names}", fix=f"see '{PROGRAM} --help'")
    name, rest = words[len(before)], words[len(before) + 1 :]
    module, summary = choose(name, COMMANDS, "command")
    command = cast(Command, import_module(f"topos_rt.cli.{module}"))
    parser = _Parser(f"{PROGRAM} {name}", f"{summary[0].upper()}{summary[1:]}.")
    command.add_options(parser)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout, all else on stderr"
    )
    parser.add_argument(DEBUG, action="store_true", help="show the traceback of an error")
    # Options may stand between positional arguments, of which some are optional.
    return command.run(parser.parse_intermixed_args(rest), outcome.console)


def _top_parser() -> _Parser:
    parser = _Parser(
        PROGRAM,
        "One portrait in, one animatable 3D head with a fixed topology out.",
        _command_list(),
        f"{PROGRAM} [-h] [--version] COMMAND ...",
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    return parser


def _command_list() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(["commands:", *lines, "", f"'{PROGRAM} COMMAND --help' lists the options of a command."])


def _quieten() -> None:
    # Whatever imports onnxruntime, such as `doctor`: see `topos_rt.engines.onnxruntime.library`.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    occupy_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a replaced stream need not be a TextIOWrapper
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
