"""Time heads made by one CUDA graph against heads made step by step: same model and settings, in turns.

    python -m benchmarks.bench_graph --backend tensorrt-rtx --json FILE [--model mini] [--preset balanced]

A third mode is one CUDA graph with our own kernels as the decoder instead of the backend's engine. A head is
timed from pixels in memory to vertices in memory. The first head of each mode is reported apart, since it
captures the CUDA graph. This needs a GPU and the kernels; modes that do not run here are reported and left
out, except heads step by step, which must run.
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
from topos_rt.bench.machine import gpu_state
from topos_rt.bench.stats import MIN_COMPARED, difference, summary
from topos_rt.bench.work import model_facts
from topos_rt.errors import BackendError, BundleError, OptionError
from topos_rt.pipeline import HeadPipeline

# Name -> arguments of a pipeline.
MODES: dict[str, dict[str, Any]] = {
    "steps": {"decoder": "engine"}, "graph": {"cuda_graph": True, "decoder": "engine"},
    "graph_kernels": {"cuda_graph": True, "decoder": "kernels"},
}  # fmt: skip
_COMPARED = (("steps", "graph"), ("graph", "graph_kernels"))
_WARM = 3
_PICTURE = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table and write the JSON. Return the exit code."""
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
    """Measure, and return the JSON object. Raises OptionError for invalid arguments or a CPU backend."""
    if not 1 <= arguments.rounds <= 10_000:
        raise OptionError("--rounds", got=arguments.rounds, expected="a whole number from 1 to 10000")
    sampling: dict[str, Any] = {"preset": arguments.preset, "guidance": arguments.guidance}
    first: dict[str, float] = {}
    failed: dict[str, str] = {}
    pipes: dict[str, HeadPipeline] = {}
    with ExitStack() as held:
        for name, how in MODES.items():
            try:
                pipe = held.enter_context(
                    HeadPipeline.open(
                        arguments.model,
                        arguments.backend,
                        precision=arguments.precision,
                        cache=arguments.cache,
                        **how,
                    )
                )
                first[name], _ = _head(pipe, 0, sampling)
                pipes[name] = pipe
            except (BackendError, BundleError) as error:
                if name == "steps":
                    raise
                failed[name] = str(error)
                print(f"{name}: does not run here: {error}", flush=True)
        samples, moved = _by_turns(pipes, arguments.rounds, sampling)
        pipe = pipes["steps"]
        what = {"backend": pipe.backend, "reason": pipe.backend_reason, "model": model_facts(pipe.bundle)}
    medians = {name: float(np.median(values)) for name, values in samples.items()}
    detail = ", ".join(f"{name} {ms:.2f} ms (first {first[name]:.0f})" for name, ms in medians.items())
    print(detail, flush=True)
    return {
        "detail": detail,
        **what,
        "settings": sampling,
        "rounds": arguments.rounds,
        "gpu": gpu_state(),
        "ms": {name: summary(values) for name, values in samples.items()},
        "first_ms": first,
        "compared": [_comparison(a, b, samples) | {"largest_mm": mm} for (a, b), mm in moved.items()],
        "failed": failed,
        "samples_ms": samples,
    }


def _by_turns(
    pipes: Mapping[str, HeadPipeline], rounds: int, sampling: Mapping[str, Any]
) -> tuple[dict[str, list[float]], dict[tuple[str, str], float]]:
    """Return the milliseconds of each mode, and the largest vertex distance of each compared pair, in mm."""
    for pipe in pipes.values():
        for seed in range(_WARM):
            _head(pipe, seed, sampling)
    samples: dict[str, list[float]] = {name: [] for name in pipes}
    moved = {pair: 0.0 for pair in _COMPARED if set(pair) <= set(pipes)}
    positions = {}
    for turn in range(rounds):
        for name in list(pipes)[:: 1 if turn % 2 else -1]:
            ms, positions[name] = _head(pipes[name], turn, sampling)
            samples[name].append(ms)
        for a, b in moved:
            distances = np.linalg.norm(positions[a].astype(float) - positions[b], axis=1)
            moved[a, b] = max(moved[a, b], 1e3 * float(distances.max()))
    return samples, moved


def _head(pipe: HeadPipeline, seed: int, sampling: Mapping[str, Any]) -> tuple[float, np.ndarray]:
    begin = time.perf_counter()
    positions = pipe(_PICTURE, seed=seed, crop="none", face_check=False, **sampling).positions
    return 1e3 * (time.perf_counter() - begin), positions


def _comparison(a: str, b: str, samples: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return the time of `b` over that of `a`, with an interval if there are enough samples for one."""
    interval = None
    if len(samples[a]) >= MIN_COMPARED:
        found = difference(samples[a], samples[b], interleaved=True)
        interval = [1 + found.low, 1 + found.high]
    ratio = float(np.median(samples[b]) / np.median(samples[a]))
    return {"a": a, "b": b, "ratio": ratio, "interval": interval}


if __name__ == "__main__":
    raise SystemExit(main())
