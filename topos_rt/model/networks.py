"""The engines of a bundle, checked against its manifest, each behind its own method."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from topos_rt.engines import Engine, EngineOptions, backend
from topos_rt.engines.contract import Value, Workspace
from topos_rt.errors import BackendError, InputError, OptionError
from topos_rt.flow.program import flow_program
from topos_rt.flow.settings import SamplerSettings
from topos_rt.model import at_once
from topos_rt.model.bundle import Bundle
from topos_rt.model.contracts import check_at_once, check_contracts
from topos_rt.model.decoders import DEFAULT_DECODER, with_own_decoder
from topos_rt.model.evidence import no_evidence
from topos_rt.model.frame import network_cloud
from topos_rt.model.manifest import GRAPHS
from topos_rt.model.one_by_one import OneByOne
from topos_rt.model.sources import STEPS, device_precision, engine_source
from topos_rt.support.arrays import Array
from topos_rt.support.closing import Closing
from topos_rt.support.forks import in_forked_child, leak
from topos_rt.support.machine import usable_cores

if TYPE_CHECKING:
    from topos_rt.model.recorded import FlowLoop

# Keys and values of every DiT block: [L,heads,T,hd] or [B,L,heads,T,hd].
Context: TypeAlias = Mapping[str, Value]
AtOnce: TypeAlias = Mapping[int, Mapping[str, Engine]]  # number of heads -> graph -> engine
Wrap: TypeAlias = Callable[[str, Engine], Engine]
_MOST_LOOPS = 4
_SELDOM = ("dit_step_guided", "vae_encoder")  # graphs that a portrait's head may do without
_BUSY = ("image_encoder", *STEPS)  # graphs that most of a head's time goes to
_MODULATION_BYTES = 64 << 20  # two time grids of the largest model


class Condition(NamedTuple):
    """What the flow is told of an image, or of B images."""

    tokens: Value  # [B,T,C]; those of one image stay where they are computed
    estimate: Array | None  # [B,N,D] the latents that the encoder estimates, where the model does that

    @classmethod
    def joined(cls, ones: Sequence[Condition]) -> Condition:
        """Return several of one image each as one; their tokens must be on the host."""
        if len(ones) == 1:
            return ones[0]
        tokens = np.concatenate([one.tokens for one in ones])
        estimates = [one.estimate for one in ones if one.estimate is not None]
        return cls(tokens, np.concatenate(estimates) if estimates else None)


class Networks(Closing):
    """Runs the graphs of one bundle.

    Networks are safe to use from several threads: a lock is held for one engine run at a time and never
    longer, so none is held while a caller's code runs. Networks that `open` loaded close themselves when they
    are dropped: engines would free themselves, but what they share would not.
    """

    _opened = False  # set by `open`: engines that a caller passed in may be in use elsewhere

    def __init__(self, bundle: Bundle, engines: Mapping[str, Engine], several: AtOnce | None = None) -> None:
        """Take over one engine for each graph, and those of GRAPHS_AT_ONCE for numbers of heads.

        Raises BundleError where one is not as the manifest says.
        """
        self._manifest = bundle.manifest
        self._lock = threading.Lock()
        self._engines: dict[str, Engine] | None = dict(engines)
        self._held = ExitStack()  # what to close after the engines
        self._workspace: Workspace | None = None  # only where CUDA graphs are recorded
        self._loops: dict[tuple[SamplerSettings, int], FlowLoop] = {}
        self._modulations: dict[float, Value] = {}
        self._on_device = False
        self._forked = False
        check_contracts(bundle, self._engines)
        self._at_once: dict[int, dict[str, Engine]] = {}
        for number, own in (several or {}).items():
            check_at_once(bundle, own, number)
            decoder = OneByOne(self._engines["vae_decoder"], number)
            self._at_once[number] = {**own, "vae_decoder": decoder}
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
        batch: int = 1,
    ) -> Networks:
        """Load all graphs with the backend `name`; close what was loaded again if anything fails.

        Args:
            decoder: one of DECODERS, for the VAE's decoder.
            cuda_graph: whether to offer `flow`.
            wrap: returns what to use in place of a graph's engine, which it closes with itself.
            batch: the largest number of heads to be made at once: 1, or one of AT_ONCE. It stays 1 where the
                backend gains nothing from more, or the bundle has no graphs for it in this precision.

        Raises:
            OptionError: an unknown backend or decoder, another batch, or a CUDA graph where there is no GPU.
            BundleError, BackendError, InputError: as `HeadPipeline.open`.
        """
        chosen = backend(name)
        settled = engine_source(bundle, "dit_step", chosen, options)[1]
        numbers = at_once.numbers_for(bundle, chosen, settled.precision, batch)
        if cuda_graph and not chosen.on_device:
            raise OptionError("cuda_graph", got=f"the backend {name}", expected="one that runs on a GPU")

        def load(graph: str) -> Engine:
            if graph == "vae_decoder":
                precision = device_precision(bundle, chosen, options)
                own = with_own_decoder(decoder, precision, lambda kind: kind.open(bundle, options.threads))
                if own is not None:
                    return own
            path, own_options = engine_source(bundle, graph, chosen, options)
            return chosen.load(
                path, dataclasses.replace(own_options, defer=graph in _SELDOM, busy=graph in _BUSY)
            )

        with ExitStack() as held, ExitStack() as stack:
            workspace = held.enter_context(chosen.workspace())
            options = dataclasses.replace(options, workspace=workspace)
            cores = 1 if chosen.on_device else options.threads or usable_cores()
            engines = {graph: wrap(graph, engine) for graph, engine in _loaded(load, stack, cores).items()}
            settled = dataclasses.replace(settled, workspace=workspace)
            networks = cls(bundle, engines, at_once.load(bundle, chosen, settled, numbers, stack))
            stack.pop_all()
            networks._held = held.pop_all()
            networks._workspace = workspace if cuda_graph else None
            networks._on_device = chosen.on_device
            networks._opened = True
        return networks

    @staticmethod
    def requirements(
        bundle: Bundle, name: str, options: EngineOptions, decoder: str = DEFAULT_DECODER, batch: int = 1
    ) -> dict[str, dict[str, int]]:
        """Return graph -> bytes on the device by kind, before anything is loaded there.

        Engines that are not built yet are built. Graphs of several heads are told apart as "GRAPH at once",
        with what all numbers of AT_ONCE need. Raises the errors of `open`.
        """
        chosen, needs = backend(name), {}
        precision = device_precision(bundle, chosen, options)
        own = with_own_decoder(decoder, precision, lambda kind: kind.requirements(bundle))
        for graph in GRAPHS:
            if graph == "vae_decoder" and own is not None:
                needs[graph] = own
            else:
                needs[graph] = dict(chosen.requirements(*engine_source(bundle, graph, chosen, options)))
        settled = engine_source(bundle, "dit_step", chosen, options)[1]
        if at_once.numbers_for(bundle, chosen, settled.precision, batch):
            for graph, source in at_once.sources(bundle, settled).items():
                needs[f"{graph} at once"] = dict(chosen.requirements(*source))
        return {graph: kinds for graph, kinds in needs.items() if kinds}

    @property
    def numbers(self) -> tuple[int, ...]:
        """How many heads can be made at once, the largest number first and 1 last."""
        return (*sorted(self._at_once, reverse=True), 1)

    def check_open(self) -> None:
        """Raise InputError where they are closed."""
        with self._lock:
            if self._engines is None:
                raise self._closed()

    def encode_image(
        self, pixels: Array, evidence: Mapping[str, Array] | None = None, keep: bool = True
    ) -> Condition:
        """Encode pixels [1,3,H,W] in 0..1 as the flow's condition.

        evidence: name -> array for each name of the manifest, as `topos_rt.faces.evidence` returns them;
        None says that no face was seen. keep: leave the tokens where they are computed, or bring them to the
        host. Raises InputError for other names or shapes.
        """
        if evidence is None:
            evidence = no_evidence(self._manifest.evidence or ())
        made = self._run("image_encoder", {"pixels": pixels, **evidence}, ("tokens",) if keep else ())
        return Condition(made["tokens"], made.get("estimate"))

    def context(self, tokens: Value) -> Context:
        """Compute what every DiT block attends to from condition tokens [B,T,C], B one of `numbers`."""
        return self._run("dit_context", {"tokens": tokens}, ("keys", "values"), len(tokens))

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
        """Return the latents of a state [B,N,D] of the flow: itself, or what it is away from the estimate."""
        scale = self._manifest.residual_scale
        if condition.estimate is None or scale is None:
            return state
        return condition.estimate + np.float32(scale) * state

    @property
    def records(self) -> bool:
        """Whether `flow` is offered."""
        return self._workspace is not None

    def flow(self, condition: Condition, start: Array, settings: SamplerSettings) -> Array:
        """Turn a condition and noise [B,N,D] into vertices [B,V,6], each as `decode` returns them.

        This launches one CUDA graph, which is recorded at the first use of the settings and of this B, one of
        `numbers`, and kept for the last few of them.

        Raises OptionError for a solver that cannot be recorded, BackendError.
        """
        key, number = (settings, len(start)), len(start)
        with self._lock:
            recorded = key in self._loops
        if not recorded:
            program = flow_program(settings)
            modulations = {evaluation.t: self.modulation(evaluation.t) for evaluation in program}
        with self._lock:
            if self._engines is None:
                raise self._closed()
            if self._workspace is None:
                raise InputError("this pipeline", got="opened without cuda_graph")
            loop = self._loops.pop(key, None)  # put back last: the first is the least recently used
            if loop is None and not recorded:
                from topos_rt.model.recorded import FlowLoop

                scale = self._manifest.residual_scale
                own = self._engines | self._at_once.get(number, {})
                loop = FlowLoop(own, self._workspace, program, modulations, scale)
            if loop is not None:
                self._loops[key] = loop
                while len(self._loops) > _MOST_LOOPS:
                    self._loops.pop(next(iter(self._loops))).close()
                return _finite(loop.run(condition.tokens, start, condition.estimate))
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
            leak([self._engines, self._at_once, self._held, self._loops, self._modulations])
            self._engines, self._held, self._loops, self._modulations = None, ExitStack(), {}, {}
            self._at_once = {}
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
            several, self._at_once = self._at_once, {}
            for own in (engines or {}, *several.values()):
                for engine in own.values():
                    engine.close()
            self._held.close()

    def __del__(self) -> None:
        if self._opened and not sys.is_finalizing():  # at exit the system frees everything
            self.close()

    def _run(
        self, graph: str, feeds: Mapping[str, Value], keep: Collection[str] = (), number: int = 1
    ) -> dict[str, Any]:
        """Run a graph once; number: of the heads in `feeds`, one of `numbers`."""
        with self._lock:
            if self._engines is None:
                raise self._closed()
            own = self._engines if number == 1 else self._at_once[number]
            return own[graph].run(feeds, keep=keep)


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


@dataclass(frozen=True)
class BoundField:
    """The DiT under one context: a `topos_rt.flow.sampling.Field`."""

    networks: Networks
    context: Context

    def conditional(self, x: Array, t: float) -> Array:
        """Return the velocity [B,N,D] of a latent [B,N,D] at time t."""
        feeds = {"latent": x, "modulation": self.networks.modulation(t), **self.context}
        velocity: Array = self.networks._run("dit_step", feeds, number=len(x))["velocity"]
        return velocity

    def guided(self, x: Array, t: float, w: float) -> tuple[Array, Array]:
        """Return (1 + w) v_cond - w v_uncond and v_cond - v_uncond, each [B,N,D], from one engine run."""
        guidance = np.array([w], np.float32)
        feeds = {"latent": x, "modulation": self.networks.modulation(t), "guidance": guidance, **self.context}
        outputs = self.networks._run("dit_step_guided", feeds, number=len(x))
        return outputs["velocity"], outputs["difference"]


def _finite(vertices: Array) -> Array:
    if not np.isfinite(vertices).all():
        raise BackendError(
            "the networks made a mesh that is not finite",
            got=f"{np.count_nonzero(~np.isfinite(vertices))} NaN or infinite values",
            fix="try another seed, less guidance or another backend",
        )
    return vertices
