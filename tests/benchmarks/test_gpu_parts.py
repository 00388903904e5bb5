"""Every part of a GPU session, its commands recorded and not run: words, options and values are looked at."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import topos_rt
from benchmarks import gpu_parts, gpu_plans, gpu_probe
from benchmarks.gpu_parts import PARTS, ROOT, Task, line
from tests.benchmarks.command_lines import parsed
from tests.gpu.host_gpu import CSRC

BACKENDS = ["tensorrt-rtx", "tensorrt"]
SURVEY = "from topos_rt.engines import BUILDERS"


class Recorder:
    """Takes the commands of parts in place of `_command`; what they make is there afterwards."""

    def __init__(self) -> None:
        self.lines: list[list[str]] = []
        self.before: set[tuple[str, ...]] = set()

    def __call__(self, words: list[str], **how: Any) -> dict[str, Any]:
        unknown = set(how) - {"result", "flag", "stdout_json", "keep", "before", "deadline"}
        assert not unknown
        result = how.get("result")
        self.lines.append([*words, *([how.get("flag", "--json"), str(result)] if result else [])])
        self.before.add(tuple(how.get("before", ())))
        if words[:3] == ["-m", "export", "random"]:
            out = Path(words[words.index("--out") + 1])
            out.mkdir()
            (out / "manifest.json").touch()
        answer: dict[str, Any] = {"rc": 0, "seconds": 1.0, "tail": ["4 passed"]}
        return answer | ({"result": BACKENDS} if SURVEY in words[-1] else {})


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(gpu_parts, "_command", made)
    monkeypatch.setattr(gpu_parts.shutil, "which", lambda name: f"/cuda/bin/{name}")
    return made


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """On a machine with a GPU, where the part `build` has been."""
    (tmp_path / "official").mkdir()
    (tmp_path / "official" / "manifest.json").touch()
    return Task(tmp_path, rehearse=False, data=tmp_path, deadline=time.monotonic() + 500)


COMMANDED = [name for name in PARTS if name != "probe"]


@pytest.mark.parametrize("rehearse", [False, True], ids=["on a GPU", "rehearsed"])
@pytest.mark.parametrize("name", COMMANDED)
def test_every_command_is_one_that_is_taken(
    name: str, rehearse: bool, recorder: Recorder, task: Task
) -> None:
    task = Task(task.work, rehearse, task.data, task.deadline)
    results = dict(PARTS[name].run(task))
    assert results and all(line(key, found) for key, found in results.items())
    skipped = {key for key, found in results.items() if "skipped" in found}
    assert recorder.lines or skipped == set(results)
    for words in recorder.lines:
        check(words)


def check(words: Sequence[str]) -> None:
    """That Python takes a command line."""
    match list(words):
        case ["-c", code]:
            compile(code, "a part's", "exec")
        case ["-m", "pytest", *rest]:
            check_pytest(rest)
        case ["-m", "pip", "install", *rest]:
            check_pip(rest)
        case _:
            parsed(words)


def check_pytest(words: Sequence[str]) -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "tests" / "gpu").glob("test_*.py"))
    (place,) = (word for word in words if word.startswith("tests/"))
    assert (ROOT / place).exists(), place
    if "-k" in words:
        names = words[words.index("-k") + 1].split(" or ")
        assert all(re.search(rf"^def {name}\w*\(", sources, re.MULTILINE) for name in names)
    assert words[words.index("-m") + 1] == "gpu"
    known = {"-q", "-m", "gpu", "-p", "no:cacheprovider", "--tb=short", "--maxfail=20", "-x", "-k"}
    assert set(words) - known <= {place, gpu_parts._SANITIZED}


def check_pip(words: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "install", "--help"]
    taken = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for word in words:
        assert re.search(rf"(^|\W){word}\b", taken) if word.startswith("-") else Path(word).is_dir(), word


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("-m benchmarks.bench_graph --rouds 3", "refused"),
        ("-m benchmarks.bench_graf", "no module"),
        ("-m topos_rt bench --colt 1", "refused"),
        ("-m topos_rt bench --backend tensor", "--backend tensor"),
        ("-m topos_rt bench --preset slow", "--preset slow"),
        ("-m topos_rt bench --model official", "--model official"),
        ("-m benchmarks.baseline_official --modes eager_fp32,eager", "--modes eager"),
        ("-m pytest -m gpu tests/ops/test_pack_rows.py", "tests/ops"),
        ("-m pip install --no-dips -e /", "--no-dips"),
    ],
)
def test_typos_are_seen(words: str, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError, match=wrong):
        check(words.split())


def test_the_official_bundle_is_made_first_and_then_used(recorder: Recorder, tmp_path: Path) -> None:
    task = Task(tmp_path, rehearse=False)
    assert list(task.models) == ["mini"]
    built = [name for name, _ in PARTS["build"].run(task)]
    assert built[:3] == ["kernels", "kernels_load", "bundle"] and list(task.models) == ["mini", "official"]
    assert built[3:] == [
        f"{backend}_{name}_{precision}"
        for backend in BACKENDS for name in task.models for precision in ("fp16", "fp32")
    ]  # fmt: skip
    for part in ("precision", "pipeline", "graph"):
        recorder.lines.clear()
        assert {name.split("_")[1] for name, _ in PARTS[part].run(task)} == {"mini", "official"}
        models = {words[words.index("--model") + 1] for words in recorder.lines if "--model" in words}
        assert models == set(task.models.values())


def test_kernels_are_sanitized_by_every_tool(recorder: Recorder, task: Task) -> None:
    tools = ("memcheck", "racecheck", "synccheck", "initcheck")
    assert {name for name, _ in PARTS["sanitize"].run(task)} == set(tools)
    assert {before[:3] for before in recorder.before} == {
        ("/cuda/bin/compute-sanitizer", "--tool", tool) for tool in tools
    }


def test_every_test_that_is_marked_gpu_is_run() -> None:
    """Marked itself, or by a fixture of tests/gpu/conftest.py that runs it on either."""
    tests = ROOT / "tests"
    marked = {
        path.relative_to(tests).as_posix()
        for path in tests.rglob("test_*.py")
        if re.search(r"mark\.gpu\b" if path.parent.name != "gpu" else r"\barena\b", path.read_text())
        and path != Path(__file__)
    }
    places = {path for path in marked if path in gpu_parts._TESTS or path.split("/")[0] in gpu_parts._TESTS}
    assert places == marked and len(marked) >= 7


def test_the_code_that_asks_which_engines_run(recorder: Recorder, task: Task) -> None:
    assert gpu_parts.engines_here(task) == BACKENDS
    ((_, code),) = recorder.lines
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec(code, {})
    assert set(json.loads(told.getvalue())) <= set(BACKENDS)


def test_the_code_that_loads_the_kernels(
    recorder: Recorder, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(PARTS["build"].run(task))
    (code,) = (words[1] for words in recorder.lines if "_kernels" in words[-1])
    bindings = (CSRC / "bindings.cpp").read_text()
    names = re.findall(r'm\.attr\("(\w+)"\)', bindings)
    monkeypatch.setattr(
        topos_rt, "_kernels", SimpleNamespace(**{name: name for name in names}), raising=False
    )
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec(code, {})
    assert told.getvalue() == "ARCHITECTURES CUDA CUDA_VERSION\n"


def test_the_probe(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(gpu_probe, "_RUNS", 2)
    monkeypatch.setattr(gpu_probe, "_SIDE", {"cuda": 512, "cpu": 64})
    monkeypatch.setattr(gpu_probe, "_COPY", {"cuda": 1 << 20, "cpu": 1 << 16})
    monkeypatch.setattr(gpu_plans, "tried", lambda: iter([("plan_portable", {"works": True, "detail": "d"})]))
    results = dict(PARTS["probe"].run(Task(task.work, rehearse=True)))
    assert threads == [1]
    assert {"machine", "gpu", "gemm_fp32", "gemm_bf16", "copy", *BACKENDS, "plan_portable"} <= set(results)
    assert all(line(key, found) for key, found in results.items())
    assert results["gemm_fp32"]["flops_per_s"] > 0 and results["copy"]["bytes_per_s"] > 0
