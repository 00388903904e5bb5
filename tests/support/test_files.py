"""Atomic writes: the whole file or nothing."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import needs
from topos_rt.errors import OutputError
from topos_rt.support import files
from topos_rt.support.files import check_writable, write_atomic


class System:
    """The os module with some calls replaced, for `topos_rt.support.files` alone."""

    def __init__(self, **calls):
        self.__dict__.update(calls)

    def __getattr__(self, name):
        return getattr(os, name)


def names(directory):
    return sorted(p.name for p in directory.iterdir())


@settings(deadline=None)
@given(data=st.binary(max_size=4096))
def test_what_is_written_is_what_is_read(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("out") / "head.glb"
    write_atomic(path, data)
    assert path.read_bytes() == data
    assert names(path.parent) == ["head.glb"]


def test_replaces_an_old_file(tmp_path):
    path = tmp_path / "head.glb"
    path.write_bytes(b"old and longer")
    write_atomic(str(path), b"new")
    assert path.read_bytes() == b"new"


def test_mode_follows_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_atomic(tmp_path / "head.glb", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "head.glb").stat().st_mode) == 0o640


LINKS = {
    "to a file": lambda place: (place / "other").write_bytes(b"other"),
    "to a read-only file": lambda place: (place / "other").touch(0o444),
    "to nothing": lambda place: None,
    "to itself": None,
}  # fmt: skip


@pytest.mark.parametrize("case", LINKS)
def test_a_symbolic_link_is_replaced_and_never_written_through(tmp_path, case):
    (tmp_path / "elsewhere").mkdir()
    make, link = LINKS[case], tmp_path / "head.glb"
    aim = tmp_path / "elsewhere" / "other"
    if make is None:
        aim = link
    else:
        make(tmp_path / "elsewhere")
    before = {p: p.read_bytes() for p in (tmp_path / "elsewhere").iterdir()}
    link.symlink_to(aim)
    check_writable(link)
    write_atomic(link, b"x")
    assert not link.is_symlink()
    assert link.read_bytes() == b"x"
    assert {p: p.read_bytes() for p in (tmp_path / "elsewhere").iterdir()} == before
    assert names(tmp_path) == ["elsewhere", "head.glb"]


def test_a_link_that_is_planted_between_check_and_rename_is_replaced(tmp_path, monkeypatch):
    victim, path = tmp_path / "victim", tmp_path / "head.glb"
    victim.write_bytes(b"precious")

    def plant(source, target):
        Path(target).symlink_to(victim)
        os.rename(source, target)

    monkeypatch.setattr(files, "os", System(replace=plant))
    write_atomic(path, b"x")
    assert victim.read_bytes() == b"precious"
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_planted_temporary_file_is_not_written_to(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(files.secrets, "token_hex", lambda size: "0" * 12)
    victim, planted = tmp_path / "victim", tmp_path / ".topos-rt-000000000000.tmp"
    victim.write_bytes(b"precious")
    if kind == "link":
        planted.symlink_to(victim)
    else:
        planted.write_bytes(b"theirs")
    with pytest.raises(OutputError, match="File exists"):
        write_atomic(tmp_path / "head.glb", b"x")
    assert victim.read_bytes() == b"precious"
    assert planted.read_bytes() == (b"precious" if kind == "link" else b"theirs")


def test_a_hard_link_keeps_its_bytes(tmp_path):
    (tmp_path / "other").write_bytes(b"other")
    os.link(tmp_path / "other", tmp_path / "head.glb")
    write_atomic(tmp_path / "head.glb", b"x")
    assert (tmp_path / "other").read_bytes() == b"other"


def test_a_link_of_the_system_is_not_replaced(tmp_path):
    needs.machine(Path("/dev/stdout").is_symlink(), "there is no /dev/stdout")
    with (tmp_path / "out").open("w") as out:
        for path in ("/dev/stdout", f"/dev/fd/{out.fileno()}", f"/proc/self/fd/{out.fileno()}"):
            with pytest.raises(OutputError, match="a device or pipe"):
                write_atomic(path, b"x")
    assert Path("/dev/stdout").is_symlink()
    assert (tmp_path / "out").read_bytes() == b""


def test_the_file_and_then_its_directories_are_flushed(tmp_path, monkeypatch):
    done = []

    def fsync(descriptor):
        done.append(os.readlink(f"/proc/self/fd/{descriptor}").replace(str(tmp_path), ""))

    def replace(source, target):
        done.append("rename")
        os.replace(source, target)

    needs.machine(Path("/proc/self/fd").exists(), "there is no /proc")
    monkeypatch.setattr(files, "os", System(fsync=fsync, replace=replace))
    write_atomic(tmp_path / "a" / "b" / "head.glb", b"x", parents=True)
    temporary = done.pop(2)
    assert temporary.startswith("/a/b/.topos-rt-")
    assert done == ["", "/a", "rename", "/a/b"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_bytes_that_do_not_reach_the_disk_leave_the_old_file(tmp_path, monkeypatch, number):
    path = tmp_path / "head.glb"
    path.write_bytes(b"old")
    monkeypatch.setattr(files, "os", System(fsync=fail_with(number)))
    with pytest.raises(OutputError, match=os.strerror(number)):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["head.glb"]


def test_a_file_system_that_cannot_flush_directories_will_do(tmp_path, monkeypatch):
    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(files, "os", System(fsync=fsync))
    write_atomic(tmp_path / "head.glb", b"x")
    assert names(tmp_path) == ["head.glb"]


def test_creates_directories_only_when_asked(tmp_path):
    path = tmp_path / "a" / "b" / "head.glb"
    with pytest.raises(OutputError, match="does not exist"):
        write_atomic(path, b"x")
    assert names(tmp_path) == []
    write_atomic(path, b"x", parents=True)
    assert path.read_bytes() == b"x"


def blocked(tmp_path):
    """Return places that cannot be written, by name."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o555)
    (tmp_path / "old.glb").write_bytes(b"x")
    (tmp_path / "old.glb").chmod(0o444)
    return {
        "directory": (tmp_path, "a directory"),
        "file as directory": (tmp_path / "file" / "head.glb", "where a directory should be"),
        "missing directory": (tmp_path / "nowhere" / "head.glb", "does not exist"),
        "device": ("/dev/full", "a device or pipe"),
        "NUL in the name": ("a\0b", "a NUL character"),
        "name too long": (tmp_path / ("x" * 300), "File name too long"),
        "locked directory": (tmp_path / "locked" / "head.glb", "no permission"),
        "read-only file": (tmp_path / "old.glb", "a read-only file"),
    }


@pytest.mark.parametrize(
    "attempt",
    [check_writable, lambda path: write_atomic(path, b"data")],
    ids=["check_writable", "write_atomic"],
)
@pytest.mark.parametrize(
    "case",
    [
        "directory",
        "file as directory",
        "missing directory",
        "device",
        "NUL in the name",
        "name too long",
        "locked directory",
        "read-only file",
    ],
)
def test_places_that_cannot_be_written(tmp_path, case, attempt, monkeypatch):
    path, message = blocked(tmp_path)[case]
    if case in ("locked directory", "read-only file") and os.geteuid() == 0:
        # root may write anywhere, so access(2) is made to answer as it would for other users
        monkeypatch.setattr(files, "os", System(access=lambda p, mode: bool(os.stat(p).st_mode & 0o222)))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=message):
        attempt(path)
    assert sorted(tmp_path.rglob("*")) == before


def fail_with(number):
    def fail(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("call", "number", "message"),
    [
        ("open", errno.ENOSPC, "No space left on device; fix: free some space"),
        ("replace", errno.ENOSPC, "No space left on device; fix: free some space"),
        ("replace", errno.EACCES, "Permission denied; fix: choose a place you may write to"),
        ("open", errno.EROFS, "Read-only file system; fix: choose a place"),
        ("open", errno.EIO, "Input/output error$"),
    ],
)
def test_a_refusal_by_the_system_leaves_the_old_file(tmp_path, monkeypatch, call, number, message):
    path = tmp_path / "head.glb"
    path.write_bytes(b"old")
    monkeypatch.setattr(files, "os", System(**{call: fail_with(number)}))
    with pytest.raises(OutputError, match=message):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["head.glb"]


def test_a_disk_that_fills_up_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    needs.machine(Path("/dev/full").exists(), "there is no /dev/full")
    path = tmp_path / "head.glb"
    path.write_bytes(b"old")

    def open_on_a_full_disk(name, flags, mode=0o777):
        os.close(os.open(name, flags, mode))
        return os.open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(files, "os", System(open=open_on_a_full_disk))
    with pytest.raises(OutputError, match="No space left on device"):
        write_atomic(path, b"new" * 100_000)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["head.glb"]


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "os", System(replace=interrupt))
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "head.glb", b"x")
    assert names(tmp_path) == []


def test_check_writable_creates_nothing(tmp_path):
    check_writable(tmp_path / "head.glb")
    check_writable(tmp_path / "a" / "b" / "head.glb", parents=True)
    with pytest.raises(OutputError, match="does not exist"):
        check_writable(tmp_path / "a" / "head.glb")
    assert names(tmp_path) == []


def test_check_writable_sees_a_file_where_a_directory_should_be_created(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(OutputError, match="where a directory should be"):
        check_writable(tmp_path / "a" / "b" / "head.glb", parents=True)
