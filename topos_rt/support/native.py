"""The compiled passes for the CPU, where they were built."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any


@cache  # where it was not built, each import would look for it anew
def native() -> Any | None:
    """Return `topos_rt._native`, or None where it was not built: twins in NumPy then do its work."""
    try:
        return import_module("topos_rt._native")
    except ImportError:
        return None
