"""What happens to objects in a process that was forked while they held threads or a device.

Only the thread that forks lives on in the child. Whatever waits for the others there, as the destructor of an
inference session does, waits for ever; and CUDA does not work in the child at all.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def in_forked_child(forget: Callable[[T], object]) -> weakref.WeakSet[T]:
    """Return a set of objects, for each of which `forget` is called in every child process that is forked."""
    living: weakref.WeakSet[T] = weakref.WeakSet()

    def all_of_them() -> None:
        for each in list(living):
            forget(each)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=all_of_them)
    return living


def leak(value: Any) -> None:
    """Keep an object alive for ever, so that its destructor runs neither now nor when the process exits."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
