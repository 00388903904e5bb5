"""The benchmark of the C library measures what it says, on a pack that takes little time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench_sdk
from benchmarks.bench_sdk import CACHED, FILLING, HEADS, PLAIN
from topos_rt.pack.memory import networks_digest
from topos_rt.pack.sections import MEMORY


@pytest.fixture
def measured(
    built: Path, ort: Path, packs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """One round on the tiny pack, in this process, with the memory recorded into a file of the test."""
    monkeypatch.setattr(
        bench_sdk,
        "_in_a_process",
        lambda library, ort, pack, cache: bench_sdk.measure_here(library, ort, packs["tiny"][1], cache),
    )
    monkeypatch.setattr(bench_sdk, "RECORDED", tmp_path / "memory.json")
    path = tmp_path / "sdk.json"
    library = built / "sdk/libtopos_rt.so"
    assert bench_sdk.main([str(library), "--rounds", "1", "--record", "--json", str(path)]) == 0
    return {
        "result": json.loads(path.read_text()),
        "recorded": json.loads((tmp_path / "memory.json").read_text()),
    }


def test_every_number_is_there(measured: dict[str, Any]) -> None:
    result = measured["result"]
    assert list(result["by_kind"]) == [PLAIN, FILLING, CACHED] and result["library_bytes"] < 1_500_000
    for row in result["by_kind"].values():
        assert row["head_s"]["n"] == HEADS - 1 and row["head_s"]["min"] <= row["head_s"]["p50"]
        assert {"face", "image_encoder", "dit_step", "vae_decoder"} <= set(row["slice_s"])
        assert 0 <= row["poll_s"] < 1 and 0 < row["write_s"] < 1 and row["cancel_s"]["n"] == 5
    assert result["cache_bytes"] > 100_000
    ((digest, memory),) = measured["recorded"].items()
    assert len(digest) == 64 and list(memory) == list(MEMORY)


def test_the_networks_of_a_pack_decide_its_digest() -> None:
    sections = {("graph", 0): b"a", ("weights", 0): b"b", ("about", 0): ("x",)}
    first = networks_digest(sections)
    assert first == networks_digest(sections | {("about", 0): ("y",)})
    assert first != networks_digest(sections | {("weights", 0): b"c"})
    assert first != networks_digest(sections | {("face_graph", 0): b""})


@pytest.mark.parametrize(
    ("words", "message"),
    [(["missing.so"], "the library: got missing.so"), (["missing.so", "--rounds", "0"], "--rounds: got 0")],
)
def test_bad_arguments(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_sdk.main(words) == 2
    assert message in capsys.readouterr().err
