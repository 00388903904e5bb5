"""The journal of a batch: whatever a killed process leaves of it, it says of no head that is not done."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from topos_rt.errors import InputError, OptionError, OutputError
from topos_rt.server.batch_journal import JOURNAL, Journal, _sum_of

SETTINGS = {"model": "tiny", "preset": "fast", "interval": [0, 1]}


def row(seed: int | None, code: int = 0, **more: Any) -> dict[str, Any]:
    return {"input": "/a", "seed": seed, "exit_code": code, "files": [f"a_seed{seed}.glb"], **more}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A directory with a journal of two pictures."""
    directory = tmp_path / "out"
    with Journal(directory, SETTINGS) as journal:
        journal.add("/a", "a", "1", (0, 1), [row(0), row(1)])
        journal.add("/b", "b", "1", (0, 1), [row(None, 2, input="/b", files=[])])
        journal.flush()
    return directory


def made(out: Path) -> dict[tuple[str, int], bool]:
    with Journal(out, SETTINGS) as journal:
        return {key: done.made for key, done in journal.done.items()}


def test_it_tells_what_is_done(out: Path) -> None:
    with Journal(out, SETTINGS) as journal:
        done = {key: (each.made, each.files) for key, each in journal.done.items()}
        assert done == {
            ("/a", 0): (True, ("a_seed0.glb",)),
            ("/a", 1): (True, ("a_seed1.glb",)),
            ("/b", 0): (False, ()),
            ("/b", 1): (False, ()),
        }
        assert journal.names == {"/a": "a", "/b": "b"} and journal.damaged == 0
        assert [(row["input"], row["seed"]) for row in journal.rows()] == [("/a", 0), ("/a", 1), ("/b", None)]


def test_the_last_line_about_a_picture_and_seed_counts(out: Path) -> None:
    with Journal(out, SETTINGS) as journal:
        journal.add("/a", "a", "2", (1, 2), [row(1, 1), row(2)])
        journal.add("/b", "b", "2", (0,), [row(0, input="/b")])
        journal.flush()
        rows = [(row["input"], row["seed"], row["exit_code"]) for row in journal.rows()]
    # The row of picture b without a seed stands for seed 1, of which there is nothing newer.
    assert rows == [("/a", 0, 0), ("/b", None, 2), ("/a", 1, 1), ("/a", 2, 0), ("/b", 0, 0)]


def test_wherever_it_is_cut_off_it_tells_of_whole_lines_only(out: Path) -> None:
    data = (out / JOURNAL).read_bytes()
    head, first, second = (len(line) for line in data.splitlines(keepends=True))
    ends = (head, head + first, head + first + second)
    near = {end + offset for end in ends for offset in (-1, 0, 1)}
    for length in sorted(near.union(range(head, len(data), 17)).intersection(range(head, len(data) + 1))):
        (out / JOURNAL).write_bytes(data[:length])
        count = 2 * (length >= ends[1]) + 2 * (length >= ends[2])
        assert len(made(out)) == count, length
        with Journal(out, SETTINGS) as journal:  # and what is added then is whole
            journal.add("/c", "c", "1", (0,), [row(0)])
            journal.flush()
        assert made(out)["/c", 0] and len(made(out)) == count + 1


LINE = {"input": "/z", "name": "z", "stamp": "1", "seeds": [0], "rows": []}
DAMAGE: dict[str, bytes | dict[str, Any]] = {
    "no JSON": b"\x00\xff not JSON",
    "a list": b"[1]",
    "much too deep": b"[" * 100_000,
    "no checksum": json.dumps(LINE).encode(),
    "another digit": json.dumps(LINE | {"crc32": "00000000"}).encode(),
    "no rows": {name: value for name, value in LINE.items() if name != "rows"},
    "seeds of text": LINE | {"seeds": ["0"]},
    "a row of no sense": LINE | {"rows": [{"seed": 0}]},
    "a row without a seed": LINE | {"rows": [{"exit_code": 0}]},
    "files of no sense": LINE | {"rows": [{"seed": 0, "exit_code": 0, "files": [{}]}]},
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_line_costs_its_own_heads_alone(out: Path, case: str) -> None:
    line = DAMAGE[case]
    if isinstance(line, dict):
        line = json.dumps(line | {"crc32": _sum_of(line)}).encode()
    lines = (out / JOURNAL).read_bytes().splitlines()
    (out / JOURNAL).write_bytes(b"\n".join([*lines[:2], line, *lines[2:], b""]))
    with Journal(out, SETTINGS) as journal:
        assert journal.damaged == 1 and len(journal.done) == 4 and len(list(journal.rows())) == 3


def test_other_settings_are_refused_and_named(out: Path) -> None:
    before = (out / JOURNAL).read_bytes()
    other = {**SETTINGS, "preset": "reference", "steps": 9}
    with pytest.raises(
        OptionError, match=r"got preset 'reference', was 'fast'; steps 9, was None; .* --redo"
    ):
        Journal(out, other)
    assert (out / JOURNAL).read_bytes() == before
    with Journal(out, other, redo=True) as journal:
        assert not journal.done
    with Journal(out, other):  # and from then on these are its settings
        pass


def test_redo_with_the_same_settings_keeps_what_is_done(out: Path) -> None:
    with Journal(out, SETTINGS, redo=True) as journal:
        assert len(journal.done) == 4


@pytest.mark.parametrize(
    "data", [b"", b"{}\n", b"mine\n", json.dumps({"format": "topos_rt.batch/1"}).encode()]
)
def test_what_is_no_journal_is_left_alone(tmp_path: Path, data: bytes) -> None:
    (tmp_path / JOURNAL).write_bytes(data)
    with pytest.raises(
        InputError, match=r"batch\.jsonl: got something else; expected the journal of a batch"
    ):
        Journal(tmp_path, SETTINGS)
    assert (tmp_path / JOURNAL).read_bytes() == data


def test_two_batches_do_not_write_into_one_directory(out: Path) -> None:
    with Journal(out, SETTINGS):
        spawn = multiprocessing.get_context("spawn")
        told = spawn.Queue()
        other = spawn.Process(target=open_too, args=(out, told))
        other.start()
        assert "got another batch that is running there" in told.get(timeout=60)
        other.join()
    assert len(made(out)) == 4


def open_too(out: Path, told: Any) -> None:
    try:
        Journal(out, SETTINGS)
    except OutputError as error:
        told.put(str(error))


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError):
        Journal(tmp_path / "out", SETTINGS)


def test_an_error_lets_the_lock_go(out: Path) -> None:
    for _ in range(2):
        with pytest.raises(OptionError, match="other settings"):
            Journal(out, {})
    assert len(made(out)) == 4
