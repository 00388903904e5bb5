"""The VAE decoder on our kernels, as an engine that turns a latent into vertices.

Two classes run the same sequence of `topos_rt.gpu.ops`: `NumpyDecoder`, the twin, on NumPy arrays, and
`KernelDecoder` on a GPU. The latter records it once as a CUDA graph, and neither allocates nor waits between
launches.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from topos_rt.engines.contract import Value, check_feeds, check_out
from topos_rt.errors import BackendError, InputError
from topos_rt.gpu import cuda, ops
from topos_rt.gpu.device_array import Arena, DeviceArray
from topos_rt.gpu.layers import padded
from topos_rt.gpu.tables import AnyArray
from topos_rt.model.bundle import Bundle
from topos_rt.model.decoder_steps import DecoderSteps, make_steps, read_tensors
from topos_rt.support.arrays import Array, TensorSpec
from topos_rt.support.closing import Closing

_ENGINE = "use the engine decoder"


class Decoder(Closing):
    """The part that our decoders share: an `Engine` with one input and one output."""

    def __init__(self, steps: DecoderSteps) -> None:
        tokens, channels = steps.latent
        self.inputs: Mapping[str, TensorSpec] = {"latent": _spec(1, tokens, channels)}
        self.outputs: Mapping[str, TensorSpec] = {"vertices": _spec(1, steps.vertices, steps.last.c_out)}

    def run(
        self, feeds: Mapping[str, Value], out: Mapping[str, Array] | None = None, keep: Collection[str] = ()
    ) -> dict[str, Any]:
        """See `Engine.run`."""
        check_feeds(self.inputs, feeds)
        check_out(self.outputs, out or {}, keep)
        vertices = (out or {}).get("vertices")
        if vertices is None:
            vertices = np.empty(self.outputs["vertices"].shape, np.float32)
        self._decode(np.ascontiguousarray(feeds["latent"])[0], vertices[0])
        return {"vertices": vertices}

    @classmethod
    def open(cls, bundle: Bundle, threads: int | None = None) -> Decoder:
        """Open the decoder of a bundle. threads: on the CPU, of the decoders that have any; None: all cores.

        Raises BundleError for a bundle without the decoder's tensors.
        """
        raise NotImplementedError

    @staticmethod
    def requirements(bundle: Bundle) -> dict[str, int]:
        """Return the bytes that `open` would take on a GPU, by kind."""
        raise NotImplementedError

    def _decode(self, latent: Array, vertices: Array) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """See `Engine.close`."""  # only the decoder on a GPU holds anything


class NumpyDecoder(Decoder):
    """The decoder in NumPy, on the CPU. The kernels are checked against it.

    dtype: the type of the features between launches. FP32 is the default, FP16 is what a GPU uses, and tests
    take FP64 for the truth.
    """

    def __init__(self, steps: DecoderSteps, dtype: Any = np.float32) -> None:
        super().__init__(steps)
        self._steps, self._dtype = steps, np.dtype(dtype)

    @staticmethod
    def requirements(bundle: Bundle) -> dict[str, int]:
        """Return nothing, because it runs on the CPU."""
        return {}

    @classmethod
    def open(cls, bundle: Bundle, threads: int | None = None) -> NumpyDecoder:
        """See `Decoder.open`."""
        return cls(make_steps(read_tensors(bundle), bundle.hierarchy))

    def _decode(self, latent: Array, vertices: Array) -> None:
        np.copyto(vertices, self.decode(latent), casting="same_kind")

    def decode(self, latent: Array) -> Array:
        """Decode a latent [N,D] FP32 to [V,6] FP32, or FP64 where the features are FP64."""
        steps, width = self._steps, padded(self._steps.latent[1])
        mean = steps.mean
        if steps.moves is not None:
            mean = ops.add_moves(steps.basis @ latent.reshape(-1), steps.moves, mean)
        if steps.basis is not None:
            latent = ops.project(latent.reshape(-1), steps.basis).reshape(steps.latent)
        if self._dtype == np.float16:
            packed = ops.pack_rows(latent, width, steps.latent_rows)
        else:
            packed = np.pad(latent[steps.latent_rows], ((0, 0), (0, width - latent.shape[1]))).astype(
                self._dtype
            )
        slots: list[Array] = [packed] * 4
        for step in steps.convs:
            residual = None if step.residual is None else slots[step.residual]
            slots[step.target] = ops.graph_conv(
                slots[step.source], step.neighbours, step.layer, residual, step.residual_rows, step.silu
            )
        return ops.linear_out(slots[steps.last_source], steps.last, steps.out_rows, steps.scale, mean)


@dataclass(frozen=True)
class Buffers:
    """The memory of a decoder on its GPU."""

    latent: DeviceArray  # [N,D] FP32
    vertices: DeviceArray  # [V,6] FP32
    coordinates: DeviceArray | None  # [K] FP32, of the projection
    moved: DeviceArray | None  # [V,6] FP32, the mean that the coordinates have moved
    projected: DeviceArray  # [N,D] FP32
    slots: tuple[DeviceArray, ...]  # flat FP16


class KernelDecoder(Decoder):
    """The decoder on the current GPU, as an `Enqueued` engine. `launch` is a run without the copies.

    A decoder that is dropped without `close` closes itself.

    Raises BackendError where the kernels are not built or CUDA fails, InputError for channel widths that no
    kernel was compiled for.
    """

    _held: ExitStack | None = None  # so that `close` also works where the constructor failed

    def __init__(self, steps: DecoderSteps, record: bool = True, tiled: bool | None = None) -> None:
        """Upload everything, run once, and record.

        record: record one CUDA graph; otherwise each run launches kernel after kernel. tiled: use
        graph_conv_tiled where it can run; None: if this GPU has it.
        """
        super().__init__(steps)
        ops.kernels()
        with ExitStack() as held:
            try:
                tiled = ops.tiles_here() if tiled is None else tiled
                self.stream: cuda.Stream = held.enter_context(cuda.Stream())
                arena: Arena = held.enter_context(Arena(self.stream))
                self._arena = arena
                self._steps = (steps.tiled() if tiled else steps).placed(arena.put)
                self.buffers = _buffers(steps, arena)
                self._pinned: cuda.Pinned = held.enter_context(cuda.Pinned(self.outputs["vertices"]))
                b = self.buffers
                # A first launch loads code, which is not allowed during a capture.
                self._launch_each(b.latent, b.vertices, self.stream)
                self.stream.synchronize()
                self._cuda_graph: cuda.CudaGraph | None = None
                if record:
                    with self.stream.capture() as recorded:
                        self._launch_each(b.latent, b.vertices, self.stream)
                    self._cuda_graph = held.enter_context(recorded[0])
            except cuda.CudaError as error:
                raise BackendError(
                    "the kernel decoder could not be set up", got=error, fix=_ENGINE
                ) from error
            self._held = held.pop_all()

    @classmethod
    def open(cls, bundle: Bundle, threads: int | None = None) -> KernelDecoder:
        """Open a bundle's decoder on the current GPU. Raises BundleError where its tensors are missing."""
        return cls(make_steps(read_tensors(bundle), bundle.hierarchy))

    @staticmethod
    def requirements(bundle: Bundle) -> dict[str, int]:
        """Return the bytes that `open` would take on a GPU, by kind. Raises as it does, but needs no GPU."""
        ops.kernels()
        steps, counted = make_steps(read_tensors(bundle), bundle.hierarchy), _Counted()
        steps.tiled().placed(counted.put)
        weights = counted.bytes
        _buffers(steps, counted)
        return {"weights": weights, "buffers": counted.bytes - weights}

    @property
    def launches(self) -> int:
        """How many kernels one run launches."""
        return self._steps.launches

    def launch(self) -> None:
        """Begin to turn `buffers.latent` into `buffers.vertices`."""
        self._check_open()
        if self._cuda_graph is None:
            self._launch_each(self.buffers.latent, self.buffers.vertices, self.stream)
        else:
            self.stream.launch(self._cuda_graph)

    @property
    def recordable(self) -> bool:
        """See `Enqueued.recordable`."""
        return True

    def enqueue(self, arrays: Mapping[str, DeviceArray], stream: cuda.Stream) -> None:
        """See `Enqueued.enqueue`. Only one run may be under way, because all of them share the slots."""
        self._check_open()
        latent, vertices = arrays["latent"], arrays["vertices"]
        self._launch_each(_shaped(latent, latent.shape[1:]), _shaped(vertices, vertices.shape[1:]), stream)

    def _check_open(self) -> None:
        if self._held is None:
            raise InputError("this decoder is closed", got="a call after close()")

    def _launch_each(self, latent: DeviceArray, vertices: DeviceArray, on: cuda.Stream) -> None:
        steps, b, stream = self._steps, self.buffers, on.handle
        tokens, channels = steps.latent
        width = padded(channels)
        if steps.basis is not None:
            flat = (tokens * channels,)
            ops.project(
                _shaped(latent, flat),
                steps.basis,
                scratch=b.coordinates,
                out=_shaped(b.projected, flat),
                stream=stream,
            )
            latent = b.projected
        mean = steps.mean
        if steps.moves is not None:
            mean = ops.add_moves(b.coordinates, steps.moves, mean, out=b.moved, stream=stream)
        ops.pack_rows(
            latent, width, steps.latent_rows, out=_shaped(b.slots[0], (tokens, width)), stream=stream
        )
        held: list[DeviceArray] = [_shaped(b.slots[0], (tokens, width))] * len(b.slots)
        for step in steps.convs:
            target = _shaped(b.slots[step.target], (step.neighbours.rows, step.layer.c_out))
            residual = None if step.residual is None else held[step.residual]
            ops.graph_conv(
                held[step.source],
                step.neighbours,
                step.layer,
                residual,
                step.residual_rows,
                step.silu,
                out=target,
                stream=stream,
            )
            held[step.target] = target
        ops.linear_out(
            held[steps.last_source],
            steps.last,
            steps.out_rows,
            steps.scale,
            mean,
            out=vertices,
            stream=stream,
        )

    def _decode(self, latent: Array, vertices: Array) -> None:
        try:
            with cuda.on_device(self._arena.device):
                if self._held is not None:
                    self.stream.to_device(self.buffers.latent.address, latent)
                self.launch()
                self.stream.to_host(self._pinned.array, self.buffers.vertices.address)
                self.stream.synchronize()
        except cuda.CudaError as error:
            raise BackendError("the kernel decoder failed", got=error, fix=_ENGINE) from error
        np.copyto(vertices, self._pinned.array[0])

    def __del__(self) -> None:
        if not sys.is_finalizing():  # at exit the system frees everything, and CUDA may be gone
            self.close()

    def close(self) -> None:
        """Free all memory. It may be called again."""
        if self._held is not None:
            held, self._held = self._held, None
            with suppress(cuda.CudaError):  # after a fatal error of CUDA nothing can be freed
                held.close()


class _Counted:
    """Counts the bytes that an arena would take."""

    def __init__(self) -> None:
        self.bytes = 0

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        made = DeviceArray(0, shape, np.dtype(dtype), 0)
        self.bytes += made.nbytes
        return made

    def put(self, array: Array) -> DeviceArray:
        return self.empty(array.shape, array.dtype)


def _buffers(steps: DecoderSteps, arena: Arena | _Counted) -> Buffers:
    tokens, channels = steps.latent
    return Buffers(
        latent=arena.put(np.zeros((tokens, channels), np.float32)),
        vertices=arena.empty((steps.vertices, steps.last.c_out), np.float32),
        coordinates=None if steps.basis is None else arena.empty((len(steps.basis),), np.float32),
        moved=None if steps.moves is None else arena.empty((steps.vertices, steps.last.c_out), np.float32),
        projected=arena.empty((tokens, channels), np.float32),
        slots=tuple(arena.empty((size,), np.float16) for size in steps.slot_sizes()),
    )


def _shaped(array: AnyArray, shape: tuple[int, ...]) -> DeviceArray:
    """Return the start of an array in another shape."""
    return DeviceArray(array.address, shape, array.dtype, array.device)


def _spec(*shape: int) -> TensorSpec:
    return TensorSpec(shape, np.dtype(np.float32))
