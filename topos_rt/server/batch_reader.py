"""The process that reads the tables of a batch: damaged ones end pyarrow, and with it the process, at times.

A test has such a file: Arrow's C++ code meets what it does not expect where it cannot raise an exception.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from topos_rt.errors import ImageError, InputError, MissingExtraError, OptionError, did_you_mean, shortened
from topos_rt.pictures.sources import MAX_BYTES
from topos_rt.support.boundary import occupy_standard_streams

_ROWS = 16  # that are read at once: pictures may be large
_LARGEST_GROUP = 8 << 30  # bytes of a column in a row group, of which a page at a time is held
_EXPECTED = "text (paths), binary (pictures), or a struct with 'bytes', as Hugging Face datasets have it"
_KINDS = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")


def library() -> Any:
    """Return pyarrow, with pyarrow.parquet loaded. Raises MissingExtraError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError.needs("a batch, whose results are a parquet file,", "batch") from error
    return pyarrow


class Reader:
    """Reads tables in a process of its own, which is started at the first one, and anew where it dies."""

    def __init__(self) -> None:
        self._pipe: Connection | None = None
        self._process: BaseProcess | None = None

    def count(self, path: str, column: str) -> int:
        """Return the number of rows. Raises InputError; OptionError where there is no such column."""
        (rows,) = self._asked(_count, path, column)
        return int(rows)

    def cells(self, path: str, column: str) -> Iterator[Any]:
        """Yield the cells: text, bytes, None, or an ImageError for one of no use. Raises InputError."""
        for several in self._asked(_cells, path, column):
            yield from several

    def _asked(self, read: Any, path: str, column: str) -> Iterator[Any]:
        pipe = self._start() if self._pipe is None else self._pipe
        finished = False
        try:
            pipe.send((read, path, column))
            while True:
                found = pipe.recv()
                if found is None or isinstance(found, InputError):
                    finished = True
                    break
                yield found
        except (EOFError, OSError):
            raise InputError(
                f"the table {path}", got="damage that ended its reader", expected="a readable parquet file"
            ) from None
        finally:
            if not finished:  # it died, or nobody wants the rest
                self._end()
        if found is not None:
            raise found

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), name="topos-rt-tables", daemon=True)
        self._process.start()
        theirs.close()
        return self._pipe

    def _end(self) -> None:
        if self._pipe is not None and self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
        self._pipe = self._process = None


def _serve(pipe: Connection) -> None:
    """Answer until the pipe is closed: what was read, piece by piece, then None or an error."""
    occupy_standard_streams()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the last words of C++; the leader says what it means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):
        while True:
            read, path, column = pipe.recv()
            fault = None
            try:
                for piece in read(library(), path, column):
                    pipe.send(piece)
            except InputError as error:
                fault = error
            pipe.send(fault)


def _count(arrow: Any, path: str, column: str) -> Iterator[int]:
    what = f"the table {path}"
    try:
        with arrow.parquet.ParquetFile(path) as file:
            schema, about = file.schema_arrow, file.metadata
    except (arrow.ArrowException, OSError) as error:
        raise InputError(what, got=_told(error), expected="a readable parquet file") from error
    if column not in schema.names:
        raise OptionError(
            f"{what} has no column {shortened(column, 60)!r}",
            got=f"the columns {', '.join(schema.names) or '(none)'}",
            expected="one that holds paths or pictures",
            fix=did_you_mean(column, schema.names) or "name it with --column",
        )
    kind = schema.field(column).type
    if not _usable(arrow, kind):
        raise OptionError(f"the column {column!r} of {what}", got=kind, expected=_EXPECTED)
    _check_sizes(what, about, column)
    if about.num_rows < 1:
        raise InputError(what, got="no rows", expected="one or more")
    yield about.num_rows


def _cells(arrow: Any, path: str, column: str) -> Iterator[list[Any]]:
    try:
        with arrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS, columns=[column], use_threads=False):
                yield [_plain(cell) for cell in batch.column(column)]
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"the table {path}", got=_told(error), expected="a whole parquet file") from error


def _plain(cell: Any) -> Any:
    try:
        value = cell.as_py()
    except UnicodeDecodeError:
        return ImageError("a path", got="bytes that are no UTF-8 text", expected="text")
    if isinstance(value, dict):
        value = value["bytes"] or value.get("path")
    if isinstance(value, bytes) and len(value) > MAX_BYTES:
        return ImageError("a picture", got=f"{len(value):,} bytes", expected=f"at most {MAX_BYTES:,}")
    return value


def _usable(arrow: Any, kind: Any) -> bool:
    if arrow.types.is_dictionary(kind):
        kind = kind.value_type
    if arrow.types.is_struct(kind):
        kind = next((field.type for field in kind if field.name == "bytes"), None)
    tests = (getattr(arrow.types, f"is_{name}", None) for name in _KINDS)
    return kind is not None and any(test(kind) for test in tests if test is not None)


def _check_sizes(what: str, about: Any, column: str) -> None:
    for index in range(about.num_row_groups):
        group = about.row_group(index)
        chunks = (group.column(place) for place in range(group.num_columns))
        own = (chunk for chunk in chunks if chunk.path_in_schema.partition(".")[0] == column)
        size = sum(chunk.total_uncompressed_size for chunk in own)
        if size > _LARGEST_GROUP:
            raise InputError(
                f"row group {index} of {what}",
                got=f"{size:,} bytes in the column {column!r}",
                expected=f"at most {_LARGEST_GROUP:,}",
                fix="write it with smaller row groups",
            )


def _told(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
