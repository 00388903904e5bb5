"""The paths that a command writes to: one for each head, settled and checked before any work is done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from topos_rt.cli.inputs import STDIN, STEM, label
from topos_rt.errors import OptionError
from topos_rt.formats import EXPORTERS, format_of
from topos_rt.support.files import check_writable

_FIELDS = ("{stem}", "{seed}", "{face}")
STDOUT = "-"


@dataclass(frozen=True)
class Item:
    """One head to make: its input, its seed, and whether its file name must contain the seed."""

    source: str
    seed: int
    numbered: bool = False
    face: int | None = None  # the number of the face, from 1, where all of a picture were asked for

    @property
    def stem(self) -> str:
        """What the names of its files begin with."""
        return STEM if self.source == STDIN else Path(self.source).stem

    def file_name(self, suffix: str) -> str:
        """Return the default name: the input's with another suffix, the number of the face and the seed."""
        face = "" if self.face is None else f"_face{self.face}"
        return f"{self.stem}{face}{f'_seed{self.seed}' if self.numbered else ''}.{suffix}"


def choose_format(out: str | None, name: str | None, default: str, several: bool) -> str:
    """Return the output format: the one named by --format, else by the suffix of OUT, else the default.

    Raises OptionError for an unknown one, or when OUT and --format disagree.
    """
    if name is not None:
        name = format_of("", name)
        suffix = Path(out or "").suffix.removeprefix(".").lower()
        if suffix != name and suffix in EXPORTERS and not names_directory(out or ""):
            raise OptionError(
                "the output has two formats", got=f"-o {out} and --format {name}", fix="drop one"
            )
        return name
    if out is None or out == STDOUT or names_directory(out):
        return default
    if several and not is_pattern(out) and Path(out).suffix.removeprefix(".").lower() not in EXPORTERS:
        return default  # a directory that does not exist yet
    if not Path(out).suffix:
        raise OptionError(
            "no output format",
            got=f"-o {out}, a name without suffix",
            expected=f"one of: {', '.join(f'.{key}' for key in EXPORTERS)}",
            fix=f"add a suffix or --format, or write {out}/ for a directory",
        )
    return format_of(out)


def output_paths(out: str | None, items: Sequence[Item], suffix: str, flag: str) -> list[Path]:
    """Return the file of each head, in the order of `items`.

    Args:
        out: the user's argument: None (the current directory), a file for a single head, a directory, or a
            pattern with {stem}, {seed} or {face} in it.
        items: the heads.
        suffix: the suffix of default names, without the dot.
        flag: the name of the option, for messages.

    Raises:
        OptionError: the heads would overwrite each other or an input.
        OutputError: a file cannot be written there.
    """
    if out == "":
        raise OptionError(flag, got="an empty name", expected="a file, directory or pattern")
    if out == STDOUT:
        if flag != "-o" or len(items) > 1:
            what = flag if flag != "-o" else f"-o {STDOUT} for {len(items)} heads"
            raise OptionError(
                what, got="standard output", expected="a file", fix="only one head can go there"
            )
        return [Path(STDOUT)]
    if out is not None and is_pattern(out):
        paths = [_fill(out, item) for item in items]
    elif out is not None and len(items) == 1 and not names_directory(out):
        paths = [Path(out)]
    else:
        if (
            out is not None
            and not names_directory(out)
            and Path(out).suffix.removeprefix(".").lower() == suffix
        ):
            raise OptionError(
                flag,
                got=f"one file, {out}, for {len(items)} heads",
                expected="a directory or a pattern",
                fix=f"{flag} '{Path(out).with_suffix('')}_{{stem}}_{{seed}}.{suffix}'",
            )
        paths = [Path(out or "") / item.file_name(suffix) for item in items]
    _check_different(paths, items, flag)
    _check_no_input(paths, {item.source for item in items}, flag)
    for path in paths:
        check_writable(path, parents=True)
    return paths


def names_directory(out: str) -> bool:
    """Whether the user's argument can only be a directory."""
    return out.endswith(("/", os.sep)) or os.path.isdir(out)


def is_pattern(out: str) -> bool:
    """Whether the user's argument has {stem}, {seed} or {face} in it."""
    return any(field in out for field in _FIELDS)


def _fill(pattern: str, item: Item) -> Path:
    values = (item.stem, str(item.seed), str(item.face or 1))
    for field, value in zip(_FIELDS, values, strict=True):
        pattern = pattern.replace(field, value)
    return Path(pattern)


def _check_different(paths: Sequence[Path], items: Sequence[Item], flag: str) -> None:
    first: dict[str, Item] = {}
    for path, item in zip(paths, items, strict=True):
        other = first.setdefault(os.path.realpath(path), item)
        if other is not item:
            raise OptionError(
                f"two heads would be written to {path}",
                got=f"{label(other.source)} (seed {other.seed}) and {label(item.source)} (seed {item.seed})",
                expected="a file for each",
                fix=f"rename an input, or give {flag} a pattern with {{stem}} and {{seed}}",
            )


def _check_no_input(paths: Iterable[Path], sources: Iterable[str], flag: str) -> None:
    inputs = {os.path.realpath(source): source for source in sources if source != STDIN}
    for path in paths:
        source = inputs.get(os.path.realpath(path))
        if source is not None:
            raise OptionError(f"{flag} would overwrite an input", got=source, fix="choose another name")
