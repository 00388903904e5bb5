"""Fuzz every reader: `python -m tests.fuzz.run [--minutes N | --inputs N] [--targets A,B] [--json FILE]`.

Each target runs in a process of its own, with 2 GiB of memory more than it starts with and 20 s for an input.
What goes wrong is written to `tests/fuzz/corpus/TARGET/`, which the tests replay from then on. With --inputs
the mutations are numbered, so that a run that was interrupted goes on where its JSON says it was. With
--minutes and atheris installed (`pip install 'topos-rt[fuzz]'`), coverage guides the mutations.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from pathlib import Path
from typing import Any

from tests.fuzz.mutations import mutated
from tests.fuzz.targets import CORPUS, TARGETS, corpus, feed
from topos_rt import __version__
from topos_rt.support.files import write_atomic

SECONDS, MEMORY = 20, 2 << 30  # for one input
_BATCH = 5000


class TooLong(BaseException):
    """An input took longer than it may."""


def batch(name: str, first: int, count: int) -> dict[str, Any]:
    """Feed `count` mutations to a target, in this process. Return what came of them."""
    warnings.simplefilter("ignore")
    with contextlib.suppress(ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))

    def ring(*_: object) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, ring)
    kept, salt = corpus(name), zlib.crc32(name.encode())
    found: dict[str, Any] = {"inputs": 0, "accepted": 0, "slowest_s": 0.0, "findings": []}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as directory:
        for number in range(first, first + count):
            data = mutated(kept, number, salt)
            start = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                found["accepted"] += feed(name, data, Path(directory))
            except (Exception, TooLong) as error:  # noqa: BLE001 - whatever it is, it is a finding
                signal.setitimer(signal.ITIMER_REAL, 0)
                found["findings"].append(_keep(name, data, error))
            signal.setitimer(signal.ITIMER_REAL, 0)
            found["slowest_s"] = max(found["slowest_s"], time.perf_counter() - start)
            found["inputs"] += 1
    found["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found


def _keep(name: str, data: bytes, error: BaseException) -> dict[str, str]:
    """Write a finding to the corpus, one for each cause; return what it was."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/fuzz/" not in f.filename]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "nowhere"
    own = [
        f"{Path(f.filename).name}:{f.name}"
        for f in frames
        if "topos_rt/" in f.filename or "export/" in f.filename
    ]
    cause = f"{type(error).__name__} in {place}, from {own[-1] if own else 'nowhere'}"
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    path = CORPUS / name / hashlib.sha256(cause.encode()).hexdigest()[:12]
    if not path.exists() or path.stat().st_size > len(data):
        write_atomic(path, data)
    return {"cause": cause, "told": str(error)[:200], "file": path.name}


def numbered(names: list[str], inputs: int, path: Path) -> int:
    """Run mutations 0 to `inputs` - 1, shared out over the targets; go on where `path` says."""
    state: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if state.get("inputs_wanted") != inputs:
        state = {
            "topos_rt": __version__,
            "model": None,
            "inputs_wanted": inputs,
            "limits": {"seconds": SECONDS, "bytes": MEMORY},
            "targets": {},
        }
    share = -(-inputs // len(names))
    rows = state["targets"]
    while left := [name for name in names if rows.get(name, {}).get("inputs", 0) < share]:
        for name in left:
            row = rows.setdefault(
                name,
                {
                    "inputs": 0,
                    "accepted": 0,
                    "slowest_s": 0.0,
                    "peak_bytes": 0,
                    "seconds": 0.0,
                    "findings": {},
                },
            )
            count, start = min(_BATCH, share - row["inputs"]), time.perf_counter()
            words = [sys.executable, "-m", "tests.fuzz.run", "--batch", name, str(row["inputs"]), str(count)]
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=SECONDS * count)
            if done.returncode:
                row["findings"][f"the process ended with {done.returncode}: {done.stderr[-300:]}"] = row[
                    "inputs"
                ]
                found: dict[str, Any] = {
                    "inputs": count,
                    "accepted": 0,
                    "slowest_s": 0.0,
                    "peak_bytes": 0,
                    "findings": [],
                }
            else:
                found = json.loads(done.stdout.splitlines()[-1])
            for key in ("inputs", "accepted"):
                row[key] += found[key]
            for key in ("slowest_s", "peak_bytes"):
                row[key] = round(max(row[key], found[key]), 3)
            row["seconds"] = round(row["seconds"] + time.perf_counter() - start, 1)
            for each in found["findings"]:
                row["findings"][each["cause"]] = row["findings"].get(each["cause"], 0) + 1
            state["inputs"] = sum(each["inputs"] for each in rows.values())
            state["findings"] = sum(len(each["findings"]) for each in rows.values())
            write_atomic(path, (json.dumps(state, indent=1) + "\n").encode(), parents=True)
            told = f"{name}, {row['inputs']:,} inputs, {len(row['findings'])} findings"
            print(f"{state['inputs']:,} of {inputs:,}: {told}", flush=True)
    return 1 if state["findings"] else 0


def timed(names: list[str], minutes: float) -> int:
    """Fuzz for some minutes, each target for its share, guided by coverage where atheris is installed."""
    share, code = max(1, round(minutes * 60 / len(names))), 0
    for name in names:
        if importlib.util.find_spec("atheris") is None:
            end, first, found = time.monotonic() + share, int(time.time()), 0
            while time.monotonic() < end:
                words = [sys.executable, "-m", "tests.fuzz.run", "--batch", name, str(first), "200"]
                done = subprocess.run(words, capture_output=True, text=True, check=False)
                found += done.returncode != 0 or len(json.loads(done.stdout.splitlines()[-1])["findings"])
                first += 200
            print(f"{name}: {found} findings in {share} s")
        else:
            limits = [f"-timeout={SECONDS}", f"-rss_limit_mb={(MEMORY >> 20) + 1024}"]
            place = [f"-max_total_time={share}", f"-artifact_prefix={CORPUS / name}/"]
            words = [sys.executable, "-m", "tests.fuzz.guided", name, *limits, *place]
            (CORPUS / name).mkdir(parents=True, exist_ok=True)
            found = subprocess.run(words, check=False).returncode
            print(f"{name}: {'a finding' if found else 'nothing found'} in {share} s")
        code = code or int(bool(found))
    return code


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--inputs", type=int)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/fuzz.json"))
    parser.add_argument("--batch", nargs=3, metavar=("TARGET", "FIRST", "COUNT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.batch:
        name, first, count = arguments.batch
        print(json.dumps(batch(name, int(first), int(count))))
        return 0
    names = arguments.targets.split(",")
    if arguments.inputs:
        return numbered(names, arguments.inputs, arguments.json)
    return timed(names, arguments.minutes)


if __name__ == "__main__":
    sys.exit(main())
