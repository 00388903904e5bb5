"""Loads TensorRT plans: whether one may run here, its inputs and outputs, its compiled kernels."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.engines.cache import warn
from topos_rt.engines.tensorrt.build import OPEN, Messages
from topos_rt.engines.trust import Untrusted, read_signed, write_signed
from topos_rt.errors import BackendError, OutputError
from topos_rt.support.arrays import TensorSpec

CPU = "use the backend onnxruntime"

# Bits of EngineInvalidityDiagnostics -> what they mean, and the remedy.
VALIDITY = {
    1: ("it was built by another version of TensorRT", "build it again"),
    2: ("it was not built for GPUs of this compute capability", CPU),
    4: ("the NVIDIA driver is too old for it", "update the NVIDIA driver"),
    8: ("the CUDA runtime is too old for it", "update the NVIDIA driver and cuda-python"),
    16: ("the GPU has too little memory for it", f"close other programs that use the GPU, or {CPU}"),
    32: ("it is damaged or no plan at all", "build it again"),
    64: ("CUDA does not work", "reinstall the NVIDIA driver, then restart"),
}
_STALE = 1 | 32
_CAPABILITY = 2


class PlanRefused(BackendError):
    """TensorRT refuses a plan; `stale` says whether building it again may help."""

    stale = False


class RuntimeCache:
    """TensorRT-RTX's cache of compiled kernels. With TensorRT it does nothing."""

    def __init__(self, trt: Any, engine: Any, path: Path | None) -> None:
        self._strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._engine, self._path = engine, path
        self._config: Any = None
        self._cache: Any = None
        self._kept = ""  # hash of what is on disk, or could not be written there
        if not hasattr(trt, "IRuntimeCache"):
            return
        self._config = engine.create_runtime_config()
        self._config.set_execution_context_allocation_strategy(self._strategy)
        self._cache = self._config.create_runtime_cache()
        self._load()
        self._config.set_runtime_cache(self._cache)

    def create_context(self) -> Any:
        """Return an execution context whose activations are in memory that we provide."""
        return self._engine.create_execution_context(self._strategy if self._config is None else self._config)

    def save(self) -> None:
        """Write the compiled kernels, if there are new ones."""
        if self._cache is None or self._path is None:
            return
        data = bytes(self._cache.serialize() or b"")
        digest = _digest(data)
        if not data or digest == self._kept:
            return
        self._kept = digest  # even if the write fails, so that the warning comes once
        try:
            write_signed(self._path, data)
        except OutputError as error:
            warn(f"the compiled kernels are not kept: {error}")

    def close(self) -> None:
        """Release the cache; release the context that uses it first."""
        self._config = None
        self._cache = None
        self._engine = None

    def _load(self) -> None:
        if self._path is None:
            return
        try:
            data = read_signed(self._path)
        except FileNotFoundError:
            return
        except OSError as error:
            warn(f"the compiled kernels in {self._path} cannot be read: {error.strerror}")
            return
        except Untrusted as error:
            warn(f"the compiled kernels in {self._path} are not used: {error}; they are compiled anew")
            return
        if self._cache.deserialize(data):
            self._kept = _digest(data)
        else:
            warn(
                f"the compiled kernels in {self._path} are of another GPU, driver or version, or damaged; "
                "the first run compiles them anew"
            )


class LoadedPlan:
    """A plan in memory, with its weights, which one engine runs, or one for each number of heads."""

    def __init__(self, trt: Any, name: str, data: bytes, kernels: Path | None, messages: Messages) -> None:
        """Load it. `kernels` is the file of TensorRT-RTX's cache. Raises PlanRefused."""
        self._messages = messages
        self._runtime = trt.Runtime(messages.logger)
        self.engine = deserialize(self._runtime, name, data, messages)
        self.jit = RuntimeCache(trt, self.engine, kernels)
        self._users = 0

    def use(self) -> None:
        """Count one engine more."""
        self._users += 1

    def release(self) -> None:
        """Free it where the last engine has let go of it."""
        self._users -= 1
        if self._users == 0:
            self.jit.close()
            self.engine = None
            self._runtime = None


def deserialize(runtime: Any, name: str, plan: bytes, messages: Messages) -> Any:
    """Return the engine of a plan. Raises PlanRefused.

    The verdict that a plan is not for this compute capability is not final: on an H100, TensorRT-RTX 1.6.1
    gives it for every plan, yet loads the plan and computes correct results.
    """
    bits = 0
    if hasattr(runtime, "get_engine_validity"):
        verdict, bits = runtime.get_engine_validity(plan)
        if verdict.name == "INVALID" and int(bits) != _CAPABILITY:
            raise _refused(name, int(bits), messages.errors())
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise _refused(name, int(bits), messages.errors())
    return engine


def _refused(name: str, bits: int, told: str | None) -> PlanRefused:
    meanings = [meaning for bit, meaning in VALIDITY.items() if bits & bit]
    reasons = [reason for reason, _ in meanings] or ["no reason given"]
    fix = meanings[0][1] if meanings else CPU
    got = told if told and not bits else ", ".join(reasons)
    error = PlanRefused(f"TensorRT refuses the engine of {name}", got=got, fix=fix)
    error.stale = bool(bits & _STALE) and not bits & ~_STALE
    return error


def specs(
    trt: Any, engine: Any, number: int | None = None
) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Return the inputs and the outputs of an engine, for a number of heads where it leaves that open."""
    sides: dict[Any, dict[str, TensorSpec]] = {trt.TensorIOMode.INPUT: {}, trt.TensorIOMode.OUTPUT: {}}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
        shape = tuple(engine.get_tensor_shape(name))
        if number is not None and shape[:1] == (OPEN,):
            shape = (number, *shape[1:])
        sides[engine.get_tensor_mode(name)][name] = TensorSpec(shape, dtype)
    return sides[trt.TensorIOMode.INPUT], sides[trt.TensorIOMode.OUTPUT]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
