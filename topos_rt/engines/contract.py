"""The engine contract, and the checks that every backend shares."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from topos_rt.errors import InputError, OptionError, ToposError, choose

if TYPE_CHECKING:
    from topos_rt.flow.program import Evaluation
    from topos_rt.gpu.cuda import Stream
    from topos_rt.gpu.device_array import DeviceArray

Tensor: TypeAlias = npt.NDArray[Any]
Value: TypeAlias = "Tensor | DeviceArray"
MAX_THREADS = 1024

# What a bundle's graphs come in, and what that means for them.
PRECISIONS = {"fp16": "matrix products of FP16 operands, all else FP32", "fp32": "FP32 throughout"}

# Told the graph that is being built and how much of that is done, 0 to 1; returning False cancels it.
BuildCallback: TypeAlias = Callable[[str, float], object]


@dataclass(frozen=True)
class TensorSpec:
    """Static shape and element type of a graph's input or output."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


@dataclass(frozen=True)
class EngineOptions:
    """What may be chosen when an engine is loaded. Raises OptionError for a value out of range."""

    threads: int | None = None  # on the CPU; None: as many as there are usable cores
    # One of PRECISIONS, for the backends that offer a choice; None: FP16 where the bundle has it.
    precision: str | None = None
    cache: Path | None = None  # where built engines are kept; None: see `topos_rt.engines.cache`
    known: Mapping[Path, str] = field(default_factory=dict)  # SHA-256 of files that were verified already
    progress: BuildCallback | None = None
    workspace: Any = None  # from `BackendModule.workspace`; None: the engine shares nothing

    def __post_init__(self) -> None:
        if self.precision is not None:
            choose(self.precision, PRECISIONS, "precision")
        if self.threads is None:
            return
        if type(self.threads) is not int or not 1 <= self.threads <= MAX_THREADS:
            raise OptionError(
                "threads", got=repr(self.threads), expected=f"a whole number from 1 to {MAX_THREADS}"
            )


@dataclass(frozen=True)
class Probe:
    """Whether a backend works on this machine."""

    detail: str  # version and device, or why not; one line
    error: ToposError | None = None  # what asking for this backend raises, None where it works


class Engine(Protocol):
    """One loaded graph.

    An engine is not asked to be safe to run from several threads at once; `topos_rt.model.networks` sees to
    that.
    """

    @property
    def inputs(self) -> Mapping[str, TensorSpec]: ...

    @property
    def outputs(self) -> Mapping[str, TensorSpec]: ...

    def run(
        self, feeds: Mapping[str, Value], out: Mapping[str, Tensor] | None = None, keep: Collection[str] = ()
    ) -> dict[str, Any]:
        """Run the graph once and wait for it.

        Args:
            feeds: one array for each input, of exactly its shape and dtype; not changed. On a GPU also what
                an engine on the same GPU kept there.
            out: arrays, C-contiguous and writable, that take the outputs of their names; any subset. They may
                be among `feeds`.
            keep: outputs that may stay where they were computed, to be fed to another engine.

        Returns:
            Every output by name: the array given in `out`, else a new one that no later call touches. What is
            kept on a GPU is a `DeviceArray`, all else NumPy's.

        Raises:
            InputError: a name, shape or dtype is wrong, or the engine is closed.
            BackendError: the engine failed.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds. May be called again."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class DeviceTimes:
    """One run of an engine on a device, in milliseconds: of the host's clock, then of the device's events."""

    enqueue: float  # to hand the graph over
    to_device: float
    compute: float
    to_host: float


@runtime_checkable
class Traced(Protocol):
    """An engine on a device that can tell what its runs spend their time on."""

    def trace(self, sink: Callable[[DeviceTimes], object] | None) -> None:
        """Call `sink` after every run that follows; None ends that. Untraced runs pay nothing for it."""
        ...


@runtime_checkable
class Enqueued(Engine, Protocol):
    """An engine on a device that others put to work there, in a CUDA graph for one."""

    @property
    def recordable(self) -> bool:
        """Whether a run, of what is bound now, may be recorded into a CUDA graph."""
        ...

    def enqueue(self, arrays: Mapping[str, DeviceArray], stream: Stream) -> None:
        """Put a run on a stream and do not wait for it; may be recorded into a CUDA graph.

        arrays: all inputs and outputs, on the GPU; they stay in use until the stream is waited for. What is
        recorded holds until the engine is closed. Raises BackendError, CudaError.
        """
        ...


class FlowLoop(Protocol):
    """The context, all steps of a sampler and the decoder as one piece of work on a device."""

    def run(self, tokens: Value, start: Tensor) -> Tensor:
        """Condition tokens [1,T,C] and noise [1,N,D] -> vertices [1,V,6]. Raises BackendError."""
        ...

    def close(self) -> None:
        """Give back what it holds, before the engines. May be called again."""
        ...


# Engines of all graphs, a program and the modulation at each of its times -> what goes through it.
Recorder: TypeAlias = "Callable[[Mapping[str, Any], Sequence[Evaluation], Mapping[float, Value]], FlowLoop]"


class BackendModule(Protocol):
    """What a backend offers."""

    @property
    def flow_loop(self) -> Recorder | None:
        """Makes a `FlowLoop`; None where there is no device. Raises BackendError, InputError."""
        ...

    @property
    def PRECISIONS(self) -> tuple[str, ...]:
        """Of the graphs that it runs, the one it runs best first."""
        ...

    def probe(self) -> Probe:
        """Find out, without loading a model, whether the backend works here. Raises nothing."""
        ...

    def requirements(self, path: Path, options: EngineOptions) -> Mapping[str, int]:
        """Bytes on the device by kind, before anything is loaded there; empty without a device of its own.

        Raises what `load` does.
        """
        ...

    def workspace(self) -> AbstractContextManager[Any]:
        """What the engines of one pipeline may share, whose runs take turns; closed after them."""
        ...

    def load(self, path: Path, options: EngineOptions) -> Engine:
        """Load an ONNX file, with its weights beside it.

        Raises:
            BundleError: the file is no graph that this backend can load.
            BackendError: the backend itself fails.
        """
        ...


def check_feeds(
    inputs: Mapping[str, TensorSpec], feeds: Mapping[str, Value], device: int | None = None
) -> None:
    """Raise InputError unless `feeds` are exactly the inputs of an engine; arrays on `device` are welcome."""
    missing = [name for name in inputs if name not in feeds]
    if missing:
        raise InputError(f"engine input {missing[0]!r}", got="nothing", expected=inputs[missing[0]])
    for name, array in feeds.items():
        _check("input", name, array, inputs, device)


def check_out(
    outputs: Mapping[str, TensorSpec], out: Mapping[str, Tensor], keep: Collection[str] = ()
) -> None:
    """Raise InputError unless arrays of `out` can take their outputs, and `keep` names others."""
    for name in keep:
        if name not in outputs or name in out:
            others = [other for other in outputs if other not in out]
            raise InputError("engine output to keep", got=repr(name), expected=f"one of: {', '.join(others)}")
    for name, array in out.items():
        _check("output", name, array, outputs)
        if not (array.flags.c_contiguous and array.flags.writeable):
            raise InputError(
                f"engine output {name!r}",
                got="a strided or read-only array",
                expected="a C-contiguous, writable array",
            )


def _check(
    kind: str, name: str, array: Value, specs: Mapping[str, TensorSpec], device: int | None = None
) -> None:
    if name not in specs:
        raise InputError(f"engine {kind}", got=repr(name), expected=f"one of: {', '.join(specs)}")
    spec = specs[name]
    # NumPy 2 says "cpu" of its own arrays
    here = isinstance(array, np.ndarray) or (device is not None and getattr(array, "device", None) == device)
    if not here:
        place = f" on GPU {array.device}" if hasattr(array, "device") else ""
        raise InputError(
            f"engine {kind} {name!r}",
            got=f"{type(array).__name__}{place}",
            expected=f"a NumPy array, {spec}" if device is None else f"an array, here or on GPU {device}",
        )
    if array.shape != spec.shape or array.dtype != spec.dtype:
        found = TensorSpec(array.shape, array.dtype)
        raise InputError(f"engine {kind} {name!r}", got=found, expected=spec)
