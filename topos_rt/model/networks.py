"""The engines of a bundle, checked against its manifest, behind one function each."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from topos_rt.engines import Engine, EngineOptions, TensorSpec, backend
from topos_rt.engines.contract import BackendModule, FlowLoop, Recorder, Value
from topos_rt.errors import BackendError, BundleError, InputError, OptionError, choose
from topos_rt.flow.program import flow_program
from topos_rt.flow.settings import SamplerSettings
from topos_rt.flow.solvers import Array
from topos_rt.model.bundle import GRAPHS, Bundle

Context: TypeAlias = Mapping[str, Value]  # keys and values [L,heads,T,hd] of every DiT block
Wrap: TypeAlias = Callable[[str, Engine], Engine]
_MOST_LOOPS = 4
_MODULATION_BYTES = 64 << 20  # two time grids of the largest model
_Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
_ANY = -1

# Who decodes latents: the backend's engine, or the class of `topos_rt.model.decoder` that does it with our
# own ops.
# "auto" is the kernels where they can be had, see `_own_decoder`: as measured on an H100, docs/kernels.md.
DECODERS: dict[str, str | None] = {
    "auto": "KernelDecoder", "engine": None, "kernels": "KernelDecoder", "numpy": "NumpyDecoder",
}  # fmt: skip
DEFAULT_DECODER = "auto"


class Networks:
    """Runs the graphs of one bundle.

    Safe to use from several threads: a lock is held for one engine run at a time and never longer, so none is
    held while a caller's code runs; whatever lies between two runs is the caller's own. What was opened and
    is dropped without `close` is closed then: engines would go by themselves, what they share would not.
    """

    _opened = False  # by `open`; engines that a caller brought may be in use elsewhere

    def __init__(self, bundle: Bundle, engines: Mapping[str, Engine]) -> None:
        """Take over one engine for each graph. Raises BundleError where one is not as the manifest says."""
        self._manifest = bundle.manifest
        self._lock = threading.Lock()
        self._engines: dict[str, Engine] | None = dict(engines)
        self._held = ExitStack()  # what to close after the engines
        self._record: Recorder | None = None
        self._loops: dict[SamplerSettings, FlowLoop] = {}
        self._modulations: dict[float, Value] = {}
        _check_contract(bundle, self._engines)

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        name: str,
        options: EngineOptions,
        decoder: str = DEFAULT_DECODER,
        cuda_graph: bool = False,
        wrap: Wrap = lambda graph, engine: engine,
    ) -> Networks:
        """Load the graphs with the backend `name`, the VAE's decoder with `decoder`, one of DECODERS.

        What was loaded is closed again if anything fails.
        cuda_graph: `flow` is offered. wrap: what to use in place of the engine of a graph; closes that with
        itself. Raises OptionError for a CUDA graph where there is no GPU.
        """
        module = backend(name)
        if cuda_graph and module.flow_loop is None:
            raise OptionError("cuda_graph", got=f"the backend {name}", expected="one that runs on a GPU")
        choose(decoder, DECODERS, "decoder")

        def load(graph: str) -> Engine:
            own: Engine | None = _own_decoder(graph, decoder, bundle, module, options, "open")
            return own or module.load(*engine_source(bundle, graph, module, options))

        with ExitStack() as held, ExitStack() as stack:
            options = dataclasses.replace(options, workspace=held.enter_context(module.workspace()))
            engines = {graph: wrap(graph, stack.enter_context(load(graph))) for graph in GRAPHS}
            networks = cls(bundle, engines)
            stack.pop_all()
            networks._held = held.pop_all()
            networks._record = module.flow_loop if cuda_graph else None
            networks._opened = True
        return networks

    @staticmethod
    def requirements(
        bundle: Bundle, name: str, options: EngineOptions, decoder: str = DEFAULT_DECODER
    ) -> dict[str, dict[str, int]]:
        """Graph -> bytes on the device by kind, before anything is loaded there; builds what is not built."""
        module = backend(name)
        choose(decoder, DECODERS, "decoder")

        def need(graph: str) -> dict[str, int]:
            own = _own_decoder(graph, decoder, bundle, module, options, "requirements")
            return (
                own
                if own is not None
                else dict(module.requirements(*engine_source(bundle, graph, module, options)))
            )

        needs = {graph: need(graph) for graph in GRAPHS}
        return {graph: kinds for graph, kinds in needs.items() if kinds}

    def encode_image(self, pixels: Array) -> Value:
        """Pixels [1,3,H,W] in 0..1 -> condition tokens [1,T,C], where the backend keeps them."""
        tokens: Value = self._run("image_encoder", {"pixels": pixels}, ("tokens",))["tokens"]
        return tokens

    def context(self, tokens: Value) -> Context:
        """Condition tokens [1,T,C] -> what every DiT block attends to; once per image."""
        return self._run("dit_context", {"tokens": tokens}, ("keys", "values"))

    def field(self, context: Context) -> BoundField:
        """The DiT bound to a context; see `topos_rt.flow.sampling.Field`."""
        return BoundField(self, context)

    def modulation(self, t: float) -> Value:
        """What every DiT block does at time t, whatever the latent and image: [L,6,C], kept between calls."""
        with self._lock:
            if t in self._modulations:  # put back last: the first is the longest unused
                self._modulations[t] = self._modulations.pop(t)
                return self._modulations[t]
        # Two threads may both come here; they compute the same.
        feeds = {"time": np.array([t], np.float32)}
        made: Value = self._run("dit_modulation", feeds, ("modulation",))["modulation"]
        with self._lock:
            if self._engines is not None:
                self._modulations[t] = made
            while len(self._modulations) * made.nbytes > _MODULATION_BYTES:
                self._modulations.pop(next(iter(self._modulations)))
        return made

    def decode(self, latent: Array) -> Array:
        """Latent [1,N,D] -> positions | normals [V,6] in the networks' frame.

        Raises BackendError for values that are not finite.
        """
        return _sound(self._run("vae_decoder", {"latent": latent})["vertices"][0])

    @property
    def records(self) -> bool:
        """Whether `flow` is offered."""
        return self._record is not None

    def flow(self, tokens: Value, start: Array, settings: SamplerSettings) -> Array:
        """Condition tokens [1,T,C] and noise [1,N,D] -> vertices [V,6] as `decode` gives them, in one piece.

        What the settings make is recorded at their first use, and kept for the last few of them.

        Raises OptionError for a solver that cannot be recorded, BackendError.
        """
        with self._lock:
            known = settings in self._loops
        if not known:
            program = flow_program(settings)
            modulations = {evaluation.t: self.modulation(evaluation.t) for evaluation in program}
        with self._lock:
            if self._engines is None or self._record is None:
                raise InputError("this pipeline", got="closed, or opened without cuda_graph")
            loop = self._loops.pop(settings, None)  # put back last: the first is the longest unused
            if loop is None and not known:
                loop = self._record(self._engines, program, modulations)
            if loop is not None:
                return self._go_through(loop, settings, tokens, start)
        return self.flow(tokens, start, settings)  # other threads have pushed it out meanwhile

    def _go_through(self, loop: FlowLoop, settings: SamplerSettings, tokens: Value, start: Array) -> Array:
        self._loops[settings] = loop
        while len(self._loops) > _MOST_LOOPS:
            self._loops.pop(next(iter(self._loops))).close()
        return _sound(loop.run(tokens, start)[0])

    def encode_points(self, points: Array) -> tuple[Array, Array]:
        """Points | normals [1,P,6] in the networks' frame -> mean and log-variance [1,N,D] of the latent."""
        outputs = self._run("vae_encoder", {"points": points})
        return outputs["mean"], outputs["logvar"]

    def close(self) -> None:
        """Close the engines, once the run in progress is over. May be called again."""
        with self._lock:
            engines, self._engines = self._engines, None
            for loop in self._loops.values():
                loop.close()
            self._loops.clear()
            self._modulations.clear()  # on a GPU they lie there
            for engine in (engines or {}).values():
                engine.close()
            self._held.close()

    def __del__(self) -> None:
        if self._opened and not sys.is_finalizing():  # then the system takes all back
            self.close()

    def _run(self, graph: str, feeds: Mapping[str, Value], keep: Collection[str] = ()) -> dict[str, Any]:
        with self._lock:
            if self._engines is None:
                raise InputError("this pipeline is closed", got="a call after close()", fix="open it again")
            return self._engines[graph].run(feeds, keep=keep)


def _own_decoder(
    graph: str, decoder: str, bundle: Bundle, runs: BackendModule, options: EngineOptions, ask: str
) -> Any:
    """The answer of the class of `topos_rt.model.decoder` that a name stands for; None: it is the engine's
    turn.

    "auto" is the kernels on a GPU and in their precision, FP16, where they are built and fit the model.
    ask: its `open`, or its `requirements`.
    """
    kind, auto = DECODERS[decoder], decoder == "auto"
    if graph != "vae_decoder" or kind is None or (auto and runs.flow_loop is None):
        return None
    if auto and engine_source(bundle, graph, runs, options)[1].precision != "fp16":
        return None
    try:
        return getattr(getattr(import_module("topos_rt.model.decoder"), kind), ask)(bundle)
    except (BackendError, BundleError, InputError):
        if not auto:
            raise
        return None


def engine_source(
    bundle: Bundle, graph: str, runs: BackendModule, options: EngineOptions
) -> tuple[Path, EngineOptions]:
    """What a backend loads a graph from: its file, and options with the precision settled and known digests.

    Raises BundleError where FP16 is asked for and the bundle has none.
    """
    precision = options.precision if options.precision in runs.PRECISIONS else None
    if precision is None:
        has = {"fp16": bundle.manifest.graphs_fp16 is not None, "fp32": True}
        precision = next(name for name in runs.PRECISIONS if has[name])
    known = {bundle.path / file: info.sha256 for file, info in bundle.manifest.files.items()}
    return bundle.graph(graph, precision), dataclasses.replace(options, precision=precision, known=known)


@dataclass(frozen=True)
class BoundField:
    """The DiT under one context: a `topos_rt.flow.sampling.Field`."""

    networks: Networks
    context: Context

    def conditional(self, x: Array, t: float) -> Array:
        """Velocity [1,N,D] of a latent [1,N,D] at time t."""
        feeds = {"latent": x, "modulation": self.networks.modulation(t), **self.context}
        velocity: Array = self.networks._run("dit_step", feeds)["velocity"]
        return velocity

    def guided(self, x: Array, t: float, w: float) -> tuple[Array, Array]:
        """(1 + w) v_cond - w v_uncond, and v_cond - v_uncond, each [1,N,D], from one engine run."""
        guidance = np.array([w], np.float32)
        feeds = {"latent": x, "modulation": self.networks.modulation(t), "guidance": guidance, **self.context}
        outputs = self.networks._run("dit_step_guided", feeds)
        return outputs["velocity"], outputs["difference"]


def _sound(vertices: Array) -> Array:
    if not np.isfinite(vertices).all():
        raise BackendError(
            "the networks made a mesh that is not finite",
            got=f"{np.count_nonzero(~np.isfinite(vertices))} NaN or infinite values",
            fix="try another seed, less guidance or another backend",
        )
    return vertices


def _check_contract(bundle: Bundle, engines: Mapping[str, Engine]) -> None:
    """Raise BundleError unless the graphs have the inputs and outputs that the manifest promises."""
    if set(engines) != set(GRAPHS):
        raise _mismatch("engines", ", ".join(sorted(engines)), ", ".join(GRAPHS))
    for graph, (inputs, outputs) in _contracts(bundle).items():
        _check_side(f"graph {graph}: input", engines[graph].inputs, inputs)
        _check_side(f"graph {graph}: output", engines[graph].outputs, outputs)
    for source in ("dit_context", "dit_modulation"):
        for step in ("dit_step", "dit_step_guided"):
            for name, spec in engines[source].outputs.items():
                found = engines[step].inputs[name]
                if found != spec:
                    raise _mismatch(f"graph {step}: input {name!r}", found, f"{spec}, as {source} gives it")


def _contracts(bundle: Bundle) -> dict[str, tuple[_Shapes, _Shapes]]:
    """Graph -> shapes of its inputs and of its outputs; all are float32."""
    m = bundle.manifest
    pixels, tokens = (1, 3, m.image.height, m.image.width), (1, m.image.tokens, m.image.channels)
    latent, vertices = (1, m.latent.tokens, m.latent.channels), (1, bundle.topology.num_vertices, 6)
    per_block = (_ANY, _ANY, m.image.tokens, _ANY)
    context: _Shapes = {"keys": per_block, "values": per_block}
    modulation: _Shapes = {"modulation": (_ANY, 6, _ANY)}
    step: _Shapes = {"latent": latent, **modulation, **context}
    return {
        "image_encoder": ({"pixels": pixels}, {"tokens": tokens}),
        "dit_context": ({"tokens": tokens}, context),
        "dit_modulation": ({"time": (1,)}, modulation),
        "dit_step": (step, {"velocity": latent}),
        "dit_step_guided": ({**step, "guidance": (1,)}, {"velocity": latent, "difference": latent}),
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
