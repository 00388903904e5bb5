"""The engines of a bundle, checked against its manifest, each behind its own method."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from topos_rt.engines import Engine, EngineOptions, backend
from topos_rt.engines.contract import Backend, Value, Workspace
from topos_rt.errors import BackendError, InputError, OptionError
from topos_rt.flow.program import flow_program
from topos_rt.flow.settings import SamplerSettings
from topos_rt.model.bundle import Bundle
from topos_rt.model.contracts import check_contracts
from topos_rt.model.decoders import DEFAULT_DECODER, with_own_decoder
from topos_rt.model.evidence import no_evidence
from topos_rt.model.frame import network_cloud
from topos_rt.model.manifest import GRAPHS
from topos_rt.support.arrays import Array
from topos_rt.support.closing import Closing
from topos_rt.support.forks import in_forked_child, leak
from topos_rt.support.machine import usable_cores

if TYPE_CHECKING:
    from topos_rt.model.recorded import FlowLoop

Context: TypeAlias = Mapping[str, Value]  # keys and values [L,heads,T,hd] of every DiT block
Wrap: TypeAlias = Callable[[str, Engine], Engine]
_MOST_LOOPS = 4
_SELDOM = ("dit_step_guided", "vae_encoder")  # graphs that a portrait's head may do without
_MODULATION_BYTES = 64 << 20  # two time grids of the largest model


class Condition(NamedTuple):
    """What the flow is told of an image."""

    tokens: Value  # [1,T,C], which stay where they are computed
    estimate: Array | None  # [1,N,D] the latent that the encoder estimates, where the model has one


class Networks(Closing):
    """Runs the graphs of one bundle.

    Networks are safe to use from several threads: a lock is held for one engine run at a time and never
    longer, so none is held while a caller's code runs. Networks that `open` loaded close themselves when they
    are dropped: engines would free themselves, but what they share would not.
    """

    _opened = False  # set by `open`: engines that a caller passed in may be in use elsewhere

    def __init__(self, bundle: Bundle, engines: Mapping[str, Engine]) -> None:
        """Take over one engine for each graph. Raises BundleError where one is not as the manifest says."""
        self._manifest = bundle.manifest
        self._lock = threading.Lock()
        self._engines: dict[str, Engine] | None = dict(engines)
        self._held = ExitStack()  # what to close after the engines
        self._workspace: Workspace | None = None  # only where CUDA graphs are recorded
        self._loops: dict[SamplerSettings, FlowLoop] = {}
        self._modulations: dict[float, Value] = {}
        self._on_device = False
        self._forked = False
        check_contracts(bundle, self._engines)
        _living.add(self)

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
        """Load all graphs with the backend `name`; close what was loaded again if anything fails.

        Args:
            decoder: one of DECODERS, for the VAE's decoder.
            cuda_graph: whether to offer `flow`.
            wrap: returns what to use in place of a graph's engine, which it closes with itself.

        Raises:
            OptionError: an unknown backend or decoder, or a CUDA graph where there is no GPU.
            BundleError, BackendError, InputError: as `HeadPipeline.open`.
        """
        chosen = backend(name)
        if cuda_graph and not chosen.on_device:
            raise OptionError("cuda_graph", got=f"the backend {name}", expected="one that runs on a GPU")

        def load(graph: str) -> Engine:
            if graph == "vae_decoder":
                precision = _device_precision(bundle, chosen, options)
                own = with_own_decoder(decoder, precision, lambda kind: kind.open(bundle, options.threads))
                if own is not None:
                    return own
            path, settled = engine_source(bundle, graph, chosen, options)
            return chosen.load(path, dataclasses.replace(settled, defer=graph in _SELDOM))

        with ExitStack() as held, ExitStack() as stack:
            workspace = held.enter_context(chosen.workspace())
            options = dataclasses.replace(options, workspace=workspace)
            cores = 1 if chosen.on_device else options.threads or usable_cores()
            engines = {graph: wrap(graph, engine) for graph, engine in _loaded(load, stack, cores).items()}
            networks = cls(bundle, engines)
            stack.pop_all()
            networks._held = held.pop_all()
            networks._workspace = workspace if cuda_graph else None
            networks._on_device = chosen.on_device
            networks._opened = True
        return networks

    @staticmethod
    def requirements(
        bundle: Bundle, name: str, options: EngineOptions, decoder: str = DEFAULT_DECODER
    ) -> dict[str, dict[str, int]]:
        """Return graph -> bytes on the device by kind, before anything is loaded there.

        Engines that are not built yet are built. Raises the errors of `open`.
        """
        chosen, needs = backend(name), {}
        precision = _device_precision(bundle, chosen, options)
        own = with_own_decoder(decoder, precision, lambda kind: kind.requirements(bundle))
        for graph in GRAPHS:
            if graph == "vae_decoder" and own is not None:
                needs[graph] = own
            else:
                needs[graph] = dict(chosen.requirements(*engine_source(bundle, graph, chosen, options)))
        return {graph: kinds for graph, kinds in needs.items() if kinds}

    def check_open(self) -> None:
        """Raise InputError where they are closed."""
        with self._lock:
            if self._engines is None:
                raise self._closed()

    def encode_image(self, pixels: Array, evidence: Mapping[str, Array] | None = None) -> Condition:
        """Encode pixels [1,3,H,W] in 0..1 as the flow's condition.

        evidence: name -> array for each name of the manifest, as `topos_rt.faces.evidence` returns them;
        None says that no face was seen. Raises InputError for other names or shapes.
        """
        if evidence is None:
            evidence = no_evidence(self._manifest.evidence or ())
        made = self._run("image_encoder", {"pixels": pixels, **evidence}, ("tokens",))
        return Condition(made["tokens"], made.get("estimate"))

    def context(self, tokens: Value) -> Context:
        """Compute what every DiT block attends to from condition tokens [1,T,C], once per image."""
        return self._run("dit_context", {"tokens": tokens}, ("keys", "values"))

    def field(self, context: Context) -> BoundField:
        """Bind the DiT to a context; see `topos_rt.flow.sampling.Field`."""
        return BoundField(self, context)

    def modulation(self, t: float) -> Value:
        """Return the modulation [L,6,C] of every DiT block at time t.

        It depends neither on the latent nor on the image, so it is cached; the least recently used is evicted
        first.
        """
        with self._lock:
            if t in self._modulations:  # put back last: the first is the least recently used
                self._modulations[t] = self._modulations.pop(t)
                return self._modulations[t]
        # Two threads may both come here; they compute the same values.
        feeds = {"time": np.array([t], np.float32)}
        made: Value = self._run("dit_modulation", feeds, ("modulation",))["modulation"]
        with self._lock:
            if self._engines is not None:
                self._modulations[t] = made
            while len(self._modulations) * made.nbytes > _MODULATION_BYTES:
                self._modulations.pop(next(iter(self._modulations)))
        return made

    def decode(self, latent: Array) -> Array:
        """Decode a latent [1,N,D] to positions | normals [V,6] in the networks' frame.

        Raises BackendError for values that are not finite.
        """
        return _finite(self._run("vae_decoder", {"latent": latent})["vertices"][0])

    def latent(self, state: Array, condition: Condition) -> Array:
        """Return the latent of a state [1,N,D] of the flow: itself, or what it is away from the estimate."""
        scale = self._manifest.residual_scale
        if condition.estimate is None or scale is None:
            return state
        return condition.estimate + np.float32(scale) * state

    @property
    def records(self) -> bool:
        """Whether `flow` is offered."""
        return self._workspace is not None

    def flow(self, condition: Condition, start: Array, settings: SamplerSettings) -> Array:
        """Turn a condition and noise [1,N,D] into vertices [V,6], as `decode` returns them.

        This launches one CUDA graph, which is recorded at the first use of the settings and kept for the last
        few of them.

        Raises OptionError for a solver that cannot be recorded, BackendError.
        """
        with self._lock:
            recorded = settings in self._loops
        if not recorded:
            program = flow_program(settings)
            modulations = {evaluation.t: self.modulation(evaluation.t) for evaluation in program}
        with self._lock:
            if self._engines is None:
                raise self._closed()
            if self._workspace is None:
                raise InputError("this pipeline", got="opened without cuda_graph")
            loop = self._loops.pop(settings, None)  # put back last: the first is the least recently used
            if loop is None and not recorded:
                from topos_rt.model.recorded import FlowLoop

                scale = self._manifest.residual_scale
                loop = FlowLoop(self._engines, self._workspace, program, modulations, scale)
            if loop is not None:
                self._loops[settings] = loop
                while len(self._loops) > _MOST_LOOPS:
                    self._loops.pop(next(iter(self._loops))).close()
                return _finite(loop.run(condition.tokens, start, condition.estimate)[0])
        return self.flow(condition, start, settings)  # other threads have evicted it meanwhile

    def encode_points(self, points: Array) -> tuple[Array, Array]:
        """Encode points | normals [1,P,6] in the networks' frame to mean and log-variance [1,N,D]."""
        outputs = self._run("vae_encoder", {"points": points})
        return outputs["mean"], outputs["logvar"]

    def encode_head(self, points: Array, normals: Array, draws: int = 1) -> tuple[Array, Array]:
        """Encode a head of radius 1, upright and facing +Z, to mean and log-variance [1,N,D].

        points, normals: [draws * P,3], with P as the manifest says. The posteriors of the draws are averaged.
        """
        clouds = zip(np.split(points, draws), np.split(normals, draws), strict=True)
        frame = self._manifest.frame
        outputs = [self.encode_points(network_cloud(*cloud, frame)) for cloud in clouds]
        means, logvars = zip(*outputs, strict=True)
        return sum(means) / np.float32(draws), sum(logvars) / np.float32(draws)

    def decode_head(self, latent: Array) -> Array:
        """Decode a latent [1,N,D] to positions [V,3] of a head of radius 1, upright and facing +Z."""
        return self.decode(latent)[:, :3] @ self._manifest.frame.rotation.T

    def forget(self) -> None:
        """Prepare for use in a process that was forked from the one that loaded them.

        Another thread may have held the lock, and it is gone. Engines on a CPU load themselves again; CUDA
        does not work here, so engines on a GPU are left alone for ever.
        """
        self._lock = threading.Lock()
        if self._on_device and self._engines is not None:
            leak([self._engines, self._held, self._loops, self._modulations])
            self._engines, self._held, self._loops, self._modulations = None, ExitStack(), {}, {}
            self._forked = True

    def _closed(self) -> InputError:
        if self._forked:
            return InputError(
                "this pipeline",
                got="a process that was forked after the pipeline was opened on a GPU",
                expected="the process that opened it",
                fix="open it in the child, or use multiprocessing.get_context('spawn')",
            )
        return InputError("this pipeline is closed", got="a call after close()", fix="open it again")

    def close(self) -> None:
        """Close the engines, once the run in progress is over. May be called again."""
        with self._lock:
            engines, self._engines = self._engines, None
            for loop in self._loops.values():
                loop.close()
            self._loops.clear()
            self._modulations.clear()  # on a GPU they are in the engines' memory
            for engine in (engines or {}).values():
                engine.close()
            self._held.close()

    def __del__(self) -> None:
        if self._opened and not sys.is_finalizing():  # at exit the system frees everything
            self.close()

    def _run(self, graph: str, feeds: Mapping[str, Value], keep: Collection[str] = ()) -> dict[str, Any]:
        with self._lock:
            if self._engines is None:
                raise self._closed()
            return self._engines[graph].run(feeds, keep=keep)


_living = in_forked_child(Networks.forget)


def _loaded(load: Callable[[str], Engine], stack: ExitStack, cores: int) -> dict[str, Engine]:
    """Return the engine of every graph; what was loaded is closed with the stack, also where one fails.

    cores: how many to load at once. A session keeps one core busy while it is made.
    """
    if cores == 1:
        return {graph: stack.enter_context(load(graph)) for graph in GRAPHS}
    try:
        with ThreadPoolExecutor(min(cores, len(GRAPHS))) as pool:
            futures = {graph: pool.submit(load, graph) for graph in GRAPHS}
    except RuntimeError:  # no further thread may start: the engines say so, if they need more than one
        return _loaded(load, stack, 1)
    for future in futures.values():
        if future.exception() is None:
            stack.enter_context(future.result())
    return {graph: future.result() for graph, future in futures.items()}


def _device_precision(bundle: Bundle, chosen: Backend, options: EngineOptions) -> str | None:
    """Return the precision of the decoder's engine on a GPU; None on a CPU."""
    return engine_source(bundle, "vae_decoder", chosen, options)[1].precision if chosen.on_device else None


def engine_source(
    bundle: Bundle, graph: str, chosen: Backend, options: EngineOptions
) -> tuple[Path, EngineOptions]:
    """Return the ONNX file that a backend loads, and the options with precision, weights and hashes settled.

    Raises BundleError where FP16 is asked for and the bundle has none, OptionError for a precision that the
    backend does not have.
    """
    precision = options.precision
    if precision is not None and precision not in chosen.precisions:
        raise OptionError(
            "precision",
            got=repr(precision),
            expected=f"{' or '.join(chosen.precisions)}: the backend has no other",
            fix="leave it out, or choose another backend",
        )
    if precision is None:
        has = {"fp16": bundle.manifest.graphs_fp16 is not None, "fp32": True}
        precision = next(name for name in chosen.precisions if has[name])
    path = bundle.graph(graph, precision)
    weights = bundle.weights(path)
    return path, dataclasses.replace(
        options,
        precision=precision,
        weights=() if weights is None else (weights,),
        hashes={bundle.path / file: info.sha256 for file, info in bundle.manifest.files.items()},
    )


@dataclass(frozen=True)
class BoundField:
    """The DiT under one context: a `topos_rt.flow.sampling.Field`."""

    networks: Networks
    context: Context

    def conditional(self, x: Array, t: float) -> Array:
        """Return the velocity [1,N,D] of a latent [1,N,D] at time t."""
        feeds = {"latent": x, "modulation": self.networks.modulation(t), **self.context}
        velocity: Array = self.networks._run("dit_step", feeds)["velocity"]
        return velocity

    def guided(self, x: Array, t: float, w: float) -> tuple[Array, Array]:
        """Return (1 + w) v_cond - w v_uncond and v_cond - v_uncond, each [1,N,D], from one engine run."""
        guidance = np.array([w], np.float32)
        feeds = {"latent": x, "modulation": self.networks.modulation(t), "guidance": guidance, **self.context}
        outputs = self.networks._run("dit_step_guided", feeds)
        return outputs["velocity"], outputs["difference"]


def _finite(vertices: Array) -> Array:
    if not np.isfinite(vertices).all():
        raise BackendError(
            "the networks made a mesh that is not finite",
            got=f"{np.count_nonzero(~np.isfinite(vertices))} NaN or infinite values",
            fix="try another seed, less guidance or another backend",
        )
    return vertices
