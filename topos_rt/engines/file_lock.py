"""A lock between processes, held on a file; the system lets go of it when a process dies."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_S = 0.05


@contextmanager
def locked(path: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the lock of the file `path`, which is there only meanwhile.

    `waiting` is called again and again while another process, or another thread, holds it; what it raises
    ends the wait. Raises OSError where the directory cannot be written to.
    """
    descriptor = _acquire(path, waiting)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file; then it stays, empty
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path, waiting: Callable[[], object]) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        held = False
        try:
            # Whoever held it before may have removed the file that was opened here.
            held = _try(descriptor) and _same(descriptor, path)
        finally:
            if not held:
                os.close(descriptor)
        if held:
            return descriptor
        waiting()
        time.sleep(_POLL_S)


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
