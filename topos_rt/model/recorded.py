"""Context, all steps of the sampler and the decoder recorded as one CUDA graph: one launch makes a head.

What changes from head to head, the tokens and the noise, is copied to fixed addresses before the launch;
latents never leave the GPU. The steps are unrolled: each has the address of its own modulation, and reads the
weights of its sums from a table on the GPU, in the row that a counter on the GPU gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np

from topos_rt.engines.contract import Engine, Enqueued, Value, Workspace
from topos_rt.errors import BackendError, InputError
from topos_rt.flow.program import MAX_TERMS, Evaluation, Ref, weights_table
from topos_rt.gpu import cuda, ops
from topos_rt.gpu.device_array import Arena, DeviceArray
from topos_rt.support.arrays import Array
from topos_rt.support.closing import Closing

STEPWISE = "open the pipeline without cuda_graph"


class FlowLoop(Closing):
    """Turns tokens and noise into vertices by one program. Its engines must not be run meanwhile.

    It allocates memory for all arrays in between, which is little compared with the engines'.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        workspace: Workspace,
        program: Sequence[Evaluation],
        modulations: Mapping[float, Any],
        residual_scale: float | None = None,
    ) -> None:
        """Run the program once, then record it.

        engines: one for each graph, on the GPU of the workspace. modulations: one for each time of the
        program, on that GPU. residual_scale: of the manifest.

        Raises InputError for an engine that cannot be enqueued, BackendError where the kernels are not built,
        an engine cannot be recorded, or CUDA or an engine fails.
        """
        ops.kernels()
        self._engines, self._program = {graph: _enqueued(graph, e) for graph, e in engines.items()}, program
        self._scale = residual_scale
        self._modulations: dict[float, DeviceArray] = dict(modulations)
        self._stream, self._device = workspace.stream, workspace.device
        self._held: ExitStack | None = None
        with ExitStack() as held, cuda.on_device(self._device):
            try:
                self._allocate(held.enter_context(Arena(self._stream)))
                vertices = engines["vae_decoder"].outputs["vertices"]
                latent = engines["dit_step"].inputs["latent"]
                self._noise = held.enter_context(cuda.Pinned(latent)).array
                self._estimated = held.enter_context(cuda.Pinned(latent)).array
                self._vertices = held.enter_context(cuda.Pinned(vertices)).array
                # First launches load and compile code, which is not possible while recording.
                self._enqueue()
                self._stream.synchronize()
                self._check_recordable()
                with self._stream.capture() as recorded:
                    self._enqueue()
                self._graph = held.enter_context(recorded[0])
            except cuda.CudaError as error:
                raise BackendError("the CUDA graph of the sampler", got=error, fix=STEPWISE) from error
            self._held = held.pop_all()

    def run(self, tokens: Value, start: Array, estimate: Array | None = None) -> Array:
        """Turn tokens [1,T,C] and noise [1,N,D] into vertices [1,V,6], all float32. Raises BackendError.

        estimate: [1,N,D], which a loop with a residual scale needs.
        """
        if self._held is None:
            raise InputError("the CUDA graph of the sampler", got="a call after close()")
        np.copyto(self._noise, start)
        try:
            with cuda.on_device(self._device):
                if isinstance(tokens, DeviceArray):
                    self._stream.copy(self._tokens.address, tokens.address, self._tokens.nbytes)
                else:
                    tokens = np.ascontiguousarray(tokens)
                    self._stream.to_device(self._tokens.address, tokens)
                self._stream.to_device(self._slots[Ref("state", 0)].address, self._noise)
                if estimate is not None:
                    np.copyto(self._estimated, estimate)
                    self._stream.to_device(self._estimate.address, self._estimated)
                self._stream.launch(self._graph)
                self._stream.to_host(self._vertices, self._decoded["vertices"].address)
                self._stream.synchronize()
        except cuda.CudaError as error:
            raise BackendError("the CUDA graph of the sampler failed", got=error, fix=STEPWISE) from error
        return self._vertices.copy()

    def _allocate(self, arena: Arena) -> None:
        """Allocate all arrays of the program, the table of its weights, and its guidance."""
        step, context, decoder = (self._engines[g] for g in ("dit_step", "dit_context", "vae_decoder"))
        latent = step.inputs["latent"]
        self._tokens = arena.put(np.zeros(context.inputs["tokens"].shape, np.float32))
        self._context = {name: arena.empty(s.shape, s.dtype) for name, s in context.outputs.items()}
        self._slots = {Ref("state", 0): arena.put(np.zeros(latent.shape, np.float32))}
        for k, evaluation in enumerate(self._program):
            made = ["velocity"] if evaluation.guidance is None else ["velocity", "difference"]
            for ref in (*(Ref(kind, k) for kind in made), *(total.target for total in evaluation.sums)):
                self._slots[ref] = arena.empty(latent.shape, latent.dtype)
        table = weights_table(self._program)
        if self._scale is not None:  # one more sum, behind those of the program
            last = np.zeros((1, MAX_TERMS), np.float32)
            last[0, :2] = 1, self._scale
            table = np.concatenate([table, last])
        self._estimate, self._latent = (arena.put(np.zeros(latent.shape, np.float32)) for _ in range(2))
        self._table = arena.put(table)
        self._counter = arena.put(np.zeros(1, np.int32))
        guidance = {e.guidance for e in self._program if e.guidance is not None}
        self._guidance = {w: arena.put(np.array([w], np.float32)) for w in guidance}
        spec = decoder.outputs["vertices"]
        self._decoded = {"vertices": arena.empty(spec.shape, spec.dtype)}

    def _enqueue(self) -> None:
        """Put the whole program on the stream."""
        self._stream.clear(self._counter.address, self._counter.nbytes)
        self._engines["dit_context"].enqueue({"tokens": self._tokens, **self._context}, self._stream)
        for k, evaluation in enumerate(self._program):
            self._evaluate(k, evaluation)
            for total in evaluation.sums:
                self._sum([self._slots[ref] for ref, _ in total.terms], self._slots[total.target])
        latent = self._slots[Ref("state", len(self._program))]
        if self._scale is not None:
            self._sum([self._estimate, latent], self._latent)
            latent = self._latent
        self._engines["vae_decoder"].enqueue({"latent": latent, **self._decoded}, self._stream)

    def _sum(self, terms: list[DeviceArray], target: DeviceArray) -> None:
        """Add up arrays with the weights of the table's next row."""
        terms = terms + [terms[0]] * (MAX_TERMS - len(terms))  # padding, with weight 0
        ops.flow_step(terms, self._table, self._counter, out=target, stream=self._stream.handle)

    def _check_recordable(self) -> None:
        steps = {"dit_step" if e.guidance is None else "dit_step_guided" for e in self._program}
        for name in ("dit_context", *sorted(steps), "vae_decoder"):
            if not self._engines[name].recordable:
                raise BackendError(
                    "the CUDA graph of the sampler", got=f"{name} cannot be recorded", fix=STEPWISE
                )

    def _evaluate(self, k: int, evaluation: Evaluation) -> None:
        arrays = {
            "latent": self._slots[Ref("state", k)],
            "velocity": self._slots[Ref("velocity", k)],
            "modulation": self._modulations[evaluation.t],
            **self._context,
        }
        if evaluation.guidance is None:
            self._engines["dit_step"].enqueue(arrays, self._stream)
            return
        arrays["difference"] = self._slots[Ref("difference", k)]
        arrays["guidance"] = self._guidance[evaluation.guidance]
        self._engines["dit_step_guided"].enqueue(arrays, self._stream)

    def close(self) -> None:
        """Free the CUDA graph and its memory; do so before closing the engines. May be called again."""
        if self._held is not None:
            held, self._held = self._held, None
            with suppress(cuda.CudaError), cuda.on_device(self._device):  # as in `Workspace.close`
                held.close()


def _enqueued(graph: str, engine: Engine) -> Enqueued:
    if not isinstance(engine, Enqueued):
        raise InputError(
            f"a CUDA graph with {graph}",
            got=type(engine).__name__,
            expected="TensorRT's engines or kernels",
            fix=STEPWISE,
        )
    return engine
