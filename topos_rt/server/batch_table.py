"""Tables of a batch: a parquet of paths or of pictures, read row by row, never as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from topos_rt.errors import ImageError, InputError, MissingExtraError, OptionError, did_you_mean, shortened
from topos_rt.pictures.sources import MAX_BYTES, READABLE
from topos_rt.server.batch_inputs import Picture, of_file
from topos_rt.support.files import refuse_url

_ROWS = 16  # that are read at once: pictures may be large
_LARGEST_GROUP = 8 << 30  # bytes of a column in a row group, of which a page at a time is held
_EXPECTED = "text (paths), binary (pictures), or a struct with 'bytes', as Hugging Face datasets have it"


def library() -> Any:
    """Return pyarrow, with pyarrow.parquet loaded. Raises MissingExtraError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError.needs("a batch, whose results are a parquet file,", "batch") from error
    return pyarrow


@dataclass(frozen=True)
class Table:
    """A parquet file with a column of paths or pictures."""

    path: str
    column: str
    rows: int
    stamp: str

    @classmethod
    def open(cls, path: str, column: str) -> Table:
        """Look at a file's schema. Raises InputError; OptionError where it has no such column."""
        what = f"the table {path}"
        arrow = library()
        try:
            status = os.stat(path)
            with arrow.parquet.ParquetFile(path) as file:
                schema, about = file.schema_arrow, file.metadata
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
        except (arrow.ArrowException, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(what, got=_told(error), expected="a readable parquet file") from error
        if not about.num_rows:
            raise InputError(what, got="no rows", expected="one or more")
        return cls(path, column, about.num_rows, f"{status.st_size}-{status.st_mtime_ns}")

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[Picture]:
        """Yield the rows; where the file turns out to be damaged, the last one says so."""
        arrow, number = library(), 0
        try:
            with arrow.parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(_ROWS, columns=[self.column], use_threads=False):
                    for cell in batch.column(self.column):
                        yield self._picture(number, cell)
                        number += 1
        except (arrow.ArrowException, OSError) as error:
            what = f"the table {self.path} after {number:,} of {self.rows:,} rows"
            fault = InputError(what, got=_told(error), expected="a whole parquet file")
            yield Picture(f"{self.path}#{number}", "", stamp=self.stamp, fault=fault)

    def _picture(self, number: int, cell: Any) -> Picture:
        row = f"{self.path}#{number}"
        name = f"{PurePath(self.path).stem}/{number:06d}"
        try:
            value = cell.as_py()
            if isinstance(value, dict):
                value = value["bytes"] or value.get("path")
            if isinstance(value, bytes):
                if len(value) > MAX_BYTES:
                    raise ImageError(row, got=f"{len(value):,} bytes", expected=f"at most {MAX_BYTES:,}")
                return Picture(row, name, value, f"{self.stamp}-{len(value)}")
            if not value:
                raise ImageError(row, got="nothing" if value is None else "no text", expected=READABLE)
            return self._named(row, value)
        except (ImageError, UnicodeDecodeError) as error:
            fault = error if isinstance(error, ImageError) else ImageError(row, got="no UTF-8 text")
            return Picture(row, name, stamp=self.stamp, fault=fault)

    def _named(self, row: str, value: str) -> Picture:
        """Return the picture at a path, which is seen from the table's folder."""
        refuse_url(value, f"cannot use the image of {row}", ImageError)
        if "\0" in value:
            raise ImageError(row, got="a path with a NUL character", expected="a path")
        path = PurePath(value)
        # Heads stay below the output directory, wherever their pictures lie.
        inside = not path.is_absolute() and ".." not in path.parts
        name = path.as_posix() if inside else path.name
        return of_file(os.path.abspath(os.path.join(os.path.dirname(self.path), value)), name or "picture")


def _usable(arrow: Any, kind: Any) -> bool:
    if arrow.types.is_dictionary(kind):
        kind = kind.value_type
    tests = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
    if any(getattr(arrow.types, f"is_{name}")(kind) for name in tests if hasattr(arrow.types, f"is_{name}")):
        return True
    return arrow.types.is_struct(kind) and any(field.name == "bytes" for field in kind)


def _check_sizes(what: str, about: Any, column: str) -> None:
    for index in range(about.num_row_groups):
        group = about.row_group(index)
        chunks = (group.column(place) for place in range(group.num_columns))
        size = sum(
            chunk.total_uncompressed_size
            for chunk in chunks
            if chunk.path_in_schema.partition(".")[0] == column
        )
        if size > _LARGEST_GROUP:
            raise InputError(
                f"row group {index} of {what}",
                got=f"{size:,} bytes in the column {column!r}",
                expected=f"at most {_LARGEST_GROUP:,}",
                fix="write it with smaller row groups",
            )


def _told(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
