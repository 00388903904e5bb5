"""`topos-rt batch`: turns many pictures into heads, on all cores of a machine or on a Ray cluster."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topos_rt.cli import options
from topos_rt.cli.console import Console
from topos_rt.cli.writing import triangle
from topos_rt.errors import OptionError, choose, one_line
from topos_rt.flow.settings import check_seed
from topos_rt.formats import EXPORTERS
from topos_rt.gpu import cuda
from topos_rt.support.machine import usable_cores
from topos_rt.texture.stage import OFFICIAL

if TYPE_CHECKING:
    from topos_rt.server.batch_crew import Crew
    from topos_rt.server.batch_run import Summary
    from topos_rt.server.batch_work import Row, Setup

EPILOG = """
examples:
  topos-rt batch photos/ -o heads/                      writes heads/NAME_seed0.glb and so on
  topos-rt batch 'photos/**/*.jpg' -o heads/ --seeds 0,1,2
  topos-rt batch faces.parquet --column image -o heads/ a column of paths or of pictures
  topos-rt batch photos/ -o /shared/heads --ray auto    on the Ray cluster that runs here

Run the same command again after an interruption, and only what is missing is made.
OUT/results.parquet has a row for every head and every picture that could not be used; it is made
from the journal, OUT/batch.jsonl.
Exit codes: 0 done; 2 a picture that could not be used, or bad usage; 1 a failure of topos-rt.
"""

MOST_WORKERS = 1024
_GPU_WORKERS = 2  # on one GPU: one reads, fits and writes while the other computes
_MOST_ERRORS = 100  # that are told one by one, here and in the JSON object; the results have all
_LINE_S = 30.0  # between two lines of progress where stderr is no terminal


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt batch`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="a folder, which is searched to any depth; a pattern in quotes; a picture; or a .parquet of "
        "paths or pictures",
    )
    parser.add_argument(
        "-o", dest="out", metavar="OUT", required=True, help="the directory of heads and results"
    )
    parser.add_argument(
        "--column", metavar="NAME", default="image", help="the column of a .parquet (default: image)"
    )
    parser.add_argument(
        "--redo", action="store_true", help="make all heads again if OUT has those of other settings"
    )
    parser.add_argument("--previews", action="store_true", help="also draw each head, as a PNG beside it")
    group = parser.add_argument_group("workers")
    group.add_argument(
        "--workers",
        metavar="N",
        type=options.whole_within(1, MOST_WORKERS),
        help="how many make heads at once, each with a model of its own (default: one for each usable core, "
        f"{_GPU_WORKERS} on a GPU; with --ray one for each GPU or core of the cluster)",
    )
    group.add_argument(
        "--ray",
        metavar="auto|ADDRESS",
        help="work on a Ray cluster: the one that runs here (RAY_ADDRESS), or one at HOST:PORT or "
        "ray://HOST:PORT",
    )
    options.add_model_options(parser)
    options.add_face_options(parser)
    options.add_texture_options(parser)
    options.add_sampling_options(parser)
    options.add_format_options(parser)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Make what is missing. A picture that cannot be used does not stop the others."""
    from topos_rt.server import batch_run
    from topos_rt.server.batch_inputs import gather
    from topos_rt.server.batch_reader import library

    setup, seeds = _checked(arguments)
    library()  # the results need it: better to be told before the work than after it
    pictures = gather(arguments.inputs, setup.out, arguments.column)
    console.report.update(out=str(setup.out), results=str(setup.out / "results.parquet"))
    told = _Told(console, setup)
    crews: list[Crew] = []

    def hire(setup: Setup, header: str) -> Crew:
        crews.append(_hired(arguments, setup, header))
        console.note(f"{crews[0].size} workers ({crews[0].kind}) are loading {setup.model}")
        return crews[0]

    started = time.perf_counter()
    telling = batch_run.Telling(told.row, told.progress, console.note)
    try:
        summary = batch_run.run(setup, pictures, seeds, hire, telling, arguments.redo)
    except (KeyboardInterrupt, SystemExit):
        console.note("stopped; the same command goes on from here")
        raise
    _report(summary, time.perf_counter() - started, crews[0] if crews else None, console)
    return summary.exit_code


def _checked(arguments: argparse.Namespace) -> tuple[Setup, tuple[int, ...]]:
    """Check every option before anything heavy is loaded. Raises OptionError."""
    from topos_rt.server.batch_work import Setup

    chosen = options.sampling(arguments) | options.seeing(arguments) | options.texturing(arguments)
    if chosen["texture"] == OFFICIAL:
        raise OptionError(
            "--texture",
            got=OFFICIAL,
            expected="another texture",
            fix="use topos-rt generate for painted skin",
        )
    given = arguments.seeds if arguments.seeds is not None else [arguments.seed or 0]
    seeds = tuple(check_seed(seed) for seed in given)
    if len(set(seeds)) < len(seeds):
        raise OptionError("--seeds", got="the same seed twice", expected="different seeds")
    name = arguments.format or options.DEFAULT_FORMAT
    choose(name, EXPORTERS, "output format")
    export = options.exporting(arguments)
    EXPORTERS[name](triangle(), export)  # refuses what the format does not have
    if arguments.out in ("", "-"):
        raise OptionError("-o", got=repr(arguments.out), expected="a directory")
    engines = options.engines(arguments)
    if arguments.threads is None and arguments.ray is None:
        engines["threads"] = max(1, usable_cores() // _workers(arguments))
    return Setup(
        Path(arguments.out).absolute(),
        _model(arguments.model),
        engines,
        chosen,
        name,
        export,
        options.lod(arguments),
        arguments.previews,
    ), seeds


def _model(name: str) -> str:
    """Return a name, or the path of a bundle as every worker can use it."""
    return str(Path(name).absolute()) if Path(name).is_dir() else name


def _workers(arguments: argparse.Namespace) -> int:
    """Return how many processes make heads on this machine."""
    if arguments.workers is not None:
        return int(arguments.workers)
    from topos_rt.server.batch_work import wants_gpu

    on_gpu = wants_gpu(arguments.backend) and cuda.has_driver()
    return min(_GPU_WORKERS, usable_cores()) if on_gpu else usable_cores()


def _hired(arguments: argparse.Namespace, setup: Setup, header: str) -> Crew:
    if arguments.ray is None:
        from topos_rt.server.batch_crew import Processes

        return Processes(setup, header, _workers(arguments))
    from topos_rt.server.batch_ray import Actors

    return Actors(setup, header, arguments.ray, arguments.workers)


class _Told:
    """Tells people how far a batch is."""

    def __init__(self, console: Console, setup: Setup) -> None:
        self._console = console
        self._setup = setup
        self._errors = 0
        self._started = time.monotonic()
        self._line_at = self._started + _LINE_S

    def row(self, row: Row) -> None:
        if row["exit_code"] == 0:
            return
        self._errors += 1
        if self._errors <= _MOST_ERRORS:
            seed = {} if row["seed"] is None else {"seed": row["seed"]}
            named = row["error"] if row["input"] in row["error"] else f"{row['input']}: {row['error']}"
            self._console.fault(row["error_type"], named, image=row["input"], **seed)
        elif self._errors == _MOST_ERRORS + 1:
            self._console.note("more errors are in the results alone")

    def progress(self, summary: Summary) -> None:
        now = time.monotonic()
        line = _line(summary, now - self._started)
        self._console.progress(summary.pictures / max(1, summary.of), line)
        if not sys.stderr.isatty() and now >= self._line_at:
            self._line_at = now + _LINE_S
            self._console.note(line)


def _line(summary: Summary, seconds: float) -> str:
    done = f"{summary.pictures:,} of {summary.of:,} pictures, {_heads(summary.made)}"
    rate = f", {summary.made / seconds:.2f} a second" if summary.made and seconds > 0 else ""
    return done + rate + (f", {summary.failed:,} failed" if summary.failed else "")


def _heads(count: int) -> str:
    return f"{count:,} head{'' if count == 1 else 's'}"


def _report(summary: Summary, seconds: float, crew: Crew | None, console: Console) -> None:
    about = summary.about
    result: dict[str, Any] = {
        "pictures": summary.pictures,
        "made": summary.made,
        "skipped": summary.skipped,
        "failed": summary.failed,
        "workers": 0 if crew is None else crew.size,
        "crew": None if crew is None else crew.kind,
        "worker_deaths": summary.deaths,
        "backend": None if about is None else about.backend,
        "backend_reason": None if about is None else about.backend_reason,
        "seconds": round(seconds, 3),
    }
    console.report.update(result)
    there = f", {summary.skipped:,} were there" if summary.skipped else ""
    failures = f", {summary.failed:,} failed" if summary.failed else ""
    rate = f", {summary.made / seconds:.2f} a second" if summary.made else ""
    console.say(one_line(f"{_heads(summary.made)} made{there}{failures}, {seconds:.1f} s{rate}"))
    console.say(one_line(f"{console.report['results']}  results"))
    if about is not None:
        console.note(one_line(f"weights: {about.weights}"))
        console.note(one_line(f"backend {about.backend}: {about.backend_reason}"))
