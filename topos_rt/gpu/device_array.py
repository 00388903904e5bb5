"""Arrays on a GPU, which are an address, a shape and a type, and the arena that owns and frees them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from topos_rt.errors import InputError
from topos_rt.gpu import cuda
from topos_rt.support.arrays import Array
from topos_rt.support.closing import Closing

NOWHERE = -1  # the device of an array without an address


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """A dense, row-major array on a GPU. It does not own its memory; see `Arena`.

    Other libraries can use it without a copy through `__cuda_array_interface__`.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device: int

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "version": 3,
        }

    @classmethod
    def view(cls, what: str, array: Any) -> DeviceArray:
        """View anything with `__cuda_array_interface__`. Raises InputError for a strided array."""
        if isinstance(array, DeviceArray):
            return array
        facts = array.__cuda_array_interface__
        shape, dtype = tuple(facts["shape"]), np.dtype(facts["typestr"])
        if facts.get("strides") not in (None, _dense_strides(shape, dtype)):
            raise InputError(
                what,
                got=f"strides {facts['strides']}",
                expected="a dense, row-major array",
                fix="make it contiguous",
            )
        address = int(facts["data"][0])
        return cls(address, shape, dtype, cuda.device_of(address) if address else NOWHERE)


class Arena(Closing):
    """Memory on the current GPU, allocated array by array and freed all at once."""

    def __init__(self, stream: cuda.Stream) -> None:
        self.device = cuda.current_device().ordinal
        self._stream = stream
        self._held = ExitStack()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Allocate an array; its values are undefined."""
        made = DeviceArray(0, shape, np.dtype(dtype), self.device)
        memory: cuda.Memory = self._held.enter_context(cuda.Memory(made.nbytes))
        return DeviceArray(memory.address, shape, made.dtype, self.device)

    def put(self, array: Array) -> DeviceArray:
        """Copy an array of the host, and wait for the copy."""
        array = np.ascontiguousarray(array)
        made = self.empty(array.shape, array.dtype)
        if array.nbytes:
            self._stream.to_device(made.address, array)
            self._stream.synchronize()
        return made

    def get(self, array: DeviceArray) -> Array:
        """Copy an array to the host, and wait for everything on the stream."""
        host = np.empty(array.shape, array.dtype)
        if array.nbytes:
            self._stream.to_host(host, array.address)
        self._stream.synchronize()
        return host

    def close(self) -> None:
        """Free everything."""
        self._held.close()


def _dense_strides(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    strides, step = [], dtype.itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
