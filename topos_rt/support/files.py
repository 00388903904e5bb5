"""Atomic writes: a reader sees the old file or the whole new one, never a part, also after a power loss."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topos_rt.errors import InputError, OutputError

_FIXES = {
    errno.ENOSPC: "free some space or choose another place",
    errno.EDQUOT: "free some space or choose another place",
    errno.EACCES: "choose a place you may write to",
    errno.EPERM: "choose a place you may write to",
    errno.EROFS: "choose a place you may write to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "name a file",
}
# File systems whose directories cannot be flushed say so with one of these.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM)
# One slash is enough, for a Path has made one of two; C:/ is no scheme, which has two letters or more.
_URL = re.compile(r"\s*(?:([a-z][a-z0-9+.-]{1,20}):/{1,2}([^/?#]*)|(data|blob):)", re.IGNORECASE)
_LOCAL = "a file on this machine, since nothing is fetched from a network, for privacy and security"
_URL_FIXES = {  # scheme -> what to do instead
    "blob": "pass the bytes, which only the browser has",
    "data": "pass the bytes: base64.b64decode(url.partition(',')[2])",
    "file": "pass the path, without file://",
}
# Links here, such as /dev/stdout, are the system's: one that leads to a plain file must not be replaced.
_SYSTEM = ("/dev", "/dev/fd", "/proc", "/sys")


def check_writable(path: str | os.PathLike[str], *, parents: bool = False) -> None:
    """Check, before long work, that `write_atomic(path, …, parents=parents)` has a place to write to.

    The check creates nothing.

    Raises:
        OutputError: `path` is a directory or a device, its directory is missing, or permissions forbid it.
    """
    try:
        _check(path, _target(path), parents)
    except OSError as error:
        raise output_error(path, error) from error


def _check(path: str | os.PathLike[str], target: Path, parents: bool) -> None:
    what = f"cannot write {path}"
    if target.is_dir():
        raise OutputError(what, got="a directory", expected="a file name")
    if _is_device(target):
        raise OutputError(what, got="a device or pipe", expected="the name of a plain file")
    if target.is_file() and not target.is_symlink() and not os.access(target, os.W_OK):
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


def _is_device(target: Path) -> bool:
    if target.exists() and not target.is_file():
        return True
    if not target.is_symlink():
        return False
    place = os.path.realpath(target.parent)
    return place in _SYSTEM or place.startswith(("/proc/", "/sys/"))


def write_atomic(
    path: str | os.PathLike[str], data: bytes, *, parents: bool = False, mode: int = 0o666
) -> None:
    """Write `data` to `path`, whole or not at all.

    The bytes go to a temporary file in the same directory, which is flushed to the disk and then renamed over
    `path`; on any failure the temporary file is removed and what was at `path` before is untouched. After a
    power loss, too, `path` is the old file or the whole new one. A symbolic link at `path` is replaced, not
    followed, so that a link which somebody else planted in a shared directory leads nowhere. Missing
    directories are created only with `parents=True`. The umask takes its part off `mode`.

    Raises:
        OutputError: the file cannot be written: full disk, permissions, a missing directory, or a directory
            of that name.
    """
    target = _target(path)
    try:
        _check(path, target, parents)
        if parents:
            make_directories(target.parent)
        _write(target, data, mode)
    except OSError as error:
        raise output_error(path, error) from error


def write_files(files: Mapping[Path, bytes], *, parents: bool = False) -> None:
    """Write files that belong together, in their order: the last one refers to the others.

    One of the others that is there already with the same bytes is left alone. Raises what `write_atomic`
    raises.
    """
    *others, last = files
    for path in others:
        if not _holds(path, files[path]):
            write_atomic(path, files[path], parents=parents)
    write_atomic(last, files[last], parents=parents)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False  # writing it says what is wrong


def refuse_url(source: str, what: str, kind: type[InputError] = InputError) -> None:
    """Raise an error of class `kind` for the address of something on a network: nothing here fetches it."""
    found = _address(source)
    if found is not None:
        scheme = (found[1] or found[3]).lower()
        fix = _URL_FIXES.get(scheme, "download it first")
        raise kind(what, got="a URL", expected=_LOCAL, fix=fix)


def without_secrets(source: str) -> str:
    """Return a path as it is, and of a URL scheme and host: the rest may hold keys, or be a whole picture."""
    found = _address(source)
    if found is None:
        return source
    return f"{found[1]}://{found[2].rpartition('@')[2]}/…" if found[1] else f"{found[3]}:…"


def _address(source: str) -> re.Match[str] | None:
    """Return what is found in the address of something on a network; None for a path."""
    found = _URL.match(source)
    return None if found is None or os.path.lexists(source) else found


def read_json(path: Path, what: str, limit: int = 64 << 20) -> Any:
    """Return the value in a JSON file of at most `limit` bytes.

    what: what the file is to be, for the message. Raises InputError for a file that cannot be read, is too
    large or is not JSON.
    """
    name = f"{what} {path}"
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise InputError(name, got=f"more than {limit:,} bytes", expected="a smaller file")
        return json.loads(data)
    except OSError as error:
        raise InputError(name, got=error.strerror or error, expected="a file that can be read") from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON", got=error, expected="the JSON of a measurement") from error


def make_directories(directory: Path, mode: int = 0o777) -> None:
    """Create a directory and its missing parents, and flush their entries to the disk. Raises OSError."""
    missing = []
    while not directory.is_dir() and directory != directory.parent:
        missing.append(directory)
        directory = directory.parent
    for new in reversed(missing):
        new.mkdir(mode, exist_ok=True)
        flush_directory(new.parent)


def flush_directory(directory: Path) -> None:
    """Flush the entries of a directory to the disk, where the file system can. Raises OSError."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows flushes directories itself
        return
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # a directory may be writable and yet not readable
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def _write(target: Path, data: bytes, mode: int) -> None:
    temporary = target.parent / f".topos-rt-{secrets.token_hex(6)}.tmp"
    # Not tempfile.mkstemp: its files are private (0600), and the umask should decide an output's mode.
    # O_EXCL and O_NOFOLLOW: whatever has this name already is neither written to nor followed.
    extra = ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | sum(getattr(os, name, 0) for name in extra)
    descriptor = os.open(temporary, flags, mode)
    finished = False
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        finished = True
    finally:
        if not finished:
            with contextlib.suppress(OSError):  # the error that brought us here says more
                temporary.unlink()
    flush_directory(target.parent)


def _target(path: str | os.PathLike[str]) -> Path:
    if "\0" in os.fspath(path):
        raise OutputError(f"cannot write {path}", got="a NUL character", expected="a file name")
    return Path(path)


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """Return the error for a path that the system refuses to write, with the remedy where there is one."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    return OutputError(f"cannot write {path}", got=reason, fix=_FIXES.get(error.errno or 0))
