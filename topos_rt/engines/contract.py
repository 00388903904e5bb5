"""The contract between the runtime and its inference engines, and the checks that every backend shares.

A graph in this room is an ONNX graph of a model bundle; an engine is one such graph, loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from topos_rt.errors import InputError, OptionError, ToposError, choose
from topos_rt.gpu.cuda import Stream
from topos_rt.gpu.device_array import DeviceArray
from topos_rt.support.arrays import Array, TensorSpec

Value: TypeAlias = Array | DeviceArray
MAX_THREADS = 1024
BATCH = "batch"  # what ONNX graphs call the first size of tensors, where they take several heads at once
AT_ONCE = (
    8,
    4,
    2,
)  # for how many heads at once such graphs are built and loaded; any number is a sum of some


@dataclass(frozen=True)
class Precision:
    """What engines compute in."""

    meaning: str  # for the graphs of a bundle
    form: str  # "fp16" or "fp32": which form of the graphs engines are made of


# What engines of 8 bits cost in accuracy: docs/backends.md.
PRECISIONS = {
    "fp16": Precision("matrix products of FP16 operands, all else FP32", "fp16"),
    "fp32": Precision("FP32 throughout", "fp32"),
    "int8": Precision("linear layers of the DiT's step in INT8, all else as fp16", "fp16"),
    "fp8": Precision("the same in FP8 (E4M3)", "fp16"),
}

FORMS = tuple(dict.fromkeys(precision.form for precision in PRECISIONS.values()))

# Receives the graph that is being built and the share done, 0 to 1. Returning False cancels the build.
BuildCallback: TypeAlias = Callable[[str, float], object]


@dataclass(frozen=True)
class EngineOptions:
    """How an engine is loaded. Raises OptionError for a value out of range."""

    threads: int | None = None  # on the CPU; None: as many as there are usable cores
    # One of PRECISIONS, for the backends that offer a choice; None: FP16 where the bundle has it.
    precision: str | None = None
    cache: Path | None = None  # where built engines are kept; None: see `topos_rt.engines.cache`
    weights: tuple[Path, ...] = ()  # the files that hold the graph's weights
    hashes: Mapping[Path, str] = field(default_factory=dict)  # SHA-256 of files, already verified
    progress: BuildCallback | None = None
    # Inputs and outputs that the graph casts to or from FP16 itself: a backend may have them FP16 outright.
    halved: frozenset[str] = frozenset()
    workspace: Any = None  # from `Backend.workspace`; None: the engine shares nothing
    defer: bool = False  # whether a graph that opens quickly may be opened at its first run
    busy: bool = False  # whether much of a head's time goes to this graph, and threads may spin for it

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
    error: ToposError | None = None  # what asking for this backend raises; None where it works


class Engine(Protocol):
    """One loaded graph.

    An engine need not be safe to run from several threads at once: `topos_rt.model.networks` takes turns.
    """

    @property
    def inputs(self) -> Mapping[str, TensorSpec]: ...

    @property
    def outputs(self) -> Mapping[str, TensorSpec]: ...

    def run(
        self, feeds: Mapping[str, Value], out: Mapping[str, Array] | None = None, keep: Collection[str] = ()
    ) -> dict[str, Any]:
        """Run the graph once and wait for it.

        Args:
            feeds: one array for each input, of exactly its shape and dtype; not changed. On a GPU these may
                be arrays that an engine on the same GPU kept there.
            out: arrays, C-contiguous and writable, that take the outputs of their names; any subset. They may
                be among `feeds`.
            keep: outputs that may stay where they were computed, to be fed to another engine.

        Returns:
            Every output by name: the array given in `out`, else a new one that no later call touches. An
            output kept on a GPU is a `DeviceArray`, every other one a NumPy array.

        Raises:
            InputError: a name, shape or dtype is wrong, or the engine is closed.
            BackendError: the engine failed.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds. May be called again."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class DeviceTimes:
    """Milliseconds of one run of an engine on a device: `enqueue` by the host's clock, the rest by events."""

    enqueue: float  # to hand the graph over
    to_device: float
    compute: float
    to_host: float


@runtime_checkable
class Traced(Protocol):
    """An engine on a device that can say where the time of its runs goes."""

    def trace(self, sink: Callable[[DeviceTimes], object] | None) -> None:
        """Call `sink` after every run that follows; None ends that. Untraced runs pay nothing for it."""
        ...


@runtime_checkable
class Enqueued(Engine, Protocol):
    """An engine on a GPU whose runs others can put on a stream, to record them into a CUDA graph for one."""

    @property
    def recordable(self) -> bool:
        """Whether a run of what is bound now may be recorded into a CUDA graph."""
        ...

    def enqueue(self, arrays: Mapping[str, DeviceArray], stream: Stream) -> None:
        """Put a run on a stream and do not wait for it; the run may be recorded into a CUDA graph.

        arrays: all inputs and outputs, on the GPU; they stay in use until the stream is waited for. A
        recording is valid until the engine is closed. Raises BackendError, CudaError.
        """
        ...


class Workspace(Protocol):
    """Memory and stream that the engines of one pipeline share on a GPU, since their runs take turns."""

    @property
    def device(self) -> int: ...

    @property
    def stream(self) -> Stream: ...


class Backend(Protocol):
    """One inference library. The code above asks for these properties and never for the backend's name."""

    @property
    def on_device(self) -> bool:
        """Whether engines run on a GPU: outputs can stay there, and runs can be enqueued and recorded."""
        ...

    @property
    def builds(self) -> bool:
        """Whether engines are built before they are loaded, and kept in a cache on disk."""
        ...

    @property
    def gains_at_once(self) -> bool:
        """Whether several heads at once take less time for each than one after another."""
        ...

    @property
    def precisions(self) -> tuple[str, ...]:
        """The keys of PRECISIONS that it offers. The first whose form a bundle has is the default."""
        ...

    def probe(self) -> Probe:
        """Find out, without loading a model, whether the backend works here. Raises nothing."""
        ...

    def requirements(self, path: Path, options: EngineOptions) -> Mapping[str, int]:
        """Return bytes on the device by kind before anything is loaded there; empty for a CPU backend.

        Raises the errors of `load`.
        """
        ...

    def workspace(self) -> AbstractContextManager[Any]:
        """Return what the engines of one pipeline share, since their runs take turns; closed after them."""
        ...

    def load(self, path: Path, options: EngineOptions) -> Engine:
        """Load an ONNX file, with its weights beside it.

        Raises:
            BundleError: the file is no graph that this backend can load.
            BackendError: the backend itself fails.
        """
        ...

    def load_at_once(self, path: Path, options: EngineOptions, numbers: Sequence[int]) -> dict[int, Engine]:
        """Load an ONNX file whose tensors have an open first size, BATCH; raise the errors of `load`.

        Return an engine for each of some numbers of AT_ONCE, in which that number is the size. The engines
        share what they can, and are closed one by one.
        """
        ...


def check_feeds(
    inputs: Mapping[str, TensorSpec], feeds: Mapping[str, Value], device: int | None = None
) -> None:
    """Raise InputError unless `feeds` are exactly the inputs of an engine; arrays on `device` are allowed."""
    missing = [name for name in inputs if name not in feeds]
    if missing:
        raise InputError(f"engine input {missing[0]!r}", got="nothing", expected=inputs[missing[0]])
    for name, array in feeds.items():
        _check("input", name, array, inputs, device)


def check_out(
    outputs: Mapping[str, TensorSpec], out: Mapping[str, Array], keep: Collection[str] = ()
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
    # NumPy 2 arrays have a `device` too: "cpu".
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
