"""The WebSockets: a head that grows (/v1/heads/stream), and a face that is followed (/v1/track)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from topos_rt.errors import ToposError
from topos_rt.faces.tracker import FaceTracker, TrackedFace
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.visemes import ARKIT
from topos_rt.server import making, schemas
from topos_rt.server.problems import Problem, problem_of
from topos_rt.server.routes import entry_of
from topos_rt.server.service import Service
from topos_rt.server.settings import MIB
from topos_rt.server.uploads import validated
from topos_rt.server.work import ended, first_of

router = APIRouter()
_PROTOCOL = "topos-rt"
_Talk: TypeAlias = Callable[[WebSocket, Service], Awaitable[None]]
_OPENING_S = 30.0  # in which a client has to say what it wants
_IDLE_S = 60.0  # without a frame, after which a mirror is closed
_MOST_FRAME = 8 * MIB
_MOST_UNSENT = 2  # previews that wait for a slow client; older ones are dropped
_CLOSED = {  # status of a problem -> code of the WebSocket's end
    503: 1013,
    429: 1013,
}
_REFUSED, _FAILED = 4000, 1011


def _service(socket: WebSocket) -> Service:
    service: Service = socket.app.state.service
    return service


async def _tell(socket: WebSocket, event: str, **facts: Any) -> None:
    await socket.send_text(json.dumps({"event": event, **facts}, allow_nan=False))


async def _converse(socket: WebSocket, route: str, talk: _Talk) -> None:
    """Accept a WebSocket, count it, let it `talk`, and end it with one message where something is wrong."""
    service = _service(socket)
    # A browser that offers protocols gives up where none is chosen; the other one that it offers is its key.
    await socket.accept(_PROTOCOL if _PROTOCOL in socket.scope.get("subprotocols", ()) else None)
    gauge = service.metrics.sockets.labels(route)
    gauge.inc()
    try:
        service.require_open()
        await talk(socket, service)
        await _close(socket, 1000)
    except WebSocketDisconnect:
        pass
    except (Problem, ToposError, MemoryError) as error:
        problem = problem_of(error)
        service.metrics.problems.labels(problem.slug).inc()
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await _tell(socket, "error", **problem.to_json())
            code = _FAILED if problem.status == 500 else _REFUSED + problem.status % 1000
            await _close(socket, _CLOSED.get(problem.status, code))
    finally:
        gauge.dec()


@contextlib.asynccontextmanager
async def _counted(service: Service, what: str) -> AsyncIterator[None]:
    """Count an open WebSocket. Raises Problem where there are too many: each may hold a picture."""
    settings = service.settings
    most = settings.mirrors if what == "mirrors" else settings.workers + settings.queue
    now = getattr(service, what)
    if now >= most:
        fix = "try again later"
        raise Problem("busy", what, got=f"{now} that are open", expected=f"at most {most}", fix=fix)
    setattr(service, what, now + 1)
    try:
        yield
    finally:
        setattr(service, what, getattr(service, what) - 1)


async def _close(socket: WebSocket, code: int) -> None:
    if socket.application_state is WebSocketState.CONNECTED:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(code)


async def _receive(socket: WebSocket, key: str, what: str, most: int, seconds: float) -> Any:
    """Return the next message of a kind. Raises Problem for another one, WebSocketDisconnect at the end."""
    try:
        message = await asyncio.wait_for(socket.receive(), seconds)
    except asyncio.TimeoutError:
        raise Problem("too-slow", what, got=f"nothing in {seconds:.0f} s") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    value = message.get(key)
    if value is None:
        raise Problem(
            "bad-request", what, got="a message of the other kind", expected=f"a {_KINDS[key]} message"
        )
    if len(value) > most:
        raise Problem("too-large", what, got=f"{len(value):,} bytes", expected=f"at most {most:,}")
    return value


_KINDS = {"text": "text", "bytes": "binary"}
_MOST_TEXT = 16_384


def _wishes(text: str) -> schemas.Options:
    """Return the options of a stream's first message. Raises Problem."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        raise Problem("bad-request", "the first message", got="what is no JSON", expected=_FIRST) from None
    if not isinstance(tree, dict) or not isinstance(tree.get("options", {}), dict):
        raise Problem("bad-request", "the first message", got="JSON of another kind", expected=_FIRST)
    if unknown := sorted(set(tree) - {"options", "seeds"}):
        raise Problem("bad-request", "the first message", got=f"the key {unknown[0][:40]!r}", expected=_FIRST)
    options = dict(tree.get("options", {}))
    if "seeds" in tree:
        options["seeds"] = tree["seeds"]
    wishes = validated(schemas.Options, options)
    if wishes.face == "all":
        raise Problem("bad-request", "face", got="'all'", expected="one face, since a stream shows one head")
    return wishes


_FIRST = '{"options": {…}, "seeds": [0]}'


class _Mailbox:
    """Messages from a worker's thread to the loop, in order. Previews that wait too long are dropped."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[dict[str, Any], HeadMesh | None]] = []
        self._news = asyncio.Event()
        self._ended = False

    def put(self, facts: dict[str, Any], head: HeadMesh | None = None) -> None:
        """Leave a message; from any thread."""
        self._loop.call_soon_threadsafe(self._take, facts, head)

    def _take(self, facts: dict[str, Any], head: HeadMesh | None) -> None:
        previews = [item for item in self._waiting if item[0]["event"] == "preview"]
        if facts["event"] == "preview" and len(previews) >= _MOST_UNSENT:
            self._waiting.remove(previews[0])
        self._waiting.append((facts, head))
        self._news.set()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    async def each(self) -> AsyncIterator[tuple[dict[str, Any], HeadMesh | None]]:
        while True:
            while self._waiting:
                yield self._waiting.pop(0)
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()


@router.websocket("/v1/heads/stream")
async def stream(socket: WebSocket) -> None:
    """Make heads of a picture and show them after every step; docs/serve.md has the messages."""
    await _converse(socket, "/v1/heads/stream", _stream)


async def _stream(socket: WebSocket, service: Service) -> None:
    async with _counted(service, "streams"):
        service.desk.admit()
        wishes = _wishes(await _receive(socket, "text", "the first message", _MOST_TEXT, _OPENING_S))
        most = service.settings.max_upload
        picture = await _receive(socket, "bytes", "the picture", most, _OPENING_S)
        await asyncio.to_thread(making.check_picture, picture)
        job = service.job()
        await _tell(socket, "queued", ahead=service.desk.waiting + service.desk.running)
        box, pipeline = _Mailbox(), service.pipeline
        told: dict[str, Callable[..., None]] = {
            "faces": lambda entry, chosen: box.put({"event": "faces", **entry, "chosen": chosen}),
            "preview": lambda head, step, steps, seed: box.put(
                {"event": "preview", "step": step, "steps": steps, "seed": seed}, head
            ),
            "head": lambda head, seed: box.put({"event": "head"} | entry_of(service, head, "stream"), head),
        }

        async def make() -> None:
            try:
                await service.desk.run(job, lambda: making.stream_of(pipeline, picture, wishes, job, told))
            finally:
                # What the thread left before it ended is taken first.
                asyncio.get_running_loop().call_soon(box.end)

        async def work() -> bool:
            making_task = asyncio.create_task(make())
            try:
                async for facts, head in box.each():
                    await socket.send_text(json.dumps(facts, allow_nan=False))
                    if head is not None:
                        await socket.send_bytes(making.positions_bytes(head))
                await making_task
            finally:
                await ended(making_task)
            return True

        await first_of(asyncio.create_task(work()), asyncio.create_task(_cancelled(socket)))


async def _cancelled(socket: WebSocket) -> None:
    """Return when the client cancels or leaves."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        with contextlib.suppress(ValueError, TypeError):
            tree = json.loads(message.get("text") or "null")
            if isinstance(tree, dict) and tree.get("cancel") is True:
                return


@router.websocket("/v1/track")
async def track(socket: WebSocket) -> None:
    """Follow the largest face of a video, frame by frame; docs/serve.md has the messages."""
    await _converse(socket, "/v1/track", _track)


async def _track(socket: WebSocket, service: Service) -> None:
    async with _counted(service, "mirrors"):
        await _mirror(socket, service)


async def _mirror(socket: WebSocket, service: Service) -> None:
    tracker = FaceTracker(await asyncio.to_thread(lambda: service.finder))
    newest: list[tuple[int, bytes]] = []
    news = asyncio.Event()
    most, loop = min(service.settings.max_upload, _MOST_FRAME), asyncio.get_running_loop()

    async def receive() -> None:
        number = 0
        while True:
            frame = await _receive(socket, "bytes", "a frame", most, _IDLE_S)
            newest[:] = [(number, frame)]  # one that is not looked at yet is too old
            news.set()
            number += 1

    async def answer() -> None:
        while True:
            await news.wait()
            news.clear()
            number, frame = newest.pop()
            started = time.perf_counter()
            try:
                seen = await loop.run_in_executor(service.mirror_threads, _follow, tracker, frame)
            except ToposError as error:
                await _tell(socket, "error", frame=number, **problem_of(error).to_json())
                continue
            service.metrics.frames.inc()
            ms = round(1000 * (time.perf_counter() - started), 2)
            await socket.send_text(json.dumps({"event": "frame", "frame": number, "ms": ms} | _seen(seen)))

    receiving, answering = asyncio.create_task(receive()), asyncio.create_task(answer())
    try:
        await asyncio.wait({receiving, answering}, return_when=asyncio.FIRST_COMPLETED)
        for task in (receiving, answering):
            if task.done():
                task.result()
    finally:
        await ended(receiving, answering)


def _follow(tracker: FaceTracker, frame: bytes) -> TrackedFace | None:
    return tracker.track(making.picture_of(frame))


def _seen(face: TrackedFace | None) -> dict[str, Any]:
    if face is None:
        return {"faces": 0, "expression": None, "pose": None, "box": None}
    x, y, width, height = face.raw.box
    return {
        "faces": 1,
        # The tracker does not see the tongue.
        "expression": dict.fromkeys(ARKIT, 0.0)
        | {name: round(weight, 4) for name, weight in face.expression.items()},
        "pose": [round(face.yaw, 2), round(face.pitch, 2), round(face.roll, 2)],
        "box": [round(x, 1), round(y, 1), round(width, 1), round(height, 1)],
    }
