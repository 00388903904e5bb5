"""What every result says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.report import command, report, write_result
from topos_rt.bench.machine import INSTRUCTION_SETS, facts
from topos_rt.errors import InputError


def test_a_command_names_the_script_and_no_folder_of_this_machine() -> None:
    words = ["/home/somebody/topos/benchmarks/bench_rig.py", "--heads", "3", "--out", "/home/somebody/x.json"]
    assert command(words) == "python -m benchmarks.bench_rig --heads 3 --out x.json"


def test_a_result_says_what_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks/bench_x.py", "--json", str(tmp_path / "x.json")])
    write_result(tmp_path / "x.json", {"ms": 3, "machine": {"load_average": 0.5}})
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["command"] == "python -m benchmarks.bench_x --json x.json" and found["ms"] == 3
    assert found["machine"] == facts() | {"load_average": 0.5}
    write_result(tmp_path / "y.json", {"command": "as the user typed it"})
    assert json.loads((tmp_path / "y.json").read_text())["command"] == "as the user typed it"


def test_a_machine_is_told_by_more_than_its_name() -> None:
    told = facts()
    assert set(told["instruction_sets"]) <= set(INSTRUCTION_SETS)
    assert isinstance(told["cpu_family"], str)


def test_an_error_writes_nothing_and_a_wrong_path_is_found_first(tmp_path: Path) -> None:
    def fails() -> dict[str, object]:
        raise InputError("a picture", got="none")

    assert report(fails, tmp_path / "x.json") == InputError.exit_code
    assert not (tmp_path / "x.json").exists()
    (tmp_path / "file").touch()
    measured = []
    assert report(lambda: {"n": measured.append(1)}, tmp_path / "file" / "x.json") != 0 and not measured
