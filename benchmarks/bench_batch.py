"""Time batches with one and with two workers on this machine, in turns.

    python -m benchmarks.bench_batch --json FILE [--pictures 24] [--rounds 3] [--preset fast]

The pictures are copies of those in examples/. `seconds` is a whole run, with the start of its workers, each
of which loads a model; `heads_per_second` counts from the time at which every worker has made its first head,
which takes longer than the others. `cpu_seconds` is what the workers of a whole run took of the processors,
which hardly depends on what else the machine does. Every round of a case begins with an empty directory.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import report
from topos_rt.bench.machine import facts, load_average
from topos_rt.bench.work import model_facts
from topos_rt.errors import OptionError
from topos_rt.flow.settings import DEFAULT_PRESET
from topos_rt.model.bundle import Bundle
from topos_rt.server.batch_crew import Processes
from topos_rt.server.batch_inputs import gather
from topos_rt.server.batch_run import Summary, Telling, run
from topos_rt.server.batch_work import Setup

PORTRAITS = ("astronaut.jpg", "hopper.jpg")
EXAMPLES = Path(__file__).parents[1] / "examples"
# Name -> workers, and threads of each.
CASES = {"1 worker, 1 thread": (1, 1), "1 worker, 2 threads": (1, 2), "2 workers, 1 thread each": (2, 1)}


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table and write the JSON. Return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each case")
    parser.add_argument("--preset", default=DEFAULT_PRESET)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    return report(lambda: measure(arguments), arguments.json)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the JSON object. Raises OptionError for invalid arguments."""
    for name, most in (("pictures", 10_000), ("rounds", 100)):
        if not 1 <= getattr(arguments, name) <= most:
            raise OptionError(f"--{name}", got=getattr(arguments, name), expected=f"1 to {most:,}")
    load = load_average()
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as directory:
        pictures = Path(directory, "in")
        pictures.mkdir()
        for number in range(arguments.pictures):
            name = PORTRAITS[number % len(PORTRAITS)]
            shutil.copy(EXAMPLES / name, pictures / f"{number:05d}.jpg")
        for turn in range(arguments.rounds):
            for case in list(CASES)[:: 1 if turn % 2 == 0 else -1]:
                out = Path(directory, "out")
                samples[case].append(_timed(pictures, out, *CASES[case], arguments.preset))
                shutil.rmtree(out)
                print(f"{case:<26} {samples[case][-1]}", flush=True)
    return {
        "format": "topos_rt.batch_speed",
        "version": 1,
        "model": model_facts(Bundle.open("mini")),
        "machine": facts() | {"load_average_before": load},
        "preset": arguments.preset,
        "pictures": arguments.pictures,
        "rounds": arguments.rounds,
        "cases": {case: _summed(found) for case, found in samples.items()},
    }


def _timed(pictures: Path, out: Path, workers: int, threads: int, preset: str) -> dict[str, float]:
    """Run a batch, and return its seconds and its heads a second."""
    engines = {"backend": "onnxruntime", "threads": threads, "precision": None}
    setup = Setup(out, engines=engines, options={"preset": preset})
    seen: set[str] = set()  # workers that have made a head
    warm: list[tuple[float, int]] = []  # when all had, and how many heads there were then

    def progress(summary: Summary) -> None:
        if len(seen) == workers and not warm:
            warm.append((time.perf_counter(), summary.made))

    telling = Telling(lambda row: seen.add(row["worker"]), progress, print)
    started, spent = time.perf_counter(), _spent()
    summary = run(
        setup,
        gather([str(pictures)], out, "image"),
        (0,),
        lambda setup, header: Processes(setup, header, workers),
        telling,
    )
    ended = time.perf_counter()
    assert summary.exit_code == 0 and warm, summary
    since, before = warm[0]
    return {
        "seconds": round(ended - started, 2),
        "cpu_seconds": round(_spent() - spent, 2),
        "heads_per_second": round((summary.made - before) / (ended - since), 4),
    }


def _spent() -> float:
    """Return the seconds of processors that all child processes took that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _summed(found: list[dict[str, float]]) -> dict[str, Any]:
    return {
        name: {
            "median": statistics.median(each[name] for each in found),
            "all": [each[name] for each in found],
        }
        for name in ("seconds", "cpu_seconds", "heads_per_second")
    }


if __name__ == "__main__":
    raise SystemExit(main())
