"""`topos-rt bench`: how fast heads are made here, where the time goes, and whether that has changed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topos_rt.cli import options
from topos_rt.cli.console import Console
from topos_rt.errors import OptionError
from topos_rt.model.manifest import GRAPHS
from topos_rt.support.files import check_writable, write_atomic

if TYPE_CHECKING:
    from topos_rt.bench.session import Request

SLOWER = 3  # exit code: the comparison found a larger slowdown than --fail-above allows
_MAX_RUNS = 100_000
_MAX_COLD = 100

EPILOG = f"""
examples:
  topos-rt bench                                      100 heads and 3 fresh processes of each kind
  topos-rt bench --preset reference --runs 20 -o a.json --plot a.png
  topos-rt bench --stage vae_decoder --cold 0         one graph alone, on the inputs of a real head
  topos-rt bench --compare a.json b.json --fail-above 5%   for CI: exit code {SLOWER} if b is slower

End to end means from a picture in memory (or IMAGE, if given) to vertices in memory.
The JSON is documented in docs/bench.md. Keep the machine free of other work meanwhile.
Exit codes: 0 done; {SLOWER} slower than --fail-above allows; 2 bad usage or input;
1 a failure of topos-rt itself.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt bench`."""
    parser.epilog = EPILOG
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="a portrait (default: random pixels)")
    options.add_model_options(parser)
    parser.add_argument("--cache", metavar="DIR", type=Path, help="where to keep the engines")
    options.add_sampling_options(parser, seeds=False)
    group = parser.add_argument_group("measurement")
    group.add_argument(
        "--runs",
        metavar="N",
        type=options.whole_within(1, _MAX_RUNS),
        default=100,
        help="heads to time, each with a different seed (default: 100)",
    )
    group.add_argument(
        "--warm-up",
        metavar="N",
        type=options.whole_within(1, _MAX_RUNS),
        default=10,
        help="make at least N heads first, and more until they get no faster (default: 10)",
    )
    group.add_argument(
        "--cold",
        metavar="N",
        type=options.whole_within(0, _MAX_COLD),
        default=3,
        help="fresh processes of each kind to time; 0 for none (default: 3)",
    )
    group.add_argument(
        "--stage",
        dest="graphs",
        metavar="GRAPH,GRAPH...",
        help=f"time these graphs alone: {', '.join(GRAPHS)}",
    )
    group.add_argument(
        "-o", dest="out", metavar="JSON", type=Path, help="write the result, with every sample"
    )
    group.add_argument("--plot", metavar="PNG", type=Path, help="draw the result")
    group = parser.add_argument_group("comparison")
    group.add_argument(
        "--compare",
        metavar=("A.json", "B.json"),
        nargs=2,
        type=Path,
        help="compare two results of the same work",
    )
    group.add_argument(
        "--fail-above",
        metavar="PERCENT",
        type=_percent,
        help=f"exit with code {SLOWER} if B is significantly slower than A by more than this",
    )
    group.add_argument(
        "--rerun",
        action="store_true",
        help="instead of comparing the recorded times, run both settings here, in turns, on IMAGE",
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Measure or compare."""
    return _compare(arguments, console) if arguments.compare else _measure(arguments, console)


def _measure(arguments: argparse.Namespace, console: Console) -> int:
    for name in ("fail_above", "rerun"):
        if getattr(arguments, name):
            raise OptionError(
                f"--{name.replace('_', '-')}",
                got="no results to compare",
                fix="name two with --compare A.json B.json",
            )
    for path in (arguments.out, arguments.plot):
        if path is not None:
            check_writable(path, parents=True)
    request = _request(arguments)
    from topos_rt.bench import plot, result, table

    if arguments.plot is not None:
        plot.figure_class()  # a missing matplotlib is found here, not after the measurement

    found = result.measure(
        request,
        arguments.runs,
        arguments.warm_up,
        arguments.cold,
        console.progress,
        lambda graph, share: console.progress(0.0, f"building {graph}: {share:.0%}"),
    )
    console.report.update(found)
    if arguments.out is not None:  # written first, so that no failure below can lose the measurement
        _write(arguments.out, found)
    for line in table.lines(found):
        (console.note if line.startswith("note: ") else console.say)(line)
    if arguments.plot is not None:
        write_atomic(arguments.plot, plot.draw(found), parents=True)
    return 0


def _compare(arguments: argparse.Namespace, console: Console) -> int:
    if arguments.plot is not None:
        raise OptionError(
            "--plot", got="a comparison", expected="a measurement to draw", fix="leave it out, or --compare"
        )
    if arguments.out is not None:
        check_writable(arguments.out, parents=True)
    from topos_rt.bench import compare, table

    a, b = compare.read_pair(tuple(arguments.compare))
    if arguments.rerun:
        found = compare.rerun(a, b, _base(arguments), arguments.fail_above, console.progress)
    else:
        found = compare.compare_results(a, b, arguments.fail_above)
    console.report.update(found)
    for line in table.comparison(found):
        console.say(line)
    if arguments.out is not None:
        _write(arguments.out, found)
    return SLOWER if found["slower"] else 0


def _base(arguments: argparse.Namespace) -> Request:
    """Return a request with the model, cache and image of the command line, once the image is checked."""
    if arguments.image is not None:
        from topos_rt.pictures.image import check_image

        check_image(arguments.image)
    from topos_rt.bench.session import Request

    return Request(arguments.model, cache=arguments.cache, image=arguments.image)


def _request(arguments: argparse.Namespace) -> Request:
    sampling = {name: value for name, value in options.sampling(arguments).items() if value is not None}
    from topos_rt.flow.settings import check_seed

    return dataclasses.replace(
        _base(arguments),
        **options.engines(arguments),
        sampling=sampling,
        seed=check_seed(arguments.seed or 0),
        graphs=tuple(arguments.graphs.split(",")) if arguments.graphs is not None else (),
    )


def _write(path: Path, found: dict[str, Any]) -> None:
    write_atomic(path, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode(), parents=True)


def _percent(text: str) -> float:
    match = re.fullmatch(r"(\d{1,4}(?:\.\d{1,4})?)%", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"got {text[:40]!r}; expected a percentage such as 5%")
    return float(match[1]) / 100
