"""The walks through the rooms are no longer than the recorded ones."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import walk

RECORD = Path(__file__).parents[2] / "benchmarks" / "results" / "walk.json"


def test_changes_are_counted() -> None:
    files = ["pipeline.py", "support/progress.py", "scan/fit.py", "scan/surface.py", "pipeline.py"]
    found = walk.counted(files)
    assert (found["files"], found["file_changes"]) == (4, 4)
    assert (found["rooms"], found["room_changes"]) == (2, 2)  # `support` does not count as a room


def test_no_walk_is_longer_than_on_record() -> None:
    """To record them again: `python -m benchmarks.walk --json benchmarks/results/walk.json`."""
    record = json.loads(RECORD.read_text())
    for name, found in walk.measure().items():
        assert found["room_changes"] <= record[name]["room_changes"], name
        assert found["files"] <= record[name]["files"], name
