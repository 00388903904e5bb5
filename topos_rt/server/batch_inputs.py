"""The pictures of a batch: those of folders, patterns, files, and tables of paths or of pictures."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Protocol

from topos_rt.errors import InputError, OptionError, ToposError, shortened
from topos_rt.metrics.pictures import SUFFIXES
from topos_rt.server.batch_reader import Reader
from topos_rt.support.files import refuse_url

TABLE = ".parquet"
STDIN = "-"
_KINDS = "a folder, a pattern such as 'photos/**/*.jpg', a picture, or a .parquet of paths or pictures"


@dataclass(frozen=True)
class Picture:
    """One picture to make heads of."""

    input: str  # what results call it: its absolute path, or PARQUET#ROW
    name: str  # its path, or what it is called, below the folder that was given
    source: str | bytes = b""
    stamp: str = ""  # its size and time; empty where it is not there
    fault: ToposError | None = None  # why it cannot be used, where that is known already


class Pictures(Protocol):
    """The pictures of one input, which are read as they are needed."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Picture]: ...


@dataclass(frozen=True)
class Files:
    """The pictures of a folder, a pattern or a file."""

    found: Sequence[tuple[str, str]]  # absolute path, and name

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Picture]:
        return (of_file(path, name) for path, name in self.found)


def gather(inputs: Sequence[str], out: Path, column: str) -> list[Pictures]:
    """Return the pictures of each input, in an order that is always the same.

    Folders are searched to any depth for files with the suffixes of pictures, but for names that begin with a
    dot, and what lies in `out` is left out. With several inputs, names begin with that of their folder, as
    `cp -r` has it. column: that of tables.

    Raises:
        InputError: an input is not there, cannot be read, or holds no picture.
        OptionError: a table has no such column, or the heads would lie among the pictures of an input.
        MissingExtraError: a table, and pyarrow is not installed.
    """
    tables = _Tables(column, Reader())
    several = len(inputs) > 1
    return [group for given in inputs for group in _of_input(given, out, tables, several)]


def of_file(path: str, name: str) -> Picture:
    """Return the picture in a file. Whether it can be used is for the worker to say."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return Picture(path, name, path)
    return Picture(path, name, path, f"{status.st_size}-{status.st_mtime_ns}")


def unique_names(pictures: Iterable[Picture], known: Mapping[str, str]) -> Iterator[tuple[Picture, str]]:
    """Yield every picture once, with a name for its files that no other has, ignoring case.

    A name has no suffix, unless a picture of the same name came before: `ann`, then `ann.png`, then
    `ann.png_2`. known: input -> its name in earlier runs, which it keeps.
    """
    taken = {name.casefold() for name in known.values()}
    seen: set[str] = set()
    for picture in pictures:
        if picture.input in seen:
            continue
        seen.add(picture.input)
        name = known.get(picture.input)
        if name is None:
            name = next(each for each in _candidates(picture.name) if each.casefold() not in taken)
            taken.add(name.casefold())
        yield picture, name


def _candidates(name: str) -> Iterator[str]:
    suffix = PurePosixPath(name).suffix
    if suffix.lower() in SUFFIXES:
        yield name[: -len(suffix)]
    yield name
    yield from (f"{name}_{number}" for number in itertools.count(2))


@dataclass(frozen=True)
class _Tables:
    """How tables are read."""

    column: str
    reader: Reader

    def open(self, path: str, name: str) -> Pictures:
        from topos_rt.server.batch_table import Table

        return Table.open(path, self.column, name, self.reader)


def _of_input(given: str, out: Path, tables: _Tables, several: bool) -> list[Pictures]:
    what = f"the input {shortened(given)}"
    refuse_url(given, f"cannot use {what}")
    if given in ("", STDIN) or "\0" in given:
        raise OptionError(what, got="no path", expected=_KINDS, fix="for one picture, see topos-rt generate")
    path = os.path.abspath(given)
    if _lies_in(path, out):
        raise _among(path, out)
    if os.path.isdir(path):
        return [_folder(path, out, f"{os.path.basename(path)}/" if several else "")]
    if not os.path.lexists(path) and glob.has_magic(given):
        return _matches(given, out, tables)
    if _is_table(path):
        return [tables.open(path, PurePath(path).stem)]
    if not os.path.exists(path):
        raise InputError(what, got="nothing there", expected=_KINDS, fix="check the path")
    return [Files([(path, os.path.basename(path))])]


def _folder(folder: str, out: Path, prefix: str) -> Files:
    def refuse(error: OSError) -> None:
        what = f"the folder {error.filename}"
        raise InputError(
            what, got=error.strerror, expected="a readable folder", fix="chmod it, or leave it out"
        )

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(
            each for each in folders if each[0] != "." and not _lies_in(os.path.join(place, each), out)
        )
        below = PurePath(place).relative_to(folder).as_posix()
        start = prefix if below == "." else f"{prefix}{below}/"
        found += [
            (os.path.join(place, file), f"{start}{file}") for file in sorted(files) if _is_picture(file)
        ]
    if not found:
        expected = f"files that end in {', '.join(SUFFIXES)}"
        raise InputError(f"the folder {folder}", got="no picture", expected=expected)
    return Files(found)


def _matches(pattern: str, out: Path, tables: _Tables) -> list[Pictures]:
    parts = PurePath(os.path.abspath(pattern)).parts
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), parts)
    start = os.path.join(*fixed)
    paths = [os.path.abspath(path) for path in sorted(glob.glob(pattern, recursive=True))]
    paths = [path for path in paths if os.path.isfile(path)]
    files = [path for path in paths if not _lies_in(path, out)]
    if paths and not files:
        raise _among(paths[0], out)
    if not files:
        raise InputError(f"the pattern {pattern}", got="no file that fits it", expected="one or more")
    named = [(path, PurePath(path).relative_to(start).as_posix()) for path in files]
    pictures = [each for each in named if not _is_table(each[0])]
    found: list[Pictures] = [
        tables.open(path, name[: -len(TABLE)]) for path, name in named if _is_table(path)
    ]
    return [Files(pictures), *found] if pictures else found


def _is_table(path: str) -> bool:
    return path.lower().endswith(TABLE)


def _is_picture(name: str) -> bool:
    return name[0] != "." and name.lower().endswith(SUFFIXES)


def _lies_in(path: str, directory: Path) -> bool:
    return PurePath(os.path.realpath(path)).is_relative_to(os.path.realpath(directory))


def _among(path: str, out: Path) -> OptionError:
    """Return the error for heads that would lie among the pictures that they are made from."""
    fix = "-o heads, or another directory of its own"
    return OptionError("-o", got=f"{out}, in which the input {path} lies", expected="no input in it", fix=fix)
