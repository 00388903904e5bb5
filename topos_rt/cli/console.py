"""The output of commands: results on stdout, everything else on stderr, a progress bar only on a terminal."""

from __future__ import annotations

import json
import shutil
import sys
import time
import traceback
from typing import Any

from topos_rt.errors import OutputError, ToposError, one_line, printable
from topos_rt.support.boundary import abandon

_REDRAW_S = 0.05
_BAR = 24


class Console:
    """The output of one command.

    With `as_json`, stdout carries only one JSON object, which holds what the command put into `report` and
    which `finish` prints once. Lines for people then go to stderr. With `debug`, errors have tracebacks.
    """

    def __init__(self, command: str, as_json: bool = False, debug: bool = False) -> None:
        self.report: dict[str, Any] = {}
        self._command = command
        self._as_json = as_json
        self._debug = debug
        self._errors: list[dict[str, Any]] = []
        self._live = sys.stderr.isatty()  # `main` sees to it that there are streams
        self._taken = False  # by a file that goes to stdout
        self._shown = ""
        self._drawn_at = 0.0

    def say(self, text: str) -> None:
        """Print a line of the result, for people."""
        self.clear()
        self._print(text, sys.stderr if self._as_json or self._taken else sys.stdout)

    def put(self, data: bytes) -> None:
        """Write the bytes of a file to standard output; lines for people go to stderr from then on.

        Raises OutputError where they cannot be written.
        """
        self.clear()
        self._taken = True
        try:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            abandon(sys.stdout)
            raise OutputError("cannot write to standard output", got=error.strerror) from error

    def note(self, text: str) -> None:
        """Print a remark beside the result."""
        self.clear()
        self._print(text, sys.stderr)

    def warn(self, text: str) -> None:
        """Print a warning as one line."""
        self.note(f"topos-rt: warning: {one_line(text)}")

    def error(self, error: ToposError, source: str = "", **about: str | int) -> None:
        """Print an error as one line on stderr, and add it to the JSON object.

        source: what the error is about; the line starts with it unless the message names it.
        about: more keys of its entry in the JSON object.
        """
        self.trace(error)
        named = isinstance(error, OutputError) or one_line(source) in str(error)
        self.fault(type(error).__name__, str(error) if named else f"{source}: {error}", **about)

    def trace(self, error: BaseException) -> None:
        """Print the traceback of an error, with `debug`."""
        self.clear()
        if self._debug:
            self._print("".join(traceback.format_exception(error)).rstrip(), sys.stderr)

    def fault(self, kind: str, message: str, **about: str | int) -> None:
        """Report a failure that is not a ToposError, as `error` does."""
        self.clear()
        message = one_line(message)
        self._errors.append({"type": kind, "message": message, **about})
        self._print(f"topos-rt: error: {message}", sys.stderr)

    def progress(self, fraction: float, label: str) -> None:
        """Draw the progress bar at 0 <= fraction <= 1, if stderr is a terminal."""
        now = time.monotonic()
        if not self._live or (self._shown and now - self._drawn_at < _REDRAW_S):
            return
        done = round(fraction * _BAR)
        width = shutil.get_terminal_size().columns - 1
        line = f"[{'#' * done}{'.' * (_BAR - done)}] {fraction:4.0%}  {one_line(label)}"[:width]
        self._draw(f"\r{line.ljust(len(self._shown))}")
        self._shown, self._drawn_at = line, now

    def clear(self) -> None:
        """Erase the progress bar."""
        if self._shown:
            shown, self._shown = self._shown, ""
            self._draw(f"\r{' ' * len(shown)}\r")

    def _draw(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:  # the terminal has gone
            abandon(sys.stderr)
            self._live = False

    def finish(self, exit_code: int) -> None:
        """Print the JSON object, if it was asked for. Call this once, whatever happened."""
        self.clear()
        if self._as_json:
            result = {"command": self._command, "exit_code": exit_code, **self.report, "errors": self._errors}
            # JSON escapes all but DEL itself.
            self._print(json.dumps(result, indent=2, allow_nan=False).replace("\x7f", "\\u007f"), sys.stdout)

    def _print(self, text: str, stream: Any) -> None:
        """Print text: the one door to the terminal, through which no control character passes."""
        try:
            print(printable(text), file=stream, flush=True)
        except OSError as error:
            if stream is not sys.stdout:  # nobody is there to be told; the work goes on
                abandon(stream)
            elif isinstance(error, BrokenPipeError):
                raise
            else:
                abandon(stream)
                raise OutputError("cannot write to standard output", got=error.strerror) from error
