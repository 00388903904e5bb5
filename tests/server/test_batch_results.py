"""The results of a batch as a parquet file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from tests import needs

needs.module("pyarrow")

import pyarrow as arrow
import pyarrow.parquet
import pytest

from tests.server.batch_pictures import rows_of
from topos_rt.server import batch_results
from topos_rt.server.batch_journal import Journal
from topos_rt.server.batch_results import COLUMNS, Results, parquet_of

ROW: dict[str, Any] = {
    "input": "/photos/ann.png",
    "seed": 2**64 - 1,
    "face": 2,
    "output": "ann_face2_seed0.glb",
    "files": ["ann_face2_seed0.glb"],
    "score": 0.75,
    "box": [1.0, 2.0, 3.5, 4.0],
    "warnings": ["small"],
    "exit_code": 0,
    "bytes": 3 << 30,
    "timings": {"face": 0.25, "writing": 0.5},
    "finished": "2026-11-30T01:02:03Z",
}


def read(data: bytes) -> Any:
    return arrow.parquet.read_table(io.BytesIO(data))


def test_the_columns_and_their_types() -> None:
    table = read(parquet_of([ROW, {"input": "/b", "seed": None, "exit_code": 2, "error": "no"}]))
    assert table.schema.names == list(COLUMNS)
    first, second = table.to_pylist()
    told = {
        **first,
        "timings": dict(first["timings"]),
        "finished": first["finished"].strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    assert {name: told[name] for name in ROW} == ROW
    assert (second["error"], second["seed"], second["files"], second["timings"]) == ("no", None, None, [])
    assert table.schema.field("face").metadata[b"about"].decode() == COLUMNS["face"][1]


def test_no_rows_are_a_table_too() -> None:
    assert read(parquet_of([])).schema.names == list(COLUMNS)


def test_names_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = {**ROW, "input": "/photos/\udcff.png", "files": ["\udcff.glb"], "error": "\ud800"}
    row = read(parquet_of([odd])).to_pylist()[0]
    assert (row["input"], row["files"], row["error"]) == ("/photos/\\udcff.png", ["\\udcff.glb"], "\\ud800")


def test_many_rows_are_written_by_and_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_results, "_CHUNK", 10)
    data = parquet_of({**ROW, "seed": seed} for seed in range(95))
    assert [row["seed"] for row in read(data).to_pylist()] == list(range(95))
    assert arrow.parquet.ParquetFile(io.BytesIO(data)).num_row_groups == 10


def test_they_are_written_from_time_to_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(batch_results.time, "monotonic", lambda: now[0])
    with Journal(tmp_path, {}) as journal:
        results = Results(journal)
        for seed, (passed, count) in enumerate([(0, 1), (1, 1), (3, 1), (2, 4), (1, 4)]):
            now[0] += passed
            journal.add("/a", "a", "1", (seed,), [{**ROW, "input": "/a", "seed": seed}])
            results.update()
            assert len(rows_of(tmp_path)) == count
        results.write()
        assert len(rows_of(tmp_path)) == 5
