"""How loops are compiled: `compiled` for those that Python calls, `inlined` for what they call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function with numba, and keep the result beside its source.

    Division by zero gives infinities as in NumPy, and sums may be reordered, which is a third faster.
    """
    return njit(cache=True, fastmath=True, error_model="numpy", _nrt=False)(function)


def inlined(function: Function) -> Function:
    """Compile a function into those that call it: passing its many arrays costs more than what it does."""
    return njit(cache=True, fastmath=True, error_model="numpy", _nrt=False, forceinline=True)(function)
