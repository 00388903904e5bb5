"""Time the graphs that take several heads at once against those of one head, in turns.

    python -m export random --preset mini --out runs/random-mini
    python -m benchmarks.bench_at_once runs/random-mini --json benchmarks/results/at_once_cpu.json
    python -m benchmarks.bench_at_once BUNDLE --backend tensorrt-rtx --json FILE          # on a GPU

Times are of one head: a run's, divided by the number of its heads. `cpu_ms` is what the run took of the
processors, which hardly depends on what else the machine does, and `wall_ms` the time on the clock. Both are
minima. `difference` is the largest between a head of a run of eight and the same head alone, over the largest
number of the head. Bundles with random weights do, for times do not depend on the values.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import report
from topos_rt.bench.machine import facts, load_average
from topos_rt.bench.work import model_facts
from topos_rt.engines import BACKENDS, EngineOptions, backend
from topos_rt.engines.contract import AT_ONCE, Engine
from topos_rt.errors import BundleError, OptionError
from topos_rt.model import at_once
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import GRAPHS_AT_ONCE
from topos_rt.model.sources import engine_source

_WHOLE = ("keys", "values")  # of which a graph of one head has no first size for it
_SHARED = ("modulation", "guidance")
Feeds = dict[str, np.ndarray]


def main(argv: list[str] | None = None) -> int:
    """Measure, and write the JSON. Return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle")
    parser.add_argument("--backend", choices=BACKENDS, default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    return report(lambda: measure(arguments), arguments.json)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the JSON object. Raises OptionError, BundleError."""
    if not 1 <= arguments.rounds <= 100_000:
        raise OptionError("--rounds", got=arguments.rounds, expected="1 to 100,000")
    bundle, chosen, load = Bundle.open(arguments.bundle), backend(arguments.backend), load_average()
    options = EngineOptions(threads=arguments.threads)
    graphs: dict[str, Any] = {}
    with ExitStack() as held:
        settled = EngineOptions(threads=arguments.threads, workspace=held.enter_context(chosen.workspace()))
        for graph in GRAPHS_AT_ONCE:
            path, alone = engine_source(bundle, graph, chosen, settled)
            if bundle.graph_at_once(graph, alone.precision) is None:
                raise BundleError(
                    f"graphs of several heads in {alone.precision}", got="none", fix="export the bundle again"
                )
            engines: dict[int, Engine] = {1: held.enter_context(chosen.load(path, alone))}
            source = at_once.sources(bundle, alone)[graph]
            for number, engine in chosen.load_at_once(*source, sorted(AT_ONCE)).items():
                engines[number] = held.enter_context(engine)
            graphs[graph] = _timed(engines, arguments.rounds)
            print(graph, graphs[graph], flush=True)
    return {
        "format": "topos_rt.at_once_speed",
        "version": 1,
        "model": model_facts(bundle),
        "machine": facts() | {"load_average_before": load},
        "backend": arguments.backend,
        "precision": engine_source(bundle, "dit_step", chosen, options)[1].precision,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "graphs": graphs,
    }


def _timed(engines: Mapping[int, Engine], rounds: int) -> dict[str, Any]:
    """Return milliseconds of one head by number of heads, and how far heads of the most differ from one."""
    most = max(engines)
    feeds = {number: _first(_feeds(engines[most]), number, engine) for number, engine in engines.items()}
    best = {number: [np.inf, np.inf] for number in engines}
    for turn in range(rounds + 1):
        for number, engine in engines.items():
            cpu, wall = time.process_time(), time.perf_counter()
            engine.run(feeds[number])
            spent = (time.process_time() - cpu, time.perf_counter() - wall)
            if turn:  # the first run is the warm-up
                best[number] = [
                    min(old, 1e3 * new / number) for old, new in zip(best[number], spent, strict=True)
                ]
    together, alone = (engines[number].run(feeds[number]) for number in (most, 1))
    differences = []
    for name, value in alone.items():
        head = together[name][0] if name in _WHOLE else together[name][:1]
        differences.append(float(np.abs(head - value).max() / np.abs(value).max()))
    return {
        "cpu_ms": {str(number): round(found[0], 4) for number, found in best.items()},
        "wall_ms": {str(number): round(found[1], 4) for number, found in best.items()},
        "difference": max(differences),
    }


def _feeds(engine: Engine) -> Feeds:
    """Return random inputs of an engine of several heads; nothing is timed on zeros."""
    draw = np.random.default_rng(0)
    return {name: draw.standard_normal(spec.shape, np.float32) for name, spec in engine.inputs.items()}


def _first(feeds: Feeds, number: int, engine: Engine) -> Feeds:
    """Return the inputs of the first heads, as an engine of that number takes them."""
    made = {name: value if name in _SHARED else value[:number] for name, value in feeds.items()}
    made = {name: value.astype(engine.inputs[name].dtype, copy=False) for name, value in made.items()}
    if number > 1:
        return made
    return {name: value[0] if name in _WHOLE else value for name, value in made.items()}


if __name__ == "__main__":
    raise SystemExit(main())
