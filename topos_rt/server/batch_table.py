"""Tables of a batch: a parquet of paths or of pictures, read row by row, never as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from topos_rt.errors import ImageError, InputError
from topos_rt.pictures.sources import READABLE
from topos_rt.server.batch_inputs import Picture, of_file
from topos_rt.server.batch_reader import Reader
from topos_rt.support.files import refuse_url


@dataclass(frozen=True)
class Table:
    """A parquet file with a column of paths or pictures."""

    path: str  # absolute
    column: str
    name: str  # what the names of its pictures begin with
    rows: int
    stamp: str
    reader: Reader

    @classmethod
    def open(cls, path: str, column: str, name: str, reader: Reader) -> Table:
        """Look at a file's schema. Raises InputError; OptionError where it has no such column."""
        try:
            status = os.stat(path)
        except OSError as error:
            raise InputError(
                f"the table {path}", got=error.strerror, expected="a readable parquet file"
            ) from error
        stamp = f"{status.st_size}-{status.st_mtime_ns}"
        return cls(path, column, name, reader.count(path, column), stamp, reader)

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[Picture]:
        """Yield the rows; where the file turns out to be damaged, the last one says so."""
        number = 0
        try:
            for number, cell in enumerate(self.reader.cells(self.path, self.column), 1):
                yield self._picture(number - 1, cell)
        except InputError as error:
            what = f"the table {self.path} after {number:,} of {self.rows:,} rows"
            fault = InputError(what, got=error.got, expected=error.expected)
            yield Picture(f"{self.path}#{number}", "", stamp=self.stamp, fault=fault)

    def _picture(self, number: int, cell: Any) -> Picture:
        row = f"{self.path}#{number}"
        name = f"{self.name}/{number:06d}"
        try:
            if isinstance(cell, ImageError):
                raise ImageError(f"{row}: {cell.what}", got=cell.got, expected=cell.expected)
            if isinstance(cell, bytes) and cell:
                return Picture(row, name, cell, f"{self.stamp}-{len(cell)}")
            if not cell:
                raise ImageError(row, got="nothing", expected=READABLE)
            return self._named(row, cell)
        except ImageError as fault:
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
        found = os.path.abspath(os.path.join(os.path.dirname(self.path), value))
        return of_file(found, name or "picture")
