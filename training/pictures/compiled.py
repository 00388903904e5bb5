"""How loops are compiled: `compiled` for those that Python calls, `inlined` for what they call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


# Division by zero gives infinities as in NumPy, and sums may be reordered, which is a third faster. No loop
# allocates; without numba's counting of references, which `_nrt` turns off, they take half the time.
_OPTIONS: dict[str, Any] = {"cache": True, "fastmath": True, "error_model": "numpy", "_nrt": False}


def compiled(function: Function) -> Function:
    """Compile a function with numba, and keep the result beside its source."""
    made: Function = njit(**_OPTIONS)(function)
    return made


def inlined(function: Function) -> Function:
    """Compile a function into those that call it: passing its many arrays costs more than what it does."""
    made: Function = njit(forceinline=True, **_OPTIONS)(function)
    return made
