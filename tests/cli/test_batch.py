"""`topos-rt batch`: its options, its words, and what it refuses before any work."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import needs

needs.module("pyarrow")

import pyarrow as arrow
import pyarrow.parquet
import pytest

from tests.server.batch_pictures import WORDS, check_once, folder, picture, rows_of
from topos_rt.cli import batch
from topos_rt.cli.main import main
from topos_rt.gpu import cuda
from topos_rt.server import batch_ray, batch_run
from topos_rt.server.batch_work import Setup

Run = Callable[..., tuple[int, Any, list[str]]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with three pictures in a folder."""
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "in", 3)
    return tmp_path


@pytest.fixture
def command(tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, json_too: bool = False) -> tuple[int, Any, list[str]]:
        line = ["batch", *words, "--model", str(tiny_bundle), *WORDS]
        code = main(line + ["--json"] * json_too)
        out, err = capfd.readouterr()
        return code, json.loads(out) if json_too else out.splitlines(), err.splitlines()

    return run


def test_a_run_and_the_next(command: Run) -> None:
    Path("in/bad.png").write_bytes(b"no picture")
    code, out, err = command("in", "-o", "out", "--workers", "1")
    assert code == 2
    check_once(Path("out"), ["00", "01", "02"])
    assert re.fullmatch(r"3 heads made, 1 failed, \d+\.\d s, \d+\.\d\d a second", out[0])
    assert out[1] == f"{Path('out/results.parquet').absolute()}  results"
    bad = str(Path("in/bad.png").absolute())
    errors = [line for line in err if "error" in line]
    assert len(errors) == 1 and errors[0].startswith(f"topos-rt: error: cannot use the image {bad}: got ")
    assert any(line.startswith("backend onnxruntime: ") for line in err)
    Path("in/bad.png").unlink()
    code, result, _ = command("in", "-o", "out", json_too=True)
    assert code == 0
    wanted = {"command": "batch", "pictures": 3, "made": 0, "skipped": 3, "failed": 0, "errors": []}
    assert {key: result[key] for key in wanted} == wanted
    assert len(rows_of(Path("out"))) == 4  # what is gone from the inputs stays in the results


REFUSED: dict[str, tuple[list[str], str]] = {
    "no output": (["in"], "the following arguments are required: -o"),
    "an empty output": (["in", "-o", ""], "-o: got ''; expected a directory"),
    "standard output": (["in", "-o", "-"], "-o: got '-'; expected a directory"),
    "an output that is a file": (["in", "-o", "in/00.png"], "cannot write"),
    "no input": (["-o", "out"], "the following arguments are required: INPUT"),
    "an input that is gone": (["gone", "-o", "out"], "the input gone: got nothing there"),
    "a table without the column": (["t.parquet", "-o", "out"], "got the columns photo, age"),
    "a table with another column": (["t.parquet", "-o", "out", "--column", "age"], "the column 'age'"),
    "an unknown format": (["in", "-o", "out", "--format", "fbx"], "unknown output format: got 'fbx'"),
    "what a format does not have": (["in", "-o", "out", "--format", "obj", "--quantize"], "a quantized .obj"),
    "the same seed twice": (["in", "-o", "out", "--seeds", "1,1"], "--seeds: got the same seed twice"),
    "a seed out of range": (["in", "-o", "out", "--seed", "-1"], "seed: got -1"),
    "no workers": (["in", "-o", "out", "--workers", "0"], "expected a whole number from 1 to 1,024"),
    "painted skin": (["in", "-o", "out", "--texture", "official"], "fix: use topos-rt generate"),
    "an unknown level of detail": (["in", "-o", "out", "--lod", "9"], "unknown level of detail: got '9'"),
    "heads among the pictures": (["in", "-o", "."], "-o: got "),
    "an unknown blendshape": (["in", "-o", "out", "--morphs", "smile"], "smile"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_leaves_nothing_behind(
    command: Run, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hire(*_: Any) -> Any:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(batch, "_hired", hire)
    pyarrow.parquet.write_table(arrow.table({"photo": ["in/00.png"], "age": [30]}), "t.parquet")
    words, message = REFUSED[case]
    code, out, err = command(*words)
    assert code == 2 and out == []
    assert len(err) == 1 and message in err[0], err
    assert not Path("out").exists() and not Path("in/batch.jsonl").exists()


@pytest.mark.parametrize("module", ["pyarrow", "ray"])
def test_an_extra_that_is_missing(command: Run, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = command("in", "-o", "out", "--ray", "auto")
    extra = {"pyarrow": "batch", "ray": "ray"}[module]
    assert code == 2 and err[-1].endswith(
        f"needs an optional dependency; fix: pip install 'topos-rt[{extra}]'"
    )


def test_what_reaches_the_workers(command: Run, monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    seen: list[Any] = []

    def run(setup: Setup, pictures: Any, seeds: Any, *rest: Any) -> batch_run.Summary:
        seen.append((setup, seeds, rest[-1]))
        return batch_run.Summary()

    monkeypatch.setattr(batch_run, "run", run)
    monkeypatch.setattr(batch, "usable_cores", lambda: 8)
    words = "--seeds 3,1 --face 2 --texture none --format usd --units cm --lod 1 --previews --redo --steps 4"
    assert command("in", "-o", "out", "--workers", "2", *words.split())[0] == 0
    setup, seeds, redo = seen[0]
    assert (seeds, redo, setup.out, setup.model) == ((3, 1), True, Path("out").absolute(), str(tiny_bundle))
    assert (setup.format, setup.export.units, setup.lod, setup.previews) == ("usd", "cm", 1, True)
    chosen = {"face": 1, "crop": "none", "face_check": False, "texture": "none", "steps": 4, "preset": "fast"}
    assert {name: setup.options[name] for name in chosen} == chosen
    assert setup.engines == {"backend": "onnxruntime", "threads": 4, "precision": None}
    command("in", "-o", "out", "--threads", "3")
    assert seen[1][0].engines["threads"] == 3
    command("in", "-o", "out")  # a worker for each core, so that each has one thread
    assert seen[2][0].engines["threads"] == 1


DEFAULTS = {("onnxruntime", True): 8, ("auto", False): 8, ("auto", True): 2, ("tensorrt-rtx", True): 2}


@pytest.mark.parametrize(("backend", "driver"), DEFAULTS)
def test_how_many_workers_there_are_by_default(
    backend: str, driver: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "usable_cores", lambda: 8)
    monkeypatch.setattr(cuda, "has_driver", lambda: driver)
    given = argparse.Namespace(workers=None, backend=backend)
    assert batch._workers(given) == DEFAULTS[backend, driver]


def test_many_errors_are_told_up_to_a_number(
    command: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(batch, "_MOST_ERRORS", 2)
    table = arrow.table({"image": [None, "", "https://user:secret@a.org/x.png", "a\0b"]})
    pyarrow.parquet.write_table(table, "t.parquet")
    code, result, err = command("t.parquet", "-o", "out", json_too=True)
    assert code == 2 and result["failed"] == 4 and len(result["errors"]) == 2
    assert "more errors are in the results alone" in err and result["workers"] == 0
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 4 and "secret" not in json.dumps([row["error"] for row in rows])


def test_progress_of_a_long_run_is_told_without_a_terminal(
    command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_LINE_S", 0.0)
    picture(Path("in/03.png"), 3)
    _, _, err = command("in", "-o", "out", "--workers", "1")
    assert any(re.fullmatch(r"\d of 4 pictures, \d heads?(, [\d.]+ a second)?", line) for line in err)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense", "host:99999999", ":6379"]
)
def test_no_cluster_is_told_at_once(command: Run, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ray:
        """A Ray that must not be asked: it would try for minutes."""

        exceptions = None

        def is_initialized(self) -> bool:
            return False

    monkeypatch.setattr(batch_ray, "library", Ray)
    code, _, err = command("in", "-o", "out", "--ray", address)
    assert code == 2 and f"--ray {address}: got " in err[-1] and "ray start --head" in err[-1]
