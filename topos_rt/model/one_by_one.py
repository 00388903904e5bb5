"""An engine for several heads over one for a single head, which runs once for each."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from topos_rt.engines.contract import Engine, Value, check_feeds, check_out
from topos_rt.gpu.cuda import Stream
from topos_rt.gpu.device_array import DeviceArray
from topos_rt.support.arrays import Array, TensorSpec
from topos_rt.support.closing import Closing


class OneByOne(Closing):
    """An `Engine`, and an `Enqueued` one where the inner engine is. It does not close the inner engine.

    The first size of every input and output of the inner engine is 1; here it is the number of heads.
    """

    def __init__(self, engine: Engine, number: int) -> None:
        self._engine: Any = engine
        self._number = number
        self.inputs: Mapping[str, TensorSpec] = _times(engine.inputs, number)
        self.outputs: Mapping[str, TensorSpec] = _times(engine.outputs, number)

    def run(
        self, feeds: Mapping[str, Value], out: Mapping[str, Array] | None = None, keep: Collection[str] = ()
    ) -> dict[str, Any]:
        """See `Engine.run`. Every output comes to the host, whatever `keep` names."""
        check_feeds(self.inputs, feeds)
        check_out(self.outputs, out or {}, keep)
        runs = [
            self._engine.run({name: array[k : k + 1] for name, array in feeds.items()})  # type: ignore[index]
            for k in range(self._number)
        ]
        results = {name: np.concatenate([made[name] for made in runs]) for name in self.outputs}
        for name, array in (out or {}).items():
            np.copyto(array, results[name])
            results[name] = array
        return results

    @property
    def recordable(self) -> bool:
        """See `Enqueued.recordable`."""
        return bool(self._engine.recordable)

    def enqueue(self, arrays: Mapping[str, DeviceArray], stream: Stream) -> None:
        """See `Enqueued.enqueue`."""
        for k in range(self._number):
            self._engine.enqueue({name: _row(array, k) for name, array in arrays.items()}, stream)

    def close(self) -> None:
        """Do nothing: whoever made the inner engine closes it."""


def _times(specs: Mapping[str, TensorSpec], number: int) -> dict[str, TensorSpec]:
    return {name: TensorSpec((number, *spec.shape[1:]), spec.dtype) for name, spec in specs.items()}


def _row(array: DeviceArray, k: int) -> DeviceArray:
    shape = (1, *array.shape[1:])
    start = array.address + k * math.prod(shape) * array.dtype.itemsize
    return DeviceArray(start, shape, array.dtype, array.device)
