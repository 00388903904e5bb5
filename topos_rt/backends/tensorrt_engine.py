"""Runs a TensorRT plan on the GPU: arrays in, arrays out, one stream, all memory our own."""

from __future__ import annotations

import hashlib
import sys
import weakref
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from topos_rt.backends import cuda
from topos_rt.backends.base import Tensor, TensorSpec, check_feeds, check_out
from topos_rt.backends.engine_cache import warn
from topos_rt.backends.tensorrt_build import Messages
from topos_rt.errors import BackendError, InputError, OutputError
from topos_rt.files import write_atomic

_STAGED_BYTES = 8 << 20  # what is larger is copied from and to the caller's array, without a pinned copy
_CPU = "use the backend onnxruntime"

# Bits of EngineInvalidityDiagnostics -> what they mean, and the remedy.
VALIDITY = {
    1: ("it was built by another version of TensorRT", "build it again"),
    2: ("it was not built for GPUs of this compute capability", _CPU),
    4: ("the NVIDIA driver is too old for it", "update the NVIDIA driver"),
    8: ("the CUDA runtime is too old for it", "update the NVIDIA driver and cuda-python"),
    16: ("the GPU has too little memory for it", f"close other programs that use the GPU, or {_CPU}"),
    32: ("it is damaged or no plan at all", "build it again"),
    64: ("CUDA does not work", "reinstall the NVIDIA driver, then restart"),
}
_STALE = 1 | 32


class PlanRefused(BackendError):
    """TensorRT does not take a plan; `stale` where building it again may help."""

    stale = False


class TensorRTEngine:
    """An `Engine` over one plan.

    A feed that is the same array as at the last run, owns its memory and is not writeable is on the GPU
    already, and not copied again: hold what stays the same from run to run in such arrays, and have no
    writeable views of them.

    What is dropped without `close` is closed then.
    """

    _context: Any = None  # also of one that was never made
    _ran = False

    def __init__(self, trt: Any, name: str, plan: bytes, runtime_cache: Path | None = None) -> None:
        """Load a plan onto the current GPU.

        Args:
            trt: the module, tensorrt_rtx or tensorrt.
            name: what errors call the engine.
            runtime_cache: file of the kernels that TensorRT-RTX compiles on first use; written after the
                first run, and on close where there are new ones.

        Raises:
            PlanRefused: TensorRT does not take the plan here.
            BackendError: CUDA fails, for want of memory for example.
        """
        self._name = name
        self._messages = Messages(trt)
        # On failure `made` goes before what it uses; later close() sees to that. A callback of ours in what
        # we hold would be a cycle: a dropped engine's GPU memory would wait for Python to look for such.
        with ExitStack() as held, ExitStack() as made:
            try:
                self._device = cuda.current_device().ordinal
                self._runtime = trt.Runtime(self._messages.logger)
                self._engine = _deserialize(self._runtime, name, plan, self._messages)
                self.inputs, self.outputs = _specs(trt, self._engine)
                self._stream = held.enter_context(cuda.Stream())
                specs = {**self.inputs, **self.outputs}
                self._buffers = {key: _allocate(held, spec) for key, spec in specs.items()}
                self._staging = {
                    key: held.enter_context(cuda.Pinned(spec)).array
                    for key, spec in specs.items()
                    if spec_bytes(spec) <= _STAGED_BYTES
                }
                need = int(self._engine.device_memory_size_v2)
                arena = held.enter_context(cuda.Memory(need))
            except cuda.CudaError as error:
                raise self._failed("load", error) from error
            self._jit = _RuntimeCache(trt, self._engine, runtime_cache)
            made.callback(self._drop)
            self._messages.errors()  # what it says of kernels that are not its own
            self._context = self._jit.create_context()
            if self._context is None:
                raise BackendError(f"TensorRT could not load {name}", got=self._messages.errors(), fix=_CPU)
            self._context.set_device_memory(arena.address, need)
            for key, memory in self._buffers.items():
                if not self._context.set_tensor_address(key, memory):
                    raise BackendError(f"TensorRT could not bind {key!r} of {name}",
                                       got=self._messages.errors())  # fmt: skip
            self._resident: dict[str, weakref.ref[Tensor]] = {}
            made.pop_all()
            self._held = held.pop_all()

    def run(self, feeds: Mapping[str, Tensor], out: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """See `Engine.run`."""
        if self._context is None:
            raise InputError(f"engine {self._name}", got="a call after close()", expected="an open engine")
        check_feeds(self.inputs, feeds)
        check_out(self.outputs, out or {})
        try:
            with cuda.on_device(self._device):
                return self._run(feeds, out or {})
        except cuda.CudaError as error:
            self._resident.clear()
            # Copies in flight read and write arrays that are gone once this error is.
            with suppress(cuda.CudaError):
                self._stream.synchronize()
            raise self._failed("run", error) from error

    def _run(self, feeds: Mapping[str, Tensor], out: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # Both hold what copies in flight read and write.
        sources = [self._upload(name, array) for name, array in feeds.items()]
        if not self._context.execute_async_v3(self._stream.handle):
            self._stream.synchronize()
            raise BackendError(f"TensorRT failed in {self._name}", got=self._messages.errors(), fix=_CPU)
        results, targets = {}, {}
        for name, spec in self.outputs.items():
            results[name] = out[name] if name in out else np.empty(spec.shape, spec.dtype)
            targets[name] = self._staging.get(name, results[name])
            self._stream.to_host(targets[name], self._buffers[name])
        self._stream.synchronize()
        del sources
        for name, array in self._staging.items():
            if name in results:
                np.copyto(results[name], array)
        if not self._ran:
            self._ran = True
            self._jit.save()  # now, as many programs are ended and never close anything
        return results

    def _upload(self, name: str, array: Tensor) -> Tensor:
        kept = self._resident.get(name)
        fixed = not array.flags.writeable and array.base is None
        if fixed and kept is not None and kept() is array:
            return array
        self._resident.pop(name, None)
        if name in self._staging:
            source = self._staging[name]
            np.copyto(source, array)
        else:
            source = np.ascontiguousarray(array)
        self._stream.to_device(self._buffers[name], source)
        if fixed:
            self._resident[name] = weakref.ref(array)
        return source

    def close(self) -> None:
        """Write the runtime cache and give back all memory."""
        if self._context is None:
            return
        # Where CUDA has failed for good there is nothing left to give back, and nobody to tell.
        with suppress(cuda.CudaError), self._held, ExitStack() as made:
            made.callback(self._drop)
            made.enter_context(cuda.on_device(self._device))
            self._jit.save()
            self._drop()

    def _drop(self) -> None:
        # Each before what it was made from, and all before the memory they use.
        self._context = None
        self._jit.close()
        self._engine = None
        self._runtime = None
        self._staging.clear()

    def __del__(self) -> None:
        if not sys.is_finalizing():  # then the system takes all back, and CUDA may be gone
            self.close()

    def __enter__(self) -> TensorRTEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _failed(self, what: str, error: cuda.CudaError) -> BackendError:
        fix = _CPU
        if error.name == cuda.OUT_OF_MEMORY:
            fix = f"close other programs that use the GPU, or {_CPU}"
        told = self._messages.errors()
        return BackendError(
            f"TensorRT could not {what} {self._name}", got=f"{error} | {told}" if told else error, fix=fix
        )


class _RuntimeCache:
    """TensorRT-RTX's cache of compiled kernels; with TensorRT, nothing."""

    def __init__(self, trt: Any, engine: Any, path: Path | None) -> None:
        self._strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._engine, self._path = engine, path
        self._config: Any = None
        self._cache: Any = None
        self._kept = ""  # digest of what lies in the file
        if not hasattr(trt, "IRuntimeCache"):
            return
        self._config = engine.create_runtime_config()
        self._config.set_execution_context_allocation_strategy(self._strategy)
        self._cache = self._config.create_runtime_cache()
        self._load()
        self._config.set_runtime_cache(self._cache)

    def create_context(self) -> Any:
        """An execution context whose activations lie where we say."""
        return self._engine.create_execution_context(self._strategy if self._config is None else self._config)

    def save(self) -> None:
        """Write what was compiled, where that is new."""
        if self._cache is None or self._path is None:
            return
        data = bytes(self._cache.serialize() or b"")
        digest = _digest(data)
        if not data or digest == self._kept:
            return
        self._kept = digest  # or told of, once
        try:
            write_atomic(self._path, data)
        except OutputError as error:
            warn(f"the compiled kernels are not kept: {error}")

    def close(self) -> None:
        """Let go of it, after the context that uses it."""
        self._config = None
        self._cache = None
        self._engine = None

    def _load(self) -> None:
        if self._path is None:
            return
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            warn(f"the compiled kernels in {self._path} cannot be read: {error.strerror}")
            return
        if self._cache.deserialize(data):
            self._kept = _digest(data)
        else:
            warn(
                f"the compiled kernels in {self._path} are of another GPU, driver or version, or damaged; "
                "the first run compiles them anew"
            )


def spec_bytes(spec: TensorSpec) -> int:
    """Size of a tensor."""
    return int(np.prod(spec.shape, dtype=np.int64)) * spec.dtype.itemsize


def _allocate(held: ExitStack, spec: TensorSpec) -> int:
    memory: cuda.Memory = held.enter_context(cuda.Memory(spec_bytes(spec)))
    return memory.address


def _deserialize(runtime: Any, name: str, plan: bytes, messages: Messages) -> Any:
    if hasattr(runtime, "get_engine_validity"):
        verdict, bits = runtime.get_engine_validity(plan)
        if verdict.name == "INVALID":
            raise _refused(name, int(bits), messages.errors())
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise _refused(name, 0, messages.errors())
    return engine


def _refused(name: str, bits: int, told: str | None) -> PlanRefused:
    meanings = [meaning for bit, meaning in VALIDITY.items() if bits & bit]
    reasons = [reason for reason, _ in meanings] or ["no reason given"]
    fix = meanings[0][1] if meanings else _CPU
    got = told if told and not bits else ", ".join(reasons)
    error = PlanRefused(f"TensorRT refuses the engine of {name}", got=got, fix=fix)
    error.stale = bool(bits & _STALE) and not bits & ~_STALE
    return error


def _specs(trt: Any, engine: Any) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    sides: dict[Any, dict[str, TensorSpec]] = {trt.TensorIOMode.INPUT: {}, trt.TensorIOMode.OUTPUT: {}}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
        sides[engine.get_tensor_mode(name)][name] = TensorSpec(tuple(engine.get_tensor_shape(name)), dtype)
    return sides[trt.TensorIOMode.INPUT], sides[trt.TensorIOMode.OUTPUT]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
