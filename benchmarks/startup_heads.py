"""The first head of a process, and the heads of warm processes, of one or two checkouts by turns."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

from topos_rt.errors import OptionError

Samples: TypeAlias = dict[str, dict[str, list[float]]]  # what is timed -> checkout -> milliseconds
ROOT = Path(__file__).parents[1]
_WORKER = Path(__file__).with_name("startup_worker.py")
_PORTRAIT = ROOT / "examples" / "astronaut.jpg"
_WARM_UP = 10
_FIRST, _LAPS = "first GLB", ("head", "head, processor", "GLB", "GLB, processor")
_BOTH, _PROCESSOR = "portrait to GLB", ", processor"


def python_of(root: Path) -> str:
    """Return the Python of a checkout's own environment, or this one."""
    own = root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    return str(own) if own.is_file() else sys.executable


def environment_of(root: Path, bytecode: Path) -> dict[str, str]:
    """Return the environment in which the sources of a checkout run.

    bytecode: a folder for it, so that the checkouts stay as they are; caches go beside it.
    """
    name = f"cache-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"
    own = {
        "PYTHONPATH": str(root),
        "PYTHONPYCACHEPREFIX": str(bytecode),
        "TOPOS_RT_CACHE": str(bytecode.with_name(name)),
        "TOPOS_RT_CACHE_KEY": str(bytecode.with_name(f"{name}.key")),
    }
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | own


def native_of(root: Path) -> bool:
    """Return whether a checkout has its compiled passes: without them, much is slower."""
    program = "from topos_rt.support.native import native; raise SystemExit(native() is None)"
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [python_of(root), "-c", program], capture_output=True, env=environment, cwd=root, check=False
    )
    return done.returncode == 0


class Worker:
    """A process that runs `startup_worker.py`; a context that ends it."""

    def __init__(self, root: Path, bytecode: Path) -> None:
        words = [python_of(root), str(_WORKER), str(_PORTRAIT)]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self._process = subprocess.Popen(
            words, text=True, cwd=root, env=environment_of(root, bytecode), **pipes
        )

    def head(self, seed: int) -> list[float]:
        """Make a head. Return the milliseconds that `_LAPS` names. Raises OptionError where that fails."""
        assert self._process.stdin and self._process.stdout and self._process.stderr
        try:
            print(seed, file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            told = self._process.stderr.read().strip().splitlines()[-1:]
            raise OptionError("a start failed", got=told, fix="try the command by hand")
        return [float(value) for value in line.split()]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # the end of its input is its end


def first_heads(roots: Mapping[str, Path], rounds: int, bytecode: Path) -> Samples:
    """Time fresh processes from their start until the GLB of a portrait is in memory, and what they take."""
    names = (_FIRST, _FIRST + _PROCESSOR)
    samples: Samples = {name: {key: [] for key in roots} for name in names}
    for turn in range(-1, rounds):  # the first round fills the caches and is not counted
        for key in list(roots)[:: 1 if turn % 2 else -1]:
            before, start = os.times(), time.perf_counter()
            with Worker(roots[key], bytecode) as worker:
                worker.head(turn + 1)
                wall = time.perf_counter() - start
            after = os.times()
            spent = (
                after.children_user + after.children_system - before.children_user - before.children_system
            )
            if turn >= 0:
                for name, seconds in zip(names, (wall, spent), strict=True):
                    samples[name][key].append(1e3 * seconds)
    return samples


def warm_heads(roots: Mapping[str, Path], heads: int, bytecode: Path) -> Samples:
    """Time heads and GLBs of processes that run all the time, head by head in turns."""
    samples: Samples = {name: {key: [] for key in roots} for name in (*_LAPS, _BOTH)}
    with ExitStack() as stack:
        workers = {key: stack.enter_context(Worker(root, bytecode)) for key, root in roots.items()}
        for turn in range(-_WARM_UP, heads):
            for key in list(roots)[:: 1 if turn % 2 else -1]:
                laps = workers[key].head(turn + _WARM_UP)
                if turn < 0:
                    continue
                for name, value in zip((*_LAPS, _BOTH), (*laps, laps[0] + laps[2]), strict=True):
                    samples[name][key].append(value)
    return samples
