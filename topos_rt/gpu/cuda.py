"""The part of CUDA that engines need: devices, memory, streams, CUDA graphs. All calls to CUDA are here."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from topos_rt.support.arrays import Array, TensorSpec
from topos_rt.support.closing import Closing

OUT_OF_MEMORY = "cudaErrorMemoryAllocation"
DRIVER_TOO_OLD = "cudaErrorInsufficientDriver"


class CudaError(RuntimeError):
    """A CUDA call failed."""

    def __init__(self, call: str, name: str, meaning: str) -> None:
        super().__init__(f"{call}: {name}, {meaning}")
        self.name = name


@dataclass(frozen=True)
class Device:
    """A GPU."""

    ordinal: int
    name: str
    compute_capability: str  # such as "8.9"
    bytes: int

    @property
    def slug(self) -> str:
        """The compute capability as a part of a file name, such as "sm89"."""
        return "sm" + self.compute_capability.replace(".", "")


def runtime() -> Any:
    """Return the module of NVIDIA's bindings that this one calls. Raises ImportError."""
    from cuda.bindings import runtime as bindings

    return bindings


def has_driver() -> bool:
    """Return whether the driver's library can be loaded. It needs none of NVIDIA's packages."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def driver_version() -> tuple[int, int]:
    """Return the newest CUDA that the driver supports, such as (13, 0), or (0, 0) without a driver."""
    return _version(_call("cudaDriverGetVersion"))


def runtime_version() -> tuple[int, int]:
    """Return the version of CUDA that the bindings were made for."""
    return _version(_call("cudaRuntimeGetVersion"))


def device_count() -> int:
    """Return how many GPUs the driver shows. Raises CudaError without a driver that fits."""
    return int(_call("cudaGetDeviceCount"))


def current_device() -> Device:
    """Return the current GPU of the calling thread."""
    ordinal = int(_call("cudaGetDevice"))
    facts = _call("cudaGetDeviceProperties", ordinal)
    name = facts.name.decode(errors="replace").rstrip("\0")
    return Device(ordinal, name, f"{facts.major}.{facts.minor}", int(facts.totalGlobalMem))


def free_bytes() -> int:
    """Return how much memory is free on the current GPU."""
    free, _ = _call("cudaMemGetInfo")
    return int(free)


def device_of(address: int) -> int:
    """Return the GPU that an address belongs to, or -1 for memory of the host."""
    facts = _call("cudaPointerGetAttributes", address)
    kinds = runtime().cudaMemoryType
    on_host = (kinds.cudaMemoryTypeUnregistered, kinds.cudaMemoryTypeHost)
    return -1 if facts.type in on_host else int(facts.device)


@contextmanager
def on_device(ordinal: int) -> Iterator[None]:
    """Make a GPU the current one of the calling thread, inside the `with`."""
    before = int(_call("cudaGetDevice"))
    if before == ordinal:
        yield
        return
    _call("cudaSetDevice", ordinal)
    try:
        yield
    finally:
        _call("cudaSetDevice", before)


class _NothingCollected:
    """Keeps garbage from being collected: a thread that captures must not free a dropped pipeline's memory.

    Collection is on or off for all threads: the first capture turns it off, the end of the last one on again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captures = 0
        self._was_on = False

    def __enter__(self) -> None:
        with self._lock:
            if self._captures == 0:
                self._was_on = gc.isenabled()
                gc.disable()
            self._captures += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._captures -= 1
            if self._captures == 0 and self._was_on:
                gc.enable()


_nothing_collected = _NothingCollected()


class Stream(Closing):
    """A stream that does not wait for the default one."""

    def __init__(self) -> None:
        self._stream: Any = _call("cudaStreamCreateWithFlags", runtime().cudaStreamNonBlocking)

    @property
    def handle(self) -> int:
        """The stream as other libraries take it."""
        return int(self._stream)

    def to_device(self, address: int, array: Array) -> None:
        """Begin to copy a C-contiguous array, which must not be freed or changed before `synchronize`."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
        _call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, self._stream)

    def to_host(self, array: Array, address: int) -> None:
        """Begin to copy into a C-contiguous array, which must not be freed before `synchronize`."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
        _call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, self._stream)

    def copy(self, target: int, source: int, size: int) -> None:
        """Begin to copy bytes on the device, from `source` to `target`."""
        kind = runtime().cudaMemcpyKind.cudaMemcpyDeviceToDevice
        _call("cudaMemcpyAsync", target, source, size, kind, self._stream)

    def record(self, event: Event) -> None:
        """Have the device note the time when it reaches this point."""
        _call("cudaEventRecord", event.handle, self._stream)

    def clear(self, address: int, size: int) -> None:
        """Begin to set bytes on the GPU to zero."""
        _call("cudaMemsetAsync", address, 0, size, self._stream)

    def synchronize(self) -> None:
        """Wait for all work on the stream."""
        _call("cudaStreamSynchronize", self._stream)

    @contextmanager
    def capture(self) -> Iterator[list[CudaGraph]]:
        """Record the work that is begun inside, instead of doing it. Its CUDA graph is then in the list."""
        mode = runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        recorded: list[CudaGraph] = []
        with _nothing_collected:
            _call("cudaStreamBeginCapture", self._stream, mode)
            try:
                yield recorded
            except BaseException:
                # The capture must end in any case, but its CUDA graph is useless; the first error counts.
                with suppress(CudaError):
                    _call("cudaGraphDestroy", _call("cudaStreamEndCapture", self._stream))
                raise
            recorded.append(CudaGraph(_call("cudaStreamEndCapture", self._stream)))

    def launch(self, cuda_graph: CudaGraph) -> None:
        """Begin to do the work of a CUDA graph."""
        _call("cudaGraphLaunch", cuda_graph.executable, self._stream)

    def close(self) -> None:
        """Destroy the stream."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            _call("cudaStreamDestroy", stream)


class CudaGraph(Closing):
    """Recorded work, ready to be launched any number of times."""

    def __init__(self, recorded: Any) -> None:
        try:
            self.executable: Any = _call("cudaGraphInstantiate", recorded, 0)
        finally:
            _call("cudaGraphDestroy", recorded)

    def close(self) -> None:
        """Destroy the CUDA graph."""
        if self.executable is not None:
            executable, self.executable = self.executable, None
            _call("cudaGraphExecDestroy", executable)


class Event(Closing):
    """A point in time on the device, once the stream has passed `Stream.record`."""

    def __init__(self) -> None:
        self.handle: Any = _call("cudaEventCreate")

    def since(self, other: Event) -> float:
        """Return the milliseconds from another event to this one; both must have happened."""
        return float(_call("cudaEventElapsedTime", other.handle, self.handle))

    def close(self) -> None:
        """Destroy the event."""
        if self.handle is not None:
            handle, self.handle = self.handle, None
            _call("cudaEventDestroy", handle)


class Memory(Closing):
    """A plain allocation on the GPU, aligned to 256 bytes. One of zero bytes has the address 0."""

    def __init__(self, size: int) -> None:
        self.address = int(_call("cudaMalloc", size)) if size else 0

    def close(self) -> None:
        """Free the memory."""
        if self.address:
            address, self.address = self.address, 0
            _call("cudaFree", address)


class Pinned(Closing):
    """An array in page-locked memory of the host, from and to which the GPU copies at full speed."""

    def __init__(self, spec: TensorSpec) -> None:
        size = int(np.prod(spec.shape, dtype=np.int64)) * spec.dtype.itemsize
        self._address = int(_call("cudaMallocHost", size))
        memory: Any = (ctypes.c_byte * size).from_address(self._address)
        self.array: Array = np.frombuffer(memory, spec.dtype).reshape(spec.shape)

    def close(self) -> None:
        """Free the memory; `array` must not be used any more."""
        if self._address:
            address, self._address = self._address, 0
            _call("cudaFreeHost", address)


def _call(name: str, *arguments: Any) -> Any:
    module = runtime()
    status, *results = getattr(module, name)(*arguments)
    if status != module.cudaError_t.cudaSuccess:
        _, meaning = module.cudaGetErrorString(status)
        raise CudaError(name, status.name, meaning.decode(errors="replace"))
    return results[0] if len(results) == 1 else tuple(results)


def _version(number: int) -> tuple[int, int]:
    return number // 1000, number % 1000 // 10
