"""Heads by one CUDA graph against heads step by step: the same model, backend and settings, by turns.

    python -m benchmarks.bench_graph --backend tensorrt-rtx --json FILE [--model mini] [--preset balanced]

A head is timed from pixels in memory to vertices in memory. The first of each is told apart: there the graph
is recorded. Needs a GPU and the kernels.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import report
from topos_rt.bench.machine import facts, gpu_state
from topos_rt.bench.stats import MIN_COMPARED, difference, summary
from topos_rt.errors import OptionError
from topos_rt.pipeline import HeadPipeline

MODES = {"steps": False, "graph": True}  # name -> cuda_graph
_WARM = 3


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table, write the JSON. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--backend", default="tensorrt-rtx")
    parser.add_argument("--precision")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--rounds", type=int, default=40, help="heads of each (default 40)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    return report(lambda: measure(arguments), arguments.json)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The JSON object. Raises OptionError for arguments that cannot be, and where there is no GPU."""
    if not 1 <= arguments.rounds <= 10_000:
        raise OptionError("--rounds", got=arguments.rounds, expected="a whole number from 1 to 10000")
    sampling: dict[str, Any] = {"preset": arguments.preset, "guidance": arguments.guidance}
    picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    first: dict[str, float] = {}
    samples: dict[str, list[float]] = {name: [] for name in MODES}
    positions = {}
    with ExitStack() as held:
        pipes = {
            name: held.enter_context(HeadPipeline.open(
                arguments.model, arguments.backend, precision=arguments.precision, cache=arguments.cache,
                cuda_graph=one_launch))
            for name, one_launch in MODES.items()
        }  # fmt: skip

        def head(name: str, seed: int) -> float:
            begin = time.perf_counter()
            positions[name] = pipes[name](picture, seed=seed, **sampling).positions
            return 1e3 * (time.perf_counter() - begin)

        for name in MODES:
            first[name] = head(name, 0)
            for seed in range(_WARM):
                head(name, seed)
        moved = 0.0
        for turn in range(arguments.rounds):
            for name in list(MODES)[:: 1 if turn % 2 else -1]:
                samples[name].append(head(name, turn))
            distances = np.linalg.norm(positions["graph"].astype(float) - positions["steps"], axis=1)
            moved = max(moved, 1e3 * float(distances.max()))
        backend = {"backend": pipes["graph"].backend, "reason": pipes["graph"].backend_reason}
    rows = {name: summary(values) for name, values in samples.items()}
    compared = None
    if arguments.rounds >= MIN_COMPARED:
        found = difference(samples["steps"], samples["graph"], interleaved=True)
        compared = [1 + found.low, 1 + found.high]
    steps, graph = (float(np.median(samples[name])) for name in ("steps", "graph"))
    ratio = graph / steps
    detail = (f"{steps:.2f} ms step by step, {graph:.2f} ms by one graph "
              f"(x {ratio:.3f}), first {first['graph']:.0f} ms, {moved:.2g} mm apart")  # fmt: skip
    print(detail, flush=True)
    return {
        "detail": detail, **backend, "model": arguments.model, "settings": sampling,
        "rounds": arguments.rounds, "machine": facts(), "gpu": gpu_state(), "ms": rows, "first_ms": first,
        "ratio": ratio, "ratio_interval": compared, "largest_mm": moved, "samples_ms": samples,
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
