"""Kept heads: both stores do the same, but one outlives the process."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs

needs.module("fastapi")

from topos_rt import HeadMesh, HeadPipeline, OutputError
from topos_rt.server import results, results_folder
from topos_rt.server.problems import Problem
from topos_rt.server.results import InMemory, Results, arrays_of
from topos_rt.server.results_folder import InFolder

Makes = Callable[..., Any]
Clock = Callable[[float], None]


@pytest.fixture(scope="module")
def head(pipe: HeadPipeline, portrait: bytes) -> HeadMesh:
    return pipe(portrait, steps=1)


@pytest.fixture(params=["memory", "folder"])
def makes(request: pytest.FixtureRequest, tmp_path: Path) -> Makes:
    def make(keep_s: float = 60, most_bytes: int = 2**30) -> Results:
        if request.param == "memory":
            return InMemory(keep_s, most_bytes)
        return InFolder(tmp_path / "kept", keep_s, most_bytes)

    return make


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass."""
    passed = [0.0]
    real = time.time
    monkeypatch.setattr(results.time, "time", lambda: real() + passed[0])

    def pass_(seconds: float) -> None:
        passed[0] += seconds

    return pass_


def slug(call: Callable[[], object]) -> str:
    with pytest.raises(Problem) as caught:
        call()
    return caught.value.slug


def test_what_is_kept_comes_back(makes: Makes, head: HeadMesh) -> None:
    store = makes()
    name, expires = store.put(head, {"seed": 3})
    kept = store.get(name)
    assert kept.about == {"seed": 3} and kept.expires == expires == pytest.approx(time.time() + 60, abs=5)
    assert np.array_equal(kept.head().positions, head.positions)
    assert (
        kept.head().expression == pytest.approx(dict(head.expression))
        and kept.head().metadata == head.metadata
    )
    assert kept.glb is None or kept.glb() == head.to_bytes("glb")
    assert store.count == 1 and store.size > head.positions.nbytes
    store.drop(name)
    assert store.count == store.size == 0
    assert slug(lambda: store.get(name)) == slug(lambda: store.drop(name)) == "gone"
    assert slug(lambda: store.get("0" * 32)) == "not-found"


def test_ids_cannot_be_guessed(makes: Makes, head: HeadMesh) -> None:
    store = makes()
    names = {store.put(head, {})[0] for _ in range(20)}
    assert len(names) == 20 and all(results.ID.fullmatch(name) for name in names)


def test_heads_go_when_their_time_has_come(
    makes: Makes, head: HeadMesh, clock: Callable[[float], None]
) -> None:
    store = makes(keep_s=60)
    first = store.put(head, {})[0]
    clock(40)
    second = store.put(head, {})[0]
    clock(30)
    assert slug(lambda: store.get(first)) == "gone"
    store.get(second)
    third = store.put(head, {})[0]
    clock(50)
    store.sweep()
    assert store.count == 1 and slug(lambda: store.get(second)) == "gone"
    store.get(third)
    clock(50)
    store.sweep()
    assert store.count == store.size == 0


def test_the_oldest_go_when_there_are_too_many(makes: Makes, head: HeadMesh) -> None:
    plain = makes()
    plain.put(head, {})
    one = plain.size
    plain.drop(next(iter(getattr(plain, "_kept", None) or plain._sizes)))
    store = makes(most_bytes=int(2.5 * one))
    names = [store.put(head, {"k": k})[0] for k in range(5)]
    assert store.count == 2 and store.size <= 2.5 * one
    assert [slug(lambda name=name: store.get(name)) for name in names[:3]] == ["gone"] * 3  # type: ignore[misc]
    assert [store.get(name).about["k"] for name in names[3:]] == [3, 4]


def test_the_newest_stays_in_any_case(makes: Makes, head: HeadMesh) -> None:
    store = makes(most_bytes=0)
    for k in range(3):
        name, _ = store.put(head, {"k": k})
        assert store.get(name).about == {"k": k} and store.count == 1


def test_what_heads_share_is_counted_once(pipe: HeadPipeline, head: HeadMesh) -> None:
    shared = (pipe.bundle.topology, pipe.bundle.rig)
    store = InMemory(60, 2**30, shared)
    store.put(head, {})
    ids = {id(array) for array in arrays_of(shared)}
    own = sum(array.nbytes for array in arrays_of(head) if id(array) not in ids)
    assert store.size == own < sum(array.nbytes for array in arrays_of(head))


def test_a_folder_outlives_the_process(head: HeadMesh, tmp_path: Path) -> None:
    name, expires = InFolder(tmp_path / "a" / "kept", 60, 2**30).put(head, {"seed": 1})
    again = InFolder(tmp_path / "a" / "kept", 60, 2**30)
    assert again.count == 1 and again.size > 0
    kept = again.get(name)
    assert kept.about == {"seed": 1} and kept.expires == expires
    assert np.array_equal(kept.head().positions, head.positions)
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "a" / "kept").stat().st_mode) == 0o700


def test_two_processes_share_a_folder(head: HeadMesh, tmp_path: Path) -> None:
    one, other = (InFolder(tmp_path, 60, 2**30) for _ in range(2))
    name, _ = one.put(head, {})
    assert np.array_equal(other.get(name).head().positions, head.positions)
    other.sweep()
    assert other.count == 1
    other.drop(name)
    assert slug(lambda: one.get(name)) == "not-found"
    one.sweep()
    assert one.count == 0


def test_a_folder_removes_its_own_files_alone(
    head: HeadMesh, tmp_path: Path, clock: Callable[[float], None]
) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    (tmp_path / "portrait.head").write_text("mine")
    store = InFolder(tmp_path, 60, 2**30)
    name, _ = store.put(head, {})
    (tmp_path / f"{'0' * 32}.head").write_text("left behind by a process that was killed")
    store.sweep()
    assert (tmp_path / f"{'0' * 32}.head").exists()  # somebody may be writing it
    clock(100)
    store.sweep()
    left = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".base")
    assert left == ["letter.txt", "portrait.head"] and slug(lambda: store.get(name)) == "gone"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"expires": "soon"}', '{"about": {}}', "\udcff"])
def test_damaged_entries_are_none(head: HeadMesh, tmp_path: Path, damage: str) -> None:
    store = InFolder(tmp_path, 60, 2**30)
    name, _ = store.put(head, {})
    (tmp_path / f"{name}.json").write_bytes(damage.encode("utf-8", "surrogateescape"))
    assert slug(lambda: store.get(name)) == "not-found"
    assert InFolder(tmp_path, 60, 2**30).count == 0


def test_a_damaged_head_is_a_failure_of_ours(head: HeadMesh, tmp_path: Path) -> None:
    store = InFolder(tmp_path, 60, 2**30)
    name, _ = store.put(head, {})
    (tmp_path / f"{name}.head").write_bytes(b"x")
    assert slug(store.get(name).head) == "failure"
    (tmp_path / f"{name}.glb").unlink()
    glb = store.get(name).glb
    assert glb is not None and slug(glb) == "gone"


@pytest.mark.parametrize(
    "name", ["../x", "..", "", "/etc/passwd", "0" * 31, "a/" + "0" * 30, "0" * 31 + "\n"]
)
def test_only_ids_get_into_paths(head: HeadMesh, tmp_path: Path, name: str) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"expires": time.time() + 60, "about": {}}))
    store = InFolder(tmp_path / "kept", 60, 2**30)
    assert slug(lambda: store.get(name)) == slug(lambda: store.drop(name)) == "not-found"
    assert (tmp_path / "x.json").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--results"):
        InFolder(tmp_path / "file", 60, 2**30)


def test_a_head_that_cannot_be_written_leaves_nothing(
    head: HeadMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = InFolder(tmp_path, 60, 2**30)

    def full(path: Path, data: bytes) -> None:
        raise OutputError("cannot write", got="No space left on device")

    monkeypatch.setattr(results_folder, "write_atomic", full)
    with pytest.raises(OutputError):
        store.put(head, {})
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".base"] == [] and store.count == 0
