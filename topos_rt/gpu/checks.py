"""The checks that the functions of `topos_rt.gpu.ops` make of their arrays. All of them raise InputError."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from topos_rt.errors import InputError
from topos_rt.gpu.device_array import NOWHERE, DeviceArray
from topos_rt.gpu.tables import AnyArray

_F16 = np.dtype(np.float16)
_ALIGNED = 16  # rows of FP16 matrices start at multiples of so many bytes


def device_of_all(*arrays: AnyArray | None) -> int | None:
    """Return the GPU of all the arrays, or None if all are NumPy's. Raises InputError for a mixture."""
    places: dict[int | None, None] = {}
    for array in arrays:
        if array is None:
            continue
        if isinstance(array, np.ndarray):
            places[None] = None
        elif hasattr(array, "__cuda_array_interface__"):
            places[DeviceArray.view("array", array).device] = None
        else:
            raise InputError("array", got=type(array).__name__, expected="a NumPy array, or one on a GPU")
    if len(places) > 1:
        places.pop(NOWHERE, None)  # other libraries give empty arrays no address
    if len(places) > 1:
        found = " and ".join("the host" if place is None else f"GPU {place}" for place in places)
        raise InputError("arrays of one call", got=f"some on {found}", expected="all in one place")
    return next(iter(places), None)


def check(
    what: str, array: AnyArray, dtypes: Sequence[Any], shape: tuple[int, ...], device: int | None
) -> AnyArray:
    """Return the array if it has one of the types and the shape, and is dense and aligned."""
    if device is not None:
        array = DeviceArray.view(what, array)
    if array.dtype not in dtypes or tuple(array.shape) != shape:
        expected = f"{' or '.join(str(dtype) for dtype in dtypes)} {list(shape)}"
        raise InputError(what, got=f"{array.dtype} {list(array.shape)}", expected=expected)
    if device is None and not array.flags.c_contiguous:
        raise InputError(what, got="a strided array", expected="C-contiguous", fix="np.ascontiguousarray")
    if device is not None and array.nbytes:
        unit = _ALIGNED if array.dtype == _F16 and len(shape) == 2 else array.dtype.itemsize
        if array.address == 0 or array.address % unit:
            raise InputError(
                what,
                got=f"address {array.address:#x}",
                expected=f"a multiple of {unit}",
                fix="begin at the start of an allocation",
            )
    return array


def check_out(
    what: str, out: AnyArray | None, dtypes: Sequence[Any], shape: tuple[int, ...], device: int | None
) -> AnyArray:
    """Check an array that will be written. It may be missing on the host alone."""
    if out is None:
        if device is not None:
            raise InputError(what, got="None", expected="an array: nothing is allocated on a GPU")
        return None
    if device is None and not out.flags.writeable:
        raise InputError(what, got="a read-only array", expected="a writable one")
    return check(what, out, dtypes, shape, device)


def check_apart(what: str, out: DeviceArray, **inputs: DeviceArray | None) -> None:
    """Raise InputError for an output that shares memory with an input."""
    for name, array in inputs.items():
        if array is None or not array.nbytes or not out.nbytes:
            continue
        if out.address < array.address + array.nbytes and array.address < out.address + out.nbytes:
            raise InputError(what, got=f"memory shared with {name}", expected="memory of its own")


def address(array: AnyArray | None) -> int:
    """Return the address of an array on a device, 0 for None."""
    return 0 if array is None else DeviceArray.view("array", array).address


def addresses(**arrays: AnyArray | None) -> dict[str, int]:
    """Return the `address` of each array, by its name."""
    return {name: address(array) for name, array in arrays.items()}
