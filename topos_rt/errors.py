"""Every error that this package raises on purpose.

    Exception
      ToposError                     anything below; what most callers catch
        InputError (ValueError)      the caller's input or arguments; command line exit code 2
          ImageError                 an image that cannot be used
            FaceError                a picture without a face, or without one that can be used
          MeshInputError             a mesh, point cloud or topology that cannot be used
          OptionError                an unknown name or a value out of range: preset, solver, seed, steps …
          OutputError                an output that cannot be written: permissions, full disk, no directory
          BundleError                a model bundle that fails verification
          MissingExtraError          an optional dependency that is needed but not installed
        BackendError (RuntimeError)  an engine failed; command line exit code 1
        Cancelled                    a progress callback asked to stop

All take the same arguments and print as one line that says what is wrong, what was found, what was expected
and how to fix it:

    raise OptionError("unknown solver", got="'eular'", expected="one of: euler", fix="did you mean 'euler'?")
    OptionError: unknown solver: got 'eular'; expected one of: euler; fix: did you mean 'euler'?
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import ClassVar, TypeVar

T = TypeVar("T")


class ToposError(Exception):
    """The base class of every error that topos_rt raises on purpose.

    Args:
        what: what is wrong, a short clause without a full stop.
        got: what was found.
        expected: what would have been right.
        fix: what to do about it.

    The arguments are also attributes of the same names; `str()` joins those that were given into one line, in
    which what was found takes 200 characters at most.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, got: object = None, expected: object = None, fix: object = None) -> None:
        super().__init__(what)
        self.what = what
        self.got = got
        self.expected = expected
        self.fix = fix

    @property
    def brief(self) -> str:
        """The error without its remedy, for a message that quotes this one and has a remedy of its own."""
        return one_line(self.what if self.got is None else f"{self.what}: {shortened(self.got)}")

    def __str__(self) -> str:
        facts = {"got": self.got if self.got is None else shortened(self.got), "expected": self.expected}
        told = "; ".join(f"{word} {fact}" for word, fact in facts.items() if fact is not None)
        line = f"{self.what}: {told}" if told else self.what
        return one_line(line if self.fix is None else f"{line}; fix: {self.fix}")


class InputError(ToposError, ValueError):
    """The caller's input or arguments cannot be used."""

    exit_code: ClassVar[int] = 2


class ImageError(InputError):
    """An image that cannot be used."""


class FaceError(ImageError):
    """A picture without a face, or without one that can be used."""


class MeshInputError(InputError):
    """A mesh, point cloud or topology that cannot be used."""


class OptionError(InputError):
    """An unknown name, or a value out of its range."""


class OutputError(InputError):
    """An output that cannot be written."""


class BundleError(InputError):
    """A model bundle that fails verification."""


class MissingExtraError(InputError):
    """An optional dependency that is needed but not installed."""

    @classmethod
    def needs(cls, what: str, extra: str) -> MissingExtraError:
        """Return the error for a feature `what` whose dependencies come with the extra `extra`."""
        return cls(f"{what} needs an optional dependency", fix=f"pip install 'topos-rt[{extra}]'")


class BackendError(ToposError, RuntimeError):
    """An inference engine failed."""


class ScanWarning(UserWarning):
    """A scan that can be used, but probably not as it was meant. `warnings` shows it; it is no error."""


class Cancelled(ToposError):
    """A progress callback asked to stop."""


def choose(name: str, table: Mapping[str, T], kind: str) -> T:
    """Return the entry of `table` called `name`.

    Args:
        name: what the caller asked for.
        table: the choices, by name.
        kind: what the table holds, for the message: "solver", "preset", "backend".

    Raises:
        OptionError: `name` is not in the table; the message lists the choices and suggests the nearest.
    """
    if isinstance(name, str) and name in table:
        return table[name]
    raise OptionError(
        f"unknown {kind}",
        got=repr(name),
        expected=f"one of: {', '.join(table)}" if table else "nothing: there is none to choose from",
        fix=did_you_mean(name, table),
    )


def did_you_mean(name: object, names: Iterable[str]) -> str | None:
    """Return a remedy that suggests the nearest of `names`, whatever its case, or None if none is near."""
    lower = {each.lower(): each for each in names}
    near = difflib.get_close_matches(str(name)[:100].lower(), lower, n=1)
    return f"did you mean {lower[near[0]]!r}?" if near else None


def one_line(text: str) -> str:
    """Return `text` as one printable line: line breaks become spaces, control characters are escaped."""
    return printable(re.sub(r"\s*[\r\n\v\f\u0085\u2028\u2029]+\s*", " ", text.strip()))


def printable(text: str) -> str:
    """Return `text` with all but printable characters and newlines escaped.

    Whatever a terminal would obey, such as the escape sequences of a file's strings, becomes harmless text.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text
    )


def shortened(value: object, limit: int = 200) -> str:
    """Return `value` as text of at most `limit` characters, whose end says that more was cut off."""
    text = str(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
