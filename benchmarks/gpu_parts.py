"""The parts of a GPU session: what each part runs, in what order, and what it keeps."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

Named = tuple[str, dict[str, Any]]
ROOT = Path(__file__).parents[1]
_TAIL = 12  # lines kept of a command that failed
_LONGEST = 500  # characters kept of a line
_MARGIN_S = 5.0  # at the end of its time box, in which a part writes its results
OUT_OF_TIME = 124  # the exit code of the command `timeout`
_NO_TESTS = 5  # the exit code of pytest where it found no tests
# Each runs in its own process, because nothing works in a process after an illegal access.
_TESTS = ("gpu/test_pack_rows.py", "gpu/test_flow_step.py", "gpu/test_graph_conv.py",
          "gpu/test_graph_conv_tiled.py", "gpu/test_project_texture.py", "model/test_decoder.py",
          "model/test_recorded.py",
          "engines")  # fmt: skip
_SANITIZED = "test_widths or test_linear_out or test_rows_in_another_order"


@dataclass(frozen=True)
class Task:
    """The settings of a session that a part receives."""

    work: Path  # the scratch folder for bundles, engines and results of commands
    rehearse: bool  # on a CPU, at small sizes
    data: Path | None = None  # where `python -m training.portraits` wrote, for training
    deadline: float | None = None  # when the time box of the part ends, by time.monotonic

    def command(self, words: list[str], **more: Any) -> dict[str, Any]:
        """See `_command`."""
        return _command(words, deadline=self.deadline, **more)

    @property
    def cache(self) -> Path:
        """The cache of this session's engines."""
        return self.work / "cache"

    @property
    def models(self) -> dict[str, str]:
        """Name -> bundle; `official` is there once the part `build` has made it."""
        official = self.work / "official"
        made = {"official": str(official)} if (official / "manifest.json").is_file() else {}
        return {"mini": "mini"} | made


@dataclass(frozen=True)
class Part:
    """A part and its time box in seconds, on a GPU and rehearsed."""

    run: Callable[[Task], Iterator[Named]]
    box_s: int
    rehearsal_s: int
    summary: str


def engines_here(task: Task) -> list[str]:
    """Return the backends that run on this machine's GPU; in a rehearsal onnxruntime stands for them.

    Each is tried in its own process, because an engine on an unsupported GPU may kill the whole process.
    """
    if task.rehearse:
        return ["onnxruntime"]
    code = (
        "import json; from topos_rt.engines import BUILDERS, survey;"
        "print(json.dumps([name for name, probe in survey(BUILDERS).items() if probe.error is None]))"
    )
    found: list[str] = task.command(["-c", code], stdout_json=True).get("result", [])
    return found


def probe(task: Task) -> Iterator[Named]:
    from benchmarks import gpu_probe

    if task.rehearse:
        import torch

        torch.set_num_threads(1)
    yield from gpu_probe.probe()


def build(task: Task) -> Iterator[Named]:
    if (ROOT / "csrc").is_dir() and not task.rehearse:
        words = ["-m", "pip", "install", "-v", "--no-deps", "--no-build-isolation", "-e", str(ROOT)]
        yield "kernels", task.command(words)
        # If the build fails, the installation falls back to pure Python and says so only in its output.
        code = "from topos_rt import _kernels as k; print(k.ARCHITECTURES, 'CUDA', k.CUDA_VERSION)"
        yield "kernels_load", task.command(["-c", code], keep=1)
    backends = ["tensorrt-rtx"] if task.rehearse else engines_here(task)
    if not backends:
        yield "engines", {"skipped": "no TensorRT runs here, and nothing else needs the official-size bundle"}
    elif not task.rehearse and "official" not in task.models:
        words = ["-m", "export", "random", "--preset", "official", "--precision", "fp16"]
        yield "bundle", task.command([*words, "--out", str(task.work / "official")])
    for backend in backends:
        for name, model in task.models.items():
            for precision in ("fp16", "fp32"):
                words = ["-m", "topos_rt", "build", "--model", model, "--backend", backend]
                words += ["--precision", precision, "--cache", str(task.cache), "--json"]
                yield f"{backend}_{name}_{precision}", task.command(words, stdout_json=True)


def tests(task: Task) -> Iterator[Named]:
    words = ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--tb=short", "--maxfail=20"]
    # These skip without a GPU; a rehearsal shows that they are found.
    places = ("engines",) if task.rehearse else _TESTS
    commands = {
        Path(place).stem: partial(task.command, [*words, f"tests/{place}"], keep=2 * _TAIL)
        for place in places
    }
    for name, found in _together(commands):
        yield name, {"skipped": found["tail"][-1]} if found["rc"] == _NO_TESTS else found


def sanitize(task: Task) -> Iterator[Named]:
    """Look for what only a GPU shows: misaligned accesses, races, barriers that not all threads reach."""
    program = shutil.which("compute-sanitizer")
    if program is None or task.rehearse:
        yield "compute-sanitizer", {"skipped": "a rehearsal" if task.rehearse else "it is not on the PATH"}
        return
    words = ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-x", "-k", _SANITIZED, "tests/gpu"]
    tools = ("memcheck", "racecheck", "synccheck", "initcheck")
    yield from _together(
        {
            tool: partial(
                task.command, words, keep=_TAIL, before=(program, "--tool", tool, "--error-exitcode", "9")
            )
            for tool in tools
        }
    )


def _together(commands: Mapping[str, Callable[[], dict[str, Any]]]) -> Iterator[Named]:
    """Yield the results of commands that run side by side. Use it only for work that is not timed."""
    with ThreadPoolExecutor(len(commands)) as pool:
        begun = {pool.submit(run): name for name, run in commands.items()}
        for done in as_completed(begun):
            yield begun[done], done.result()


def precision(task: Task) -> Iterator[Named]:
    for backend in engines_here(task):
        for name, model in task.models.items():
            for form in ("fp32",) if task.rehearse else ("fp16", "fp32"):
                # The reference runs on the CPU: fifty steps of `official` would take minutes there.
                small = ["--steps", "2", "--seeds", "1"] if task.rehearse or name == "official" else []
                words = ["-m", "benchmarks.stage_errors", "--model", model, "--backend", backend]
                words += ["--precision", form, "--cache", str(task.cache), *small]
                yield f"{backend}_{name}_{form}", task.command(words, result=task.work / "errors.json")


def kernels(task: Task) -> Iterator[Named]:
    small = ["--rehearse", "--preset", "mini", "--runs", "3"] if task.rehearse else []
    words = ["-m", "benchmarks.bench_ops", *small]
    yield "bench_ops", task.command(words, result=task.work / "ops.json")


def profile(task: Task) -> Iterator[Named]:
    if task.rehearse or shutil.which("ncu") is None:
        yield "ncu", {"skipped": "a rehearsal" if task.rehearse else "it is not on the PATH"}
        return
    yield "profile_ops", task.command(["-m", "benchmarks.profile_ops"], result=task.work / "profile.json")


def pipeline(task: Task) -> Iterator[Named]:
    for backend in engines_here(task):
        for name, model in task.models.items():
            for preset in ("fast",) if task.rehearse else ("balanced", "reference", "fast"):
                small = ["--runs", "20", "--warm-up", "1", "--threads", "1"] if task.rehearse else []
                cold = "0" if preset != "balanced" or name != "mini" else "1"
                words = ["-m", "topos_rt", "bench", "--model", model, "--backend", backend, "--cold", cold]
                words += ["--preset", preset, "--cache", str(task.cache), *small]
                words += [] if name == "mini" else ["--guidance", "3"]
                yield (
                    f"{backend}_{name}_{preset}",
                    task.command(words, result=task.work / "bench.json", flag="-o"),
                )


def graph(task: Task) -> Iterator[Named]:
    """Time whole heads by one launch; the benchmark of the pipeline launches each step on its own."""
    if task.rehearse:
        yield "graph", {"skipped": "there is no CUDA graph without a GPU"}
        return
    for backend in engines_here(task):
        for name, model in task.models.items():
            for preset in ("balanced", "reference"):
                words = ["-m", "benchmarks.bench_graph", "--model", model, "--backend", backend]
                words += ["--preset", preset, "--cache", str(task.cache)]
                words += [] if name == "mini" else ["--guidance", "3"]
                yield f"{backend}_{name}_{preset}", task.command(words, result=task.work / "graph.json")


def baselines(task: Task) -> Iterator[Named]:
    # Without an engine on the GPU ours would run on the CPU: minutes for a head, and nothing to compare.
    ours = [] if engines_here(task) else ["--without-ours"]
    # Theirs needs no bundle, because its weights are drawn.
    models = [("official", ""), ("mini", "")] if ours else list(reversed(task.models.items()))
    for place, (name, model) in enumerate(models):
        small = ["--steps", "2", "--rounds", "2", "--modes", "eager_fp32,eager_bf16", "--threads", "1"]
        words = ["-m", "benchmarks.baseline_official", "--preset", name, *ours]
        words += [*small] if task.rehearse else ["--bundle", model] if name != "mini" and not ours else []
        if task.deadline is not None:  # all modes end together, and few rounds are better than no result
            seconds = (task.deadline - time.monotonic()) / (len(models) - place) - 30
            words += ["--seconds", f"{max(1.0, seconds):.0f}"]
        yield name, task.command(words, result=task.work / "baseline.json")


def train(task: Task) -> Iterator[Named]:
    if not task.rehearse:
        yield "vae", {"skipped": "training runs on the CPU: not on a lent GPU's time"}
        return
    words = ["-m", "training.train_vae", "--out", str(task.work / "train"), "--minutes", "0.1"]
    yield "vae", task.command([*words, "--batch", "2"], keep=4)
    if task.data is None:
        yield "encoder", {"skipped": "no portraits: make them with training.portraits, name them with --data"}
        return
    words = ["-m", "training.train_encoder", "--out", str(task.data), "--minutes", "0.1"]
    yield "encoder", task.command(words, keep=4)


PARTS: dict[str, Part] = {
    "probe": Part(probe, 90, 120, "the machine, TensorRT, the ceilings of the day"),
    "build": Part(build, 420, 180, "our kernels, the official-size bundle, engines"),
    "tests": Part(tests, 180, 180, "the tests marked gpu"),
    "sanitize": Part(sanitize, 240, 120, "the kernels under compute-sanitizer"),
    "precision": Part(precision, 240, 120, "every stage against onnxruntime in FP32"),
    "kernels": Part(kernels, 240, 120, "each kernel alone"),
    "profile": Part(profile, 90, 120, "where the time of the graph convolutions goes"),
    "pipeline": Part(pipeline, 420, 180, "topos-rt bench, models and presets"),
    "graph": Part(graph, 240, 120, "heads by one CUDA graph, either decoder, against step by step"),
    "baselines": Part(baselines, 540, 300, "the official algorithm in PyTorch, by turns with ours"),
    "train": Part(train, 300, 400, "some minutes of training"),
}


def _command(
    words: list[str],
    *,
    result: Path | None = None,
    flag: str = "--json",
    stdout_json: bool = False,
    keep: int = 0,
    before: Sequence[str] = (),
    deadline: float | None = None,
) -> dict[str, Any]:
    """Run a Python command from the root; return what it wrote to `result`, or the end of its output.

    Its output is passed on as it comes, each line behind "| ". before: words in front of Python's. A command
    that still runs shortly before the deadline is killed; what it has written to `result` by then, or before
    it failed, is returned as "partial".
    """
    if result is not None:
        result.unlink(missing_ok=True)
        words = [*words, flag, str(result)]
    start = time.monotonic()
    left = float("inf") if deadline is None else deadline - _MARGIN_S - start
    if left <= 0:
        return {"rc": OUT_OF_TIME, "seconds": 0.0, "tail": ["out of time before it began"]}
    expired, tail = threading.Event(), deque[str](maxlen=max(keep, _TAIL))
    with tempfile.TemporaryFile("w+") as told_apart:
        process = subprocess.Popen(
            [*before, sys.executable, "-W", "ignore", *words],
            cwd=ROOT,
            text=True,
            errors="replace",
            stdout=told_apart if stdout_json else subprocess.PIPE,
            stderr=subprocess.PIPE if stdout_json else subprocess.STDOUT,
        )

        def end() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(min(left, threading.TIMEOUT_MAX), end)
        timer.daemon = True
        timer.start()
        stream = process.stderr if stdout_json else process.stdout
        assert stream is not None

        def read() -> None:
            for text in stream:
                tail.append(text.rstrip()[:_LONGEST])
                print(f"| {tail[-1]}", flush=True)

        # Not here: a process that the command left running may hold its output open forever.
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        code = process.wait()
        timer.cancel()
        reader.join(_MARGIN_S / 2)
        told_apart.seek(0)
        stdout = told_apart.read()
    code = OUT_OF_TIME if expired.is_set() else code
    told: dict[str, Any] = {"rc": code, "seconds": round(time.monotonic() - start, 2)}
    if result is not None and result.is_file():
        told["partial" if code else "result"] = json.loads(result.read_text())
    elif code == 0 and stdout_json:
        try:
            told["result"] = json.loads(stdout)
        except ValueError as error:
            told["rc"] = code = 1
            tail.append(f"no JSON on its output: {error}")
    if expired.is_set():
        tail.append(f"out of time after {told['seconds']:g} s")
    if code or keep:
        told["tail"] = [text for text in [*stdout.splitlines(), *tail] if text][-(keep or _TAIL) :]
    return told


def line(name: str, found: Mapping[str, Any]) -> str:
    """Return one line for a result."""
    if "skipped" in found:
        return f"{name}: skipped: {found['skipped']}"
    if not found.get("works", True):
        return f"{name}: does not run here: {found['error']}"
    failed = found.get("error") or (found.get("rc") and (" | ".join(found["tail"][-2:]) or "no output"))
    if failed:
        return f"{name}: FAILED: {failed}"
    inner = found.get("result", found)
    if "flops_per_s" in inner:
        return f"{name}: {inner['flops_per_s'] / 1e12:.2f} TFLOP/s"
    if "bytes_per_s" in inner:
        return f"{name}: {inner['bytes_per_s'] / 1e12:.3f} TB/s"
    if "roofline" in inner:
        head = inner["roofline"]["head"]
        return f"{name}: head p50 {head['p50_ms']:.2f} ms, rho {head['rho']:.2f}"
    if "modes" in inner:
        return f"{name}: S " + ", ".join(f"{mode} {row['s']:.2f}" for mode, row in inner["modes"].items())
    if "heads" in inner:
        return f"{name}: vertices p99 {inner['heads']['p99_mm']:.4f} mm off"
    if "detail" in inner:
        return f"{name}: {inner['detail']}"
    return f"{name}: " + (found["tail"][-1] if found.get("tail") else "done")
