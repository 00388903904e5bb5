"""The queue before the workers: bounded, with deadlines, and without work that nobody waits for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import needs

needs.module("fastapi")

from starlette.testclient import TestClient

from tests.server.conftest import Opens
from tests.server.test_bad_input import refused
from topos_rt import Cancelled
from topos_rt.server import making
from topos_rt.server.problems import Problem
from topos_rt.server.work import Desk, Job


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.005)


class Blocked:
    """Work that goes on until it is let go or told to stop."""

    def __init__(self) -> None:
        self.started: list[Job] = []
        self.stopped: list[Job] = []
        self.free = threading.Event()

    def __call__(self, *arguments: Any) -> Any:
        (job,) = (argument for argument in arguments if isinstance(argument, Job))
        self.started.append(job)
        while not self.free.wait(0.002):
            if not job.check():
                self.stopped.append(job)
                job.require()
        return {"width": 1, "height": 1, "faces": []}


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Blocked]:
    work = Blocked()
    monkeypatch.setattr(making, "faces_of", work)
    yield work
    work.free.set()


def service(client: TestClient) -> Any:
    app: Any = client.app
    return app.state.service


def test_the_queue_is_bounded(opens: Opens, blocked: Blocked, portrait: bytes) -> None:
    client, answers = opens(workers=2, queue=3), []

    def ask() -> None:
        answers.append(client.post("/v1/faces", files={"image": portrait}))

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    until(lambda: service(client).desk.waiting == 3)
    assert len(blocked.started) == 2  # and no more threads than workers
    assert client.get("/readyz").json() == {"status": "ready", "waiting": 3, "running": 2}
    answer = client.post("/v1/faces", files={"image": portrait})
    refused(answer, 429, "busy", "the queue: got 3 waiting; expected at most 3")
    assert int(answer.headers["retry-after"]) >= 1
    blocked.free.set()
    for thread in threads:
        thread.join(20)
    assert [answer.status_code for answer in answers] == [200] * 5
    until(lambda: service(client).desk.running == 0)
    assert client.post("/v1/faces", files={"image": portrait}).status_code == 200


def test_many_requests_at_once_are_answered(opens: Opens, blocked: Blocked, portrait: bytes) -> None:
    client, answers = opens(workers=1, queue=4), []

    def ask() -> None:
        answers.append(client.post("/v1/faces", files={"image": portrait}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(60)]
    for thread in threads:
        thread.start()
    until(lambda: len(answers) == 55)
    assert set(answers) == {429}
    blocked.free.set()
    for thread in threads:
        thread.join(20)
    assert sorted(answers) == [200] * 5 + [429] * 55
    assert service(client).uploads == 0


def test_the_deadline_of_work(opens: Opens, blocked: Blocked, portrait: bytes) -> None:
    client = opens(workers=1, deadline_s=1)
    refused(client.post("/v1/faces", files={"image": portrait}), 504, "deadline", "at work")
    until(lambda: len(blocked.stopped) == 1)  # the thread is told, and free again
    blocked.free.set()
    assert client.post("/v1/faces", files={"image": portrait}).status_code == 200


def test_the_deadline_in_the_queue(opens: Opens, blocked: Blocked, portrait: bytes) -> None:
    client, answers = opens(workers=1, deadline_s=1), []
    blocked.free.clear()
    job = Job(60)
    asking = threading.Thread(
        target=lambda: answers.append(client.portal.call(service(client).desk.run, job, lambda: blocked(job)))  # type: ignore[union-attr]
    )
    asking.start()
    until(lambda: blocked.started)
    refused(client.post("/v1/faces", files={"image": portrait}), 504, "deadline", "waiting for a worker")
    blocked.free.set()
    asking.join(20)
    assert len(blocked.started) == 1 and len(answers) == 1


def test_a_client_that_leaves_stops_its_work() -> None:
    """Over HTTP, seen from within: the server says that the client has gone."""

    async def run() -> None:
        desk, blocked, job = Desk(1, 0), Blocked(), Job(60)
        task = asyncio.create_task(desk.run(job, lambda: blocked(job)))
        while not blocked.started:
            await asyncio.sleep(0.002)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert job.stopped and not desk.waiting
        assert desk.running == 1  # the thread counts as long as it runs
        while desk.running:
            await asyncio.sleep(0.002)
        assert blocked.stopped == [job]
        assert await desk.run(Job(60), lambda: 5) == 5
        await desk.close(5)

    asyncio.run(run())


def test_a_client_that_leaves_the_queue_takes_no_place() -> None:
    async def run() -> None:
        desk, blocked, job = Desk(1, 1), Blocked(), Job(60)
        first = asyncio.create_task(desk.run(job, lambda: blocked(job)))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(desk.run(Job(60), lambda: 1))
        await asyncio.sleep(0.01)
        assert desk.waiting == 1
        with pytest.raises(Problem) as caught:
            desk.admit()
        assert caught.value.slug == "busy"
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert desk.waiting == 0
        blocked.free.set()
        await first
        assert await desk.run(Job(60), lambda: 2) == 2
        await desk.close(5)

    asyncio.run(run())


def test_as_many_are_taken_at_once_as_there_are_places() -> None:
    async def run() -> None:
        desk, blocked = Desk(2, 3), Blocked()
        jobs = [Job(60) for _ in range(6)]
        tasks = [asyncio.create_task(desk.run(job, lambda job=job: blocked(job))) for job in jobs]  # type: ignore[misc]
        await asyncio.sleep(0)
        assert (desk.running, desk.waiting) == (2, 3)
        await asyncio.sleep(0.01)
        blocked.free.set()
        told = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(each, Problem) for each in told] == [False] * 5 + [True]
        await desk.close(5)

    asyncio.run(run())


def test_work_that_fails_frees_its_place() -> None:
    async def run() -> None:
        desk = Desk(1, 0)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await desk.run(Job(60), lambda: 1 // 0)
        assert (desk.running, desk.waiting) == (0, 0)
        await desk.close(5)

    asyncio.run(run())


def test_a_desk_that_closes_stops_its_jobs() -> None:
    async def run() -> None:
        desk, blocked, job = Desk(2, 0), Blocked(), Job(60)
        task = asyncio.create_task(desk.run(job, lambda: blocked(job)))
        await asyncio.sleep(0.01)
        await desk.close(20)
        assert blocked.stopped == [job] and desk.running == 0
        with pytest.raises(Problem):
            await task

    asyncio.run(run())


def test_a_job_past_its_deadline_is_over() -> None:
    job = Job(0)
    assert job.left == 0 and not job.check()
    with pytest.raises(Cancelled):
        job.require()


@pytest.mark.parametrize("route", ["/v1/heads", "/v1/faces", "/v1/retopologize"])
def test_a_client_that_leaves_over_http(opens: Opens, blocked: Blocked, portrait: bytes, route: str,
                                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Spoken in ASGI, since no client of ours hangs up: the body comes whole, then `http.disconnect`."""
    monkeypatch.setattr(making, "heads_of", blocked)
    monkeypatch.setattr(making, "scan_of", blocked)
    client = opens(workers=1)
    field = "scan" if route.endswith("ze") else "image"
    head = f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="a"\r\n\r\n'
    body, sent = head.encode() + portrait + b"\r\n--x--\r\n", []

    async def call() -> None:
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            while not blocked.started:
                await asyncio.sleep(0.002)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")]
        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": route, "headers": headers,
                                 "raw_path": route.encode(), "query_string": b"", "root_path": "",
                                 "http_version": "1.1", "scheme": "http"}  # fmt: skip
        app: Any = client.app
        await app(scope, receive, send)

    client.portal.call(call)  # type: ignore[union-attr]
    until(lambda: blocked.stopped == blocked.started and len(blocked.started) == 1)
    until(lambda: service(client).desk.running == 0)
    assert service(client).results.count == 0 and service(client).uploads == 0
