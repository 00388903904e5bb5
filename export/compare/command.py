"""`python -m export compare`: measure how far the engines of a bundle's graphs are off, and judge it.

Two engines of each graph run on what the graph is fed between a portrait and a head; NVIDIA's Polygraphy
measures and judges. The limits are measured too: an FP16 engine may differ from the reference by twice what
the same roundings cost in FP32 on a CPU. That emulation in turn may differ by twice what FP16 throughout
costs, and an FP32 engine by 1e-5 of the values. The exit code is 0 where all are within their limits, else 1.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.compare.fp16_emulation import LARGEST_FP16, Emulated, emulated_form, naive_form
from export.onnx.example_feeds import SETTINGS, example_feeds
from topos_rt import __version__
from topos_rt.bench.work import model_facts
from topos_rt.engines import BUILDERS, Engine, EngineOptions, backend
from topos_rt.errors import MissingExtraError, choose
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import GRAPHS
from topos_rt.model.sources import engine_source
from topos_rt.support.arrays import Array
from topos_rt.support.files import check_writable, write_atomic

if TYPE_CHECKING:
    from export.compare.judge import Verdict

AUTO = "auto"
PORTRAIT = Path(__file__).parents[2] / "examples/astronaut.jpg"
_WORTH_TELLING = 0.5  # share of FP16's range from which a line says how large the values are
_POSITIONS = "vertices"  # name of the output whose first three columns are positions


@dataclass(frozen=True)
class Runner:
    """A way to run a graph."""

    backend: str
    precision: str  # precision of the bundle's form that it runs or changes
    what: str
    form: Callable[[Path, Path], None] | None = None  # writes the graph to run; None: it runs the form itself
    yardstick: Runner | None = None  # twice its error is the limit; None for FP32


_NAIVE = Runner("onnxruntime", "fp32", "every value rounded to FP16", naive_form)
_EMULATED = Runner("onnxruntime", "fp16", "FP16 forms emulated on the CPU", emulated_form, _NAIVE)
RUNNERS: dict[str, Runner] = {
    "onnxruntime": Runner("onnxruntime", "fp32", "FP32"),
    "onnxruntime-fp16": _EMULATED,
    "tensorrt-rtx": Runner("tensorrt-rtx", "fp16", "FP16 engines", yardstick=_EMULATED),
    "tensorrt-rtx-fp32": Runner("tensorrt-rtx", "fp32", "FP32 engines"),
    "tensorrt": Runner("tensorrt", "fp16", "FP16 engines", yardstick=_EMULATED),
    "tensorrt-fp32": Runner("tensorrt", "fp32", "FP32 engines"),
}
REFERENCES = {name: runner for name, runner in RUNNERS.items() if runner.yardstick is None}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `compare`."""
    parser.add_argument("bundle", metavar="BUNDLE", help="directory of a bundle, or mini")
    parser.add_argument(
        "--graph",
        metavar="NAME",
        nargs="+",
        action="extend",
        help=f"graphs to compare (default: all of {', '.join(GRAPHS)})",
    )
    parser.add_argument(
        "--a",
        metavar="RUNNER",
        default="onnxruntime",
        help=f"reference, in FP32: {'|'.join(REFERENCES)} (default: %(default)s)",
    )
    parser.add_argument(
        "--b",
        metavar="RUNNER",
        default=AUTO,
        help=f"runner to judge: {'|'.join(RUNNERS)} (default: FP16 engines where a GPU runs "
        "them, else onnxruntime-fp16)",
    )
    parser.add_argument(
        "--image",
        metavar="FILE",
        type=Path,
        default=PORTRAIT,
        help=f"portrait to take the inputs from (default: {PORTRAIT.parent.name}/{PORTRAIT.name})",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="number of CPU threads (default: all cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers of every run to FILE")


def run(arguments: argparse.Namespace) -> int:
    """Compare, and print a table. Return the exit code: 0 all within their limits, 1 not.

    Raises ToposError for what cannot be compared here, before any work where that can be known.
    """
    table_of_graphs = {graph: graph for graph in GRAPHS}
    graphs = [choose(name, table_of_graphs, "graph") for name in dict.fromkeys(arguments.graph or GRAPHS)]
    options = EngineOptions(arguments.threads)
    a = choose(arguments.a, REFERENCES, "reference")
    b_name, note = _settle(arguments.b)
    b = RUNNERS[b_name]
    told = {"a": _about(arguments.a, a), "b": _about(b_name, b)}
    polygraphy = _polygraphy_version()
    if arguments.json is not None:
        check_writable(arguments.json, parents=True)
    bundle = Bundle.open(arguments.bundle)
    for runner in (a, b):
        bundle.graph(graphs[0], runner.precision)
    print(f"{bundle.manifest.name}: {told['b']}\nagainst {told['a']}, judged by Polygraphy {polygraphy}")
    if note:
        print(note)
    feeds = example_feeds(bundle, arguments.image, arguments.seed, arguments.threads)
    print(_row("graph", "output", "runs", "max abs", "mean abs", "rel. RMS", "limit", "of limit"), flush=True)
    rows = {}
    with tempfile.TemporaryDirectory(prefix="topos-rt-") as folder:
        for graph in graphs:
            rows[graph] = compare_graph(bundle, graph, (a, b), feeds[graph], options, Path(folder))
            print("\n".join(_lines(graph, rows[graph])), flush=True)
    beyond = [graph for graph, row in rows.items() if not row["agree"]]
    print(f"beyond its limit: {', '.join(beyond)}" if beyond else "all within their limits")
    if arguments.json is not None:
        report = {
            "command": f"python -m export compare {bundle.manifest.name} --a {arguments.a} --b {b_name}",
            "topos_rt": __version__,
            "polygraphy": polygraphy,
            "model": model_facts(bundle),
            **told,
            "image": arguments.image.name,
            "seed": arguments.seed,
            "sampling": SETTINGS,
            "agree": not beyond,
            "graphs": rows,
        }
        write_atomic(arguments.json, (json.dumps(report, indent=2) + "\n").encode(), parents=True)
    return 1 if beyond else 0


def compare_graph(
    bundle: Bundle,
    graph: str,
    runners: tuple[Runner, Runner],
    feeds: Sequence[Mapping[str, Array]],
    options: EngineOptions,
    folder: Path,
) -> dict[str, Any]:
    """Judge the second runner by the first, its reference, on `feeds`; return the graph's part of the report.

    folder: a place for emulated forms and their weights, which all graphs share.

    Raises BackendError where an engine fails, and what `topos_rt.engines` raise where one cannot be loaded.
    """
    from export.compare.judge import judge

    emulated: list[Emulated] = []

    def maker(runner: Runner) -> Callable[[], Engine]:
        return partial(_load, bundle, graph, runner, options, folder, emulated)

    a, b = runners
    yardstick = None if b.yardstick is None else maker(b.yardstick)
    runs = judge(maker(a), maker(b), yardstick, feeds)
    outputs = {name: [_facts(run[name], bundle.manifest.frame.radius_m) for run in runs] for name in runs[0]}
    row: dict[str, Any] = {"agree": all(fact["passed"] for facts in outputs.values() for fact in facts)}
    largest = max((engine.largest for engine in emulated), default=0.0)
    if largest:
        row["largest_cast_to_fp16"] = largest
        # The emulation goes on beyond FP16's range, where an engine cannot.
        row["agree"] &= b.form is None or largest <= LARGEST_FP16
    return row | {"outputs": outputs}


def _load(
    bundle: Bundle, graph: str, runner: Runner, options: EngineOptions, folder: Path, emulated: list[Emulated]
) -> Engine:
    module = backend(runner.backend)
    if runner.form is None:
        settled = replace(options, precision=runner.precision)
        path, settled = engine_source(bundle, graph, module, settled)
        return module.load(path, replace(settled, halved=frozenset()))  # both take the same inputs
    target = folder / f"{graph}.{runner.precision}.onnx"
    runner.form(bundle.graph(graph, runner.precision), target)
    engine = Emulated(module.load(target, options))
    emulated.append(engine)
    return engine


def _facts(verdict: Verdict, radius_m: float) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "max_abs": verdict.errors.max_abs,
        "max_abs_limit": verdict.limits.max_abs,
        "mean_abs": verdict.errors.mean_abs,
        "relative_rms": verdict.relative_rms,
        "relative_rms_limit": verdict.relative_rms_limit,
        "of_limit": verdict.of_limit,
    }
    if verdict.name == _POSITIONS:
        apart = verdict.found[..., :3].astype(np.float64) - verdict.reference[..., :3]
        mm = 1000 * radius_m * np.linalg.norm(apart, axis=-1)
        facts |= {"mean_mm": mm.mean(), "p99_mm": np.percentile(mm, 99), "max_mm": mm.max()}
    # JSON has no NaN and no infinity.
    facts = {key: float(value) if math.isfinite(value) else None for key, value in facts.items()}
    return facts | {"passed": verdict.passed}


def _lines(graph: str, row: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each output, with the worst of its runs in each column."""
    for name, facts in row["outputs"].items():

        def worst(key: str, form: str = ".2e", facts: list[dict[str, Any]] = facts) -> str:
            values = [fact[key] for fact in facts]
            return "not finite" if None in values else format(max(values), form)

        line = _row(
            graph,
            name,
            str(len(facts)),
            worst("max_abs"),
            worst("mean_abs"),
            worst("relative_rms"),
            worst("relative_rms_limit"),
            worst("of_limit", ".2f"),
        )
        if "mean_mm" in facts[0]:
            told = ", ".join(f"{key} {worst(f'{key}_mm', '.4f')}" for key in ("mean", "p99", "max"))
            line += f"  {told} mm"
        yield line if all(fact["passed"] for fact in facts) else f"{line}  BEYOND"
    if "largest_cast_to_fp16" in row and row["largest_cast_to_fp16"] > _WORTH_TELLING * LARGEST_FP16:
        yield f"{graph:<16}casts values up to {row['largest_cast_to_fp16']:.0f} to FP16, which ends at 65504"


def _row(*cells: str) -> str:
    graph, output, *numbers = cells
    return f"{graph:<16}{output:<11}{numbers[0]:>5}" + "".join(f"{number:>11}" for number in numbers[1:])


def _settle(name: str) -> tuple[str, str]:
    """Return the runner that --b means here, and a line on what is missing."""
    if name != AUTO:
        choose(name, {AUTO: "", **RUNNERS}, "runner")
        return name, ""
    probes = {engine: backend(engine).probe() for engine in BUILDERS}
    for engine, probe in probes.items():
        if probe.error is None:
            return engine, ""
    return "onnxruntime-fp16", (
        "the engines themselves need an NVIDIA GPU, there with --b "
        f"{' or '.join(BUILDERS)}; here {'; '.join(f'{k}: {p.detail}' for k, p in probes.items())}"
    )


def _about(name: str, runner: Runner) -> str:
    probe = backend(runner.backend).probe()
    if probe.error is not None:
        raise probe.error
    return f"{name}, {runner.what} ({probe.detail})"


def _polygraphy_version() -> str:
    try:
        import polygraphy
    except ImportError as error:
        raise MissingExtraError.needs("python -m export compare", "compare") from error
    return str(polygraphy.__version__)
