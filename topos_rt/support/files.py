"""Atomic writes: a reader sees the old file or the whole new one, never a part."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from topos_rt.errors import OutputError

_FIXES = {
    errno.ENOSPC: "free some space or choose another place",
    errno.EDQUOT: "free some space or choose another place",
    errno.EACCES: "choose a place you may write to",
    errno.EPERM: "choose a place you may write to",
    errno.EROFS: "choose a place you may write to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "name a file",
}


def check_writable(path: str | os.PathLike[str], *, parents: bool = False) -> None:
    """Check, before long work, that `write_atomic(path, …, parents=parents)` has a place to write to.

    The check creates nothing.

    Raises:
        OutputError: `path` is a directory or a device, its directory is missing, or permissions forbid it.
    """
    try:
        _check(path, _target(path), parents)
    except OSError as error:
        raise _output_error(path, error) from error


def _check(path: str | os.PathLike[str], target: Path, parents: bool) -> None:
    what = f"cannot write {path}"
    if target.is_dir():
        raise OutputError(what, got="a directory", expected="a file name")
    if target.exists() and not target.is_file():
        raise OutputError(what, got="a device or pipe", expected="the name of a plain file")
    if target.exists() and not os.access(target, os.W_OK):
        raise OutputError(what, got="a read-only file", fix="choose another name or make it writable")
    directory = target.parent
    while parents and not directory.exists() and directory != directory.parent:
        directory = directory.parent
    if not directory.exists():
        raise OutputError(what, got="a directory that does not exist", fix=f"create {directory} first")
    if not directory.is_dir():
        raise OutputError(
            what, got=f"a file, {directory}, where a directory should be", fix="name another place"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise OutputError(what, got=f"no permission to write to {directory}", fix="choose another place")


def write_atomic(path: str | os.PathLike[str], data: bytes, *, parents: bool = False) -> None:
    """Write `data` to `path`, whole or not at all.

    The bytes go to a temporary file in the same directory, which is then renamed over `path`; on any failure
    the temporary file is removed and what was at `path` before is untouched. A symbolic link is followed.
    Missing directories are created only with `parents=True`.

    Raises:
        OutputError: the file cannot be written: full disk, permissions, a missing directory, or a directory
            of that name.
    """
    target = _target(path)
    try:
        _check(path, target, parents)
        if parents:
            target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, data)
    except OSError as error:
        raise _output_error(path, error) from error


def _write(target: Path, data: bytes) -> None:
    temporary = target.parent / f".topos-rt-{secrets.token_hex(6)}.tmp"
    # Not tempfile.mkstemp: its files are private (0600), and the umask should decide an output's mode.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    finished = False
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, target)
        finished = True
    finally:
        if not finished:
            temporary.unlink(missing_ok=True)


def _target(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:  # a NUL byte inside the name
        raise OutputError(f"cannot write {path}", got="a NUL character", expected="a file name") from error


def _output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return OutputError(f"cannot write {path}", got=reason, fix=_FIXES.get(error.errno or 0))
