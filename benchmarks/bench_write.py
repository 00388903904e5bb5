"""Measure what it costs to make a file safe against a power loss: `write_atomic` against a plain write.

python -m benchmarks.bench_write [--json benchmarks/results/write_atomic.json]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import report
from topos_rt import __version__
from topos_rt.bench import machine
from topos_rt.support.files import write_atomic

SIZES = {"a picture": 100_000, "a head with its rig": 1_000_000, "an engine": 50_000_000}
RUNS = 30


def plain(path: Path, data: bytes) -> None:
    """Write without flushing: a power loss may leave an empty file."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def measure(directory: Path) -> dict[str, Any]:
    """Return, for each size, the median time of both ways to write, taken in turns, in ms."""
    rows = {}
    for what, size in SIZES.items():
        data, path = bytes(size), directory / "file"
        times: dict[str, list[float]] = {"plain": [], "write_atomic": []}
        for _ in range(RUNS):
            times["plain"].append(_timed(plain, path, data))
            times["write_atomic"].append(_timed(write_atomic, path, data))
        rows[what] = {"bytes": size} | {f"{name}_ms": statistics.median(t) for name, t in times.items()}
    return {
        "topos_rt": __version__,
        "model": None,
        "machine": {"load_average": machine.load_average()},
        "runs": RUNS,
        "files": rows,
    }


def _timed(write: Callable[[Path, bytes], None], path: Path, data: bytes) -> float:
    start = time.perf_counter()
    write(path, data)
    return round((time.perf_counter() - start) * 1e3, 3)


def main() -> int:
    """Measure in a directory beside the result, and print a line for each size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()

    def run() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=".") as directory:
            found = measure(Path(directory))
        for what, row in found["files"].items():
            times = f"plain {row['plain_ms']:.2f} ms, safe {row['write_atomic_ms']:.2f} ms"
            print(f"{what}, {row['bytes']:,} bytes: {times}")
        return found

    return report(run, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
