"""Open files: what is read of them, what is written to them, and one clear error for every other kind."""

from __future__ import annotations

import gzip
import io
import os
import socket
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import needs
from topos_rt.errors import ImageError, InputError, OutputError
from topos_rt.support import streams
from topos_rt.support.streams import read_all, stream_name, write_all

DATA = bytes(range(256)) * 10


def read(file: Any, limit: int = 10_000) -> bytes:
    return read_all(file, limit, "cannot use it", ImageError).getvalue()


class Slow(io.RawIOBase):
    """A raw file that moves a few bytes at a time, as a socket does."""

    def __init__(self, data: bytes = b"") -> None:
        self.inside, self.taken = io.BytesIO(data), b""

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self.inside.read(min(7, len(buffer)))
        buffer[: len(part)] = part
        return len(part)

    def write(self, data: Any) -> int:
        self.taken += bytes(data[:7])
        return min(7, len(data))


class Upload:
    """What web frameworks hand over: it has `read` and `write`, and nothing else."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer

    def read(self, size: int) -> Any:
        return self.answer

    def write(self, data: bytes) -> Any:
        return self.answer


class Waiting:
    async def read(self, size: int) -> bytes:
        return b""

    async def write(self, data: bytes) -> int:
        return 0


@given(st.binary(max_size=3000), st.integers(0, 3000), st.sampled_from([1, 7, 1000, 1 << 20]))
def test_a_file_is_read_from_where_it_stands(data: bytes, start: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "_CHUNK", chunk)
        for file in (io.BytesIO(data), io.BufferedReader(io.BytesIO(data))):
            file.seek(start)
            assert read(file) == data[start:]
            assert not file.closed and file.read() == b""


def test_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(DATA)
    with gzip.open(tmp_path / "packed", "wb") as packed:
        packed.write(DATA)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("inside", DATA)
    one, other = socket.socketpair()
    with one, other, zipfile.ZipFile(tmp_path / "zip") as archive, tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(DATA)
        spooled.seek(0)
        one.sendall(DATA)
        one.shutdown(socket.SHUT_WR)
        files: list[Any] = [
            (tmp_path / "plain").open("rb"),
            (tmp_path / "plain").open("rb", buffering=0),
            gzip.GzipFile(tmp_path / "packed"),
            archive.open("inside"),
            spooled,
            other.makefile("rb"),
            Slow(DATA),
        ]
        for file in files:
            assert read(file) == DATA
            file.close()


def test_a_limit_holds_before_memory_is_taken(tmp_path: Path) -> None:
    class Endless:
        taken = 0

        def read(self, size: int) -> bytes:
            self.taken += size
            return bytes(size)

    endless = Endless()
    with pytest.raises(ImageError, match="cannot use it: got more than 10,000 bytes; expected a smaller"):
        read(endless)
    assert endless.taken == 10_001
    with (tmp_path / "large").open("wb+", buffering=0) as large:
        large.truncate(1 << 40)
        with pytest.raises(ImageError, match="more than 10,000 bytes"):
            read(large)
        assert large.tell() == 0  # nothing was read of it
        large.seek((1 << 40) - 9)
        assert read(large) == bytes(9)
    assert read(io.BytesIO(DATA), len(DATA)) == DATA


def closed() -> io.BytesIO:
    file = io.BytesIO(DATA)
    file.close()
    return file


def opened(mode: str) -> Any:
    return open(os.devnull, mode)


def failing(error: Exception) -> Any:
    file = Upload()
    file.read = file.write = lambda _: (_ for _ in ()).throw(error)  # type: ignore[method-assign]
    return file


UNREADABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "text in memory": (lambda: io.StringIO("x"), "a file opened as text; expected one opened as bytes; "),
    "text": (lambda: opened("r"), "got a file opened as text; .*open it with mode 'rb'"),
    "text of another kind": (lambda: Upload("x"), "a file opened as text; expected one whose read"),
    "closed": (closed, "got a closed file; expected an open one; fix: use it before it is closed"),
    "for writing": (lambda: opened("wb"), "a file opened for writing alone; .*mode 'rb'"),
    "asynchronous": (Waiting, "an asynchronous file; expected a binary file; .*await file.read"),
    "not ready": (lambda: Upload(None), "a file that does not block, and is not ready"),
    "numbers": (lambda: Upload(3), r"got int from read\(\)"),
    "broken": (lambda: failing(OSError(5, "Input/output error")), "got Input/output error; expected"),
    "cut": (lambda: failing(EOFError("Compressed file ended")), "got Compressed file ended"),
    "detached": (lambda: failing(ValueError("I/O operation on closed file")), "got I/O operation on closed"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read(case: str) -> None:
    make, message = UNREADABLE[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = make()
        with pytest.raises(ImageError, match=f"cannot use it: .*{message.removeprefix('got ')}") as caught:
            read(file)
        getattr(file, "close", lambda: None)()
    assert "\n" not in str(caught.value)


UNWRITABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "text in memory": (io.StringIO, r"cannot write \(StringIO\): got a file opened as text; .*mode 'wb'"),
    "text of another kind": (
        lambda: failing(TypeError("must be str, not bytes")), "got must be str, not bytes; expected a"
    ),
    "closed": (closed, "got a closed file; expected an open one"),
    "for reading": (lambda: opened("rb"), "a file opened for reading alone; .*mode 'wb'"),
    "asynchronous": (Waiting, "got an asynchronous file; .*await file.write"),
    "full": (lambda: failing(OSError(28, "")), "got No space left on device; fix: free some space"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_cannot_be_written(case: str) -> None:
    make, message = UNWRITABLE[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = make()
        with pytest.raises(OutputError, match=message):
            write_all(file, DATA)
        getattr(file, "close", lambda: None)()


def test_a_full_device() -> None:
    needs.machine(os.path.exists("/dev/full"), "there is no /dev/full")
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(OutputError, match="/dev/full: got No space"),
    ):
        write_all(full, DATA)


@given(st.binary(max_size=100))
def test_all_bytes_are_written(data: bytes) -> None:
    slow, memory = Slow(), io.BytesIO(b"before")
    memory.seek(0, io.SEEK_END)
    write_all(slow, data)
    write_all(memory, data)
    assert slow.taken == data and memory.getvalue() == b"before" + data and not memory.closed


def test_files_are_called_by_their_names(tmp_path: Path) -> None:
    named = Upload()
    named.name = tmp_path  # type: ignore[attr-defined]
    assert stream_name(named) == str(tmp_path)
    named.name = "x" * 5000  # type: ignore[attr-defined]
    assert len(stream_name(named)) <= 200
    assert stream_name(io.BytesIO()) == "(BytesIO)"
    with tempfile.TemporaryFile() as nameless:  # its name is a number
        assert stream_name(nameless) == f"({type(nameless).__name__})"


def test_the_class_of_the_error_is_the_callers() -> None:
    with pytest.raises(InputError) as caught:
        read_all(io.StringIO(), 1, "what", OutputError)  # type: ignore[arg-type]
    assert type(caught.value) is OutputError
