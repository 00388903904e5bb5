"""The boundary of a program: whatever ends it becomes an exit code and one line, never a raw traceback.

`topos-rt` has its own console and uses `ending`. The packages whose modules are programs (`python -m export`,
`python -m training.train_vae` …) call `guard` when they are imported, which also covers an import that fails.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from topos_rt.errors import InputError, MissingExtraError, ToposError, one_line, printable, shortened

INTERRUPTED = 130
DEBUG = "--debug"

# Module -> the extra that brings it, for messages. A test compares it with pyproject.toml.
EXTRAS = {
    "anny": "training",
    "colored": "compare",
    "cuda": "tensorrt-rtx",
    "fastapi": "serve",
    "fast_simplification": "training",
    "matplotlib": "plot",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxscript": "export",
    "polygraphy": "compare",
    "prometheus_client": "serve",
    "pxr": "usd",
    "python_multipart": "serve",
    "scipy": "mesh",
    "skimage": "training",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
    "torch": "export",
    "torch_geometric": "baselines",
    "trimesh": "trimesh",
    "uvicorn": "serve",
    "websockets": "serve",
    "yaml": "export",
}


@dataclass(frozen=True)
class Ending:
    """How a program ends: its exit code, the class of the error, and one line for people."""

    code: int
    kind: str
    message: str


def ending(error: BaseException, program: str, debug: bool) -> Ending:
    """Return how `error` ends a program.

    program: the command, for remedies. debug: whether the traceback is shown, so that nobody is told how.
    """
    known = _known(error, program)
    if known is not None:
        return Ending(known.exit_code, type(known).__name__, str(known))
    kind = type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        return Ending(INTERRUPTED, kind, "interrupted")
    told = shortened(one_line(str(error)))
    if isinstance(error, ImportError):
        return Ending(1, kind, f"unexpected {kind}: {told}; fix: run 'topos-rt doctor'")
    if isinstance(error, MemoryError):
        return Ending(1, kind, f"not enough memory{': ' if told else ''}{told}; fix: close other programs")
    hint = "" if debug else f"; fix: run it again with {DEBUG} for the traceback, and report it"
    return Ending(1, kind, f"unexpected {kind}: {told}{hint}")


def _known(error: BaseException, program: str) -> ToposError | None:
    if isinstance(error, ToposError):
        return error
    if isinstance(error, ModuleNotFoundError):
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        return (
            None if extra is None else MissingExtraError.needs(f"{program}: the module {error.name}", extra)
        )
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):  # tempfile's words
        return InputError("temporary files", got=error.strerror, fix="set TMPDIR to a directory")
    if isinstance(error, FileNotFoundError):
        try:
            os.getcwd()
        except OSError:
            return InputError(
                "the working directory", got="one that was removed", fix="change to another directory"
            )
    return None


def guard(package: str) -> None:
    """Turn what ends `python -m package…` into an exit code and one line on stderr; called at its import.

    Where the package is imported by anything else, this does nothing. `--debug`, anywhere in the command,
    shows the traceback too.
    """
    if sys.argv[0] != "-m":  # so it is while Python looks for the module that -m names
        return
    debug = DEBUG in sys.argv
    sys.argv[:] = [word for word in sys.argv if word != DEBUG]
    occupy_standard_streams()

    def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, BrokenPipeError):
            abandon(sys.stdout)
            raise SystemExit(1)
        found = ending(error, f"python -m {package}", debug)
        lines = traceback.format_exception(error) if debug else []
        with contextlib.suppress(OSError):  # stderr may be gone, and then nobody is there to be told
            sys.stderr.write("".join(map(printable, lines)) + f"error: {one_line(found.message)}\n")
        raise SystemExit(found.code)  # an exception hook may choose the exit code in this way

    sys.excepthook = end


def occupy_standard_streams() -> None:
    """Open /dev/null wherever standard input, output or error is closed.

    A file that is opened later would get its number, and whatever is printed would go into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
        if number and getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


@contextlib.contextmanager
def terminated_cleanly() -> Iterator[None]:
    """End the program on SIGTERM and SIGHUP by SystemExit, so that it removes its temporary files.

    The exit code is 128 and the signal's number, as a shell reports it. Handlers of others stay.
    """
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, name) for name in names if ours]
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def only_ours_on_stdout() -> Iterator[None]:
    """Send to standard error what libraries print on standard output past Python, as onnxruntime does.

    So whoever reads our output, such as the JSON of `--json`, gets nothing else.
    """
    real = sys.stdout
    if real is not sys.__stdout__ or real is None or real.fileno() != 1:  # somebody has taken it over
        yield
        return
    real.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = open(kept, "w", encoding=real.encoding, errors=real.errors, closefd=False)  # noqa: SIM115
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        sys.stdout = real
        os.dup2(kept, 1)
        os.close(kept)


def abandon(stream: object) -> None:
    """Drop the rest of an output whose reader has gone: a failing flush at exit would print a traceback."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())  # type: ignore[attr-defined]
        os.close(descriptor)
