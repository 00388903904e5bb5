"""Runs a TensorRT plan on the GPU: arrays in, arrays out, on one stream, in memory that we allocate."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.engines.contract import AT_ONCE, DeviceTimes, Value, check_feeds, check_out
from topos_rt.engines.tensorrt.build import Messages
from topos_rt.engines.tensorrt.memory import Pool, Spans, Workspace
from topos_rt.engines.tensorrt.plan import CPU, LoadedPlan, specs
from topos_rt.errors import BackendError, InputError
from topos_rt.gpu import cuda
from topos_rt.gpu.device_array import DeviceArray
from topos_rt.support.arrays import Array
from topos_rt.support.closing import Closing

_STAGED_BYTES = 8 << 20  # larger arrays are copied from and to the caller's array, without a pinned copy


class TensorRTEngine(Closing):
    """An `Engine` over one plan.

    An engine that is dropped without `close` closes itself.
    """

    _context: Any = None  # also where `__init__` failed
    _ran = False

    def __init__(
        self,
        trt: Any,
        name: str,
        plan: bytes | LoadedPlan,
        runtime_cache: Path | None = None,
        workspace: Workspace | None = None,
        number: int | None = None,
    ) -> None:
        """Load a plan onto the GPU of the workspace.

        Args:
            trt: the module, tensorrt_rtx or tensorrt.
            name: what errors call the engine.
            runtime_cache: file of the kernels that TensorRT-RTX compiles at first use; written after the
                first run, and on close where there are new ones.
            workspace: what it shares with other engines; None makes a new one on the current GPU.
            number: one of AT_ONCE, for a plan that was built for these numbers of heads.

        Raises:
            PlanRefused: TensorRT does not take the plan here.
            BackendError: CUDA fails, for example because memory runs out.
        """
        self._name = name
        self._messages = Messages(trt)
        # On failure `made` is closed before what it uses; afterwards close() keeps that order. A callback of
        # ours in `_held` would be a reference cycle: the GPU memory of a dropped engine would stay allocated
        # until the garbage collector ran.
        with ExitStack() as held, ExitStack() as made:
            try:
                self._workspace = workspace or held.enter_context(Workspace())
                with cuda.on_device(self._workspace.device):
                    self._load(trt, plan, runtime_cache, number, made)
            except cuda.CudaError as error:
                raise self._failed("load", error) from error
            made.pop_all()
            self._spans: Spans | None = None
            self._held = held.pop_all()

    def _load(
        self,
        trt: Any,
        plan: bytes | LoadedPlan,
        runtime_cache: Path | None,
        number: int | None,
        made: ExitStack,
    ) -> None:
        if isinstance(plan, bytes):
            plan = LoadedPlan(trt, self._name, plan, runtime_cache, self._messages)
        engine, self._jit = plan.engine, plan.jit
        self.inputs, self.outputs = specs(trt, engine, number)
        self._stream = self._workspace.stream
        self._specs = {**self.inputs, **self.outputs}
        self._bound: dict[str, int] = {}
        self._arena: int | None = None  # where the context has its activations
        self._buffers: dict[str, int] = {}
        self._staged: dict[str, Array | None] = {}
        self._pools: dict[str, Pool] = {}
        profile = None if number is None else AT_ONCE.index(number)
        self._activations = int(
            engine.device_memory_size_v2
            if profile is None
            else engine.get_device_memory_size_for_profile_v2(profile)
        )
        self._workspace.reserve(self._activations)  # now, since failing here is better than in the first run
        plan.use()
        self._plan: LoadedPlan | None = plan
        made.callback(self._drop)
        self._messages.errors()  # drops what it logged about cached kernels of another GPU or version
        self._context = self._jit.create_context()
        if self._context is None:
            raise BackendError(f"TensorRT could not load {self._name}", got=self._messages.errors(), fix=CPU)
        if profile is not None:
            self._settle(engine, profile)

    def _settle(self, engine: Any, profile: int) -> None:
        """Fix the open sizes of the context for good."""
        done = self._context.set_optimization_profile_async(profile, self._stream.handle)
        self._stream.synchronize()
        for name, spec in self.inputs.items():
            if tuple(engine.get_tensor_shape(name)) != spec.shape:
                done = done and self._context.set_input_shape(name, spec.shape)
        if not done:
            raise BackendError(f"TensorRT could not load {self._name}", got=self._messages.errors(), fix=CPU)

    def run(
        self, feeds: Mapping[str, Value], out: Mapping[str, Array] | None = None, keep: Collection[str] = ()
    ) -> dict[str, Value]:
        """See `Engine.run`. Outputs in `keep` stay on the GPU until they are dropped or the engine closes."""
        if self._context is None:
            raise InputError(f"engine {self._name}", got="a call after close()", expected="an open engine")
        check_feeds(self.inputs, feeds, self._workspace.device)
        check_out(self.outputs, out or {}, keep)
        try:
            with cuda.on_device(self._workspace.device):
                return self._run(feeds, out or {}, keep)
        except cuda.CudaError as error:
            # Copies in flight read and write arrays that are freed with this error.
            with suppress(cuda.CudaError):
                self._stream.synchronize()
            raise self._failed("run", error) from error

    def _run(
        self, feeds: Mapping[str, Value], out: Mapping[str, Array], keep: Collection[str]
    ) -> dict[str, Value]:
        mark = self._spans.begin() if self._spans else _no_mark
        mark()
        # These keep alive what copies in flight read and write.
        sources = [self._upload(name, value) for name, value in feeds.items()]
        results: dict[str, Value] = {}
        targets: dict[str, tuple[Array, Array]] = {}  # what is copied to, and what the caller gets
        for name, spec in self.outputs.items():
            if name in keep:
                kept = self._pools.setdefault(name, Pool(spec, self._workspace.device)).take()
                results[name] = kept
                self._bind(name, kept.address)
                continue
            given = out[name] if name in out else np.empty(spec.shape, spec.dtype)
            results[name], staged = given, self._staging(name)
            targets[name] = given if staged is None else staged, given
            self._bind(name, self._buffer(name))
        mark()
        try:
            self._execute(self._stream)
        except BackendError:
            self._stream.synchronize()  # copies in flight read arrays that are freed with this error
            raise
        mark()
        for name, (target, _) in targets.items():
            self._stream.to_host(target, self._buffer(name))
        mark()
        self._stream.synchronize()
        if self._spans:
            self._spans.tell()
        del sources
        for target, given in targets.values():
            if target is not given:
                np.copyto(given, target)
        if not self._ran:
            self._ran = True
            self._jit.save()  # now, since many programs exit without closing anything
        return results

    @property
    def workspace(self) -> Workspace:
        """The workspace that it runs in."""
        return self._workspace

    def enqueue(self, arrays: Mapping[str, DeviceArray], stream: cuda.Stream) -> None:
        """See `Enqueued.enqueue`. A recording is valid until another engine is loaded into the workspace."""
        for name, array in arrays.items():
            self._bind(name, array.address)
        self._execute(stream)

    @property
    def recordable(self) -> bool:
        """See `Enqueued.recordable`."""
        ask = getattr(self._context, "is_stream_capturable", None)  # only in TensorRT-RTX
        return ask is None or bool(ask(self._stream.handle))

    def _execute(self, stream: cuda.Stream) -> None:
        arena = self._workspace.reserve(self._activations)
        if arena != self._arena:  # once: not for every run, and not while a CUDA graph is recorded
            self._context.set_device_memory(arena, self._activations)
            self._arena = arena
        if not self._context.execute_async_v3(stream.handle):
            raise BackendError(f"TensorRT failed in {self._name}", got=self._messages.errors(), fix=CPU)

    def _upload(self, name: str, value: Value) -> Value:
        """Bind an input to an array on the GPU, or start to copy it there. Returns what must stay alive."""
        if isinstance(value, DeviceArray):
            self._bind(name, value.address)
            return value
        source = self._staging(name)
        if source is None:
            source = np.ascontiguousarray(value)
        else:
            np.copyto(source, value)
        self._bind(name, self._buffer(name))
        self._stream.to_device(self._buffer(name), source)
        return source

    def _bind(self, name: str, address: int) -> None:
        if self._bound.get(name) == address:
            return
        if not self._context.set_tensor_address(name, address):
            raise BackendError(
                f"TensorRT could not bind {name!r} of {self._name}", got=self._messages.errors()
            )
        self._bound[name] = address

    def _buffer(self, name: str) -> int:
        """Return the address of an input or output that is copied from or to the host; allocate it once."""
        if name not in self._buffers:
            memory = cuda.Memory(self._specs[name].nbytes)
            self._buffers[name] = self._held.enter_context(memory).address
        return self._buffers[name]

    def _staging(self, name: str) -> Array | None:
        """Return the pinned host copy of an input or output, or None where it is too large for one."""
        if name not in self._staged:
            spec = self._specs[name]
            small = spec.nbytes <= _STAGED_BYTES
            self._staged[name] = self._held.enter_context(cuda.Pinned(spec)).array if small else None
        return self._staged[name]

    def trace(self, sink: Callable[[DeviceTimes], object] | None) -> None:
        """See `Traced.trace`."""
        if self._context is None:
            return
        with cuda.on_device(self._workspace.device):
            if self._spans is not None:
                spans, self._spans = self._spans, None
                spans.close()
            if sink is not None:
                self._spans = Spans(self._stream, sink)

    def close(self) -> None:
        """Write the runtime cache and free all memory."""
        if self._context is None:
            return
        # After a fatal CUDA error there is nothing left to free, and nobody to report it to.
        with suppress(cuda.CudaError):
            self.trace(None)
        with suppress(cuda.CudaError), self._held, ExitStack() as made:
            made.callback(self._drop)
            made.enter_context(cuda.on_device(self._workspace.device))
            self._jit.save()
            self._drop()

    def _drop(self) -> None:
        # Each is freed before what it was made from, and all before the memory that they use.
        self._context = None
        plan, self._plan = self._plan, None
        if plan is not None:
            plan.release()
        self._staged.clear()
        for pool in self._pools.values():
            pool.close()

    def __del__(self) -> None:
        if not sys.is_finalizing():  # at exit the system frees everything, and CUDA may be gone
            self.close()

    def _failed(self, what: str, error: cuda.CudaError) -> BackendError:
        fix = CPU
        if error.name == cuda.OUT_OF_MEMORY:
            fix = f"close other programs that use the GPU, or {CPU}"
        told = self._messages.errors()
        return BackendError(
            f"TensorRT could not {what} {self._name}", got=f"{error} | {told}" if told else error, fix=fix
        )


def _no_mark() -> None:
    """Mark nothing: the engine is not traced."""
