"""Batches in processes of this machine, which are killed: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests import needs

needs.module("pyarrow")

import pyarrow as arrow
import pyarrow.parquet
import pytest

from tests.server.batch_pictures import WORDS, Together, check_once, files_of, folder, rows_of, setup_of
from topos_rt.errors import BundleError
from topos_rt.model.bundle import Bundle
from topos_rt.server.batch_crew import DIED, MADE, READY, REFUSED, Event, Processes
from topos_rt.server.batch_inputs import gather
from topos_rt.server.batch_journal import JOURNAL, header_of
from topos_rt.server.batch_run import Summary, Telling, run
from topos_rt.server.batch_work import Setup, Task

ROOT = Path(__file__).parents[2]
_ENDS_WITHIN_S = 300


def workers() -> list[BaseProcess]:
    names = re.compile(r"topos-rt-\d+")  # those that read the tables of other tests may be there still
    return [process for process in multiprocessing.active_children() if names.fullmatch(process.name)]


class TogetherProcesses(Together, Processes):
    pass


def test_a_worker_that_is_killed_in_the_middle(tiny_bundle: Path, tmp_path: Path) -> None:
    pictures = folder(tmp_path / "in", 8)
    setup, killed, told = setup_of(tiny_bundle, tmp_path / "out"), [], []

    def kill(summary: Summary) -> None:
        if summary.made and not killed:
            victim = workers()[-1]
            killed.append(victim.pid)
            os.kill(victim.pid, signal.SIGKILL)

    telling = Telling(lambda row: None, kill, told.append)

    def hire(setup: Setup, header: str) -> TogetherProcesses:
        return TogetherProcesses(setup, header, 2)

    summary = run(setup, gather([str(pictures)], setup.out, "image"), (0, 1), hire, telling)
    assert len(killed) == summary.deaths == 1 and (summary.made, summary.failed) == (16, 0)
    check_once(setup.out, [f"{number:02d}" for number in range(8)], (0, 1))
    assert not workers()
    assert all("SIGKILL, which is what a system does that runs out of memory" in note for note in told)


def begun(setup: Setup) -> str:
    """Return the header of a batch that has begun in `setup.out`."""
    header = header_of(setup.settings(Bundle.open(setup.model)))
    setup.out.mkdir()
    (setup.out / JOURNAL).write_text(f"{header}\n")
    return header


def event(crew: Processes) -> Event:
    while not (events := crew.wait(_ENDS_WITHIN_S)):
        pass
    return events[0]


def test_a_worker_tells_what_it_dies_of(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    setup = setup_of(tiny_bundle, tmp_path / "out")
    crew = Processes(setup, begun(setup), 1)
    try:
        first = event(crew)
        assert first.kind == READY and first.value.backend == "onnxruntime"
        odd: Any = Task("odd", 5, "odd", (0,))  # type: ignore[arg-type]
        crew.give(first.worker, odd)
        assert event(crew).kind == MADE  # one row: it is no picture
        crew.give(first.worker, None)  # type: ignore[arg-type]
        died = event(crew)
        assert (died.worker, died.kind) == (first.worker, DIED)
        assert died.value.startswith("unexpected AttributeError: 'NoneType' object has no attribute")
        second = event(crew)  # another one has taken its place
        assert second.kind == READY and second.worker != first.worker
    finally:
        crew.close()
    assert not workers() and "Traceback" not in capfd.readouterr().err


def test_a_worker_that_cannot_load_the_model_says_why(own_bundle: Path, tmp_path: Path) -> None:
    setup = setup_of(own_bundle, tmp_path / "out")
    header = begun(setup)
    (own_bundle / "dit_step.onnx").write_bytes(b"other bytes")
    crew = Processes(setup, header, 1)
    try:
        refused = event(crew)
        assert refused.kind == REFUSED and isinstance(refused.value, BundleError)
    finally:
        crew.close()


@pytest.fixture
def command(tiny_bundle: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start `topos-rt batch in -o out` with two workers."""

    def start(*words: str) -> subprocess.Popen[str]:
        line = ["batch", "in", "-o", "out", "--workers", "2", "--model", str(tiny_bundle), *WORDS, *words]
        return subprocess.Popen(
            [sys.executable, "-m", "topos_rt", *line],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


def until(true: Callable[[], object]) -> None:
    """Wait until something is true. Raises AssertionError where it does not become so."""
    deadline = time.monotonic() + _ENDS_WITHIN_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


SIGNALS = [signal.SIGKILL, signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda each: each.name)
def test_a_run_that_is_killed_goes_on_where_it_was(
    command: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: signal.Signals
) -> None:
    count, words = 20, ["--seeds", "0,1", "--steps", "300"]  # slow enough not to be done before the signal
    pictures, out = folder(tmp_path / "in", count), tmp_path / "out"
    first = command(*words)
    until(lambda: (out / JOURNAL).is_file() and (out / JOURNAL).read_bytes().count(b"\n") > 3)
    first.send_signal(number)
    _, told = first.communicate(timeout=_ENDS_WITHIN_S)
    assert first.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number], told
    assert "Traceback" not in told
    done = len((out / JOURNAL).read_bytes().splitlines()) - 1
    assert 3 <= done < count
    if number != signal.SIGKILL:  # the results are written on the way out
        assert len(rows_of(out)) == 2 * done
    pyarrow.parquet.read_schema(out / "results.parquet")  # whatever is there is whole
    second = command(*words, "--json")
    report, told = second.communicate(timeout=_ENDS_WITHIN_S)
    assert second.returncode == 0, told
    result = json.loads(report)
    assert result["skipped"] in (2 * done, 2 * done - 2)  # a torn last line is made again
    assert result["made"] == 2 * count - result["skipped"] and result["workers"] == 2
    check_once(out, [path.stem for path in sorted(pictures.iterdir())], (0, 1))


def test_workers_end_with_their_leader(command: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    folder(tmp_path / "in", 30)
    leader = command("--steps", "300")
    journal = tmp_path / "out" / JOURNAL
    until(lambda: journal.is_file() and journal.read_bytes().count(b"\n") > 2)
    lines = [json.loads(line) for line in journal.read_bytes().split(b"\n")[1:-1]]
    pids = {int(row["worker"].rpartition(":")[2]) for line in lines for row in line["rows"]}
    leader.kill()
    leader.communicate(timeout=_ENDS_WITHIN_S)  # which also waits for those who hold its pipes: the workers
    until(lambda: not any(Path(f"/proc/{pid}/task").exists() for pid in pids))


def test_parquet_in_and_parquet_out(command: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    pictures = [path.read_bytes() for path in sorted(folder(tmp_path / "in", 3).iterdir())]
    cells = [{"bytes": data, "path": "x.png"} for data in (*pictures, b"no picture")] + [None]
    pyarrow.parquet.write_table(arrow.table({"photo": cells}), tmp_path / "faces.parquet")
    done = command("faces.parquet", "--column", "photo", "--json")
    report, told = done.communicate(timeout=_ENDS_WITHIN_S)
    assert done.returncode == 2, told
    result, rows = json.loads(report), rows_of(tmp_path / "out")
    assert (result["made"], result["failed"], len(result["errors"])) == (6, 2, 2)
    assert [row["error_type"] for row in rows] == [None] * 3 + ["ImageError"] * 2 + [None] * 3
    path = tmp_path / "faces.parquet"
    assert [row["input"] for row in rows[:5]] == [f"{path}#{number}" for number in range(5)]
    for number in range(3):  # the same pictures make the same heads, whichever way they come
        head = (tmp_path / "out" / f"faces/{number:06d}_seed0.glb").read_bytes()
        assert head == (tmp_path / "out" / f"in/{number:02d}_seed0.glb").read_bytes()
    assert len(files_of(tmp_path / "out")) == 6
