"""The soak: what it calls growth, and a short one of the tiny bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.soak import LIMIT, growth


def rising(values: list[int]) -> float:
    return growth([{"resident_bytes": value} for value in values])["resident_bytes"]


def test_growth() -> None:
    assert rising([1, 50, 80, *[100] * 40]) == 0  # the warm-up does not count
    assert rising(list(range(1000, 1100))) > LIMIT
    assert rising([100] * 30 + [200] + [100] * 30) == 0  # a peak is no growth


def test_a_short_soak(tiny_bundle: Path, tmp_path: Path) -> None:
    words = [
        "-m",
        "benchmarks.soak",
        "--heads",
        "200",
        "--model",
        str(tiny_bundle),
        "--json",
        str(tmp_path / "s.json"),
    ]
    subprocess.run([sys.executable, *words], cwd=Path(__file__).parents[2], capture_output=True, check=False)
    found = json.loads((tmp_path / "s.json").read_text())
    assert set(found["runs"]) == {"1 caller", "8 callers", "opens and closes"}
    for run in found["runs"].values():
        assert run["same_bytes"] and run["growth"]["descriptors"] <= 0
