"""How tests call the C++ numerics: arrays as addresses, numbers as what C takes."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np


def call(lib: ctypes.CDLL, name: str, *values: Any, returns: Any = None) -> Any:
    """Call a function with arrays (by address), None (NULL), ints (64 bits), floats (float64) and bytes."""
    function = getattr(lib, name)
    function.restype = returns
    return function(*map(_as_c, values))


def _as_c(value: Any) -> Any:
    if value is None:
        return ctypes.c_void_p(None)
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous
        return ctypes.c_void_p(value.ctypes.data)
    if isinstance(value, bool | int | np.integer):
        number = int(value)
        return ctypes.c_uint64(number) if number >= 0 else ctypes.c_int64(number)
    return ctypes.c_double(value) if isinstance(value, float) else value
