"""Where a graph convolution's time goes on a GPU, instruction by instruction, as Nsight Compute samples it.

    python -m benchmarks.profile_ops [--step decoder.2.resblks.1.conv_a] [--preset official] [--json FILE]

The script runs itself under `ncu`, which leaves the clocks and the caches alone. For each kernel it reports
how the samples divide between three parts of the code (before the first product with the weights, from there
to the last one, after it), and what the warps waited for in each. It needs a GPU, PyTorch with CUDA, `ncu` on
the PATH and the extra `export`.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.report import report
from export import random
from topos_rt.errors import OptionError, one_line

STEPS = ("decoder.2.resblks.1.conv_a", "decoder.2.resblks.1.conv_b", "decoder.3.resblks.1.conv_b")
_SECTIONS = ("SpeedOfLight", "SourceCounters", "WarpStateStats", "MemoryWorkloadAnalysis", "LaunchStats")
_PRODUCTS = ("HGMMA", "HMMA")  # the first of them that a kernel has multiplies with its weights
_MOST = 4  # reasons to wait that are reported for a part
Row = dict[str, str]


def main(argv: list[str] | None = None) -> int:
    """Profile, print a table, write the JSON. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--step", action="append", metavar="NAME", help=f"default: {', '.join(STEPS)}")
    parser.add_argument("--preset", choices=random.PRESETS, default="official")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--launch", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    steps = arguments.step or list(STEPS)
    if arguments.launch:
        _launch(arguments.preset, steps)
        return 0
    return report(lambda: profile(arguments.preset, steps), arguments.json)


def profile(preset: str, steps: list[str]) -> dict[str, Any]:
    """Return the JSON object. Raises OptionError where ncu is missing or fails."""
    program = shutil.which("ncu")
    if program is None:
        raise OptionError("profile_ops", got="no ncu on the PATH", expected="Nsight Compute")
    words = ["-m", "benchmarks.profile_ops", "--launch", "--preset", preset]
    words += [word for step in steps for word in ("--step", step)]
    with tempfile.TemporaryDirectory() as directory:
        kept = Path(directory) / "profile.ncu-rep"
        how = ["--clock-control", "none", "--cache-control", "none", "--profile-from-start", "off"]
        how += ["--import-source", "off"]
        how += [word for section in _SECTIONS for word in ("--section", section)]
        _run([program, *how, "-o", str(kept), sys.executable, "-W", "ignore", *words])
        source = _run([program, "-i", str(kept), "--page", "source", "--csv"])
    launches = {}
    names = [f"{step}, {form}" for step in steps for form in ("ours", "ours, tiled")]
    for name, rows in zip(names, kernels(source.splitlines()), strict=False):
        launches[name] = parts(rows)
        shares = ", ".join(f"{part} {row['share']:.0%}" for part, row in launches[name]["parts"].items())
        print(f"{name}: {launches[name]['instructions']} instructions; {shares}", flush=True)
    return {"command": f"ncu {' '.join(how)}", "model": None, "preset": preset, "launches": launches}


def kernels(lines: Iterable[str]) -> Iterator[list[Row]]:
    """Yield the instructions of each launch from a report's source page, as CSV; some are in it twice."""
    head: list[str] | None = None
    rows: list[Row] = []
    last: list[Row] = []
    for fields in [*csv.reader(lines), ["Kernel Name"]]:
        if fields[:1] == ["Kernel Name"]:
            if rows and rows != last:
                yield rows
            head, rows, last = None, [], rows
        elif fields[:1] == ["Address"]:
            head = fields
        elif head is not None and len(fields) == len(head):
            rows.append(dict(zip(head, fields, strict=True)))


def parts(rows: list[Row]) -> dict[str, Any]:
    """Divide a kernel's samples into those before, between and after its products."""
    kinds = [row["Source"].split(".")[0].split()[-1:] for row in rows]
    found_at = ([n for n, kind in enumerate(kinds) if kind == [product]] for product in _PRODUCTS)
    places = next(filter(None, found_at), [0])
    bounds = {
        "before": (0, places[0]),
        "products": (places[0], places[-1] + 1),
        "behind": (places[-1] + 1, len(rows)),
    }
    total = sum(int(row["# Samples"]) for row in rows)
    found = {}
    for name, (first, last) in bounds.items():
        waits: Counter[str] = Counter()
        for row in rows[first:last]:
            waits.update(
                {
                    key.removeprefix("stall_"): int(value or 0)
                    for key, value in row.items()
                    if key.startswith("stall_") and "(" not in key
                }
            )
        samples = sum(int(row["# Samples"]) for row in rows[first:last])
        found[name] = {
            "instructions": last - first,
            "share": samples / max(total, 1),
            "waits": {key: value / max(samples, 1) for key, value in waits.most_common(_MOST) if value},
        }
    return {"instructions": len(rows), "samples": total, "parts": found}


def _run(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise OptionError("ncu", got=one_line((done.stdout + done.stderr)[-600:]), expected="a report")
    return done.stdout


def _launch(preset: str, names: list[str]) -> None:
    """Run each step by each kernel, once while the profiler looks."""
    import torch

    from benchmarks.bench_ops import decoder_of
    from benchmarks.op_timings import Bench, inputs_of, our_convs

    steps, bench = decoder_of(preset)[1].tiled(), Bench(rehearse=False, runs=3)
    known = {step.name: step for step in steps.convs}
    works = [
        work for name in names for work in our_convs(bench, known[name], [inputs_of(known[name], 0)]).values()
    ]
    for work in 3 * works:
        work(0)
    torch.cuda.synchronize()
    torch.cuda.cudart().cudaProfilerStart()
    for work in works:
        work(0)
    torch.cuda.synchronize()
    torch.cuda.cudart().cudaProfilerStop()


if __name__ == "__main__":
    raise SystemExit(main())
