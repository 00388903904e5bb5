"""A fake GPU: NVIDIA's CUDA bindings and TensorRT's runtime, faked below our own code.

`FakeCuda` replaces `cuda.bindings.runtime`. Its addresses are real memory of the host, filled with junk when
allocated; work on a stream is done when the stream is waited for, and no sooner; every use of memory is
checked against what is allocated. `FakeTensorRT` is the real module with its real builder, except for the
runtime, whose engines run the ONNX file that their plan was built from in onnxruntime.
"""

from __future__ import annotations

import ctypes
import hashlib
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tensorrt_rtx
from cuda.bindings import runtime as real

from tests.engines import graphs
from topos_rt.engines.cache import BuildReport
from topos_rt.engines.contract import AT_ONCE
from topos_rt.engines.tensorrt import backend as tensorrt
from topos_rt.gpu import cuda

# SHA-256 of a plan -> the ONNX it was built from; kept from test to test, as plans in a cache are.
GRAPHS: dict[str, Path | bytes] = {}
HALVED: dict[str, frozenset[str]] = {}  # the same -> inputs and outputs that were made FP16
OK = real.cudaError_t.cudaSuccess
INVALID = real.cudaError_t.cudaErrorInvalidValue
NO_MEMORY = real.cudaError_t.cudaErrorMemoryAllocation
JUNK = 0xCB


class FakeCuda:
    """The functions of `cuda.bindings.runtime` that `topos_rt.gpu.cuda` calls."""

    cudaError_t = real.cudaError_t
    cudaStreamCaptureMode = real.cudaStreamCaptureMode
    cudaMemcpyKind = real.cudaMemcpyKind
    cudaStreamNonBlocking = real.cudaStreamNonBlocking
    cudaGetErrorString = staticmethod(real.cudaGetErrorString)
    cudaRuntimeGetVersion = staticmethod(real.cudaRuntimeGetVersion)

    def __init__(self) -> None:
        self.driver = 13000
        self.devices = 1
        self.device = 0
        self.capability = (8, 9)
        self.bytes = 1 << 30
        self.used = 0
        self.memory: dict[int, np.ndarray] = {}
        self.pinned: dict[int, np.ndarray] = {}
        self.streams: dict[int, list[Callable[[], Any]]] = {}
        self.events: dict[int, float] = {}
        self.fail: dict[str, Any] = {}  # function -> status that it returns
        self.recording: dict[int, list[Callable[[], Any]]] = {}  # what streams record instead of doing it
        self.graphs = 0
        self.lost = False  # whether work on a stream is never done
        self.copied = 0  # bytes, to the device

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if name.startswith("cuda") and name in self.fail:
            return lambda *arguments: (self.fail[name], None)
        return found

    def cudaDriverGetVersion(self) -> Any:
        return OK, self.driver

    def cudaGetDeviceCount(self) -> Any:
        return OK, self.devices

    def cudaGetDevice(self) -> Any:
        return OK, self.device

    def cudaSetDevice(self, ordinal: int) -> Any:
        self.device = ordinal
        return (OK,)

    def cudaGetDeviceProperties(self, ordinal: int) -> Any:
        major, minor = self.capability
        return OK, SimpleNamespace(
            name=b"Imaginary RTX 1\0\0", major=major, minor=minor, totalGlobalMem=self.bytes
        )

    def cudaMemGetInfo(self) -> Any:
        return OK, self.bytes - self.used, self.bytes

    def cudaMalloc(self, size: int) -> Any:
        assert not self.recording, "an allocation while recording"
        if self.used + size > self.bytes:
            return NO_MEMORY, None
        self.used += size
        return OK, self._allocate(self.memory, size)

    def cudaFree(self, address: int) -> Any:
        self.used -= self.memory[address].nbytes
        self.memory.pop(address)[:] = JUNK
        return (OK,)

    def cudaMallocHost(self, size: int) -> Any:
        return OK, self._allocate(self.pinned, size)

    def cudaFreeHost(self, address: int) -> Any:
        self.pinned.pop(address)[:] = JUNK
        return (OK,)

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        assert flags == real.cudaStreamNonBlocking
        stream = real.cudaStream_t(len(self.streams) + 77)
        self.streams[int(stream)] = []
        return OK, stream

    def cudaStreamDestroy(self, stream: Any) -> Any:
        assert not self.streams.pop(int(stream)), "destroyed with work on it"
        return (OK,)

    def cudaStreamSynchronize(self, stream: Any) -> Any:
        assert int(stream) not in self.recording, "a wait while recording"
        queue = self.streams[int(stream)]
        if self.lost:
            queue.clear()
            return (real.cudaError_t.cudaErrorLaunchFailure,)
        while queue:
            if (status := queue.pop(0)()) is not None:
                queue.clear()
                return (status,)
        return (OK,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: Any, stream: Any) -> Any:
        kinds = real.cudaMemcpyKind
        self.copied += size * (kind == kinds.cudaMemcpyHostToDevice)
        device_ends = {
            kinds.cudaMemcpyHostToDevice: (target,),
            kinds.cudaMemcpyDeviceToHost: (source,),
            kinds.cudaMemcpyDeviceToDevice: (target, source),
        }[kind]
        if not all(self.holds(end, size) for end in device_ends):
            return (INVALID,)
        self.put(stream, lambda: ctypes.memmove(target, source, size) and None)
        return (OK,)

    def cudaEventCreate(self) -> Any:
        event = real.cudaEvent_t(len(self.events) + 777)
        self.events[int(event)] = 0.0
        return OK, event

    def cudaEventRecord(self, event: Any, stream: Any) -> Any:
        assert int(event) in self.events
        self.put(stream, lambda: self.events.update({int(event): time.perf_counter()}))
        return (OK,)

    def cudaEventElapsedTime(self, start: Any, end: Any) -> Any:
        return OK, 1e3 * (self.events[int(end)] - self.events[int(start)])

    def cudaEventDestroy(self, event: Any) -> Any:
        del self.events[int(event)]
        return (OK,)

    def cudaMemsetAsync(self, target: int, value: int, size: int, stream: Any) -> Any:
        if not self.holds(target, size):
            return (INVALID,)
        self.put(stream, lambda: ctypes.memset(target, value, size) and None)
        return (OK,)

    def put(self, stream: Any, work: Callable[[], Any]) -> None:
        """Put work on a stream, or into what it records."""
        self.recording.get(int(stream), self.streams[int(stream)]).append(work)

    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> Any:
        assert mode == real.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        assert not self.streams[int(stream)], "recording begins with work on the stream"
        self.recording[int(stream)] = []
        return (OK,)

    def cudaStreamEndCapture(self, stream: Any) -> Any:
        return OK, self.recording.pop(int(stream))

    def cudaGraphInstantiate(self, recorded: Any, flags: int) -> Any:
        self.graphs += 1
        return OK, list(recorded)

    def cudaGraphDestroy(self, recorded: Any) -> Any:
        return (OK,)

    def cudaGraphExecDestroy(self, executable: Any) -> Any:
        self.graphs -= 1
        return (OK,)

    def cudaGraphLaunch(self, executable: Any, stream: Any) -> Any:
        for work in executable:
            self.put(stream, work)
        return (OK,)

    def holds(self, address: int, size: int) -> bool:
        """Return whether these bytes are allocated on the device."""
        return any(0 <= address - start <= block.nbytes - size for start, block in self.memory.items())

    @staticmethod
    def _allocate(where: dict[int, np.ndarray], size: int) -> int:
        block = np.full(size, JUNK, np.uint8)
        where[block.ctypes.data] = block
        return block.ctypes.data


class FakeTensorRT:
    """`tensorrt_rtx` with a fake runtime; with `full` it lacks what only TensorRT-RTX has."""

    def __init__(self, gpu: FakeCuda, full: bool = False) -> None:
        self.gpu = gpu
        self.full = full
        self.verdicts: list[int] = []  # bits that the next calls of get_engine_validity give
        self.fail = ""  # what fails: "deserialize", "context", "bind", "execute", "kernel", "capture"
        self.runtime_cache = b"kernels"
        self.scratch = 4096
        self.live: list[str] = []  # the TensorRT objects that exist
        self.Runtime = partial(FakeRuntime if full else FakeRtxRuntime, self)

    def __getattr__(self, name: str) -> Any:
        if self.full and name in ("IRuntimeCache", "ComputeCapability"):
            raise AttributeError(name)
        return getattr(tensorrt_rtx, name)


class FakeRuntime:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        self.trt, self.logger = trt, logger

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        if self.trt.fail == "deserialize":
            self.logger.log(tensorrt_rtx.ILogger.ERROR, "no room\nfor the weights")
            return None
        digest = hashlib.sha256(plan).hexdigest()
        return FakePlanEngine(self.trt, self.logger, GRAPHS[digest], HALVED.get(digest, frozenset()))


class FakeRtxRuntime(FakeRuntime):
    def get_engine_validity(self, plan: bytes) -> Any:
        known = hashlib.sha256(plan).hexdigest() in GRAPHS
        bits = self.trt.verdicts.pop(0) if self.trt.verdicts else 0 if known else 32
        validity = tensorrt_rtx.EngineValidity
        return (validity.INVALID if bits else validity.VALID), bits


class FakePlanEngine:
    def __init__(
        self, trt: FakeTensorRT, logger: Any, graph: Path | bytes, halved: frozenset[str] = frozenset()
    ) -> None:
        self.halved = halved
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.trt, self.logger = trt, logger
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        self.shapes = {
            value.name: tuple(size if isinstance(size, int) else -1 for size in value.shape)
            for value in inputs + outputs
        }
        self.inputs, self.outputs = [v.name for v in inputs], [v.name for v in outputs]
        self.num_io_tensors = len(self.shapes)
        self.device_memory_size_v2 = trt.scratch

    def get_tensor_name(self, index: int) -> str:
        return list(self.shapes)[index]

    def get_tensor_shape(self, name: str) -> Any:
        return tensorrt_rtx.Dims(self.shapes[name])

    def get_device_memory_size_for_profile_v2(self, profile: int) -> int:
        return self.device_memory_size_v2 + profile

    def get_tensor_dtype(self, name: str) -> Any:
        return tensorrt_rtx.float16 if name in self.halved else tensorrt_rtx.float32

    def get_tensor_mode(self, name: str) -> Any:
        return tensorrt_rtx.TensorIOMode.INPUT if name in self.inputs else tensorrt_rtx.TensorIOMode.OUTPUT

    def create_runtime_config(self) -> Any:
        return FakeConfig(self.trt, self.logger)

    def create_execution_context(self, config: Any) -> Any:
        strategy = (
            config
            if isinstance(config, tensorrt_rtx.ExecutionContextAllocationStrategy)
            else (config.strategy)
        )
        assert strategy == tensorrt_rtx.ExecutionContextAllocationStrategy.USER_MANAGED
        return None if self.trt.fail == "context" else FakeContext(self)


class FakeConfig:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        self.trt, self.logger = trt, logger
        self.strategy: Any = None
        self.cache: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> Any:
        return FakeRuntimeCache(self.trt, self.logger)

    def set_runtime_cache(self, cache: Any) -> bool:
        self.cache = cache
        return True


class FakeRuntimeCache:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        self.trt, self.logger = trt, logger

    def deserialize(self, data: bytes) -> bool:
        if data != self.trt.runtime_cache:
            self.logger.log(tensorrt_rtx.ILogger.ERROR, "a runtime cache of another device")
            return False
        return True

    def serialize(self) -> bytes:
        return self.trt.runtime_cache


class FakeContext:
    def __init__(self, engine: FakePlanEngine) -> None:
        self.engine, self.trt = engine, engine.trt
        self.bound: dict[str, int] = {}
        self.scratch = (0, 0)
        self.profile = 0
        self.shapes = dict(engine.shapes)
        self.trt.live.append("context")

    def __del__(self) -> None:
        assert self.trt.gpu.streams, "outlives its stream"
        self.trt.live.remove("context")

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        assert not self.trt.gpu.recording, "a profile is chosen while recording"
        self.profile = profile
        return self.trt.fail != "profile"

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        number = AT_ONCE[self.profile]
        assert self.engine.shapes[name] == (-1, *shape[1:]) and shape[0] == number
        self.shapes = {n: (number, *s[1:]) if s[:1] == (-1,) else s for n, s in self.engine.shapes.items()}
        return True

    def set_device_memory(self, address: int, size: int) -> None:
        assert not self.trt.gpu.recording, "activations are moved while recording"
        self.scratch = (address, size)

    def is_stream_capturable(self, stream: int) -> bool:
        assert not self.trt.gpu.recording, "asked too late"
        return self.trt.fail != "capture"

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.bound[name] = address
        return self.trt.fail != "bind"

    def execute_async_v3(self, stream: int) -> bool:
        if self.trt.fail == "execute":
            self.engine.logger.log(tensorrt_rtx.ILogger.ERROR, "a kernel could not be compiled")
            return False
        self.trt.gpu.put(stream, partial(self._execute, dict(self.bound), *self.scratch))
        return True

    def _execute(self, bound: dict[str, int], address: int, size: int) -> Any:
        gpu = self.trt.gpu
        if self.trt.fail == "kernel":
            return real.cudaError_t.cudaErrorIllegalAddress
        assert size == self.engine.get_device_memory_size_for_profile_v2(self.profile)
        assert not size or gpu.holds(address, size)
        feeds = {name: self._array(name, bound).astype(np.float32) for name in self.engine.inputs}
        results = self.engine.session.run(self.engine.outputs, feeds)
        if size:
            ctypes.memset(address, JUNK, size)
        for name, result in zip(self.engine.outputs, results, strict=True):
            self._array(name, bound)[...] = result
        return None

    def _array(self, name: str, bound: dict[str, int]) -> np.ndarray:
        shape = self.shapes[name]
        dtype = np.dtype(np.float16 if name in self.engine.halved else np.float32)
        size = dtype.itemsize * int(np.prod(shape))
        assert self.trt.gpu.holds(bound[name], size), f"{name} is bound to memory that is not allocated"
        memory: Any = (ctypes.c_byte * size).from_address(bound[name])
        return np.frombuffer(memory, dtype).reshape(shape)


def install(monkeypatch: pytest.MonkeyPatch, full: bool = False) -> FakeTensorRT:
    """Give this process a GPU of compute capability 8.9, and TensorRT-RTX or TensorRT."""
    trt = FakeTensorRT(FakeCuda(), full)
    build = tensorrt.build

    def recording(
        module: Any, path: Path, progress: Any, flags: Any, form: Any, halved: Any
    ) -> tuple[bytes, BuildReport]:
        data, report = build(module, path, progress, flags, form, halved)
        digest = hashlib.sha256(data).hexdigest()
        GRAPHS[digest], HALVED[digest] = path, frozenset(halved)
        return data, report

    build_smallest = tensorrt.build_smallest

    def smallest(module: Any) -> bytes:
        data = build_smallest(module)
        GRAPHS[hashlib.sha256(data).hexdigest()] = graphs.negation_bytes(1)
        return data

    monkeypatch.setattr(cuda, "runtime", lambda: trt.gpu)
    monkeypatch.setattr(cuda, "has_driver", lambda: True)
    monkeypatch.setattr(tensorrt, "build", recording)
    monkeypatch.setattr(tensorrt, "build_smallest", smallest)
    module = "tensorrt" if full else "tensorrt_rtx"
    monkeypatch.setattr(
        tensorrt, "import_module", lambda name: trt if name == module else import_module(name)
    )
    return trt
