"""On the wire: clients that are slow, many, rude or gone."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests import needs

needs.module("fastapi")

from tests.server.live_server import Running, heard, running
from tests.server.test_bad_input import KEYS
from tests.server.test_work import Blocked, until
from topos_rt.pipeline import HeadPipeline
from topos_rt.server import making, protocol

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@pytest.fixture(scope="module")
def server(pipe: HeadPipeline) -> Iterator[Running]:
    with running(pipe, connections=20, body_s=1, max_upload=100_000) as service:
        yield service


def problem(answer: bytes, status: int, slug: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b"content-type: application/problem+json" in head.lower()
    told = json.loads(body)
    assert set(told) == KEYS and (told["status"], told["type"]) == (status, f"urn:topos-rt:{slug}")


def one(made: socket.socket) -> bytes:
    """Return one answer, whole."""
    answer = b""
    while not (found := re.search(rb"(?i)content-length: (\d+)[^\n]*\n(?:.+\n)*\r\n", answer)):
        answer += made.recv(65_536)
    while len(answer) < found.end() + int(found[1]):
        answer += made.recv(65_536)
    return answer


def answers(server: Running) -> None:
    with server.connected(LAST) as made:
        assert heard(made).startswith(b"HTTP/1.1 200 ")


RUDE = [b"SSH-2.0-x\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000,
        b"POST /v1/heads HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/heads HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"]  # fmt: skip


@pytest.mark.parametrize("words", RUDE, ids=range(len(RUDE)))
def test_what_is_no_http(server: Running, words: bytes) -> None:
    with server.connected(words) as made:
        problem(heard(made), 400, "bad-request")
    answers(server)


def test_a_head_that_comes_slowly(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    with server.connected(GET[:10]) as made:
        started = time.monotonic()
        try:
            for byte in b"X-Name: x\r\n" * 100:  # a byte now and then keeps no connection open
                made.sendall(bytes([byte]))
                time.sleep(0.02)
        except OSError:
            pass
        problem(heard(made) or _TOO_SLOW, 408, "too-slow")
        assert time.monotonic() - started > 0.25
    with server.connected() as made:  # nor does one that says nothing
        assert heard(made) == b""
    answers(server)


_TOO_SLOW = (  # where the end of the connection came before the answer was read
    b"HTTP/1.1 408 \r\ncontent-type: application/problem+json\r\n\r\n" + protocol._TOO_SLOW.to_bytes()
)


def test_the_second_head_of_a_connection_may_be_no_slower(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    with server.connected(GET) as made:
        assert one(made).startswith(b"HTTP/1.1 200 ")
        time.sleep(0.5)  # idle, which is no fault
        made.sendall(GET)
        assert one(made).startswith(b"HTTP/1.1 200 ")
        made.sendall(GET[:12])
        problem(heard(made), 408, "too-slow")


def post(length: int, body: bytes = b"", more: str = "") -> bytes:
    head = f"POST /v1/heads HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{more}"
    return head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + body


def upload(picture: bytes) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    body = head + picture + b"\r\n--x--\r\n"
    return post(len(body), body)


def test_a_body_that_comes_slowly(server: Running) -> None:
    with server.connected(post(1000, b"--x\r\n")) as made:
        problem(heard(made), 408, "too-slow")
    until(lambda: server.service.uploads == 0)
    answers(server)


def test_half_a_body(server: Running) -> None:
    for _ in range(5):
        with server.connected(post(1000, b"--x\r\nContent-Disposition: form-data")):
            pass
    until(lambda: server.service.uploads == 0 and server.service.desk.running == 0)
    answers(server)


def test_100_megabytes_are_refused_before_they_come(server: Running) -> None:
    with server.connected(post(100_000_000, more="Expect: 100-continue\r\n")) as made:
        answer = one(made)
        problem(answer, 413, "too-large")  # and no 100 Continue before


def test_100_megabytes_that_come_all_the_same(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 1.0)
    with server.connected(post(100_000_000)) as made:
        answer = one(made)
        problem(answer, 413, "too-large")
        started = time.monotonic()
        with pytest.raises(OSError):  # the rest is passed over for a while, and then cut off
            while time.monotonic() - started < 60:
                made.sendall(bytes(1000))
                time.sleep(0.01)
            raise AssertionError("it is read for ever")
    answers(server)


def test_too_many_connections(server: Running) -> None:
    open_ = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(30)]
    try:
        refused = 0
        for made in open_[20:]:
            problem(heard(made), 503, "not-ready")
            refused += 1
        assert refused == 10
        open_[0].sendall(LAST)
        assert heard(open_[0]).startswith(b"HTTP/1.1 200 ")  # those that are in are served
    finally:
        for made in open_:
            made.close()
    until(lambda: len(server.app.state.server.server_state.connections) < 5)
    answers(server)


def test_a_storm_of_requests(server: Running) -> None:
    """Each of a thousand is answered, or told that there are too many; the service goes on."""
    told: list[bytes] = []

    def ask() -> None:
        for _ in range(50):
            try:
                with server.connected(LAST) as made:
                    told.append(heard(made)[:12])
            except OSError:
                told.append(b"")

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(told) == 1000 and set(told) <= {b"HTTP/1.1 200", b"HTTP/1.1 503", b""}
    assert told.count(b"HTTP/1.1 200") > 500
    answers(server)


def test_an_answer_that_nobody_takes(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALL_S", 0.2)
    asks = GET.replace(b"/healthz", b"/openapi.json") * 400
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.settimeout(30)
        made.connect(("127.0.0.1", server.port))
        made.sendall(asks)
        until(lambda: not server.app.state.server.server_state.connections)


def test_a_client_that_hangs_up_stops_its_work(
    pipe: HeadPipeline, portrait: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = Blocked()
    monkeypatch.setattr(making, "heads_of", blocked)
    with running(pipe) as server:
        with server.connected(upload(portrait)):
            until(lambda: blocked.started)
        until(lambda: blocked.stopped == blocked.started and server.service.desk.running == 0)


def test_work_that_runs_may_end_before_the_service_stops(
    pipe: HeadPipeline, portrait: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = Blocked()
    monkeypatch.setattr(making, "faces_of", blocked)
    words = upload(portrait).replace(b"/v1/heads", b"/v1/faces")
    with running(pipe, drain_s=30) as server, server.connected(words) as made:
        until(lambda: blocked.started)
        server.stop()
        until(lambda: _refuses(server.port))  # nobody new gets in
        blocked.free.set()
        assert heard(made).startswith(b"HTTP/1.1 200 ")
        assert blocked.stopped == []


def test_work_that_does_not_end_in_time_is_stopped(
    pipe: HeadPipeline, portrait: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = Blocked()
    monkeypatch.setattr(making, "faces_of", blocked)
    words = upload(portrait).replace(b"/v1/heads", b"/v1/faces")
    with running(pipe, drain_s=1) as server, server.connected(words) as made:
        until(lambda: blocked.started)
        server.stop()
        heard(made)
        until(lambda: blocked.stopped == blocked.started)


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return True
    return False
