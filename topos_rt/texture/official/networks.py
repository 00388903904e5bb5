"""The engines of a texture bundle, and the transformer that they make together.

Sections run one after another; what one gives to the next stays on the GPU. What depends on the time alone is
computed once for all times of a run, section by section, and its networks, a third of the weights, are closed
again before the others are loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from topos_rt.engines import Engine, EngineOptions, backend
from topos_rt.engines.contract import Value
from topos_rt.errors import InputError
from topos_rt.support.arrays import Array
from topos_rt.support.closing import Closing
from topos_rt.texture.official.bundle import TextureBundle
from topos_rt.texture.official.contracts import TERMS, check_contract
from topos_rt.texture.official.manifest import wrong_precision
from topos_rt.texture.official.schedule import network_time

ABSENT = -30000.0  # in a mask, for tokens that pad a prompt; `models.qwen_image` has the same
Modulations: TypeAlias = Mapping[float, tuple[Array, ...]]  # time -> the modulation of every section
_ON_ITS_WAY = 4  # kept modulations: times of so many runs with other steps


@dataclass(frozen=True, eq=False)
class Branch:
    """What one branch of guidance is conditioned on."""

    text: Value  # [1,T,D], after `text_in`
    mask: Array  # [1,T]
    reference: Value  # [1,R,C]


class TextureNetworks(Closing):
    """Runs the graphs of a texture bundle. Not safe to use from several threads at once.

    resident: keep the sections loaded between runs; False loads each for every run and closes it again, for
    GPUs, or machines, that cannot hold all of them.
    """

    def __init__(
        self,
        bundle: TextureBundle,
        name: str,
        options: EngineOptions,
        precision: str | None = None,
        resident: bool = True,
    ) -> None:
        """Prepare engines for the backend `name`; each is loaded when it is first used.

        precision: one of `manifest.PRECISIONS`; None takes FP32 on a CPU, else the bundle's fastest. Raises
        OptionError for an unknown backend, BundleError for a precision that the bundle does not have.
        """
        self._bundle = bundle
        self._backend = backend(name)
        self._options = options
        self.precision = settled_precision(bundle, name, precision)
        self._resident = resident
        self._held: ExitStack | None = ExitStack()
        self._workspace: Any = None
        self._engines: dict[str, Engine] = {}
        self._texts: tuple[tuple[Value, Array], ...] = ()
        self._modulations: dict[float, tuple[Array, ...]] = {}

    def encode(self, picture: Array) -> Value:
        """Return the tokens [1,R,C] of a picture [1,3,H,W] in -1..1, which may stay on the GPU."""
        made: Value = self._run("vae_encoder", {"picture": picture}, ("reference",))["reference"]
        return made

    def decode(self, latent: Value) -> Array:
        """Return the picture [1,3,S,S] in -1..1 of a latent [1,N,C]."""
        picture: Array = self._run("vae_decoder", {"latent": latent})["picture"]
        return picture

    def texts(self) -> tuple[tuple[Value, Array], ...]:
        """Return the text stream and the mask of the prompt and of the negative prompt."""
        if not self._texts:
            prompts, made = self._bundle.prompts, []
            for prompt, count in zip((prompts.positive, prompts.negative), prompts.tokens, strict=True):
                mask = np.full((1, prompt.shape[1]), ABSENT, np.float32)
                mask[:, :count] = 0
                made.append((self._run("text_in", {"prompt": prompt}, ("text",))["text"], mask))
            self._texts = tuple(made)
        return self._texts

    def prepare(self, times: Iterable[float]) -> Iterator[tuple[int, int]]:
        """Compute the modulations of all times. Yields the sections done and their number."""
        names = self._bundle.manifest.modulation_names()
        new = sorted(set(times).difference(self._modulations), reverse=True)
        if not new:
            return
        schedule = self._bundle.manifest.schedule
        rows: dict[float, list[Array]] = {time: [] for time in new}
        for number, name in enumerate(names, 1):
            with self._open(name) as engine:
                for time in new:
                    rows[time].append(engine.run({"time": network_time(schedule, time)})["modulation"])
            yield number, len(names)
        if len(self._modulations) > _ON_ITS_WAY * len(new):
            self._modulations.clear()
        self._modulations |= {time: tuple(made) for time, made in rows.items()}

    def velocity(self, latent: Value, time: float, branch: Branch) -> Value:
        """Return the velocity [1,N,C] at a latent [1,N,C] and a prepared time."""
        fed = {"latent": latent, "reference": branch.reference}
        image: Value = self._run("entry", fed, ("image",))["image"]
        text = branch.text
        names = self._bundle.manifest.section_names()
        for name, modulation in zip(names, self._modulations[time], strict=True):
            streams = {"image": image, "text": text, "mask": branch.mask, "modulation": modulation}
            made = self._run(name, streams, ("image_out", "text_out"), passing=True)
            image, text = made["image_out"], made["text_out"]
        at = network_time(self._bundle.manifest.schedule, time)
        out: Value = self._run("exit", {"image": image, "time": at}, ("velocity",))["velocity"]
        return out

    def guide(self, conditional: Value, unconditional: Value, w: float) -> tuple[Value, Value]:
        """Return the guided velocity, as long as the conditional one in every token, and what w moves."""
        fed = {
            "conditional": conditional,
            "unconditional": unconditional,
            "guidance": np.array([w], np.float32),
        }
        made = self._run("guide", fed, ("velocity", "difference"))
        return made["velocity"], made["difference"]

    def advance(self, terms: list[tuple[Value, float]]) -> Value:
        """Return the sum of up to TERMS arrays [1,N,C], each times its weight."""
        weights = np.zeros(TERMS, np.float32)
        weights[: len(terms)] = [weight for _, weight in terms]
        arrays = [array for array, _ in terms] + [terms[0][0]] * (TERMS - len(terms))
        fed: dict[str, Value] = {f"term_{k}": array for k, array in enumerate(arrays)}
        made: Value = self._run("advance", fed | {"weights": weights}, ("sum",))["sum"]
        return made

    def close(self) -> None:
        """Free what the engines hold. Later calls raise InputError."""
        held, self._held = self._held, None
        self._engines, self._texts = {}, ()
        if held is not None:
            held.close()

    def _run(
        self, graph: str, feeds: Mapping[str, Value], keep: Collection[str] = (), passing: bool = False
    ) -> dict[str, Any]:
        """Run a graph; `passing`: it is one of the sections, which need not stay loaded."""
        if passing and not self._resident:
            with self._open(graph) as engine:
                return engine.run(feeds)
        if graph not in self._engines:
            engine = self._load(graph)
            assert self._held is not None
            self._engines[graph] = self._held.enter_context(engine)
        return self._engines[graph].run(feeds, keep=keep)

    @contextmanager
    def _open(self, graph: str) -> Iterator[Engine]:
        """Load a graph for a while. Nothing that it computes may stay on the GPU."""
        with self._load(graph) as engine:
            yield engine

    def _load(self, graph: str) -> Engine:
        if self._held is None:
            raise InputError("texture networks", got="a call after close()", fix="open them again")
        if self._workspace is None:
            self._workspace = self._held.enter_context(self._backend.workspace())
        path, options = self._bundle.source(graph, self.precision, shared(self._options, self._workspace))
        engine = self._backend.load(path, options)
        try:
            check_contract(self._bundle.manifest, graph, engine)
        except BaseException:
            engine.close()
            raise
        return engine


def shared(options: EngineOptions, workspace: Any) -> EngineOptions:
    """Return options of an engine that shares a workspace."""
    return EngineOptions(options.threads, None, options.cache, progress=options.progress, workspace=workspace)


def settled_precision(bundle: TextureBundle, name: str, precision: str | None) -> str:
    """Return the precision that a backend runs a bundle in. Raises BundleError where the bundle lacks it."""
    found = bundle.manifest.precisions()
    if precision is None:
        return found[0] if backend(name).on_device else "fp32"
    if precision not in found:
        raise wrong_precision(precision, bundle.manifest)
    return precision
