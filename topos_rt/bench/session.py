"""Timings of a warm pipeline: of whole heads, or of single graphs on the inputs of a real head."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from topos_rt.bench.watch import Watched
from topos_rt.engines import Engine, EngineOptions, backend, choose_backend
from topos_rt.engines.contract import BuildCallback
from topos_rt.errors import choose
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.networks import FaceNetworks
from topos_rt.formats import ExportOptions, write_glb
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import GRAPHS
from topos_rt.model.networks import Networks
from topos_rt.model.sources import STEPS, engine_source
from topos_rt.pipeline import HeadPipeline

Samples: TypeAlias = dict[str, list[float]]  # name -> milliseconds of each run
Tell: TypeAlias = Callable[[float, str], object]  # receives the share done and what is being done

# The stages of a head in order, their sum, and the export.
STAGES = (
    "image", "face", "evidence", "image_encoder", "dit_context", "dit_step", "vae_decoder", "rig", "fit",
    "texture", "other", "head", "glb",
)  # fmt: skip
HEAD, TO_GLB = "head", "portrait to glb"
_SIDE = 512  # pixels; the picture that is made up if none is given
_WINDOW = 5
_STEADY = 0.02
_LONGEST_WARM_UP_S = 60.0


@dataclass(frozen=True)
class Request:
    """What to measure. Raises OptionError for an unknown graph or precision, or a bad number of threads."""

    model: str = "mini"
    backend: str = "auto"
    precision: str | None = None
    threads: int | None = None
    cache: Path | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)  # keywords of a pipeline's call
    image: str | None = None  # a file; None: random pixels in memory
    seed: int = 0  # of the first run; each following run takes the next one
    graphs: tuple[str, ...] = ()  # measure these alone instead of whole heads

    def __post_init__(self) -> None:
        for graph in self.graphs:
            choose(graph, dict.fromkeys(GRAPHS), "stage")
        EngineOptions(self.threads, self.precision)


class Session:
    """A loaded model with watched engines. Use `opened` to get one."""

    def __init__(
        self, request: Request, pipeline: HeadPipeline, engines: Mapping[str, Watched], options: EngineOptions
    ) -> None:
        self.request, self.pipeline, self.engines, self.options = request, pipeline, engines, options
        self._image: Any = request.image or _random_picture()
        self._next_seed = request.seed
        self.metadata: Mapping[str, Any] = {}  # of the last head

    def head(self) -> dict[str, float]:
        """Make one head and its GLB. Return the milliseconds of each stage and of the sums."""
        seed, self._next_seed = self._next_seed, self._next_seed + 1
        start = time.perf_counter()
        head = self.pipeline(self._image, seed=seed, **self.request.sampling)
        made = time.perf_counter()
        write_glb(head, ExportOptions())
        end = time.perf_counter()
        self.metadata = head.metadata
        stages = {name: 1e3 * s for name, s in head.timings.items() if name != "total"}
        whole = 1e3 * (made - start)
        return stages | {
            "other": whole - sum(stages.values()),
            HEAD: whole,
            "glb": 1e3 * (end - made),
            TO_GLB: 1e3 * (end - start),
        }

    def warm_up(self, least: int, tell: Tell) -> dict[str, Any]:
        """Make heads until they no longer get faster: the medians of two windows of runs are within 2 %.

        This makes at least `least` heads, runs every graph once and takes a minute at most.
        """
        self.pipeline.warm_up()
        samples: list[float] = []
        stop = time.perf_counter() + _LONGEST_WARM_UP_S
        while not (steady := len(samples) >= least and _steady(samples)):
            if time.perf_counter() > stop:
                break
            samples.append(self.head()[HEAD])
            tell(0.0, f"warming up, {len(samples)} heads")
        return {"runs": len(samples), "steady": steady}

    def heads(self, runs: int, tell: Tell) -> Samples:
        """Time whole heads, while the engines time every run of a graph."""
        samples: Samples = {}
        with self.record():
            for run in range(runs):
                tell(run / runs, f"head {run + 1} of {runs}")
                for name, value in self.head().items():
                    samples.setdefault(name, []).append(value)
        return samples

    def alone(self, runs: int, tell: Tell) -> None:
        """Time the requested graphs one by one, each on its last inputs."""
        graphs = self.request.graphs
        if "dit_step_guided" in graphs and not self.engines["dit_step_guided"].feeds:
            self.pipeline.warm_up()
        for number, graph in enumerate(graphs):
            engine = self.engines[graph]
            feeds = engine.feeds
            engine.run(feeds)
            with engine.record():
                for run in range(runs):
                    if run % 10 == 0:
                        tell((number + run / runs) / len(graphs), f"{graph} {run + 1} of {runs}")
                    engine.run(feeds)

    @contextmanager
    def record(self) -> Iterator[None]:
        """Record every run of every engine inside the `with` block."""
        with ExitStack() as stack:
            for engine in self.engines.values():
                stack.enter_context(engine.record())
            yield


@contextmanager
def opened(request: Request, progress: BuildCallback | None = None) -> Iterator[Session]:
    """Load the model of a request with watched engines, and close it at the end.

    Raises what `HeadPipeline.open` raises.
    """
    name, reason = choose_backend(request.backend)
    bundle = Bundle.open(request.model)
    options = EngineOptions(request.threads, request.precision, request.cache, progress=progress)
    settled = engine_source(bundle, STEPS[0], backend(name), options)[1]
    engines: dict[str, Watched] = {}

    def watch(graph: str, engine: Engine) -> Engine:
        engines[graph] = Watched(engine)
        return engines[graph]

    networks = Networks.open(bundle, name, options, wrap=watch)
    # Random pixels show no face, so the face stage is measured on a picture of the caller's only.
    finder = None if request.image is None else FaceFinder(FaceNetworks(name, options))
    with HeadPipeline(bundle, networks, name, reason, finder) as pipeline:
        yield Session(request, pipeline, engines, settled)


def _steady(samples: list[float]) -> bool:
    if len(samples) < 2 * _WINDOW:
        return False
    before, last = np.median(samples[-2 * _WINDOW : -_WINDOW]), np.median(samples[-_WINDOW:])
    return bool(before - last <= _STEADY * before)


def _random_picture() -> np.ndarray:
    """Return [512,512,3] uint8: coarse random patches, so that no stage works on zeros."""
    patches = np.random.default_rng(0).integers(0, 256, (_SIDE // 16, _SIDE // 16, 3), np.uint8)
    return patches.repeat(16, 0).repeat(16, 1)
