"""Directories that are replaced whole or not at all, whenever the process dies."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from topos_rt.errors import OutputError
from topos_rt.support import directories
from topos_rt.support.directories import recover, replacing
from topos_rt.support.files import write_atomic

OLD, NEW = {"a": b"old a", "sub/b": b"old b"}, {"a": b"new a", "sub/c": b"new c"}
LOCK = ".out.topos-rt-lock"


def fill(directory: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)


def read(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def beside(directory: Path) -> set[str]:
    return {p.name for p in directory.iterdir()} - {LOCK}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    fill(tmp_path / "out", OLD)
    return tmp_path / "out"


def test_a_new_directory_appears_with_its_parents(tmp_path: Path) -> None:
    with replacing(tmp_path / "x" / "out") as new:
        fill(new, NEW)
    assert read(tmp_path / "x" / "out") == NEW


def test_an_old_directory_is_replaced_whole(out: Path) -> None:
    with replacing(out) as new:
        assert read(new) == {}
        fill(new, NEW)
        assert read(out) == OLD
    assert read(out) == NEW
    assert beside(out.parent) == {"out"}


def test_a_directory_is_changed_in_place_whole(out: Path) -> None:
    with replacing(out, keep=True) as new:
        assert read(new) == OLD
        write_atomic(new / "a", b"new a")
        assert read(out) == OLD
    assert read(out) == OLD | {"a": b"new a"}


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OutputError])
def test_an_error_leaves_the_old_one(out: Path, keep: bool, error: type[BaseException]) -> None:
    with pytest.raises(error, match="why"), replacing(out, keep) as new:
        write_atomic(new / "a", b"half")
        raise error("why")
    assert read(out) == OLD
    assert beside(out.parent) == {"out"}


@pytest.mark.parametrize(("call", "at"), [("rename", 1), ("rename", 2), ("fsync", 1)])
def test_a_refusal_by_the_system_leaves_the_old_one(
    out: Path, monkeypatch: pytest.MonkeyPatch, call: str, at: int
) -> None:
    real, calls = getattr(os, call), []

    def refuse(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == at:
            raise OSError(errno.EACCES, "Permission denied")
        real(*arguments)

    with pytest.raises(OutputError, match="Permission denied; fix: choose"), replacing(out) as new:
        fill(new, NEW)
        monkeypatch.setattr(directories.os, call, refuse)
    monkeypatch.undo()
    assert read(out) == OLD
    assert beside(out.parent) == {"out"}


def test_a_file_in_the_way_is_one_clear_line(out: Path) -> None:
    (out.parent / ".out.topos-rt-new").write_bytes(b"mine")
    with (
        pytest.raises(OutputError, match=r"got a file that is in the way; fix: remove that file"),
        replacing(out),
    ):
        pass
    assert (out.parent / ".out.topos-rt-new").read_bytes() == b"mine"
    assert read(out) == OLD


def test_links(tmp_path: Path, out: Path) -> None:
    """A new directory takes the place of a link; a change in place is made where the link leads to."""
    (tmp_path / "link").symlink_to(out)
    with replacing(tmp_path / "link", keep=True) as new:
        write_atomic(new / "a", b"changed")
    assert (tmp_path / "link").is_symlink() and (out / "a").read_bytes() == b"changed"
    with replacing(tmp_path / "link") as new:
        fill(new, NEW)
    assert not (tmp_path / "link").is_symlink() and read(tmp_path / "link") == NEW
    assert (out / "a").read_bytes() == b"changed"


def test_planted_links_lead_nowhere(tmp_path: Path, out: Path) -> None:
    fill(tmp_path / "victim", {"x": b"precious"})
    for kind in ("new", "old"):
        (tmp_path / f".out.topos-rt-{kind}").symlink_to(tmp_path / "victim")
    with replacing(out) as new:
        fill(new, NEW)
    assert read(tmp_path / "victim") == {"x": b"precious"} and read(out) == NEW


def test_two_processes_do_not_build_at_once(out: Path) -> None:
    with replacing(out) as new:
        fill(new, NEW)
        script = "import pathlib, sys\nfrom topos_rt.support.directories import replacing\n"
        script += "with replacing(pathlib.Path(sys.argv[1])): pass"
        done = subprocess.run(
            [sys.executable, "-c", script, str(out)], capture_output=True, text=True, check=False
        )
        assert "got another process that is writing it" in done.stderr
    assert read(out) == NEW


# A process that dies at the given call of os.rename, before or after it, or while it fills the directory.
DYING = """
import os, pathlib, sys
from topos_rt.support.directories import replacing
at, out = sys.argv[1], pathlib.Path(sys.argv[2])
rename, calls = os.rename, []
def dying(source, target):
    calls.append(1)
    if at == f"before {len(calls)}":
        os._exit(9)
    rename(source, target)
    if at == f"after {len(calls)}":
        os._exit(9)
with replacing(out) as new:
    (new / "a").write_bytes(b"new a")
    if at == "filling":
        os._exit(9)
    (new / "sub").mkdir()
    (new / "sub" / "c").write_bytes(b"new c")
    os.rename = dying
"""


@pytest.mark.parametrize("at", ["filling", "before 1", "after 1", "before 2", "after 2"])
def test_whenever_the_process_dies_a_whole_directory_is_found(out: Path, at: str) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, at, str(out)], check=False)
    assert done.returncode == 9
    recover(out)
    assert read(out) == (NEW if at == "after 2" else OLD)
    with replacing(out) as new:  # what was left behind is in nobody's way
        fill(new, NEW | {"d": b"d"})
    assert read(out) == NEW | {"d": b"d"}
    assert beside(out.parent) == {"out"}


def test_nothing_to_recover(tmp_path: Path, out: Path) -> None:
    assert not recover(tmp_path / "nothing")
    shutil.copytree(out, tmp_path / ".out.topos-rt-old")
    fill(out, {"a": b"newer"})
    assert not recover(out)
    assert (out / "a").read_bytes() == b"newer"


def test_a_reader_that_puts_the_old_one_back_in_the_middle(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.rename, []

    def rename(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            real(out.parent / ".out.topos-rt-old", out)
        real(source, target)

    with replacing(out) as new:
        fill(new, NEW)
        monkeypatch.setattr(directories.os, "rename", rename)
    monkeypatch.undo()
    assert read(out) == NEW and beside(out.parent) == {"out"}
