"""The GPU resources of TensorRT engines: a shared stream and arena, outputs that stay, timing events."""

from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress

from topos_rt.engines.contract import DeviceTimes
from topos_rt.gpu import cuda
from topos_rt.gpu.device_array import DeviceArray
from topos_rt.support.arrays import TensorSpec
from topos_rt.support.closing import Closing


class Workspace(Closing):
    """A stream, and an arena for activations, which the engines of one pipeline share as they take turns."""

    def __init__(self) -> None:
        """Create both on the GPU of the calling thread. Raises CudaError."""
        self.device = cuda.current_device().ordinal
        self.stream = cuda.Stream()
        self._arena = cuda.Memory(0)
        self._bytes = 0

    def reserve(self, size: int) -> int:
        """Return the address of `size` bytes or more, until the next call. CudaError: memory runs out."""
        if size > self._bytes:
            self.stream.synchronize()
            self._bytes = 0
            self._arena.close()
            self._arena = cuda.Memory(size)
            self._bytes = size
        return self._arena.address

    def close(self) -> None:
        """Free both; close the engines that use them first."""
        self._bytes = 0
        # After a fatal CUDA error there is nothing left to free, and nobody to report it to.
        for held in (self._arena, self.stream):
            with suppress(cuda.CudaError):
                held.close()


class Pool:
    """Memory for one output that outlives the run; what nobody holds any more is reused."""

    def __init__(self, spec: TensorSpec, device: int) -> None:
        self._spec, self._device = spec, device
        self._held = ExitStack()
        self._free: list[int] = []

    def take(self) -> DeviceArray:
        """Return an array; its memory is reused once all references to it are gone. Raises CudaError."""
        if self._free:
            address = self._free.pop()
        else:
            memory: cuda.Memory = self._held.enter_context(cuda.Memory(self._spec.nbytes))
            address = memory.address
        array = DeviceArray(address, self._spec.shape, self._spec.dtype, self._device)
        # The callback refers to the list, not to the pool, which the array may outlive.
        weakref.finalize(array, self._free.append, address)
        return array

    def close(self) -> None:
        """Free everything, including what is still held."""
        self._held.close()


class Spans:
    """Four events of a run: before the uploads, before the graph, after it, after the downloads."""

    def __init__(self, stream: cuda.Stream, sink: Callable[[DeviceTimes], object]) -> None:
        self._stream, self._sink = stream, sink
        self._clock: list[float] = []
        with ExitStack() as held:
            self._events = [held.enter_context(cuda.Event()) for _ in range(4)]
            self._held = held.pop_all()

    def begin(self) -> Callable[[], None]:
        """Start a run, even if the last one failed halfway; return what marks the next of its four points."""
        self._clock.clear()
        return self._mark

    def _mark(self) -> None:
        self._stream.record(self._events[len(self._clock)])
        self._clock.append(time.perf_counter())

    def tell(self) -> None:
        """Report the times to the sink. The stream must have been synchronized."""
        spans = [after.since(before) for before, after in itertools.pairwise(self._events)]
        self._sink(DeviceTimes(1e3 * (self._clock[2] - self._clock[1]), *spans))

    def close(self) -> None:
        """Destroy the events."""
        self._held.close()
