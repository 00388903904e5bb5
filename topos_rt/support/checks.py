"""Checks of arrays and metadata from outside. All raise MeshInputError with what, got and expected."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from topos_rt.errors import MeshInputError

# No head reaches this far in any unit. Values near the limit of float32 would overflow in a change of units.
_FARTHEST = 1e6


def frozen(values: Any, dtype: type[np.generic], what: str) -> np.ndarray:
    """Return a read-only contiguous copy of type `dtype`, or the array itself if it is all that already.

    Raises MeshInputError where that type cannot hold the values.
    """
    array = np.asarray(values)
    flags = array.flags
    if array.dtype == dtype and flags.c_contiguous and flags.owndata and not flags.writeable:
        return array  # heads share what is the same for all of them, in memory and in pickles
    floating = np.issubdtype(dtype, np.floating)
    if array.dtype.kind not in ("fiu" if floating else "iu") and array.size:
        expected = np.dtype(dtype).name
        raise MeshInputError(what, got=f"dtype {array.dtype}", expected=expected, fix="convert it")
    if not floating and array.size:
        limits, low, high = np.iinfo(np.dtype(dtype)), int(array.min()), int(array.max())
        fits = limits.min <= low and high <= limits.max
        require(fits, what, f"{low}..{high}", f"values that fit {np.dtype(dtype).name}")
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which `require_finite` refuses
        copy = np.array(array, dtype, order="C")
    copy.setflags(write=False)
    return copy


def first(values: np.ndarray, bad: np.ndarray) -> str:
    return f"{values[bad][0]:g}" if bad.any() else ""


def require(
    ok: bool | np.bool_, what: str, got: str, expected: str, fix: str = "check the source of the mesh"
) -> None:
    if not ok:
        raise MeshInputError(what, got=got, expected=expected, fix=fix)


def require_shape(array: np.ndarray, shape: tuple[int, ...], what: str) -> None:
    require(
        array.shape == shape,
        what,
        f"shape {list(array.shape)}",
        f"{list(shape)}",
        "check that all parts describe the same head",
    )


def require_finite(array: np.ndarray, what: str) -> None:
    inside = np.abs(array) <= _FARTHEST  # false for NaN as well
    require(inside.all(), what, first(array, ~inside), f"finite numbers within {_FARTHEST:g}")


def plain_json(values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return a deep copy with JSON types only; NumPy numbers become Python's."""
    try:
        text = json.dumps(dict(values), allow_nan=False, default=lambda value: value.item())
    except (TypeError, ValueError, AttributeError) as error:
        raise MeshInputError(
            what,
            got=f"a value JSON cannot hold ({error})",
            expected="strings, finite numbers, booleans, lists, dictionaries",
        ) from error
    result: dict[str, Any] = json.loads(text)
    return result
