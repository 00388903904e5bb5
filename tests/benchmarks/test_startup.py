"""The times of starts: every start works, and another checkout runs in turns with this one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench_startup
from benchmarks.bench_startup import ROOT, main


def test_one_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both checkouts are this one, so that every start is tried."""
    started = []
    start = bench_startup._start

    def watched(root: Path, words: list[str], bytecode: Path) -> str:
        started.append(root)
        return start(root, words, bytecode)

    monkeypatch.setattr(bench_startup, "_start", watched)
    other = tmp_path / "other"
    other.symlink_to(ROOT)
    path = tmp_path / "a.json"
    assert main(["--rounds", "1", "--heads", "2", "--against", str(other), "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    heads = ["first GLB", "first GLB, processor", "head", "head, processor", "GLB", "GLB, processor"]
    assert list(found["ms"]) == [*bench_startup.starts(tmp_path), *heads, "portrait to GLB"]
    assert all(row["this"]["n"] == 2 for name, row in found["ms"].items() if name in heads[2:])
    assert ms_of(found, "head") < ms_of(found, "portrait to GLB") < ms_of(found, "first GLB")
    ms = {name: row["this"]["p50"] for name, row in found["ms"].items()}
    assert len(started) == 5 * 2 * 2 + 2 * 3  # starts x checkouts x (first and one round), then imports
    assert 0 < ms["python"] < ms["topos-rt generate"]
    assert all(set(row) == {"this", "against"} for row in found["ms"].values())
    assert found["imports_ms"]["this"]["numpy"] > 0 and "topos_rt" in found["imports_ms"]["this"]
    assert not {"torch", "scipy", "matplotlib"} & set(found["imports_ms"]["this"])


def ms_of(found: dict[str, Any], name: str) -> float:
    return float(found["ms"][name]["this"]["min"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rounds", "0"], "--rounds: got 0; expected a whole number from 1 to 1000"),
        (["--heads", "0"], "--heads: got 0; expected a whole number from 1 to 10000"),
        (["--against", "/tmp"], "--against: got a directory without topos_rt"),
        (["--json", "/dev/null"], "cannot write /dev/null"),
    ],
)
def test_bad_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_a_start_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "topos_rt").mkdir()
    (tmp_path / "topos_rt" / "__init__.py").write_text("raise SystemExit('broken')")
    assert main(["--rounds", "1", "--against", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    # If topos-rt is installed from this checkout, no other checkout can be started.
    assert "a start failed: got ['broken']" in told or "in which topos-rt is not installed" in told
