"""Work in another thread while this one goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from topos_rt.support.machine import usable_cores


@contextmanager
def meanwhile(work: Callable[[], None], threads: int | None) -> Iterator[None]:
    """Do work in another thread during the `with` block, where there is a core for it; wait for its end."""
    if (threads or usable_cores()) == 1:
        yield
        return
    thread = threading.Thread(target=work, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread may start: the first head does the work
        yield
        return
    try:
        yield
    finally:
        thread.join()
