"""Measure the C library: loading, memory, a head, the slices of a manual job, polling, cancelling, writing.

    cmake -S . -B build -DTOPOS_SDK=ON && cmake --build build
    python -m benchmarks.bench_sdk build/sdk/libtopos_rt.so --json FILE [--rounds 5] [--record]

Every round is a fresh process with two threads: one loads the pack of `mini` without a cache of optimised
graphs, one with an empty cache, and one with what that left. Memory is what /proc/self/smaps_rollup counts
more than before the runtime was made: `private` are pages that only this process has and that no file holds
(Private_Dirty), `mapped` those of files (Private_Clean), which the system drops when it needs memory. With
--record it is written into topos_rt/pack/memory.json, from where `topos-rt pack` takes it.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.report import report
from tests.sdk import capi
from tests.sdk.capi import PENDING, Handle
from topos_rt.bench.machine import facts, load_average
from topos_rt.bench.stats import summary
from topos_rt.bench.work import model_facts
from topos_rt.errors import OptionError
from topos_rt.faces.bundle import FaceBundle
from topos_rt.model.bundle import Bundle
from topos_rt.pack.container import packed
from topos_rt.pack.contents import contents
from topos_rt.pack.memory import RECORDED, networks_digest
from topos_rt.pack.sections import MEMORY
from topos_rt.support.files import write_atomic

THREADS, HEADS, POLLS = 2, 8, 100_000
PLAIN, FILLING, CACHED = "without a cache", "filling the cache", "with the cache"
MANUAL, FOREVER, SEEN = 1, 2**32 - 1, ("Private_Dirty", "Private_Clean")


def memory() -> dict[str, int]:
    """Return this process's own bytes: private, and mapped from files."""
    text = Path("/proc/self/smaps_rollup").read_text()
    found = [int(re.search(rf"{name}:\s+(\d+)", text)[1]) * 1024 for name in SEEN]  # type: ignore[index]
    return {"private": found[0], "mapped": found[1]}


def _seconds(work: Callable[[], Any]) -> dict[str, float]:
    cpu, start = time.process_time(), time.perf_counter()
    work()
    return {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu}


class Bench:
    """One process's measurements of a library."""

    def __init__(self, library: Path, ort: Path, pack: Path, cache: str) -> None:
        self.api = capi.Api(library)
        pixels = np.asarray(Image.open(capi.PORTRAIT).convert("RGB"))
        self.image = capi.image(pixels)
        self.before = memory()
        options = {"cache_dir": cache.encode()} if cache else {}
        given = capi.struct("runtime_options", ort_library=str(ort).encode(), num_threads=THREADS, **options)
        self.runtime = Handle(self.api.made("runtime_create", given))
        made: list[Handle] = []
        self.load = _seconds(lambda: made.append(capi.load(self.api, self.runtime, pack)))
        (self.model,) = made
        self.loaded = self.memory()

    def memory(self) -> dict[str, int]:
        """Return the memory since the runtime was made."""
        return {name: value - self.before[name] for name, value in memory().items()}

    def request(self, flags: int = 0, **given: Any) -> Any:
        return capi.request([self.image], [5], flags, crop=capi.CROP_AUTO, **given)

    def head(self) -> Handle:
        (made,) = capi.generate(self.api, self.model, self.request())
        return made

    def heads(self) -> list[dict[str, float]]:
        """Seconds of heads, the first of which is cold."""
        return [_seconds(lambda: self.api.call("head_release", self.head())) for _ in range(HEADS)]

    def slices(self) -> dict[str, float]:
        """Seconds of the longest step of each stage of a manual job."""
        job = Handle(self.api.made("submit", self.model, self.request(MANUAL)))
        longest: dict[str, float] = {}
        status = PENDING
        while status == PENDING:
            stage = self.api.told_status("job_poll", "progress", job).stage.decode()
            start = time.perf_counter()
            status = self.api.call("job_step", job)
            longest[stage] = max(longest.get(stage, 0.0), time.perf_counter() - start)
        self.api.call("job_release", job)
        return longest

    def poll(self) -> float:
        """Seconds of a poll of a job, less those of a call that does nothing."""
        job = Handle(self.api.made("submit", self.model, self.request(MANUAL)))
        handle, lib = ctypes.c_void_p(job), self.api.lib
        empty, poll, best = lib.topos_abi_version, lib.topos_job_poll, [math.inf, math.inf]
        for _ in range(5):
            for number, call in enumerate((lambda: empty(), lambda: poll(handle, None))):
                start = time.perf_counter()
                for _ in range(POLLS // 5):
                    call()
                best[number] = min(best[number], (time.perf_counter() - start) / (POLLS // 5))
        self.api.call("job_release", job)
        return max(best[1] - best[0], 0.0)

    def write(self) -> float:
        """Seconds in which positions and normals of a head are written, interleaved."""
        head = self.head()
        layout = capi.struct("layout")
        count = self.api.told("model_counts", "mesh_counts", self.model, layout).num_vertices
        out = np.empty((count, 6), np.float32)
        streams = (capi.structs()["topos_stream"] * 2)()
        for number, stream in enumerate(streams):
            stream.struct_size = ctypes.sizeof(stream)
            stream.attribute, stream.format = number + 1, capi.constants()["TOPOS_F32X3"]
            stream.offset, stream.stride = 12 * number, 24
            stream.data, stream.capacity = out.ctypes.data, out.nbytes
        times = []
        for _ in range(50):
            start = time.perf_counter()
            self.api.call("write_vertices", self.model, head, layout, None, None, streams, 2, None)
            times.append(time.perf_counter() - start)
        self.api.call("head_release", head)
        return min(times)

    def cancel(self) -> list[float]:
        """Seconds from asking a job to stop, in the middle of its steps, to its end."""
        times = []
        for _ in range(5):
            job = Handle(self.api.made("submit", self.model, self.request(steps=1000)))
            while self.api.told_status("job_poll", "progress", job).step < 2:
                time.sleep(0.001)
            start = time.perf_counter()
            self.api.call("job_cancel", job)
            self.api.call("job_wait", job, FOREVER)
            times.append(time.perf_counter() - start)
            self.api.call("job_release", job)
        return times


def measure_here(library: Path, ort: Path, pack: Path, cache: str) -> dict[str, Any]:
    """Measure in this process, which should be fresh."""
    bench = Bench(library, ort, pack, cache)
    found: dict[str, Any] = {"load": bench.load, "memory after loading": bench.loaded}
    found["heads"] = bench.heads()
    found["memory after heads"] = bench.memory()
    found["slices"] = [bench.slices() for _ in range(3)]
    found |= {"poll": bench.poll(), "write": bench.write(), "cancel": bench.cancel()}
    needs = capi.struct("requirements")
    source = capi.struct("source", path=str(pack).encode())
    bench.api.ok("get_requirements", bench.runtime, source, None, needs)
    return found | {"of a job": needs.host_per_job}


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table and write the JSON. Return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("library", type=Path, help="libtopos_rt.so, as CMake built it")
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--record", action="store_true", help="write the memory for `topos-rt pack`")
    parser.add_argument("--here", nargs=3, metavar=("ORT", "PACK", "CACHE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.here:
        ort, pack, cache = arguments.here
        print(json.dumps(measure_here(arguments.library, Path(ort), Path(pack), cache)))
        return 0
    return report(lambda: measure(arguments), arguments.json)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the JSON object. Raises OptionError for invalid arguments."""
    if not 1 <= arguments.rounds <= 100:
        raise OptionError("--rounds", got=arguments.rounds, expected="a whole number from 1 to 100")
    if not arguments.library.is_file():
        raise OptionError("the library", got=arguments.library, expected="a file", fix="build it with CMake")
    ort = _onnxruntime()
    load, bundle = load_average(), Bundle.open("mini")
    sections = contents(bundle, FaceBundle.open())
    found: dict[str, list[Any]] = {PLAIN: [], FILLING: [], CACHED: []}
    with tempfile.TemporaryDirectory() as folder:
        pack = Path(folder, "mini.topos")
        with pack.open("wb") as file:  # pages that are not on the disk yet would count as private
            file.write(packed(sections))
            file.flush()
            os.fsync(file.fileno())
        for number in range(arguments.rounds):
            cache = Path(folder, f"cache{number}")
            for kind, used in ((PLAIN, ""), (FILLING, cache), (CACHED, cache)):
                found[kind].append(_in_a_process(arguments.library, ort, pack, str(used)))
        written = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    rows = {kind: _row(rounds) for kind, rounds in found.items()}
    for kind, row in rows.items():
        print(
            f"{kind:<18} load {row['load_s']['p50']:.2f} s  head {row['head_s']['p50']:.2f} s  "
            f"private {row['private_bytes'] / 1e6:.0f} MB",
            flush=True,
        )
    if arguments.record:
        private = [rows[kind]["private_bytes"] for kind in (PLAIN, CACHED)]
        values = dict(zip(MEMORY, [*private, found[PLAIN][0]["of a job"]], strict=True))
        write_atomic(RECORDED, (json.dumps({networks_digest(sections): values}, indent=1) + "\n").encode())
    return {
        "format": "topos_rt.sdk",
        "version": 1,
        "model": model_facts(bundle),
        "machine": facts() | {"load_average_before": load},
        "threads": THREADS,
        "library_bytes": arguments.library.stat().st_size,
        "cache_bytes": written,
        "by_kind": rows,
    }


def _onnxruntime() -> Path:
    """Return the library of the installed package, which is not imported: it would be in memory twice."""
    found = importlib.util.find_spec("onnxruntime")
    places = [] if found is None else list(found.submodule_search_locations or [])
    return next(path for place in places for path in Path(place).glob("capi/libonnxruntime.so*"))


def _in_a_process(library: Path, ort: Path, pack: Path, cache: str) -> Any:
    words = [sys.executable, "-m", "benchmarks.bench_sdk", library, "--here", ort, pack, cache]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _row(rounds: list[Any]) -> dict[str, Any]:
    """Summarise processes of one kind. The longest slice of a stage is its shortest of all jobs."""
    warm = [head for found in rounds for head in found["heads"][1:]]
    slices: dict[str, float] = {}
    for job in (job for found in rounds for job in found["slices"]):
        for stage, seconds in job.items():
            slices[stage] = min(slices.get(stage, math.inf), seconds)
    return {
        "load_s": summary([found["load"]["wall"] for found in rounds]),
        "load_cpu_s": summary([found["load"]["cpu"] for found in rounds]),
        "first_head_s": summary([found["heads"][0]["wall"] for found in rounds]),
        "head_s": summary([head["wall"] for head in warm]),
        "head_cpu_s": summary([head["cpu"] for head in warm]),
        "private_loaded_bytes": _median(rounds, "memory after loading", "private"),
        "private_bytes": _median(rounds, "memory after heads", "private"),
        "mapped_bytes": _median(rounds, "memory after heads", "mapped"),
        "slice_s": slices,
        "poll_s": min(found["poll"] for found in rounds),
        "write_s": min(found["write"] for found in rounds),
        "cancel_s": summary([seconds for found in rounds for seconds in found["cancel"]]),
    }


def _median(rounds: list[Mapping[str, Any]], *keys: str) -> int:
    return int(median(found[keys[0]][keys[1]] for found in rounds))


if __name__ == "__main__":
    sys.exit(main())
