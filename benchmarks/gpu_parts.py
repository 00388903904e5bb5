"""The parts of a GPU session: what each runs, in what order, and what it keeps."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topos_rt.backends import BUILDERS, survey

Named = tuple[str, dict[str, Any]]
ROOT = Path(__file__).parents[1]
_TAIL = 12  # lines kept of a command that failed


@dataclass(frozen=True)
class Task:
    """What a part is given."""

    work: Path  # scratch: bundles, engines, results of commands
    rehearse: bool  # on a CPU, small
    data: Path | None = None  # of training: where `python -m training.portraits` wrote

    @property
    def cache(self) -> Path:
        """Engines of this session."""
        return self.work / "cache"

    @property
    def models(self) -> dict[str, str]:
        """Name -> bundle; `official` once the part build has made it."""
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
    """Backends that run on this machine's GPU; rehearsed, onnxruntime stands for them."""
    if task.rehearse:
        return ["onnxruntime"]
    return [name for name, probe in survey().items() if name in BUILDERS and probe.error is None]


def probe(task: Task) -> Iterator[Named]:
    from benchmarks import gpu_probe

    if task.rehearse:
        import torch

        torch.set_num_threads(1)
    yield from gpu_probe.probe()


def build(task: Task) -> Iterator[Named]:
    if (ROOT / "csrc").is_dir() and not task.rehearse:
        words = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)]
        yield "kernels", _command(words)
    if not task.rehearse and "official" not in task.models:
        words = ["-m", "export", "random", "--preset", "official", "--precision", "fp16"]
        yield "bundle", _command([*words, "--out", str(task.work / "official")])
    backends = ["tensorrt-rtx"] if task.rehearse else engines_here(task)
    for backend in backends:
        for name, model in task.models.items():
            for precision in ("fp16", "fp32"):
                words = ["-m", "topos_rt", "build", "--model", model, "--backend", backend]
                words += ["--precision", precision, "--cache", str(task.cache), "--json"]
                yield f"{backend}_{name}_{precision}", _command(words, stdout_json=True)


def tests(task: Task) -> Iterator[Named]:
    words = ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    # With no GPU these skip; that they are found at all is what a rehearsal shows.
    yield "gpu", _command([*words, "tests/backends"] if task.rehearse else words, keep=_TAIL)


def precision(task: Task) -> Iterator[Named]:
    for backend in engines_here(task):
        for name, model in task.models.items():
            for form in ("fp32",) if task.rehearse else ("fp16", "fp32"):
                small = ["--steps", "2", "--seeds", "1"] if task.rehearse else []
                words = ["-m", "benchmarks.stage_errors", "--model", model, "--backend", backend]
                words += ["--precision", form, "--cache", str(task.cache), *small]
                yield f"{backend}_{name}_{form}", _command(words, result=task.work / "errors.json")


def kernels(task: Task) -> Iterator[Named]:
    small = ["--rehearse", "--preset", "mini", "--runs", "3"] if task.rehearse else []
    words = ["-m", "benchmarks.bench_ops", *small]
    yield "bench_ops", _command(words, result=task.work / "ops.json")


def pipeline(task: Task) -> Iterator[Named]:
    for backend in engines_here(task):
        for name, model in task.models.items():
            for preset in ("fast",) if task.rehearse else ("balanced", "reference", "fast"):
                small = ["--runs", "20", "--warm-up", "1", "--threads", "1"] if task.rehearse else []
                cold = "0" if preset != "balanced" or name != "mini" else "1"
                words = ["-m", "topos_rt", "bench", "--model", model, "--backend", backend, "--cold", cold]
                words += ["--preset", preset, "--cache", str(task.cache), *small]
                words += [] if name == "mini" else ["--guidance", "3"]
                yield f"{backend}_{name}_{preset}", _command(
                    words, result=task.work / "bench.json", flag="-o")


def baselines(task: Task) -> Iterator[Named]:
    for name, model in reversed(task.models.items()):
        small = ["--steps", "2", "--rounds", "2", "--modes", "eager_fp32,eager_bf16", "--threads", "1"]
        words = ["-m", "benchmarks.baseline_official", "--preset", name]
        words += [*small] if task.rehearse else ["--bundle", model] if name != "mini" else []
        yield name, _command(words, result=task.work / "baseline.json")


def train(task: Task) -> Iterator[Named]:
    minutes = "0.1" if task.rehearse else "2"
    words = ["-m", "training.train_vae", "--out", str(task.work / "train"), "--minutes", minutes]
    yield "vae", _command([*words, *(["--batch", "2"] if task.rehearse else [])], keep=4)
    if task.data is None:
        yield "flow", {"skipped": "no portraits: make them with training.portraits, name them with --data"}
        return
    words = ["-m", "training.train_flow", "--out", str(task.data), "--minutes", minutes]
    yield "flow", _command(words, keep=4)


PARTS: dict[str, Part] = {
    "probe": Part(probe, 90, 120, "the machine, TensorRT, the ceilings of the day"),
    "build": Part(build, 420, 180, "our kernels, the official-size bundle, engines"),
    "tests": Part(tests, 180, 180, "the tests marked gpu"),
    "precision": Part(precision, 240, 120, "every stage against onnxruntime in FP32"),
    "kernels": Part(kernels, 240, 120, "each kernel alone"),
    "pipeline": Part(pipeline, 420, 180, "topos-rt bench, models and presets"),
    "baselines": Part(baselines, 540, 300, "the official algorithm in PyTorch, by turns with ours"),
    "train": Part(train, 300, 400, "some minutes of training"),
}


def _command(
    words: list[str], *, result: Path | None = None, flag: str = "--json", stdout_json: bool = False,
    keep: int = 0,
) -> dict[str, Any]:
    """Run a Python command from the root; what it wrote to `result`, or the end of its output."""
    if result is not None:
        result.unlink(missing_ok=True)
        words = [*words, flag, str(result)]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-W", "ignore", *words], capture_output=True, text=True,
                          cwd=ROOT, check=False)  # fmt: skip
    told: dict[str, Any] = {"rc": done.returncode, "seconds": round(time.perf_counter() - start, 2)}
    tail = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode == 0 and result is not None:
        told["result"] = json.loads(result.read_text())
    elif done.returncode == 0 and stdout_json:
        told["result"] = json.loads(done.stdout)
    if done.returncode or keep:
        told["tail"] = tail[-(keep or _TAIL) :]
    return told


def line(name: str, found: Mapping[str, Any]) -> str:
    """One line for a result."""
    if "skipped" in found:
        return f"{name}: skipped: {found['skipped']}"
    if not found.get("works", True):
        return f"{name}: does not run here: {found['error']}"
    failed = found.get("error") or (found.get("rc") and " | ".join(found["tail"][-2:]))
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
