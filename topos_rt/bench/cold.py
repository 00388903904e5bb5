"""Timings of fresh processes up to their first head, from named start states.

A warm process has loaded its engines and run every kernel. The states before that differ in what is on disk;
in all of them the system's cache holds the model's files.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import topos_rt
from topos_rt.bench.session import Request, Tell
from topos_rt.bench.stats import summary
from topos_rt.engines import backend as find_backend
from topos_rt.errors import BackendError, one_line

# State -> what it means, for backends that build engines; the other backends have those in FRESH.
STATES = {
    "no cache": "engines are built, and their kernels compiled",
    "engine cache": "engines are in the cache, their compiled kernels are not",
    "runtime cache": "engines and, with TensorRT-RTX, their compiled kernels are in the cache",
}
FRESH = {
    "no graphs kept": "graphs are optimised, and kept in the cache where the backend can do that",
    "fresh process": "optimised graphs are in the cache, where the backend keeps any",
}
_TIMEOUT_S = 1800


def measure(request: Request, backend: str, repeats: int, tell: Tell) -> list[dict[str, Any]]:
    """Time each state without and with `HeadPipeline.warm_up` before the first head, `repeats` times.

    The user's engine cache is neither used nor changed. Raises BackendError if a process fails.
    """
    states = STATES if find_backend(backend).builds else FRESH
    told: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    total = 2 * repeats * len(states)
    with _environment() as environment:
        for warmed in repeats * (False, True):
            with tempfile.TemporaryDirectory(prefix="topos-rt-") as folder:
                prepared = dataclasses.replace(request, backend=backend, cache=Path(folder))
                # In this order, each process finds on disk what the one before has left.
                for state in states:
                    tell(sum(map(len, told.values())) / total, f"fresh process, {state}")
                    if state == "engine cache":
                        _forget_kernels(Path(folder))
                    told.setdefault((state, warmed), []).append(_child(prepared, warmed, environment))
    return [
        {"state": state, "meaning": states[state], "warmed_up": warmed, **_row(told[state, warmed])}
        for state in states
        for warmed in (False, True)
    ]


def _row(children: list[dict[str, Any]]) -> dict[str, Any]:
    names = children[0]["ms"]
    return {
        "ms": {name: summary([child["ms"][name] for child in children]) for name in names},
        "peak_host_bytes": _largest(child["peak_host_bytes"] for child in children),
        "device_bytes": _largest(child["device_bytes"] for child in children),
    }


def _largest(values: Iterator[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _forget_kernels(cache: Path) -> None:
    for kernels in cache.rglob("*.jit"):
        kernels.unlink()


@contextmanager
def _environment() -> Iterator[dict[str, str]]:
    """Yield the environment of the children: our sources, compiled to bytecode as after any first start."""
    roots = [str(Path(topos_rt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, roots))}
    if not sys.dont_write_bytecode:
        yield environment
        return
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="topos-rt-") as folder:
        environment["PYTHONPYCACHEPREFIX"] = folder
        words = [
            sys.executable,
            "-c",
            "import topos_rt.bench.session, topos_rt.engines.onnxruntime as o; o.library()",
        ]
        subprocess.run(words, capture_output=True, env=environment, check=False)
        yield environment


def _child(request: Request, warmed: bool, environment: Mapping[str, str]) -> dict[str, Any]:
    tree = dataclasses.asdict(request) | {"cache": str(request.cache)}
    task = {"request": tree, "warm_up": warmed, "spawned": time.monotonic()}
    words = [sys.executable, "-m", "topos_rt.bench.child", json.dumps(task)]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, env=environment, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.SubprocessError as error:
        raise BackendError("a fresh process did not come back", got=error) from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise BackendError(
            "a fresh process failed", got=one_line(last[0]), fix="measure without fresh processes: --cold 0"
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
