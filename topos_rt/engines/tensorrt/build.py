"""Builds a TensorRT plan from an ONNX file. With TensorRT-RTX this needs neither a GPU nor a driver."""

from __future__ import annotations

import functools
import math
import re
import signal
import socket
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from topos_rt.engines.cache import BuildReport
from topos_rt.engines.contract import AT_ONCE, BuildCallback
from topos_rt.engines.tensorrt.boundary import halve
from topos_rt.engines.tensorrt.eightbit import EightBit, check_built, quantise
from topos_rt.engines.tensorrt.layers import HEADING, BuiltLayer, built_layers
from topos_rt.errors import BackendError, BundleError, Cancelled, one_line
from topos_rt.support.progress import cancels

Listed: TypeAlias = Callable[[list[BuiltLayer]], object]
_PRODUCTS = {"MATRIX_MULTIPLY", "CONVOLUTION", "DECONVOLUTION", "EINSUM", "ATTENTION_INPUT"}
_UNCOUNTED = {"CONSTANT", "QUANTIZE", "DEQUANTIZE"}
_PASSING = {"CAST", "SHUFFLE", "SQUEEZE", "UNSQUEEZE", "IDENTITY"}  # the numbers stay as they are
_FLOATS = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16"}
_MEMORY = re.compile(r"Total (Weights|Activation) Memory: (\d+) bytes")
_KINDS = {"Weights": "weights", "Activation": "activations"}
_LONGEST, _MOST = 400, 3
OPEN = -1  # what TensorRT calls a size that the graph leaves open
# Every logger ever made, a few hundred bytes each: the library keeps the address of the first one for as long
# as any builder or runtime exists, even after the one that it was made for is gone.
_LOGGERS: list[Any] = []


class Messages:
    """Keeps what TensorRT logs: errors, for our own messages, and the memory that a plan will need."""

    def __init__(self, trt: Any) -> None:
        self.memory: dict[str, int] = {}
        self.layers: list[str] = []  # lists of a plan's kernels, where details were asked for
        self._errors: list[str] = []
        self.logger = _logger_class(trt.ILogger)(self)
        _LOGGERS.append(self.logger)

    def errors(self) -> str | None:
        """Return the first few distinct errors on one line, None where there are none; then forget all."""
        told = list(dict.fromkeys(one_line(text)[:_LONGEST] for text in self._errors))
        self._errors.clear()
        return " | ".join(told[:_MOST]) or None

    def _take(self, error: bool, text: str) -> None:
        if error:
            self._errors.append(text)
        elif text.startswith(HEADING):
            self.layers.append(text)
        elif match := _MEMORY.match(text):
            kind = _KINDS[match[1]]  # told again for every number of heads
            self.memory[kind] = max(self.memory.get(kind, 0), int(match[2]))


def build(
    trt: Any,
    path: Path,
    progress: BuildCallback | None = None,
    flags: tuple[str, ...] = (),
    form: EightBit | None = None,
    halved: Collection[str] = (),
    listed: Listed | None = None,
) -> tuple[bytes, BuildReport]:
    """Build the plan of an ONNX file. It is strongly typed: the graph sets the precision.

    Shapes are static, but for an open first size, which gets a profile for each number of AT_ONCE.

    Args:
        trt: the module, tensorrt_rtx or tensorrt.
        progress: receives the graph and the share done. Returning False cancels; what it raises propagates.
        flags: names of further builder flags to set.
        form: what the linear layers of FP16 operands shall multiply instead.
        halved: inputs and outputs to have FP16 in place of FP32.
        listed: receives the kernels of the plan.

    Raises:
        BundleError: TensorRT cannot read the graph; its own messages are quoted. Or it has no linear layers.
        BackendError: TensorRT cannot build the plan; its own messages are quoted. Or a linear layer did not
            become what `form` says.
        Cancelled: `progress` returned False.
        KeyboardInterrupt: Ctrl-C.
    """
    with _interrupts() as interrupted:
        try:
            return _build(
                trt, path, _monitor(trt, path.stem, progress, interrupted), flags, form, halved, listed
            )
        finally:
            if interrupted():  # whatever TensorRT made of it
                raise KeyboardInterrupt


def _build(
    trt: Any,
    path: Path,
    monitor: Any,
    flags: tuple[str, ...],
    form: EightBit | None,
    halved: Collection[str],
    listed: Listed | None,
) -> tuple[bytes, BuildReport]:
    start = time.perf_counter()
    messages = Messages(trt)
    builder = trt.Builder(messages.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, messages.logger)
    if not parser.parse_from_file(str(path)):
        raise BundleError(
            f"graph {path.name}",
            got=_parser_errors(parser) or messages.errors() or "no reason given",
            expected="an ONNX file that TensorRT can read",
            fix="export the bundle again, or use the backend onnxruntime",
        )
    numbers = _numbers(path, network)
    halve(trt, network, halved)
    made, narrow = None, {}
    if form is not None:
        made = quantise(trt, network, form, path.name)
        narrow = dict.fromkeys(made.linears, form.name)
    layers, wide = _precisions(network, narrow)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # FP32 in the graph means FP32
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if form is not None or listed is not None:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the log lists the kernels then
    if form is not None:
        _set_capabilities(trt, config, form.capabilities)
    for number in numbers:
        config.add_optimization_profile(_profile(builder, network, number))
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    monitor.settle(path.name)
    if plan is None:
        raise BackendError(
            f"TensorRT could not build {path.name}",
            got=messages.errors() or "no reason given",
            fix="use the backend onnxruntime, and report this with the versions that topos-rt doctor shows",
        )
    kernels = built_layers(messages.layers)
    if form is not None and made is not None:
        check_built(kernels, made, form, path.name)
    if listed is not None:
        listed(kernels)
    monitor.finish()
    memory = messages.memory | {"inputs_outputs": _boundary_bytes(network, sum(numbers) or 1)}
    return bytes(plan), BuildReport(time.perf_counter() - start, layers, wide, memory)


def _set_capabilities(trt: Any, config: Any, names: tuple[str, ...]) -> None:
    """Ask for a plan for GPUs of these compute capabilities alone; for none, keep to the default."""
    if names:
        config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, name), index):
            raise BackendError("TensorRT builds no plans", got=f"for the compute capability {name}")


def build_smallest(trt: Any) -> bytes:
    """Build the plan of y = -x, both float32 [1], in well under a second. Raises BackendError."""
    messages = Messages(trt)
    builder = trt.Builder(messages.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    tensor = network.add_input("x", trt.float32, (1,))
    result = network.add_unary(tensor, trt.UnaryOperation.NEG).get_output(0)
    result.name = "y"
    network.mark_output(result)
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    if plan is None:
        raise BackendError("TensorRT could not build a trial network", got=messages.errors())
    return bytes(plan)


@functools.cache
def _logger_class(base: Any) -> Any:
    # The base class is known only once the module is chosen.
    class Logger(base):
        def __init__(self, messages: Messages) -> None:
            base.__init__(self)
            self._messages = weakref.ref(messages)

        def log(self, severity: Any, text: str) -> None:
            messages = self._messages()
            if messages is not None and (severity != base.VERBOSE or text.startswith(HEADING)):
                messages._take(severity in (base.ERROR, base.INTERNAL_ERROR), text)

    return Logger


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Take Ctrl-C while TensorRT builds, and yield a function that says whether it came.

    Python would raise KeyboardInterrupt in whatever of our code TensorRT calls next, and TensorRT swallows
    what such code raises. It may also call from threads of its own, while Python delivers signals only to the
    main one. So the signal's own bytes are read, from a pipe.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    reader, writer = socket.socketpair()
    came = False

    def interrupted() -> bool:
        nonlocal came
        with suppress(BlockingIOError):
            came = signal.SIGINT in reader.recv(64) or came
        return came

    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, lambda *_: None)
        try:
            yield interrupted
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.set_wakeup_fd(before)


def _monitor(trt: Any, graph: str, progress: BuildCallback | None, interrupted: Callable[[], bool]) -> Any:
    callback: BuildCallback = progress or (lambda graph, share: True)

    class Monitor(trt.IProgressMonitor):
        """Turns the steps of nested phases into one number that only rises."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.error: BaseException | None = None
            self.cancelled = False
            self.told = 0.0
            self.top: str | None = None
            self.steps: dict[str, tuple[int, int]] = {}  # phase -> steps done, of all

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self.top = phase
            self.steps[phase] = (0, max(1, steps))

        def step_complete(self, phase: str, step: int) -> bool:
            if phase in self.steps:
                self.steps[phase] = (step + 1, self.steps[phase][1])
            return self.tell()

        def phase_finish(self, phase: str) -> None:
            self.steps.pop(phase, None)

        def tell(self) -> bool:
            done, steps = self.steps.get(self.top or "", (0, 1))
            part = max((d / n for name, (d, n) in self.steps.items() if name != self.top), default=0.0)
            self.told = max(self.told, min(1.0, (done + part) / steps))
            if self.error is None and not self.cancelled:
                try:
                    if interrupted():
                        raise KeyboardInterrupt
                    self.cancelled = cancels(callback(graph, self.told))
                # Nothing, not even an interrupt, may unwind through TensorRT's frames; `settle` raises it.
                except BaseException as error:  # noqa: BLE001
                    self.error = error
            return self.error is None and not self.cancelled

        def finish(self) -> None:
            callback(graph, 1.0)

        def settle(self, name: str) -> None:
            if self.error is not None:
                raise self.error
            if self.cancelled:
                raise Cancelled("cancelled by the callback", got=f"the build of {name}")

    return Monitor()


def _parser_errors(parser: Any) -> str | None:
    told = []
    for index in range(min(parser.num_errors, _MOST)):
        error = parser.get_error(index)
        where = f"{error.node_operator()} {error.node_name()}".strip()
        told.append(one_line(f"{where}: {error.desc()}" if where else error.desc())[:_LONGEST])
    return " | ".join(dict.fromkeys(told)) or None


def _boundary(network: Any) -> Iterator[Any]:
    yield from (network.get_input(index) for index in range(network.num_inputs))
    yield from (network.get_output(index) for index in range(network.num_outputs))


def _numbers(path: Path, network: Any) -> tuple[int, ...]:
    """Return the numbers of heads to build for: AT_ONCE, or none where all shapes are static."""
    if network.num_outputs == 0:
        raise BundleError(f"graph {path.name}", got="no outputs", fix="export the bundle again")
    opened = False
    for tensor in _boundary(network):
        first, *rest = tuple(tensor.shape) or (1,)
        opened = opened or first == OPEN
        if any(size < 1 for size in rest) or (first < 1 and first != OPEN):
            raise BundleError(
                f"graph {path.name}, tensor {tensor.name!r}",
                got=list(tensor.shape),
                expected="a tensor of static shape, but for the number of heads, the first size",
                fix="export the bundle again",
            )
    return AT_ONCE if opened else ()


def _profile(builder: Any, network: Any, number: int) -> Any:
    """Return the optimisation profile of one number of heads, so that kernels are those of a static shape."""
    profile = builder.create_optimization_profile()
    for tensor in (network.get_input(index) for index in range(network.num_inputs)):
        if tuple(tensor.shape)[:1] == (OPEN,):
            shape = (number, *tuple(tensor.shape)[1:])
            profile.set_shape(tensor.name, shape, shape, shape)
    return profile


def _boundary_bytes(network: Any, heads: int) -> int:
    sizes = ((math.prod(tensor.shape), tensor.dtype.itemsize) for tensor in _boundary(network))
    return sum((-heads * count if count < 0 else count) * item for count, item in sizes)


def _holds_half(tensor: Any, raised: set[str]) -> bool:
    return tensor is not None and (tensor.dtype.name == "HALF" or tensor.name in raised)


def _precisions(network: Any, narrow: Mapping[str, str]) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Count floating-point layers by precision and kind, and name the products of FP32 operands.

    narrow: name -> precision of the layers whose operands are 8-bit numbers.

    Operands that were cast from FP16 to FP32 make an FP16 product that is summed in FP32.
    """
    layers: dict[str, Counter[str]] = {}
    wide = {}
    raised: set[str] = set()  # FP32 tensors that hold FP16 numbers
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind = layer.type.name
        if kind in _PASSING and _holds_half(layer.get_input(0), raised):
            raised.add(layer.get_output(0).name)
        # A product's operands say what it costs; in a strongly typed network its result has their type.
        tensor = layer.get_input(0) if kind in _PRODUCTS else layer.get_output(0)
        precision = None if tensor is None else _FLOATS.get(tensor.dtype.name)
        if precision is None or kind in _UNCOUNTED:
            continue
        precision = narrow.get(layer.name, precision)
        if kind in _PRODUCTS and tensor.name in raised:
            precision = "fp16"
        layers.setdefault(precision, Counter())[kind] += 1
        if precision == "fp32" and kind in _PRODUCTS:
            wide[one_line(layer.name) or f"layer {index}"] = kind
    return {name: dict(sorted(counts.items())) for name, counts in sorted(layers.items())}, wide
