"""Make many heads, and watch what must not grow, memory, descriptors, threads; bytes must not change.

python -m benchmarks.soak [--heads 10000] [--model mini] [--json benchmarks/results/soak.json]
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import report
from topos_rt import Bundle, HeadPipeline, __version__
from topos_rt.bench import machine
from topos_rt.bench.work import model_facts
from topos_rt.formats import EXPORTERS, ExportOptions

THREADS = (1, 8)  # callers at once
PORTRAIT = Path(__file__).parents[1] / "examples" / "hopper.jpg"
SEEDS = 16  # different heads, made again and again
OPENS = 100
WARM_UP = 0.2  # of the heads, after which memory may not grow
LIMIT = 0.03  # of growth
_SAMPLES = 50
_LEAST_OPENS = 40  # fewer say nothing: the first ones fill caches


def resident() -> int:
    """Return the bytes of memory of this process that are in use now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def sample() -> dict[str, int]:
    """Return what must not grow."""
    gc.collect()
    counts = {"descriptors": len(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task"))}
    return {"resident_bytes": resident(), **counts}


def growth(samples: list[dict[str, int]]) -> dict[str, float]:
    """Return by what share each number grew from the warm-up to the end: medians of a tenth each."""
    steady = samples[round(len(samples) * WARM_UP) :]
    part = max(1, len(steady) // 10)
    found = {}
    for key in steady[0]:
        first, last = (float(np.median([s[key] for s in some])) for some in (steady[:part], steady[-part:]))
        found[key] = round(last / first - 1, 4)
    return found


def watched(work: Callable[[int], str], count: int, threads: int, what: str) -> dict[str, Any]:
    """Call `work` with 0 to count - 1 from several threads; it returns the hash of what it made."""
    hashes: dict[int, set[str]] = {}
    samples, start, step = [sample()], time.perf_counter(), max(threads, count // _SAMPLES)
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, count, step):
            numbers = range(first, min(count, first + step))
            for number, digest in zip(numbers, pool.map(work, numbers), strict=True):
                hashes.setdefault(number % SEEDS, set()).add(digest)
            samples.append(sample())
            print(f"{what}: {numbers.stop:,} of {count:,}, {samples[-1]}", flush=True)
    return {
        "count": count,
        "threads": threads,
        "seconds": round(time.perf_counter() - start, 1),
        "growth": growth(samples),
        "same_bytes": all(len(found) == 1 for found in hashes.values()),
        "samples": samples,
    }


def measure(heads: int, model: str) -> dict[str, Any]:
    """Make the heads, a half by one caller and a half by eight, then open and close pipelines."""
    bundle, picture = Bundle.open(model), PORTRAIT.read_bytes()

    def made(pipe: HeadPipeline, number: int) -> str:
        head = pipe(picture, seed=number % SEEDS, preset="fast", steps=2)
        return hashlib.sha256(EXPORTERS["glb"](head, ExportOptions())).hexdigest()

    def opened(number: int) -> str:
        with HeadPipeline.open(bundle, "onnxruntime") as pipe:
            return made(pipe, number)

    runs = {}
    with HeadPipeline.open(bundle, "onnxruntime") as pipe:
        for threads in THREADS:
            what = f"{threads} callers" if threads > 1 else "1 caller"
            runs[what] = watched(lambda number: made(pipe, number), heads // len(THREADS), threads, what)
    runs["opens and closes"] = watched(
        opened, max(_LEAST_OPENS, heads * OPENS // 10_000), 1, "opens and closes"
    )
    worst = max(value for run in runs.values() for value in run["growth"].values())
    return {
        "topos_rt": __version__,
        "model": model_facts(bundle),
        "machine": {"load_average": machine.load_average()},
        "heads": heads,
        "limit": LIMIT,
        "worst_growth": worst,
        "flat": worst <= LIMIT and all(run["same_bytes"] for run in runs.values()),
        "runs": runs,
    }


def main() -> int:
    """Run as the command line says; the exit code is 1 where something grew or changed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--heads", type=int, default=10_000)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/soak.json"))
    arguments = parser.parse_args()
    code = report(lambda: measure(arguments.heads, arguments.model), arguments.json)
    if code:
        return code
    found = json.loads(arguments.json.read_text())
    print({name: (run["growth"], run["same_bytes"]) for name, run in found["runs"].items()})
    return 0 if found["flat"] else 1


if __name__ == "__main__":
    sys.exit(main())
