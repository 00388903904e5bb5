"""Does all the work that needs a GPU in one go: `python -m benchmarks.gpu_run all`.

    python -m benchmarks.gpu_run probe build pipeline --out DIR [--tensorrt DIR] [--seconds 570]
    python -m benchmarks.gpu_run all --rehearse          the same on a CPU, small

Each part is a process with a time box and prints a line for each result. Its results, and the other parts,
survive however it ends. All results go to DIR/gpu_run.json, which is rewritten with each; the printed lines
and the output of every command go to DIR/gpu_run.log. With --seconds, boxes are cut and parts left out so
that everything ends in time.

With --tensorrt DIR, the parts use the packages and libraries of TensorRT-RTX's wheels, unpacked in DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import IO, Any

from benchmarks.gpu_parts import OUT_OF_TIME, PARTS, ROOT, Task, line
from topos_rt.errors import OptionError, ToposError, choose
from topos_rt.support.files import check_writable, write_atomic

FORMAT, VERSION = "topos_rt.gpu_run", 1
ALL = "all"
_LEAST_S = 15.0  # with less time left, a part is not started
_LONGEST = 1000  # characters that the log keeps of a line


def main(argv: Sequence[str] | None = None) -> int:
    """Run parts. Return 0 if all of them finished, 1 otherwise, 2 for bad usage."""
    arguments = _parser().parse_args(argv)
    try:
        return _worker(arguments) if arguments.worker else _run(arguments)
    except ToposError as error:
        print(f"error: {error}", flush=True)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    summaries = "\n".join(f"  {name:<10} {part.summary}, {part.box_s} s" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_run",
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"parts:\n{summaries}",
    )
    parser.add_argument("parts", nargs="+", metavar="PART", help=f"{ALL}, or some of the parts below")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(os.environ.get("OUT", "out")),
        metavar="DIR",
        help="for the two files (default: $OUT, else ./out)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / "out" / "gpu_work",
        metavar="DIR",
        help="scratch: bundles and engines, kept for the next call",
    )
    parser.add_argument("--tensorrt", type=Path, metavar="DIR", help="unpacked wheels of TensorRT-RTX")
    parser.add_argument("--data", type=Path, metavar="DIR", help="portraits to train on")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, with small settings")
    parser.add_argument("--box", type=float, default=1.0, metavar="X", help="time boxes times X")
    parser.add_argument("--seconds", type=float, metavar="S", help="end by then (default: when all is done)")
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    names = list(PARTS) if ALL in arguments.parts else list(dict.fromkeys(arguments.parts))
    for name in names:
        choose(name, PARTS | {ALL: None}, "part")
    if not 0 < arguments.box <= 100:
        raise OptionError("--box", got=arguments.box, expected="a number above 0, at most 100")
    if arguments.seconds is not None and not arguments.seconds > 0:
        raise OptionError("--seconds", got=arguments.seconds, expected="a number above 0")
    end = time.monotonic() + (arguments.seconds or float("inf"))
    environment = _environment(arguments.tensorrt, arguments.work)
    report, log = arguments.out / "gpu_run.json", arguments.out / "gpu_run.log"
    check_writable(report, parents=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "model": None,  # the results of the parts name their own
        "rehearsed": arguments.rehearse,
        "started": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "parts": {},
    }

    def keep(name: str, found: dict[str, Any]) -> None:
        result["parts"][name] = found
        write_atomic(report, (json.dumps(result, indent=1) + "\n").encode())

    with log.open("w") as copy:
        for name in names:
            box = arguments.box * (PARTS[name].rehearsal_s if arguments.rehearse else PARTS[name].box_s)
            box = min(box, end - time.monotonic())
            if box < _LEAST_S and arguments.seconds is not None:
                print(f"[{name}] left out: no time", flush=True)
                keep(name, {"rc": OUT_OF_TIME, "timed_out": True, "seconds": 0.0, "results": {}})
                continue
            keep(name, _box(name, box, arguments, environment, copy, partial(keep, name)))
    bad = [name for name, part in result["parts"].items() if part["rc"] != 0]
    print(f"{report}: {len(names) - len(bad)} of {len(names)} parts", *([f"not {bad}"] if bad else []))
    return 1 if bad else 0


def _box(
    name: str,
    box: float,
    arguments: argparse.Namespace,
    environment: dict[str, str],
    copy: IO[str],
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Run one part in its own process group, and kill the whole group when its time is up."""
    kept = _kept(arguments.work, name)
    kept.unlink(missing_ok=True)
    words = [sys.executable, "-m", "benchmarks.gpu_run", name, "--worker", "--work", str(arguments.work)]
    words += ["--rehearse"] if arguments.rehearse else []
    words += ["--data", str(arguments.data)] if arguments.data else []
    words += ["--deadline", str(time.monotonic() + box)]  # all processes of a machine share this clock
    start = time.perf_counter()
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    expired = threading.Event()

    def end() -> None:
        expired.set()
        _kill(process)

    def so_far(code: int | None) -> dict[str, Any]:
        results = json.loads(kept.read_text()) if kept.is_file() else {}
        return {
            "rc": code,
            "timed_out": expired.is_set(),
            "seconds": round(time.perf_counter() - start, 1),
            "box_s": box,
            "results": results,
            "tail": list(said) if code else [],
        }

    timer = threading.Timer(box, end)
    timer.start()
    assert process.stdout is not None
    said: deque[str] = deque(maxlen=5)
    for text in process.stdout:
        said.append(text.rstrip())
        print(f"[{name}] {text.rstrip()[:_LONGEST]}", file=copy, flush=True)
        if text.startswith("| "):  # a line of a command's output, which goes to the log alone
            continue
        print(f"[{name}] {text}", end="", flush=True)
        keep(so_far(None))
    code = process.wait()
    timer.cancel()
    _kill(process)  # and the processes that it left running
    if expired.is_set():
        print(f"[{name}] out of time after {box:g} s", flush=True)
    return so_far(code)


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _worker(arguments: argparse.Namespace) -> int:
    """Run a part in its own process; each result is on disk before the next begins."""
    (name,) = arguments.parts
    task = Task(arguments.work, arguments.rehearse, arguments.data, arguments.deadline)
    results = {}
    failed = False
    for key, found in PARTS[name].run(task):
        results[key] = found
        failed |= bool(found.get("rc"))
        write_atomic(_kept(arguments.work, name), json.dumps(results).encode())
        print(line(key, found), flush=True)
    return int(failed)


def _kept(work: Path, name: str) -> Path:
    return work / f"part_{name}.json"


def _environment(tensorrt: Path | None, work: Path) -> dict[str, str]:
    """Return the environment of a part: our sources, TensorRT's libraries, its own engine cache."""
    packages, libraries = [str(ROOT)], []
    if tensorrt is not None:
        if not tensorrt.is_dir():
            raise OptionError(f"--tensorrt {tensorrt}", got="no directory", expected="unpacked wheels")
        packages.append(str(tensorrt))
        libraries = sorted({str(found.parent) for found in tensorrt.rglob("*.so*")})
    return os.environ | {
        "PATH": _joined(os.environ.get("PATH", ""), "/usr/local/cuda/bin"),  # nvcc may be nowhere else
        "PYTHONPATH": _joined(*packages, os.environ.get("PYTHONPATH", "")),
        "LD_LIBRARY_PATH": _joined(*libraries, os.environ.get("LD_LIBRARY_PATH", "")),
        "TOPOS_RT_CACHE": str(work / "cache"),
        "PYTHONUNBUFFERED": "1",
    }


def _joined(*paths: str) -> str:
    return os.pathsep.join(filter(None, paths))


if __name__ == "__main__":
    raise SystemExit(main())
