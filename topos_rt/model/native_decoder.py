"""The VAE decoder in our compiled passes for the CPU, as an engine that turns a latent into vertices.

It runs the steps of `topos_rt.model.decoder_steps` in FP32, in csrc/graph_rows_body.h. A head has the same
bits whatever the number of threads, and with AVX2 as with AVX-512.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from topos_rt.errors import BackendError
from topos_rt.gpu.layers import Layer, padded
from topos_rt.gpu.tables import Neighbours
from topos_rt.model.bundle import Bundle
from topos_rt.model.decoder import Decoder
from topos_rt.model.decoder_steps import SLOTS, DecoderSteps, make_steps, read_tensors
from topos_rt.support.arrays import Array
from topos_rt.support.machine import usable_cores
from topos_rt.support.native import native

PLAIN = "plain"  # the code of csrc/graph_rows_plain.cpp, for processors without AVX2


class NativeDecoder(Decoder):
    """The decoder in compiled code on the CPU. Raises BackendError where that was not built.

    It keeps no thread between runs, so a process may be forked at any time.
    """

    def __init__(self, steps: DecoderSteps, threads: int = 1, instructions: str | None = None) -> None:
        """Pack the weights of all steps.

        instructions: one of `instruction_sets()`; None is the first of them.
        """
        super().__init__(steps)
        self._code, self._threads, self._set = _compiled(), threads, instructions
        tokens, channels = steps.latent
        self._steps, self._pad = steps, padded(channels) - channels
        convs = self._code.GraphConvs(
            rows=tokens, columns=channels + self._pad, slots=SLOTS + 1, instructions=instructions
        )
        for step in steps.convs:
            convs.add(
                source=step.source,
                target=step.target,
                residual=step.residual,
                residual_rows=step.residual_rows,
                silu=step.silu,
                **layer_arguments(step.neighbours, step.layer),
            )
        everything = Neighbours.identity(steps.vertices)
        convs.add(
            source=steps.last_source, target=SLOTS, silu=False, **layer_arguments(everything, steps.last)
        )
        self._convs = convs
        if steps.basis is not None:
            self._columns = np.ascontiguousarray(steps.basis.T)

    @classmethod
    def open(cls, bundle: Bundle, threads: int | None = None) -> NativeDecoder:
        """Open the decoder of a bundle. Raises BundleError for one without the decoder's tensors."""
        _compiled()
        # On a CPU the order of the vertices is near enough, and to find a better one takes time.
        steps = make_steps(
            read_tensors(bundle), bundle.hierarchy, lambda positions: np.arange(len(positions))
        )
        return cls(steps, threads or usable_cores())

    @staticmethod
    def requirements(bundle: Bundle) -> dict[str, int]:
        """Return nothing, because it runs on the CPU."""
        return {}

    def _decode(self, latent: Array, vertices: Array) -> None:
        steps = self._steps
        moved = None
        if steps.basis is not None:
            coordinates = self._sum(latent.reshape(-1), self._columns)
            latent = self._sum(coordinates, steps.basis).reshape(steps.latent)
            if steps.moves is not None:
                moved = self._sum(coordinates, steps.moves.reshape(len(coordinates), -1))
        packed = np.pad(latent[steps.latent_rows], ((0, 0), (0, self._pad)))
        vertices[steps.out_rows] = self._convs.run(packed, self._threads)
        if steps.scale is not None:
            vertices *= steps.scale
        if steps.mean is not None:
            vertices += steps.mean
        if moved is not None and steps.moves is not None:
            vertices[:, : steps.moves.shape[2]] += moved.reshape(steps.moves.shape[1:])

    def _sum(self, weights: Array, rows: Array) -> Array:
        """Return the sum of rows [k,n], each times its weight: the same bits whatever the threads."""
        made: Array = self._code.weighted_sum(weights, rows, self._threads, self._set)
        return made


def instruction_sets() -> list[str]:
    """Return the instruction sets that the compiled decoder can use here, the widest first.

    There are none where it was not built.
    """
    find = getattr(native(), "instruction_sets", list)
    return [str(name) for name in find()]


def _compiled() -> Any:
    compiled = native()
    if not hasattr(compiled, "GraphConvs"):
        raise BackendError(
            "the compiled decoder is not there",
            got="an installation without it",
            expected="one made where GCC or Clang is",
            fix="use the engine decoder",
        )
    return compiled


def layer_arguments(neighbours: Neighbours, layer: Layer) -> dict[str, Any]:
    """Return the arguments of a step that describe its edges and its layer."""
    norm = None if layer.gamma is None else (layer.gamma, layer.beta)
    return {
        "types": [(sources.offsets, sources.indices) for sources in neighbours.types],
        "rows": neighbours.rows,
        "matrix": layer.matrix,
        "bias": layer.bias,
        "norm": norm,
    }
