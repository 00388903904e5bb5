"""Draw docs/architecture.md from the code: `python docs/make_architecture.py`.

The drawing is a record. The bundled model makes heads from a picture and from a scan; meanwhile a tracker
reports which stage is running, wrapped engines report which ONNX graph, and a profiler sees the rooms whose
code runs. The tensors' names and shapes are those that the runtime checks every bundle against.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
from make_rooms import PACKAGE, imports, layers, rooms
from pages import ROOT, Tables, rewrite, table

from topos_rt import Bundle, HeadPipeline, pipeline
from topos_rt.engines import EngineOptions
from topos_rt.formats import EXPORTERS
from topos_rt.model import contracts as model_contracts
from topos_rt.model.networks import Networks
from topos_rt.support.progress import Tracker
from topos_rt.texture import hair

T = TypeVar("T")

PAGE = ROOT / "docs" / "architecture.md"
# Guidance acts only in some of the steps, so that both ONNX graphs of a step run.
_SAMPLING: dict[str, Any] = {"preset": "balanced", "guidance": 3.0, "interval": (0.0, 0.8)}
_PASSES = 3
_COLUMNS = {0: "a head", 1: "its next seed", 3: f"a scan, {_PASSES} passes"}  # by the call's number
_EVERYWHERE = {"pipeline", "support", "errors"}  # these say nothing about a stage


@dataclass
class Call:
    """The record of how one head was made."""

    stages: list[str] = field(default_factory=list)  # in the order in which they begin
    runs: Counter[str] = field(default_factory=Counter)  # of each ONNX graph


class Watch:
    """The record of what a pipeline does while it makes heads."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.graphs: dict[str, list[str]] = {}  # stage -> its ONNX graphs, in the order of their first runs
        self.rooms: dict[str, set[str]] = {}  # stage -> the rooms whose code runs in it
        self.stage = ""  # the stage that is running

    def tracker(self, *arguments: Any) -> Tracker:
        """Return a tracker that records the stages here."""
        watch, call = self, Call()
        watch.calls.append(call)

        class Listener(Tracker):
            @contextmanager
            def stage(self, name: str) -> Iterator[None]:
                call.stages.append(name)
                with super().stage(name), watch._running(name):
                    yield

            def each(self, name: str, steps: Iterable[T]) -> Iterator[T]:
                call.stages.append(name)
                iterator = iter(steps)
                while True:
                    with watch._running(name):
                        step = list(islice(iterator, 1))
                    if not step:
                        return
                    yield step[0]

        return Listener(*arguments)

    @contextmanager
    def _running(self, stage: str) -> Iterator[None]:
        self.stage = stage
        try:
            yield
        finally:
            self.stage = ""

    def engine(self, graph: str, engine: Any) -> Any:
        """Return an engine that records its runs here."""

        def run(feeds: Any, out: Any = None, keep: Any = ()) -> Any:
            seen = self.graphs.setdefault(self.stage, [])
            seen += [] if graph in seen else [graph]
            self.calls[-1].runs[graph] += 1
            return engine.run(feeds, out, keep)

        return SimpleNamespace(inputs=engine.inputs, outputs=engine.outputs, run=run, close=engine.close)

    def profile(self, frame: FrameType, event: str, _: object) -> None:
        """Record which room's code runs; a callback for `sys.setprofile`."""
        file = frame.f_code.co_filename
        if self.stage and event == "call" and file.startswith(str(PACKAGE)):
            room = Path(file).relative_to(PACKAGE).parts[0].removesuffix(".py")
            self.rooms.setdefault(self.stage, set()).add(room)


@lru_cache
def watched() -> Watch:
    """Return the record of two heads from a picture and two from a scan, the second with `align`."""
    watch, bundle = Watch(), Bundle.open("mini")
    hair.grain.cache_clear()  # what is made once per process is part of the way
    networks = Networks.open(bundle, "onnxruntime", EngineOptions(), decoder="engine", wrap=watch.engine)
    with HeadPipeline(bundle, networks) as pipe, patch.object(pipeline, "Tracker", watch.tracker):
        sys.setprofile(watch.profile)
        try:
            head = pipe(np.full((64, 64, 3), 128, np.uint8), seed=[0, 1], **_SAMPLING)[0]
            scan = head.positions[::4], head.normals[::4]
            pipe.retopologize(*scan, passes=1)
            pipe.retopologize(*scan, passes=_PASSES, align=True)
        finally:
            sys.setprofile(None)
    return watch


@lru_cache
def contracts() -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Return ONNX graph -> its inputs and its outputs, each as name -> shape in letters."""
    sizes = {
        "evidence": Bundle.open("mini").manifest.evidence,
        "residual_scale": Bundle.open("mini").manifest.residual_scale,
        "image": SimpleNamespace(height="H", width="W", tokens="T", channels="C"),
        "latent": SimpleNamespace(tokens="N", channels="D"),
        "points": SimpleNamespace(count="P"),
    }
    letters: Any = SimpleNamespace(
        manifest=SimpleNamespace(**sizes), topology=SimpleNamespace(num_vertices="V")
    )

    def shapes(side: Any) -> dict[str, str]:
        return {
            name: f"[{','.join('·' if size == -1 else str(size) for size in shape)}]"
            for name, shape in side.items()
        }

    return {
        graph: (shapes(inputs), shapes(outputs))
        for graph, (inputs, outputs) in model_contracts.contracts(letters).items()
    }


def _tensors(stage: str, side: int) -> dict[str, str]:
    """Return the inputs (side 0) or outputs (side 1) of a stage's ONNX graphs, but not what they exchange."""
    graphs = watched().graphs.get(stage, [])
    own = [contracts()[graph] for graph in graphs]
    passed = {name for graph in own for name in graph[1 - side]}
    return {name: shape for graph in own for name, shape in graph[side].items() if name not in passed}


def _carried(before: str, after: str) -> str:
    """Return what goes from a stage to the next: the tensors that both have, else those of one."""
    out, into = _tensors(before, 1), _tensors(after, 0)
    both = {name: shape for name, shape in out.items() if name in into}
    return _named(both or into or out)


def _named(tensors: dict[str, str]) -> str:
    """Return the names grouped by shape, as in "keys, values [·,·,T,·]"."""
    shapes: dict[str, list[str]] = {}
    for name, shape in tensors.items():
        shapes.setdefault(shape, []).append(name)
    return "; ".join(f"{', '.join(names)} {shape}" for shape, names in shapes.items())


def _way() -> str:
    """Return the stages and what goes between them as a Mermaid flowchart."""
    first, again, *scans = (call.stages for call in watched().calls)
    steps = list(dict.fromkeys(step for call in watched().calls for step in pairwise(call.stages)))
    lines = [f"scan([scan]) --> {stages[0]}" for stages in scans]  # first, so that its encoder is at the top
    lines.append(f"portrait([portrait]) --> {first[0]}")
    lines.append(f'seed([seed]) -- "noise {contracts()["vae_decoder"][0]["latent"]}" --> {again[0]}')
    lines += [_box(stage) for stage in dict.fromkeys(name for step in steps for name in step)]
    lines += [f'{before} -- "{_carried(before, after)}" --> {after}' for before, after in steps]
    lines.append(f"{first[-1]} --> HeadMesh([HeadMesh])")
    lines.append(f'HeadMesh -- "formats" --> files(["{" ".join(f".{name}" for name in EXPORTERS)}"])')
    return "\n    ".join(["```mermaid\nflowchart TB", *lines]) + "\n```"


def _box(stage: str) -> str:
    """Return the box of a stage: its name, any other ONNX graphs that it runs, and the rooms of its code."""
    graphs = [f"+ {graph}" for graph in watched().graphs.get(stage, []) if graph != stage]
    places = ", ".join(_in_order(watched().rooms[stage] - _EVERYWHERE))
    return f'{stage}["{"<br/>".join([stage, *graphs, f"in {places}"])}"]'


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=rooms().index)


def _graphs() -> str:
    """Return the table of ONNX graphs: their tensors, and how often each runs."""
    rows = []
    for graph, (inputs, outputs) in contracts().items():
        runs = [str(watched().calls[number].runs[graph] or "") for number in _COLUMNS]
        rows.append([f"`{graph}`", _named(inputs), _named(outputs), *runs])
    return table(["ONNX graph", "inputs", "outputs", *_COLUMNS.values()], rows)


def _sizes() -> str:
    """Return the table of what the letters stand for in the bundled model."""
    bundle = Bundle.open("mini")
    image, latent = bundle.manifest.image, bundle.manifest.latent
    sizes = {
        "H": image.height, "W": image.width, "T": image.tokens, "C": image.channels, "N": latent.tokens,
        "D": latent.channels, "P": bundle.manifest.points.count, "V": bundle.topology.num_vertices,
    }  # fmt: skip
    return table(["", *sizes], [["`mini`", *(f"{size:,}" for size in sizes.values())]])


def _rooms() -> str:
    """Return the table of which room imports which."""
    order, found = rooms(), imports()
    level = {room: number for number, layer in enumerate(layers()) for room in layer}
    rows = []
    for room in order:
        names = [f"{name} ↑" if level[name] < level[room] else name for name in _in_order(found[room])]
        by = [name for name in order if room in found[name]]
        rows.append([f"`{room}`", ", ".join(names), ", ".join(by)])
    return table(["room", "imports", "is imported by"], rows)


TABLES: Tables = {"way": _way, "graphs": _graphs, "sizes": _sizes, "imports": _rooms}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
