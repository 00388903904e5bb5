"""Parse the words of a command as the command itself would, without running it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.official_loop import MODES
from export import random
from topos_rt.engines import BACKENDS
from topos_rt.engines.contract import PRECISIONS
from topos_rt.flow.settings import PRESETS

# Options whose values are looked up after they are parsed: what they may be.
_VALUES: dict[str, set[str]] = {
    "backend": {"auto", *BACKENDS},
    "modes": set(MODES),
    "precision": {*PRECISIONS},
    "preset": {*PRESETS, *random.PRESETS},
}


class _Parsed(BaseException):
    """Stops a command that has parsed its words."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options


def _stopping(how: str) -> Callable[..., argparse.Namespace]:
    """Return a method of parsers that stops the command once it has parsed its words."""
    original = getattr(argparse.ArgumentParser, how)

    def parse(parser: argparse.ArgumentParser, args: Any = None, *more: Any) -> argparse.Namespace:
        options: argparse.Namespace = original(parser, args, *more)
        if args is None or len(args):  # topos-rt parses what stands before its command alone
            raise _Parsed(options)
        return options

    return parse


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """Return the options that `python -m MODULE …` has parsed, for words that begin with "-m", MODULE.

    Raises AssertionError for words that it does not take, values that it does not know and models that are
    not there.
    """
    flag, name, *rest = words
    assert flag == "-m", words
    spec = find_spec(name)
    assert spec is not None, f"no module {name}"
    module: Any = import_module(f"{name}.__main__" if spec.submodule_search_locations else name)
    with ExitStack() as stack:
        # topos-rt lets options stand between positional arguments.
        for how in ("parse_args", "parse_intermixed_args"):
            stack.enter_context(mock.patch.object(argparse.ArgumentParser, how, _stopping(how)))
        stack.enter_context(mock.patch.object(sys, "argv", [name, *rest]))
        try:
            code = module.main()
        except _Parsed as stopped:
            _check(stopped.options)
            return stopped.options
        except SystemExit as refused:
            code = refused.code
    raise AssertionError(f"{' '.join(words)}: refused, exit code {code}")


def _check(options: argparse.Namespace) -> None:
    for name, known in _VALUES.items():
        value = getattr(options, name, None)
        assert value is None or set(str(value).split(",")) <= known, f"--{name} {value}"
    for name in ("model", "bundle"):
        value = getattr(options, name, None)
        assert value in (None, "mini") or (Path(value) / "manifest.json").is_file(), f"--{name} {value}"
