"""The five engines of a bundle, checked against its manifest, behind one function each."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TypeAlias

import numpy as np

from topos_rt.backends import Engine, EngineOptions, TensorSpec, backend
from topos_rt.backends.base import Tensor
from topos_rt.bundle import GRAPHS, Bundle
from topos_rt.errors import BackendError, BundleError, InputError
from topos_rt.solvers import Array, Velocity

Context: TypeAlias = Mapping[str, Array]  # keys and values [L,heads,T,hd] of every DiT block
_Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
_ANY = -1


class Networks:
    """Runs the graphs of one bundle.

    Safe to use from several threads: a lock is held for one engine run at a time and never longer, so none is
    held while a caller's code runs; whatever lies between two runs is the caller's own.
    """

    def __init__(self, bundle: Bundle, engines: Mapping[str, Engine]) -> None:
        """Take over one engine for each graph. Raises BundleError where one is not as the manifest says."""
        self._manifest = bundle.manifest
        self._lock = threading.Lock()
        self._engines: dict[str, Engine] | None = dict(engines)
        self._null: Context | None = None
        _check_contract(bundle, self._engines)

    @classmethod
    def open(cls, bundle: Bundle, name: str, options: EngineOptions) -> Networks:
        """Load the five graphs with the backend `name`. What was loaded is closed again if anything fails."""
        module = backend(name)
        with ExitStack() as stack:
            engines = {
                graph: stack.enter_context(module.load(bundle.graph(graph), options)) for graph in GRAPHS
            }
            networks = cls(bundle, engines)
            stack.pop_all()
        return networks

    def encode_image(self, pixels: Array) -> Array:
        """Pixels [1,3,H,W] in 0..1 -> condition tokens [1,T,C]."""
        return self._run("image_encoder", pixels=pixels)["tokens"]

    def context(self, tokens: Array) -> Context:
        """Condition tokens [1,T,C] -> what every DiT block attends to; once per image."""
        return self._run("dit_context", tokens=tokens)

    def velocity(self, context: Context) -> Velocity:
        """The DiT bound to a context: (latent [1,N,D], time) -> velocity [1,N,D]."""

        def velocity(x: Array, t: float) -> Array:
            return self._run("dit_step", latent=x, time=np.array([t], np.float32), **context)["velocity"]

        return velocity

    def null_velocity(self, x: Array, t: float) -> Array:
        """The velocity under the negative condition, all-zero tokens; its context is no image's, and kept."""
        if self._null is None:
            image = self._manifest.image
            # Two threads may both come here; they compute the same.
            self._null = self.context(np.zeros((1, image.tokens, image.channels), np.float32))
        return self.velocity(self._null)(x, t)

    def decode(self, latent: Array) -> Array:
        """Latent [1,N,D] -> positions | normals [V,6] in the networks' frame.

        Raises BackendError for values that are not finite.
        """
        vertices: Array = self._run("vae_decoder", latent=latent)["vertices"][0]
        if not np.isfinite(vertices).all():
            raise BackendError(
                "the networks made a mesh that is not finite",
                got=f"{np.count_nonzero(~np.isfinite(vertices))} NaN or infinite values",
                fix="try another seed, less guidance or another backend",
            )
        return vertices

    def encode_points(self, points: Array) -> tuple[Array, Array]:
        """Points | normals [1,P,6] in the networks' frame -> mean and log-variance [1,N,D] of the latent."""
        outputs = self._run("vae_encoder", points=points)
        return outputs["mean"], outputs["logvar"]

    def close(self) -> None:
        """Close the engines, once the run in progress is over. May be called again."""
        with self._lock:
            engines, self._engines = self._engines, None
            for engine in (engines or {}).values():
                engine.close()

    def _run(self, graph: str, **feeds: Tensor) -> dict[str, Tensor]:
        with self._lock:
            if self._engines is None:
                raise InputError("this pipeline is closed", got="a call after close()", fix="open it again")
            return self._engines[graph].run(feeds)


def _check_contract(bundle: Bundle, engines: Mapping[str, Engine]) -> None:
    """Raise BundleError unless the graphs have the inputs and outputs that the manifest promises."""
    if set(engines) != set(GRAPHS):
        raise _mismatch("engines", ", ".join(sorted(engines)), ", ".join(GRAPHS))
    for graph, (inputs, outputs) in _contracts(bundle).items():
        _check_side(f"graph {graph}: input", engines[graph].inputs, inputs)
        _check_side(f"graph {graph}: output", engines[graph].outputs, outputs)
    for name, spec in engines["dit_context"].outputs.items():
        found = engines["dit_step"].inputs[name]
        if found != spec:
            raise _mismatch(f"graph dit_step: input {name!r}", found, f"{spec}, as dit_context gives it")


def _contracts(bundle: Bundle) -> dict[str, tuple[_Shapes, _Shapes]]:
    """Graph -> shapes of its inputs and of its outputs; all are float32."""
    m = bundle.manifest
    pixels, tokens = (1, 3, m.image.height, m.image.width), (1, m.image.tokens, m.image.channels)
    latent, vertices = (1, m.latent.tokens, m.latent.channels), (1, bundle.topology.num_vertices, 6)
    per_block = (_ANY, _ANY, m.image.tokens, _ANY)
    context: _Shapes = {"keys": per_block, "values": per_block}
    return {
        "image_encoder": ({"pixels": pixels}, {"tokens": tokens}),
        "dit_context": ({"tokens": tokens}, context),
        "dit_step": ({"latent": latent, "time": (1,), **context}, {"velocity": latent}),
        "vae_decoder": ({"latent": latent}, {"vertices": vertices}),
        "vae_encoder": ({"points": (1, m.points.count, 6)}, {"mean": latent, "logvar": latent}),
    }


def _check_side(where: str, found: Mapping[str, TensorSpec], expected: _Shapes) -> None:
    if set(found) != set(expected):
        raise _mismatch(f"{where}s", ", ".join(sorted(found)), ", ".join(sorted(expected)))
    for name, shape in expected.items():
        spec = found[name]
        fits = len(spec.shape) == len(shape) and all(
            wanted in (_ANY, size) for size, wanted in zip(spec.shape, shape, strict=True)
        )
        if not fits or spec.dtype != np.float32:
            wanted = ", ".join("any" if size == _ANY else str(size) for size in shape)
            raise _mismatch(f"{where} {name!r}", spec, f"float32 [{wanted}], from the manifest and topology")


def _mismatch(what: str, got: object, expected: object) -> BundleError:
    return BundleError(what, got=got, expected=expected, fix="export the bundle again")
