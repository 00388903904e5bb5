"""Comparisons: what they find, what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.results import Change, made, put
from topos_rt.bench.compare import compare_results
from topos_rt.bench.result import load
from topos_rt.errors import InputError


def test_five_percent_slower() -> None:
    found = compare_results(made(), made(105.0, seed=1), limit=0.03)
    row = found["rows"]["head"]
    assert row["change"] == pytest.approx(0.05, abs=0.005) and row["significant"]
    assert not found["rows"]["vae_decoder"]["significant"]
    assert found["slower"] == ["head"] and not found["interleaved"]


@pytest.mark.parametrize(("head", "limit"), [(105.0, 0.06), (105.0, None), (95.0, 0.0), (100.0, 0.0)])
def test_within_the_limit(head: float, limit: float | None) -> None:
    assert compare_results(made(), made(head, seed=1), limit)["slower"] == []


def test_a_machine_that_drifted_as_much_proves_nothing() -> None:
    b = made(105.0, seed=1)
    b["ceilings"]["gemm"]["ms"]["p50"] = 2.2
    found = compare_results(made(), b, 0.0)
    assert found["drift"] == pytest.approx(0.1) and found["slower"] == []
    b["settings"]["precision"] = "fp32"  # a different ceiling, which says nothing about the machine
    found = compare_results(made(), b, 0.0)
    assert found["drift"] == 0 and found["slower"] == ["head"]
    assert found["differs"] == {"settings.precision": ["fp16", "fp32"]}


def test_graphs_alone_are_all_judged() -> None:
    a, b = made(), made(seed=1)
    for result, ms in ((a, 5.0), (b, 6.0)):
        result["protocol"]["mode"] = "graphs"
        result["samples_ms"] = {"dit_step": [ms] * 20, "vae_decoder": [ms] * 20}
    assert compare_results(a, b, 0.1)["slower"] == ["dit_step", "vae_decoder"]


REFUSED: dict[str, tuple[Change, str]] = {
    "steps": (put("settings", "sampling", "steps", value=12), "the number of steps: got 10 and 12"),
    "evaluations": (put("settings", "evaluations", "passes", value=20), "the evaluations of the network"),
    "model": (put("settings", "model", "sha256", value="1" * 64), "differ in the model"),
    "picture": (put("settings", "input", value="a picture file"), "differ in the picture"),
    "mode": (put("protocol", "mode", value="graphs"), "what was timed, heads or graphs"),
    "stages": (put("samples_ms", value={"head": [1.0] * 20}), "different stages: got head, vae_decoder and"),
    "runs": (put("samples_ms", "head", value=[1.0] * 19), "runs to compare: got 19; expected 20 or more"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_different_work_is_refused(case: str) -> None:
    change, message = REFUSED[case]
    b = made()
    change(b)
    with pytest.raises(InputError, match=message):
        compare_results(made(), b)


BAD: dict[str, tuple[Change, str]] = {
    "format": (put("format", value="topos_rt.bundle"), "got format 'topos_rt.bundle'; expected 'topos_rt.b"),
    "newer": (put("version", value=2), "version of the schema: got 2; expected 1; fix: measure both with"),
    "no version": (lambda tree: tree.pop("version"), "version of the schema: got None"),
    "no model": (lambda tree: tree["settings"].pop("model"), "key 'settings.model.sha256': got None"),
    "samples": (put("samples_ms", value=[]), "key 'samples_ms'"),
    "no samples": (put("samples_ms", "head", value=[]), "samples of 'head'"),
    "a text": (put("samples_ms", "head", value=["1"] * 20), "samples of 'head'"),
    "a truth": (put("samples_ms", "head", value=[True] * 20), "samples of 'head'"),
    "infinity": (put("samples_ms", "head", value=[float("inf")] * 20), "samples of 'head'"),
    "a number without end": (put("samples_ms", "head", value=[10**400] * 20), "samples of 'head'"),
    "a negative time": (put("samples_ms", "head", value=[-1.0] * 20), "samples of 'head'"),
    "the least number": (put("samples_ms", "head", value=[5e-324] * 20), "samples of 'head'"),
    "lists": (put("samples_ms", "head", value=[[1.0]] * 20), "samples of 'head'"),
    "an unknown setting": (put("settings", "sampling", "\x1b[2J", value=1), "key of settings.sampling"),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_files_are_refused(tmp_path: Path, case: str) -> None:
    change, message = BAD[case]
    tree = made()
    change(tree)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(InputError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("data", "message"), [(b"{", "is not JSON"), (b"[]", "got format 'no object'"), (b"\xff", "is not JSON")]
)
def test_what_is_no_result(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        load(path)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"9" * 5000, b'{"format": ' + b"9" * 5000 + b"}"])
def test_json_that_python_gives_up_on(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match="is not JSON") as caught:
        load(path)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", [[1.0], "fast", {"a": 1}, 0, -1.0, 10**400, True, None, float("nan")])
def test_a_ceiling_that_is_no_time_says_nothing_about_the_machine(value: object) -> None:
    b = made(105.0, seed=1)
    b["ceilings"]["gemm"]["ms"]["p50"] = value
    assert compare_results(made(), b, 0.0)["drift"] == 0


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load(tmp_path / "a.json")
    with pytest.raises(InputError, match="directory"):
        load(tmp_path)
