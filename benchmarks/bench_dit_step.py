"""Time the sampling loop with the folded DiT against the plain one, on random weights of mini's size.

    python -m benchmarks.bench_dit_step [--steps 50] [--rounds 8] [--json FILE]

Both run in onnxruntime, in turns in the same process; A/A is the folded form against itself. One loop
consists of the condition's context, if there is one, and `steps` guided Euler steps. This needs the extra
`export`.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import write_result
from export import random
from export.generated import generate
from export.onnx.files import write_graphs
from export.onnx.graphs import OnnxGraph, PlainDitStepGraph, build_graphs
from models import FastDiT
from topos_rt import __version__
from topos_rt.engines import EngineOptions
from topos_rt.engines.onnxruntime import OnnxRuntimeEngine, load, probe
from topos_rt.flow.sampling import noise
from topos_rt.flow.settings import time_grid

GUIDANCE = 3.0
Loop = Callable[[], np.ndarray]


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if min(arguments.steps, arguments.rounds) < 1:
        parser.error("--steps and --rounds: expected 1 or more")
    with tempfile.TemporaryDirectory() as folder:
        loops, tokens = _loops(Path(folder), arguments.steps, EngineOptions(arguments.threads))
        result = _measure(loops, arguments.rounds)
    result = _about(arguments) | {"condition_tokens": tokens} | result
    for name, row in result["ms"].items():
        print(f"{name:<8} min {row['min']:8.1f}  p50 {row['p50']:8.1f}  ms  n {row['n']}")
    print(
        f"plain / folded {result['speedup']:.3f}   folded / itself {result['a_a']:.3f}"
        f"   largest difference {result['largest_difference']:.1e}"
    )
    if arguments.json:
        write_result(arguments.json, result)


def _loops(folder: Path, steps: int, options: EngineOptions) -> tuple[dict[str, Loop], int]:
    preset = random.mini()
    vae, plain, encoder = random.draw(preset, generate(preset.recipe).hierarchy, 0)
    graphs = build_graphs(encoder, FastDiT(plain), vae, preset.image_size, preset.points)
    tokens = graphs["dit_context"].inputs["tokens"]
    start = noise(0, (1, *plain.latent_shape))
    inputs = {"latent": torch.from_numpy(start), "time": torch.tensor([0.5]), "tokens": tokens}
    graphs = {name: graph for name, graph in graphs.items() if name.startswith("dit_")}
    graphs["plain"] = OnnxGraph(PlainDitStepGraph(plain), inputs, ("velocity",))
    files = write_graphs(graphs, folder)
    engines = {name: load(folder / file, options) for name, file in files.items()}
    times, condition = time_grid(steps), tokens.numpy()
    return {
        "plain": lambda: _plain(engines["plain"], start, times, condition),
        "folded": lambda: _folded(engines, start, times, condition),
    }, tokens.shape[1]


def _plain(
    engine: OnnxRuntimeEngine, x: np.ndarray, times: tuple[float, ...], tokens: np.ndarray
) -> np.ndarray:
    none = np.zeros_like(tokens)
    for t, t_next in itertools.pairwise(times):
        feeds = {"latent": x, "time": np.array([t], np.float32)}
        v, v0 = (engine.run({**feeds, "tokens": c})["velocity"] for c in (tokens, none))
        x = x - (t - t_next) * ((1 + GUIDANCE) * v - GUIDANCE * v0)
    return x


def _folded(
    engines: dict[str, OnnxRuntimeEngine], x: np.ndarray, times: tuple[float, ...], tokens: np.ndarray
) -> np.ndarray:
    """Run one loop, computing the modulation again each time, although a pipeline keeps it."""
    context = engines["dit_context"].run({"tokens": tokens})
    w = np.array([GUIDANCE], np.float32)
    for t, t_next in itertools.pairwise(times):
        modulation = engines["dit_modulation"].run({"time": np.array([t], np.float32)})
        v = engines["dit_step_guided"].run({"latent": x, "guidance": w, **modulation, **context})["velocity"]
        x = x - (t - t_next) * v
    return x


def _measure(loops: dict[str, Loop], rounds: int) -> dict[str, Any]:
    results = {name: loop() for name, loop in loops.items()}
    names = ["plain", "folded", "again"]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 else reversed(names):
            begin = time.perf_counter()
            loops["folded" if name == "again" else name]()
            seconds[name].append(time.perf_counter() - begin)
    middle = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        "ms": {
            name: {"min": 1e3 * min(values), "p50": 1e3 * middle[name], "n": len(values)}
            for name, values in seconds.items()
        },
        "speedup": middle["plain"] / middle["folded"],
        "a_a": middle["again"] / middle["folded"],
        "largest_difference": float(np.abs(results["plain"] - results["folded"]).max()),
    }


def _about(arguments: argparse.Namespace) -> dict[str, Any]:
    options = f"--steps {arguments.steps} --rounds {arguments.rounds}"
    return {
        "command": f"python -m benchmarks.bench_dit_step {options}",
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "topos_rt": __version__,
            "backend": probe().detail,
            "threads": arguments.threads,
        },
        "model": None,
        "weights": "random",
        "guidance": GUIDANCE,
        "solver": "euler",
        "dit": dict(random.mini().dit),
    }


if __name__ == "__main__":
    main()
