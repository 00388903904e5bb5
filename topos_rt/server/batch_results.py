"""The results of a batch as a parquet file, made from its journal; docs/batch.md describes the columns."""

from __future__ import annotations

import calendar
import io
import itertools
import time
from collections.abc import Iterable, Mapping
from typing import Any

from topos_rt.server.batch_journal import Journal
from topos_rt.server.batch_reader import library
from topos_rt.support.files import write_atomic

RESULTS = "results.parquet"
# Column -> its type, as pyarrow's functions are called, and what it holds.
COLUMNS: dict[str, tuple[str, str]] = {
    "input": ("string", "the picture: its absolute path, or PARQUET#ROW, counted from 0"),
    "seed": ("uint64", "the seed; null for a picture of which no head could be made"),
    "face": ("int32", "the face, counted from 1, the largest first; null where none was looked for"),
    "output": ("string", "the head's file, below the output directory; null where there is none"),
    "files": ("list<string>", "all files of the head, below the output directory"),
    "preview": ("string", "its drawing, with `--previews`"),
    "score": ("float64", "how certain the face is, 0 to 1"),
    "box": ("list<float64>", "the face in the upright picture: x, y, width and height in pixels"),
    "yaw": ("float64", "degrees; positive turns the face to the right of the picture"),
    "pitch": ("float64", "degrees; positive lifts the face"),
    "roll": ("float64", "degrees; positive turns the face counter-clockwise in the picture"),
    "warnings": ("list<string>", "what may spoil the head, such as a small face"),
    "error": ("string", "what went wrong, in one line; null for a head that was made"),
    "error_type": ("string", "the class of the error, of `topos_rt`"),
    "exit_code": ("int32", "0 made, 2 a picture or an output of no use, 1 a failure of ours"),
    "bytes": ("int64", "of all files of the head"),
    "vertices": ("int32", "of the head"),
    "seconds": ("float64", "for the head, its files included"),
    "timings": ("map<string,float64>", "seconds of each stage, and of writing"),
    "backend": ("string", "the inference engine that made it"),
    "worker": ("string", "the machine and process that made it"),
    "attempts": ("int32", "2 where the first worker died"),
    "finished": ("timestamp", "when, in UTC"),
}
_CHUNK = 10_000  # rows that are held as Python objects
_LEAST_S, _SHARE = 5.0, 20  # seconds between two writes at least, and times as long as one takes


class Results:
    """The file of results of a journal, which is written whole from time to time and at the end."""

    def __init__(self, journal: Journal) -> None:
        self.path = journal.path.with_name(RESULTS)
        self._journal = journal
        self._due = 0.0

    def update(self) -> None:
        """Write the file unless it was written a short time ago. Raises OutputError."""
        if time.monotonic() >= self._due:
            started = time.monotonic()
            self.write()
            ended = time.monotonic()
            self._due = ended + max(_LEAST_S, _SHARE * (ended - started))

    def write(self) -> None:
        """Write the file. Raises OutputError."""
        self._journal.flush()
        write_atomic(self.path, parquet_of(self._journal.rows()))


def parquet_of(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return rows of results as a parquet file."""
    arrow = library()
    kinds = {
        "list<string>": arrow.list_(arrow.string()),
        "list<float64>": arrow.list_(arrow.float64()),
        "map<string,float64>": arrow.map_(arrow.string(), arrow.float64()),
        "timestamp": arrow.timestamp("s", tz="UTC"),
    }
    fields = [
        arrow.field(name, kinds[kind] if kind in kinds else getattr(arrow, kind)(), metadata={"about": about})
        for name, (kind, about) in COLUMNS.items()
    ]
    schema, target, rest = arrow.schema(fields), io.BytesIO(), iter(rows)
    with arrow.parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        while chunk := list(itertools.islice(rest, _CHUNK)):
            columns = [
                arrow.array([_cell(row, name) for row in chunk], type=field.type)
                for name, field in zip(COLUMNS, fields, strict=True)
            ]
            writer.write_table(arrow.table(columns, schema=schema))
    return target.getvalue()


def _cell(row: Mapping[str, Any], name: str) -> Any:
    value = row.get(name)
    if name == "finished":
        return None if value is None else _seconds(value)
    if name == "timings":
        return list((value or {}).items())
    if isinstance(value, list):
        return [_text(each) for each in value]
    return _text(value)


def _seconds(text: str) -> int:
    """Return an ISO date of `time.strftime` as seconds since the epoch."""
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def _text(value: Any) -> Any:
    """Return text that can be encoded: names of files may hold bytes that are no UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
