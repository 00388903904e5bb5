"""The WebSockets: heads that grow step by step, and a face that is followed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from tests import needs

needs.module("fastapi")

from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from tests.server.conftest import BASE, Opens
from tests.server.test_bad_input import KEYS, bomb
from tests.server.test_work import service, until
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.visemes import ARKIT
from topos_rt.pipeline import HeadPipeline
from topos_rt.server import live, making

STREAM, TRACK = (BASE.replace("http", "ws") + route for route in ("/v1/heads/stream", "/v1/track"))


@contextmanager
def asked(client: TestClient, picture: bytes, wishes: dict[str, Any]) -> Iterator[WebSocketTestSession]:
    with client.websocket_connect(STREAM) as socket:
        socket.send_json(wishes)
        socket.send_bytes(picture)
        yield socket


def events(socket: WebSocketTestSession) -> Iterator[tuple[dict[str, Any], np.ndarray | None]]:
    """Yield every message with the positions that follow it, until the service closes with 1000."""
    try:
        while True:
            told = socket.receive_json()
            assert told["event"] != "error", told
            binary = socket.receive_bytes() if told["event"] in ("preview", "head") else None
            yield told, None if binary is None else np.frombuffer(binary, "<f4").reshape(-1, 3)
    except WebSocketDisconnect as end:
        assert end.code == 1000


def ended(socket: WebSocketTestSession) -> tuple[dict[str, Any], int]:
    """Return the problem that a WebSocket ends with, and its code."""
    told = socket.receive_json()
    while told["event"] != "error":
        told = socket.receive_json()
    assert set(told) == {"event"} | KEYS
    with pytest.raises(WebSocketDisconnect) as caught:
        socket.receive_json()
    return told, caught.value.code


def test_a_head_grows(client: TestClient, pipe: HeadPipeline, portrait: bytes) -> None:
    with asked(client, portrait, {"options": {"steps": 3}, "seeds": [0, 5]}) as socket:
        told = list(events(socket))
    names = ["queued", "faces", *(["preview"] * 2 + ["head"]) * 2]
    assert [facts["event"] for facts, _ in told] == names
    assert told[0][0]["ahead"] == 0
    assert told[1][0]["chosen"] == 0 and len(told[1][0]["faces"]) == 1
    wanted: list[HeadMesh] = [head for seed in (0, 5) for head in pipe.stream(portrait, seed=seed, steps=3)]
    for (facts, positions), head in zip(told[2:], wanted, strict=True):
        assert positions is not None and np.array_equal(positions, head.positions)
        assert facts["seed"] == head.metadata["seed"]
        if facts["event"] == "preview":
            assert (facts["step"], facts["steps"]) == (head.metadata["preview_step"], 3)
        else:
            assert client.get(facts["links"]["glb"]).content == pipe(
                portrait, seed=facts["seed"], steps=3
            ).to_bytes("glb")
            assert facts == {"event": "head"} | client.get(f"/v1/heads/{facts['id']}").json()


def test_one_of_several_faces(client: TestClient, pipe: HeadPipeline, pair: bytes) -> None:
    with asked(client, pair, {"options": {"steps": 1, "face": 1}}) as socket:
        told = [facts for facts, _ in events(socket)]
    assert told[1]["chosen"] == 1 and told[-1]["face"] == pipe.find_faces(pair)[1].facts()


def test_without_a_face_check(client: TestClient, nobody: bytes) -> None:
    options = {"steps": 1, "face_check": False, "crop": "none"}
    with asked(client, nobody, {"options": options}) as socket:
        assert [facts["event"] for facts, _ in events(socket)] == ["queued", "head"]


WISHES: dict[str, tuple[Any, str]] = {
    "no JSON": ("[", "no JSON"),
    "a list": ("[]", "JSON of another kind"),
    "options that are a list": ('{"options": []}', "JSON of another kind"),
    "an unknown key": ('{"optoins": {}}', "'optoins'"),
    "an unknown option": ('{"options": {"colour": 1}}', "unknown option 'colour'"),
    "a wrong option": ('{"options": {"preset": "slow"}}', "'slow'"),
    "all faces": ('{"options": {"face": "all"}}', "'all'"),
    "seeds that are none": ('{"seeds": "x"}', "seeds"),
    "too much text": ('{"seeds": [' + "1," * 10_000 + "1]}", "bytes"),
}


@pytest.mark.parametrize("case", WISHES)
def test_wishes_that_are_wrong(client: TestClient, case: str) -> None:
    text, told = WISHES[case]
    with client.websocket_connect(STREAM) as socket:
        socket.send_text(text)
        problem, code = ended(socket)
    assert told in problem["detail"] and code == 4000 + problem["status"] and problem["status"] in (400, 413)
    assert service(client).streams == 0


def test_messages_in_the_wrong_order(client: TestClient, portrait: bytes) -> None:
    with client.websocket_connect(STREAM) as socket:
        socket.send_bytes(portrait)
        problem, code = ended(socket)
        assert "expected a text message" in problem["detail"] and code == 4400
    with client.websocket_connect(STREAM) as socket:
        socket.send_json({})
        socket.send_json({})
        assert "expected a binary message" in ended(socket)[0]["detail"]


@pytest.mark.parametrize("picture", [b"", b"hello", bomb(50_000)])
def test_pictures_that_are_none(client: TestClient, picture: bytes) -> None:
    with asked(client, picture, {}) as socket:
        problem, code = ended(socket)
    assert problem["type"] == "urn:topos-rt:bad-input" and code == 4400


def test_nobody_in_the_picture(client: TestClient, nobody: bytes) -> None:
    with asked(client, nobody, {}) as socket:
        problem, code = ended(socket)
    assert problem["status"] == 422 and code == 4422
    until(lambda: service(client).desk.running == 0)


def test_a_picture_that_is_too_large(opens: Opens) -> None:
    with asked(opens(max_upload=2000), bytes(2001), {}) as socket:
        problem, code = ended(socket)
    assert problem["status"] == 413 and code == 4413


def test_a_client_that_says_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_OPENING_S", 0.05)
    with client.websocket_connect(STREAM) as socket:
        problem, code = ended(socket)
    assert problem["status"] == 408 and code == 4408 and service(client).streams == 0


class Slow:
    """A stream whose previews come only when they are let through, one at a time."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.through = threading.Semaphore(0)
        self.stopped = threading.Event()
        whole = making.stream_of

        def stream_of(pipeline: Any, picture: bytes, options: Any, job: Any, told: dict[str, Any]) -> None:
            def preview(*arguments: Any) -> None:
                told["preview"](*arguments)
                while not self.through.acquire(timeout=0.002):
                    if not job.check():
                        self.stopped.set()
                        job.require()

            whole(pipeline, picture, options, job, told | {"preview": preview})

        patch.setattr(making, "stream_of", stream_of)


@pytest.mark.parametrize("way", ["cancel", "close"])
def test_work_stops_in_the_middle(
    client: TestClient, portrait: bytes, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch)
    with asked(client, portrait, {"options": {"steps": 50}}) as socket:
        while socket.receive_json()["event"] != "preview":
            pass
        socket.receive_bytes()
        assert service(client).desk.running == 1
        if way == "cancel":
            socket.send_text("nonsense")  # which is passed over
            socket.send_bytes(b"nonsense")
            socket.send_json({"cancel": True})
            assert socket.receive() == {"type": "websocket.close", "code": 1000, "reason": ""}
        else:
            socket.close()
    assert slow.stopped.wait(20)
    until(lambda: service(client).desk.running == 0 and service(client).streams == 0)
    assert service(client).results.count == 0
    slow.through.release(1000)
    with asked(client, portrait, {"options": {"steps": 1}}) as socket:
        assert [facts["event"] for facts, _ in events(socket)][-1] == "head"


def test_streams_wait_in_the_same_queue(
    opens: Opens, portrait: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, client = Slow(monkeypatch), opens(workers=1, queue=1)
    with asked(client, portrait, {"options": {"steps": 3}}) as first:
        while first.receive_json()["event"] != "preview":
            pass
        with asked(client, portrait, {"options": {"steps": 3}}) as second:
            assert second.receive_json() == {"event": "queued", "ahead": 1}
            with client.websocket_connect(STREAM) as third:
                problem, code = ended(third)
                assert problem["status"] == 429 and code == 1013
            slow.through.release(1000)
            assert [facts["event"] for facts, _ in events(second)][-1] == "head"


def test_a_slow_client_misses_previews_but_no_head(client: TestClient) -> None:
    """Seen from within: what waits is bounded, the newest previews stay, and heads are never dropped."""

    async def run() -> list[tuple[str, int]]:
        box = live._Mailbox()
        for step in range(50):
            box.put({"event": "preview", "step": step})
        box.put({"event": "head", "step": 50})
        for step in range(51, 60):
            box.put({"event": "preview", "step": step})
        box.put({"event": "head", "step": 60})
        asyncio.get_running_loop().call_soon(box.end)
        return [(facts["event"], facts["step"]) async for facts, _ in box.each()]

    told: Any = client.portal.call(run)  # type: ignore[union-attr]
    assert told == [("head", 50), ("preview", 58), ("preview", 59), ("head", 60)]


def test_a_face_is_followed(client: TestClient, portrait: bytes, pipe: HeadPipeline) -> None:
    (face,) = pipe.find_faces(portrait)
    with client.websocket_connect(TRACK) as socket:
        for number in range(4):
            socket.send_bytes(portrait)
            told = socket.receive_json()
            assert (told["event"], told["frame"], told["faces"]) == ("frame", number, 1)
            assert told["ms"] > 0 and set(told["expression"]) == set(ARKIT)
            assert told["pose"] == pytest.approx([face.yaw, face.pitch, face.roll], abs=3)
            assert told["box"] == pytest.approx(face.box, rel=0.1)
        assert service(client).mirrors == 1
    until(lambda: service(client).mirrors == 0)


def test_frames_without_a_face_and_frames_that_are_none(
    client: TestClient, portrait: bytes, nobody: bytes
) -> None:
    with client.websocket_connect(TRACK) as socket:
        socket.send_bytes(nobody)
        assert socket.receive_json()["faces"] == 0
        for junk in (b"", b"hello", bomb(50_000)):
            socket.send_bytes(junk)
            told = socket.receive_json()
            assert told["event"] == "error" and told["status"] == 400
        socket.send_bytes(portrait)
        told = socket.receive_json()
        assert (told["frame"], told["faces"]) == (4, 1)
        socket.send_text("hello")
        assert ended(socket)[1] == 4400


def test_the_newest_frame_wins(client: TestClient, portrait: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    free, looked = threading.Event(), []

    def follow(tracker: Any, frame: bytes) -> None:
        looked.append(frame)
        assert free.wait(20)

    monkeypatch.setattr(live, "_follow", follow)
    with client.websocket_connect(TRACK) as socket:
        socket.send_bytes(b"0")
        until(lambda: looked)
        for number in range(1, 8):
            socket.send_bytes(str(number).encode())
        client.portal.call(_turns)  # type: ignore[union-attr]
        free.set()
        assert [socket.receive_json()["frame"] for _ in range(2)] == [0, 7]
    assert looked == [b"0", b"7"]


async def _turns() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


def test_mirrors_are_bounded(opens: Opens, portrait: bytes) -> None:
    client = opens(mirrors=1)
    with client.websocket_connect(TRACK) as first:
        first.send_bytes(portrait)
        first.receive_json()
        with client.websocket_connect(TRACK) as second:
            problem, code = ended(second)
            assert (
                problem["status"] == 429
                and "mirrors: got 1 that are open" in problem["detail"]
                and code == 1013
            )
    until(lambda: service(client).mirrors == 0)
    with client.websocket_connect(TRACK) as again:
        again.send_bytes(portrait)
        assert again.receive_json()["faces"] == 1


def test_a_mirror_without_frames_ends(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_IDLE_S", 0.05)
    with client.websocket_connect(TRACK) as socket:
        assert ended(socket)[1] == 4408


def test_websockets_are_counted(client: TestClient) -> None:
    with client.websocket_connect(TRACK):
        until(lambda: 'topos_rt_websockets{route="/v1/track"} 1.0' in client.get("/metrics").text)
    until(lambda: 'topos_rt_websockets{route="/v1/track"} 0.0' in client.get("/metrics").text)
