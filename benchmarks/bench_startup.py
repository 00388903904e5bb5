"""Time how long Python and topos_rt take to start, up to the first head, and what heads take from then on.

    python -m benchmarks.bench_startup --json FILE [--against CHECKOUT] [--rounds 20] [--heads 100]

Every start is a fresh process, timed from outside, with its files in the system's cache and optimised graphs
in the cache of its checkout: nothing, an import, the command line, a whole `generate`, and the first GLB of a
portrait, without a texture. Then a process of each checkout makes heads, by turns, head by head. With
--against, the sources of another checkout run in turns with these; each with the Python of its own `.venv`,
where there is one, so that each has its own compiled code. The cost of the imports of `generate` is listed by
package (`python -X importtime`, each package's own modules; this slows the start down, so it is measured
separately).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import report
from benchmarks.startup_heads import environment_of, first_heads, native_of, python_of, warm_heads
from topos_rt.bench.machine import load_average
from topos_rt.bench.stats import MIN_COMPARED, difference, summary
from topos_rt.bench.work import model_facts
from topos_rt.errors import OptionError
from topos_rt.model.bundle import Bundle

ROOT = Path(__file__).parents[1]
PORTRAIT = ROOT / "examples" / "astronaut.jpg"
HERE, OTHER = "this", "against"
_LISTED = 12
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*([\w.]+)")


def starts(folder: Path) -> dict[str, list[str]]:
    """Return name -> the arguments of Python for that start."""
    generate = ["generate", str(PORTRAIT), "--preset", "fast", "-o", str(folder / "head.glb")]
    return {
        "python": ["-c", "pass"],
        "import topos_rt": ["-c", "import topos_rt"],
        "import topos_rt.HeadPipeline": ["-c", "from topos_rt import HeadPipeline"],
        "topos-rt --version": ["-m", "topos_rt", "--version"],
        "topos-rt generate": ["-m", "topos_rt", *generate],
    }


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table and write the JSON. Return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="root of another version's sources")
    parser.add_argument("--rounds", type=int, default=20, help=f"starts of each; {MIN_COMPARED} to compare")
    parser.add_argument("--heads", type=int, default=100, help="warm heads of each")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    return report(lambda: measure(arguments), arguments.json)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the JSON object. Raises OptionError for invalid arguments."""
    if not 1 <= arguments.rounds <= 1000:
        raise OptionError("--rounds", got=arguments.rounds, expected="a whole number from 1 to 1000")
    if not 1 <= arguments.heads <= 10_000:
        raise OptionError("--heads", got=arguments.heads, expected="a whole number from 1 to 10000")
    roots = {HERE: ROOT} | ({OTHER: arguments.against.resolve()} if arguments.against else {})
    for root in roots.values():
        if not (root / "topos_rt" / "__init__.py").is_file():
            raise OptionError("--against", got="a directory without topos_rt", expected="a checkout's root")
        _check_origin(root)
    load = load_average()
    with tempfile.TemporaryDirectory() as folder:
        words, bytecode = starts(Path(folder)), Path(folder) / "bytecode"
        samples = {name: _by_turns(line, roots, arguments.rounds, bytecode) for name, line in words.items()}
        samples |= first_heads(roots, arguments.rounds, bytecode) | warm_heads(
            roots, arguments.heads, bytecode
        )
        generate = words["topos-rt generate"]
        imports = {key: _imports(root, generate, bytecode) for key, root in roots.items()}
    rows = {}
    for name, found in samples.items():
        rows[name] = {key: summary(values) for key, values in found.items()}
        told = "  ".join(f"{key} {row['p50']:7.1f}" for key, row in rows[name].items())
        if OTHER in found and len(found[HERE]) >= MIN_COMPARED:
            change = difference(found[OTHER], found[HERE], interleaved=True)
            rows[name]["change"] = {
                "p50": change.change,
                "low": change.low,
                "high": change.high,
                "significant": change.significant,
            }
            told += f"  {change.change:+.1%} ({change.low:+.1%} to {change.high:+.1%})"
        print(f"{name:<30} {told}  ms p50", flush=True)
    return {
        "format": "topos_rt.startup",
        "version": 1,
        "model": model_facts(Bundle.open("mini")),
        "commits": {key: _commit(root) for key, root in roots.items()},
        "machine": {"load_average_before": load},
        "native": {key: native_of(root) for key, root in roots.items()},
        "ms": rows,
        "imports_ms": imports,
    }


def _check_origin(root: Path) -> None:
    """Check that Python imports the checkout: an editable installation would be measured instead of it."""
    program = "import importlib.util as u, sys; sys.stdout.write(u.find_spec('topos_rt').origin)"
    done = subprocess.run(
        [python_of(root), "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    if not Path(done.stdout).samefile(root / "topos_rt" / "__init__.py"):
        raise OptionError(
            "--against",
            got="this Python's own topos_rt, ahead of it",
            expected=str(root),
            fix="use a Python in which topos-rt is not installed",
        )


def _by_turns(
    words: list[str], roots: Mapping[str, Path], rounds: int, bytecode: Path
) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {key: [] for key in roots}
    for turn in range(-1, rounds):  # the first round fills the caches and is not counted
        for key in list(roots)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            _start(roots[key], words, bytecode)
            if turn >= 0:
                samples[key].append(1e3 * (time.perf_counter() - start))
    return samples


def _start(root: Path, words: list[str], bytecode: Path) -> str:
    # Bytecode is kept elsewhere, so that the checkouts stay as they are.
    done = subprocess.run(
        [python_of(root), *words],
        capture_output=True,
        text=True,
        env=environment_of(root, bytecode),
        cwd=root,
        check=False,
    )
    if done.returncode:
        raise OptionError(
            "a start failed", got=done.stderr.strip().splitlines()[-1:], fix="try the command by hand"
        )
    return done.stderr


def _imports(root: Path, words: list[str], bytecode: Path) -> dict[str, float]:
    """Return package -> milliseconds in its own modules, the costliest first: medians of three starts."""
    runs = []
    for _ in range(3):
        cost: defaultdict[str, float] = defaultdict(float)
        for own, module in _IMPORT.findall(_start(root, ["-X", "importtime", *words], bytecode)):
            cost[module.partition(".")[0]] += int(own) / 1e3
        runs.append(cost)
    packages = {name: float(np.median([run.get(name, 0.0) for run in runs])) for name in set().union(*runs)}
    listed = sorted(packages, key=lambda name: -packages[name])[:_LISTED]
    return {name: round(packages[name], 2) for name in listed}


def _commit(root: Path) -> str | None:
    done = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None


if __name__ == "__main__":
    raise SystemExit(main())
