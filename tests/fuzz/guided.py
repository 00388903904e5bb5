"""Fuzz one target, guided by coverage, with atheris: `python -m tests.fuzz.guided TARGET [options]`."""

from __future__ import annotations

import inspect
import sys
import tempfile
from pathlib import Path
from types import FunctionType

_PACKAGES = ("topos_rt", "export", "models")


def ours() -> list[FunctionType]:
    """Return the functions and methods of this package that are loaded.

    Instrumenting as modules are imported does not reach packages that are installed as editable.
    """
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in _PACKAGES]
    found: dict[int, FunctionType] = {}
    for module in modules:
        for value in vars(module).values():
            owned = vars(value).values() if isinstance(value, type) else [value]
            for each in owned:
                function = getattr(each, "__func__", getattr(each, "fget", each))
                function = inspect.unwrap(function) if callable(function) else function
                if isinstance(function, FunctionType) and function.__module__.partition(".")[0] in _PACKAGES:
                    found[id(function)] = function
    return list(found.values())


def main() -> None:
    """Instrument the code of this package, then let libFuzzer run."""
    import atheris

    import topos_rt.head.rig
    import topos_rt.model.bundle
    import topos_rt.pictures.image
    import topos_rt.scan.read  # noqa: F401
    from tests.fuzz.targets import corpus, feed

    name, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as directory:
        seeds, work = Path(directory, "seeds"), Path(directory, "work")
        seeds.mkdir()
        work.mkdir()
        for number, data in enumerate(corpus(name)):
            (seeds / str(number)).write_bytes(data)
        feed(name, corpus(name)[0], work)  # imports what the target needs
        for function in ours():
            atheris.instrument_func(function)
        atheris.Setup([sys.argv[0], str(seeds), *options], lambda data: feed(name, data, work) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
