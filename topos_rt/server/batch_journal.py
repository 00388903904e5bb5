"""The journal of a batch: which heads are done, one line of JSON for each picture, written by one process.

The first line holds the settings that all heads were made with. A line is added, and flushed to the disk,
once the files that it names are there; so whatever is killed, a head without a line is one that is not done.
Of several lines about one picture and seed the last counts.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from topos_rt.errors import InputError, OptionError, OutputError, shortened
from topos_rt.support.closing import Closing
from topos_rt.support.files import make_directories, output_error, write_atomic

JOURNAL, LOCK = "batch.jsonl", ".batch.lock"
FORMAT = "topos_rt.batch/1"
_SUM = "crc32"  # the last key of a line
_LONGEST = 64 << 20  # bytes of a line: more than the rows of a picture with many faces and seeds take
_REDO = "name another directory with -o, or make all heads again with --redo"


@dataclass(frozen=True)
class Done:
    """What the journal says last of a picture and seed."""

    stamp: str
    made: bool  # rather than failed
    files: tuple[str, ...]  # below the output directory
    line: int  # where its line begins, bytes


def header_of(settings: Mapping[str, Any]) -> str:
    """Return the first line of a journal, without its end."""
    return json.dumps({"format": FORMAT, "settings": settings}, sort_keys=True)


class Journal(Closing):
    """The journal of an output directory, which this process alone may write to while it is open."""

    def __init__(self, directory: Path, settings: Mapping[str, Any], redo: bool = False) -> None:
        """Open the journal, or begin one.

        redo: forget what is there if the settings are others.

        Raises:
            OptionError: heads were made there with other settings, and `redo` was not asked for.
            InputError: what is there is no journal.
            OutputError: nothing can be written there, or another batch is running there.
        """
        self.path = directory / JOURNAL
        self.header = header_of(settings)
        self.done: dict[tuple[str, int], Done] = {}
        self.names: dict[str, str] = {}  # input -> name of its files
        self.damaged = 0  # lines that could not be read: their heads are made again
        try:
            make_directories(directory)
            self._lock = _locked(directory)
            try:
                if self._begin(settings, redo):
                    write_atomic(self.path, f"{self.header}\n".encode())
                self._file: IO[bytes] = self.path.open("r+b")
                self._read()
            except BaseException:
                _unlock(self._lock)
                raise
        except OSError as error:
            raise output_error(self.path, error) from error

    def add(self, task_input: str, name: str, stamp: str, seeds: tuple[int, ...], rows: list[Any]) -> None:
        """Add what became of a picture. It is safe once `flush` has returned. Raises OutputError."""
        line = {"input": task_input, "name": name, "stamp": stamp, "seeds": seeds, "rows": rows}
        start = self._file.tell()
        try:
            self._file.write(json.dumps(line | {_SUM: _sum_of(line)}).encode() + b"\n")
        except OSError as error:
            raise output_error(self.path, error) from error
        self._note(line, start)

    def flush(self) -> None:
        """Bring what was added to the disk. Raises OutputError."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise output_error(self.path, error) from error

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the latest row of every head, and of every picture that made none, of all runs."""
        with self.path.open("rb") as file:
            for start, line in _lines(file):
                if line is None:
                    continue
                current = {seed for seed in line["seeds"] if self._line_of(line["input"], seed) == start}
                for row in line["rows"]:
                    if row["seed"] in current or (row["seed"] is None and current):
                        yield row

    def close(self) -> None:
        """Let another process have the journal."""
        self._file.close()
        _unlock(self._lock)

    def _begin(self, settings: Mapping[str, Any], redo: bool) -> bool:
        """Return whether the journal is to begin anew."""
        try:
            with self.path.open("rb") as file:
                first = file.readline(_LONGEST)
        except FileNotFoundError:
            return True
        found = _parsed(first)
        if found is None or found.get("format") != FORMAT or not isinstance(found.get("settings"), dict):
            if redo:
                return True
            expected = f"the journal of a batch ({FORMAT})"
            raise InputError(f"{self.path}", got="something else", expected=expected, fix=_REDO)
        if found["settings"] == json.loads(self.header)["settings"]:
            return False
        if not redo:
            differences = "; ".join(_differences(found["settings"], dict(settings)))
            what = f"the heads in {self.path.parent} were made with other settings"
            raise OptionError(what, got=differences, expected="those of the first run", fix=_REDO)
        return True

    def _read(self) -> None:
        """Read all lines, and cut off what a killed process left of a last one."""
        end = 0
        for start, line in _lines(self._file):
            end = self._file.tell()
            if line is not None:
                self._note(line, start)
            elif start:
                self.damaged += 1
        self._file.seek(end)
        self._file.truncate()

    def _note(self, line: Mapping[str, Any], start: int) -> None:
        self.names[line["input"]] = line["name"]
        for seed in line["seeds"]:
            own = [row for row in line["rows"] if row["seed"] in (seed, None)]
            files = [file for row in own for file in (*row.get("files", ()), row.get("preview")) if file]
            made = bool(own) and all(row["exit_code"] == 0 for row in own)
            self.done[line["input"], seed] = Done(line["stamp"], made, tuple(files), start)

    def _line_of(self, name: str, seed: int) -> int:
        found = self.done.get((name, seed))
        return -1 if found is None else found.line


def _lines(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield where each whole line begins, and what it says: None for the first, and for one of no sense."""
    file.seek(0)
    start = 0
    while (data := file.readline(_LONGEST)).endswith(b"\n"):
        yield start, _checked(_parsed(data)) if start else None
        start += len(data)
    if len(data) == _LONGEST:
        name = getattr(file, "name", "the journal")
        raise InputError(f"{name}", got="a line without end", expected="a journal", fix=_REDO)


def _sum_of(line: Mapping[str, Any]) -> str:
    """Return what tells a line that was damaged on the disk: its CRC-32, as hexadecimal digits."""
    return f"{zlib.crc32(json.dumps(line).encode()):08x}"


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _checked(line: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a line if it is one of ours, whose rows can be used as they are."""
    if line is None or not all(isinstance(line.get(key), str) for key in ("input", "name", "stamp")):
        return None
    if line.pop(_SUM, None) != _sum_of(line):
        return None
    seeds, rows = line.get("seeds"), line.get("rows")
    good = isinstance(seeds, list) and all(type(seed) is int for seed in seeds) and isinstance(rows, list)
    return line if good and all(map(_is_row, rows or ())) else None


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or type(row.get("exit_code")) is not int:
        return False
    files, preview = row.get("files", []), row.get("preview")
    named = isinstance(files, list) and all(isinstance(file, str) for file in files)
    seed = row.get("seed", "")
    return named and isinstance(preview, str | None) and (seed is None or type(seed) is int)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            was, now = (shortened(repr(side.get(name)), 20) for side in (old, new))
            yield f"{name} {now}, was {was}"


def _locked(directory: Path) -> Any:
    """Return the lock of an output directory, held; None on file systems without locks."""
    from filelock import FileLock, Timeout

    lock = FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError(
            f"cannot write {directory}",
            got="another batch that is running there",
            fix="wait until it is done",
        ) from error
    except NotImplementedError:
        return None
    return lock


def _unlock(lock: Any) -> None:
    if lock is not None:
        lock.release()
