"""Directories that are replaced whole: built aside, then swapped by renames.

Beside a directory `b` there may be `.b.topos-rt-new`, what is being built; `.b.topos-rt-old`, what was there
until a moment ago; and `.b.topos-rt-lock`, which keeps two processes from building at once. A process that is
killed leaves one whole directory at the name `b`, or, between two renames, the old one beside it, which
`recover` puts back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from topos_rt.errors import OutputError
from topos_rt.support.files import flush_directory, make_directories, output_error

_TRIES = 10  # of the swap: a reader may put the old directory back in the middle of it


@contextmanager
def replacing(out: Path, keep: bool = False) -> Iterator[Path]:
    """Yield a directory, empty or with what `out` holds, that takes the place of `out` when the block ends.

    If the block raises, or the process dies, `out` stays as it was. Its files are flushed to the disk first,
    so that this holds for a power loss too. With `keep` the files of `out` are there as hard links where the
    file system allows that: replace them, with `write_atomic` or `os.replace`, and never write into them.

    Raises OutputError where something is in the way or the system refuses.
    """
    # What is changed in place is what a link leads to; a link where a new directory goes is replaced itself.
    out = Path(os.path.realpath(out) if keep else os.path.abspath(out))
    new = _beside(out, "new")
    try:
        make_directories(out.parent)
        with _locked(out):
            _discard(new)
            recover(out)
            try:
                if keep:
                    shutil.copytree(out, new, symlinks=True, copy_function=_linked)
                else:
                    new.mkdir()
                yield new
                _flush(new)
                _swap(new, out)
            finally:
                with contextlib.suppress(OSError, OutputError):  # the error that brought us here says more
                    _discard(new)
    except shutil.Error as error:
        raise OutputError(f"cannot write {out}", got=error) from error
    except OSError as error:
        raise output_error(out, error) from error


def recover(out: Path) -> bool:
    """Put back the directory that a killed process had moved aside; return whether there was one.

    Raises OSError where it cannot be put back.
    """
    out = Path(os.path.abspath(out))
    old = _beside(out, "old")
    if os.path.lexists(out) or not old.is_dir():
        return False
    try:
        os.rename(old, out)
    except FileNotFoundError:  # another process did
        return os.path.lexists(out)
    return True


def _swap(new: Path, out: Path) -> None:
    old = _beside(out, "old")
    _discard(old)
    for attempt in range(_TRIES):
        moved = os.path.lexists(out)
        if moved:
            os.rename(out, old)
        try:
            os.rename(new, out)
            break
        except OSError as error:
            again = error.errno in (errno.ENOTEMPTY, errno.EEXIST) and attempt < _TRIES - 1
            if moved and not os.path.lexists(out):
                os.rename(old, out)
            if not again:
                raise
    flush_directory(out.parent)
    _discard(old)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(_beside(out, "lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError(
            f"cannot write {out}", got="another process that is writing it", fix="wait until it is done"
        ) from error
    except NotImplementedError:  # file systems without locks: then nobody keeps two processes apart
        lock = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _beside(out: Path, what: str) -> Path:
    return out.parent / f".{out.name}.topos-rt-{what}"


def _discard(directory: Path) -> None:
    """Remove a directory of ours, or a link to one. Raises OutputError for anything else of that name."""
    if directory.is_symlink():
        directory.unlink()
    elif directory.is_dir():
        shutil.rmtree(directory)
    elif os.path.lexists(directory):
        raise OutputError(
            f"cannot write beside {directory}", got="a file that is in the way", fix="remove that file"
        )


def _linked(source: str, target: str) -> None:
    """Link a file, or copy it where that is not possible: across file systems, or without hard links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _flush(directory: Path) -> None:
    """Flush every file and directory below `directory` to the disk."""
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                continue
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        flush_directory(Path(folder))
