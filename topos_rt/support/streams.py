"""Open files that callers hand over: reading them to a limit, and writing to them, with one clear error."""

from __future__ import annotations

import inspect
import io
import os
import stat
import zlib
from typing import Any, NoReturn, Protocol

from topos_rt.errors import InputError, OutputError, shortened
from topos_rt.support.files import output_error

_CHUNK = 1 << 20
_NAME = 200  # characters of a file's name in messages
# What `read` of files, archives and connections raises. Anything else is the object's own affair.
_READ_ERRORS = (OSError, ValueError, EOFError, zlib.error)


class Readable(Protocol):
    """An open binary file: `open(path, "rb")`, `io.BytesIO`, an upload, a member of an archive."""

    def read(self, size: int, /) -> bytes | None: ...


class Writable(Protocol):
    """A binary file that is open for writing: `open(path, "wb")`, `io.BytesIO`, a response's body."""

    def write(self, data: bytes, /) -> Any: ...


def stream_name(file: object) -> str:
    """Return what messages call an open file: its own name, or its kind of object."""
    name = getattr(file, "name", None)
    if isinstance(name, str | os.PathLike) and os.fspath(name):
        return shortened(os.fsdecode(name), _NAME)
    return f"({type(file).__name__})"


def read_all(file: Readable, limit: int, what: str, kind: type[InputError]) -> io.BytesIO:
    """Read an open binary file from where it stands to its end. It is neither rewound nor closed.

    limit: the largest number of bytes. More is refused, before any is read where the size is known.
    what, kind: the beginning and the class of the error for a file that cannot be used.
    """
    refused = _Refused(file, "read", what, kind)
    refused.check("readable", "rb")
    if _left(file) > limit:
        refused.too_large(limit)
    found = io.BytesIO()
    while True:
        try:
            part = file.read(min(_CHUNK, limit + 1 - found.tell()))
        except _READ_ERRORS as error:
            refused.because(error)
        if not isinstance(part, bytes | bytearray | memoryview):
            refused.answer(part)
        if not len(part):
            break
        found.write(part)
        if found.tell() > limit:
            refused.too_large(limit)
    found.seek(0)
    return found


def write_all(file: Writable, data: bytes) -> None:
    """Write `data` to an open binary file where it stands. It is neither flushed nor closed.

    Raises OutputError for a file that is closed, opened as text or for reading, or that takes no bytes.
    """
    what = f"cannot write {stream_name(file)}"
    refused = _Refused(file, "write", what, OutputError)
    refused.check("writable", "wb")
    raw, rest = isinstance(file, io.RawIOBase), data
    while rest:
        try:
            count = file.write(rest)
        except OSError as error:
            raise output_error(stream_name(file), error) from error
        except (TypeError, ValueError) as error:
            refused.because(error)
        if inspect.isawaitable(count) or (raw and count is None):
            refused.answer(count)
        rest = rest[count:] if raw else b""  # only raw files take less than they are given


class _Refused:
    """The errors for one open file."""

    def __init__(self, file: object, verb: str, what: str, kind: type[InputError]) -> None:
        self._file, self._verb, self._what, self._kind = file, verb, what, kind

    def check(self, able: str, mode: str) -> None:
        """Refuse a file that is closed, opened as text, or opened for the other direction alone."""
        file, fix = self._file, f"open it with mode {mode!r}"
        if isinstance(file, io.TextIOBase):
            self._raise("a file opened as text", "one opened as bytes", fix)
        if getattr(file, "closed", False) is True:
            self._raise("a closed file", "an open one", "use it before it is closed")
        ask = getattr(file, able, None)
        if isinstance(file, io.IOBase) and ask is not None and not ask():
            other = "writing" if able == "readable" else "reading"
            self._raise(f"a file opened for {other} alone", f"one that can {self._verb}", fix)

    def answer(self, answer: object) -> NoReturn:
        """Refuse a file whose `read` or `write` returned something else than it should."""
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()  # or Python would warn that nobody waited for it
            fix = "pass the bytes: await file.read()" if self._verb == "read" else "await file.write(bytes)"
            self._raise("an asynchronous file", "a binary file", fix)
        if answer is None:
            self._raise("a file that does not block, and is not ready", "one that waits", "pass the bytes")
        got = "a file opened as text" if isinstance(answer, str) else f"{type(answer).__name__} from read()"
        self._raise(got, "one whose read() returns bytes", "open it with mode 'rb'")

    def because(self, error: BaseException) -> NoReturn:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        expected = f"a binary file that can {self._verb}"
        raise self._kind(self._what, got=reason, expected=expected) from error

    def too_large(self, limit: int) -> NoReturn:
        self._raise(f"more than {limit:,} bytes", "a smaller file", "make it smaller")

    def _raise(self, got: str, expected: str, fix: str) -> NoReturn:
        raise self._kind(self._what, got=got, expected=expected, fix=fix)


def _left(file: object) -> int:
    """Return the bytes left in a plain file; 0 where only reading can tell.

    Others are not asked: to find its end, a member of an archive would unpack everything.
    """
    if not isinstance(file, io.BufferedReader | io.FileIO):
        return 0
    try:
        status = os.fstat(file.fileno())
        return status.st_size - file.tell() if stat.S_ISREG(status.st_mode) else 0
    except (OSError, ValueError):
        return 0
