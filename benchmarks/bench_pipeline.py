"""Times a portrait's way to the bytes of a GLB on this machine, cold and warm.

    python -m benchmarks.bench_pipeline [IMAGE] [--preset balanced] [--runs 10] [--json FILE]

Cold is loading the model and the first head. Warm runs follow one after another, each with another seed, and
their stages are reported apart. Nothing else should keep the machine busy meanwhile.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt import HeadPipeline, __version__
from topos_rt.exporters import ExportOptions, write_glb
from topos_rt.files import write_atomic

PORTRAIT = Path(__file__).parents[1] / "examples" / "astronaut.jpg"


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("image", nargs="?", default=str(PORTRAIT))
    parser.add_argument("--model", default="mini")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error(f"argument --runs: got {arguments.runs}; expected 1 or more")
    result = measure(arguments)
    for name, row in result["ms"].items():
        times = "  ".join(f"{key} {row[key]:8.1f}" for key in ("min", "p50", "p90"))
        print(f"{name:<16}  {times}  ms  n {row['n']}")
    if arguments.json:
        write_atomic(arguments.json, (json.dumps(result, indent=2) + "\n").encode(), parents=True)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time the pipeline; milliseconds."""
    start = time.perf_counter()
    with HeadPipeline.open(arguments.model, backend=arguments.backend) as pipeline:
        loaded = time.perf_counter()
        first = _once(pipeline, arguments, 0)
        runs = [_once(pipeline, arguments, seed) for seed in range(1, arguments.runs + 1)]
        about = {"model": pipeline.bundle.manifest.name, "backend": pipeline.backend_reason}
    ms = {"load": _row([loaded - start]), "first head": _row([first["portrait to glb"]])}
    ms |= {stage: _row([run[stage] for run in runs]) for stage in runs[0]}
    machine = {"system": platform.platform(), "python": platform.python_version(), "topos_rt": __version__}
    return {"about": about | {"preset": arguments.preset}, "machine": machine, "ms": ms}


def _once(pipeline: HeadPipeline, arguments: argparse.Namespace, seed: int) -> dict[str, float]:
    start = time.perf_counter()
    head = pipeline(arguments.image, seed=seed, preset=arguments.preset)
    made = time.perf_counter()
    write_glb(head, ExportOptions())
    end = time.perf_counter()
    stages = {name: seconds for name, seconds in head.timings.items() if name != "total"}
    return stages | {"glb": end - made, "portrait to glb": end - start}


def _row(seconds: Sequence[float]) -> dict[str, float]:
    values = 1000 * np.asarray(seconds)
    low, middle, high = (float(value) for value in np.percentile(values, [0, 50, 90]))
    return {"min": low, "p50": middle, "p90": high, "n": len(values)}


if __name__ == "__main__":
    main()
