"""The GPU session on a CPU: boxes, failures, what is kept; test_gpu_parts.py has the parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_parts, gpu_plans, gpu_run, stage_errors
from benchmarks.gpu_parts import PARTS, Task, line
from tests import needs

FAKE = '''
import time
from benchmarks import gpu_parts, gpu_run

def good(task):
    yield "first", {"detail": "works"}
    yield "second", {"skipped": "nothing to do", "data": str(task.data)}

def bad(task):
    yield "before", {"rc": 0}
    yield "failing", gpu_parts._command(["-c", "raise SystemExit('no such kernel')"])

def broken(task):
    yield "before", {"rc": 0}
    raise RuntimeError("a bug of ours")

HALF_DONE = """
import sys, time
open(sys.argv[2], "w").write('{"done": 1}')
print("begun", flush=True)
time.sleep(60)
"""

def slow(task):
    yield "before", {"rc": 0}
    yield "halfway", task.command(["-c", HALF_DONE], result=task.work / "slow.json")
    time.sleep(60)  # what is no command
    yield "after", {"rc": 0}

PARTS = gpu_run.PARTS
PARTS.clear()
for name, run in {"bad": bad, "slow": slow, "broken": broken, "good": good}.items():
    PARTS[name] = gpu_parts.Part(run, 3, 3, name)
'''


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run made-up parts, in processes of their own as the real ones."""
    site = tmp_path / "site"
    site.mkdir()
    # Workers are `python -m benchmarks.gpu_run`: what makes parts up must be there before its main runs.
    (site / "sitecustomize.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(site))
    names = ("bad", "slow", "broken", "good")
    boxes = dict.fromkeys(names, 60) | {"slow": 12}
    made = {name: gpu_parts.Part(PARTS["probe"].run, boxes[name], boxes[name], name) for name in names}
    monkeypatch.setattr(gpu_run, "PARTS", made)
    for name, part in made.items():
        monkeypatch.setitem(gpu_parts.PARTS, name, part)

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        out = tmp_path / "out"
        code = gpu_run.main([*words, "--out", str(out), "--work", str(tmp_path / "work"), "--rehearse"])
        return code, json.loads((out / "gpu_run.json").read_text())

    return run


def test_parts_survive_one_another(session: Any, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, report = session("all", "--data", str(tmp_path))
    assert code == 1 and report["rehearsed"]
    bad, slow, broken, good = (report["parts"][name] for name in ("bad", "slow", "broken", "good"))
    assert bad["rc"] == 1 and bad["results"]["failing"]["tail"] == ["no such kernel"]
    assert slow["timed_out"] and set(slow["results"]) == {"before", "halfway"} and 12 <= slow["seconds"] < 30
    halfway = slow["results"]["halfway"]
    assert halfway["rc"] == gpu_parts.OUT_OF_TIME and halfway["partial"] == {"done": 1}
    assert halfway["tail"][0] == "begun" and halfway["tail"][1].startswith("out of time")
    assert broken["rc"] == 1 and "a bug of ours" in broken["tail"][-1]
    assert set(broken["results"]) == {"before"}
    assert good["rc"] == 0 and good["results"]["second"]["data"] == str(tmp_path)
    out = capfd.readouterr().out
    log = (tmp_path / "out" / "gpu_run.log").read_text()
    for text in (
        "[good] first: works",
        "[good] second: skipped: nothing to do",
        "[bad] failing: FAILED: no such kernel",
    ):
        assert text in out and text in log
    assert "[slow] out of time after 12 s" in out
    assert "[slow] | begun" in log and "| begun" not in out


def test_the_report_is_there_before_a_part_is_over(
    session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lent machine may go in the middle of a part: what it has got so far is in the report."""
    kept: list[Any] = []
    monkeypatch.setattr(gpu_run, "write_atomic", lambda path, data: kept.append(json.loads(data)))
    gpu_run.main(["good", "--out", str(tmp_path / "o"), "--work", str(tmp_path / "work"), "--rehearse"])
    *before, last = (report["parts"]["good"] for report in kept)
    assert any("first" in part["results"] and part["rc"] is None for part in before)
    assert last["rc"] == 0 and set(last["results"]) == {"first", "second"}


def test_parts_end_in_time(session: Any, capfd: pytest.CaptureFixture[str]) -> None:
    code, report = session("good", "--seconds", "40")
    assert code == 0 and 15 < report["parts"]["good"]["box_s"] <= 40  # not its own 60
    code, report = session("good", "slow", "--seconds", "5")
    assert code == 1 and [part["results"] for part in report["parts"].values()] == [{}, {}]
    assert all(part["rc"] == gpu_parts.OUT_OF_TIME for part in report["parts"].values())
    assert "[slow] left out: no time" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("runs", "models", "seconds"), [(["a backend"], ["mini"], 70), ([], ["official", "mini"], 20)]
)
def test_ours_is_left_out_where_it_has_no_gpu(
    runs: list[str], models: list[str], seconds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then nothing needs a bundle."""
    given: list[list[str]] = []
    monkeypatch.setattr(gpu_parts, "engines_here", lambda task: runs)
    monkeypatch.setattr(gpu_parts, "_command", lambda words, **more: given.append(words) or {"rc": 0})
    task = Task(tmp_path, rehearse=False, deadline=gpu_parts.time.monotonic() + 100)
    assert [name for name, _ in gpu_parts.baselines(task)] == models
    assert [words[words.index("--preset") + 1] for words in given] == models
    assert all(("--without-ours" in words) == (not runs) and "--bundle" not in words for words in given)
    assert seconds - 5 <= float(given[0][given[0].index("--seconds") + 1]) <= seconds
    given.clear()
    built = [name for name, _ in gpu_parts.build(task)]
    assert built[:2] == ["kernels", "kernels_load"] and ("bundle" in built) == bool(runs)
    assert ("engines" in built) == (not runs)


def test_the_output_of_a_command(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import sys; print('{\"a\": 1}'); print('a note', file=sys.stderr)"
    found = gpu_parts._command(["-c", code], stdout_json=True)
    assert found["rc"] == 0 and found["result"] == {"a": 1} and "tail" not in found
    assert capfd.readouterr().out == "| a note\n"
    assert gpu_parts._command(["-c", code], keep=2)["tail"] == ['{"a": 1}', "a note"]
    late = gpu_parts._command(["-c", code], deadline=0.0)
    assert late["rc"] == gpu_parts.OUT_OF_TIME and line("x", late) == "x: FAILED: out of time before it began"


def test_some_parts(session: Any) -> None:
    code, report = session("good")
    assert code == 0 and list(report["parts"]) == ["good"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prob"], "unknown part: got 'prob'; expected one of: probe, build"),
        (["probe", "--box", "0"], "--box: got 0.0; expected a number above 0"),
        (["probe", "--seconds", "0"], "--seconds: got 0.0; expected a number above 0"),
        (["probe", "--tensorrt", "/nowhere"], "--tensorrt /nowhere: got no directory"),
        (["probe", "--out", "/dev/null"], "cannot write /dev/null/gpu_run.json"),
    ],
)
def test_bad_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_run.main(words) == 2
    assert message in capsys.readouterr().out


def test_libraries_of_unpacked_wheels(tmp_path: Path) -> None:
    (tmp_path / "libs" / "deep").mkdir(parents=True)
    (tmp_path / "libs" / "deep" / "libnvinfer.so.1").touch()
    environment = gpu_run._environment(tmp_path, tmp_path / "work")
    assert environment["LD_LIBRARY_PATH"].split(":")[0] == str(tmp_path / "libs" / "deep")
    assert environment["PYTHONPATH"].split(":")[:2] == [str(gpu_parts.ROOT), str(tmp_path)]
    assert environment["TOPOS_RT_CACHE"] == str(tmp_path / "work" / "cache")


LINES = {
    "a rate": ({"flops_per_s": 788e12, "ms": {}}, "x: 788.00 TFLOP/s"),
    "a bandwidth": ({"bytes_per_s": 4.3e12}, "x: 4.300 TB/s"),
    "a head": ({"rc": 0, "result": {"roofline": {"head": {"p50_ms": 41.239, "rho": 0.612}}}},
               "x: head p50 41.24 ms, rho 0.61"),
    "errors": ({"rc": 0, "result": {"heads": {"p99_mm": 0.01}}}, "x: vertices p99 0.0100 mm off"),
    "no product of this type": ({"error": "not here"}, "x: FAILED: not here"),
    "no TensorRT": ({"works": False, "error": "e", "detail": "d"}, "x: does not run here: e"),
    "TensorRT": ({"works": True, "error": None, "detail": "d"}, "x: d"),
    "tests": ({"rc": 0, "tail": ["a", "4 passed"]}, "x: 4 passed"),
    "nothing to tell": ({"rc": 0}, "x: done"),
}  # fmt: skip


@pytest.mark.parametrize("case", LINES)
def test_a_line_for_a_result(case: str) -> None:
    found, text = LINES[case]
    assert line("x", found) == text


def test_a_backend_against_itself(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "errors.json"
    words = ["--model", str(tiny_bundle), "--backend", "onnxruntime", "--steps", "2", "--seeds", "1"]
    assert stage_errors.main([*words, "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert found["heads"]["max_mm"] == 0 and found["precision"] == "fp32"
    rows = {name: row for outputs in found["graphs"].values() for name, row in outputs.items()}
    assert {"tokens", "keys", "velocity", "difference", "vertices", "mean"} <= set(rows)
    assert all(row == {"relative_rms": 0, "largest": 0} for row in rows.values())
    assert stage_errors.main([*words, "--seeds", "0"]) == 2
    assert "--seeds: got 0" in capsys.readouterr().err


def test_no_engine_runs_here(tmp_path: Path) -> None:
    assert gpu_parts.engines_here(Task(tmp_path, rehearse=True)) == ["onnxruntime"]


def test_every_kind_of_plan_is_tried() -> None:
    trt = needs.module("tensorrt_rtx")
    found = dict(gpu_plans.tried())
    assert set(found) == {
        "plan_portable",
        *(f"plan_{name}" for name in trt.ComputeCapability.__members__ if name != "NONE"),
    }
    for name, row in found.items():
        if row["works"]:  # there is a GPU
            assert row["relative_rms"] < 1e-2
        else:  # a plan for the GPU of the machine alone needs one to be built
            assert row["stage"] != "build" or name == "plan_CURRENT", row
            assert row["error"].startswith(f"{row['stage']}: ") and "|" in row["error"]


def test_a_backend_that_takes_its_process_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(tmp_path, rehearse=False)
    monkeypatch.setattr(gpu_parts, "_command", lambda words, **more: {"rc": -11, "tail": []})
    assert gpu_parts.engines_here(task) == []
    assert list(gpu_parts.precision(task)) == list(gpu_parts.pipeline(task)) == []
