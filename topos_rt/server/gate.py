"""What every request passes before a route sees it: who calls, how much is sent, and how long it may take."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import secrets
import time
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from topos_rt.server.problems import MEDIA_TYPE, Problem
from topos_rt.server.service import Service
from topos_rt.server.settings import ACCESS_LOG

access = logging.getLogger(ACCESS_LOG)
_OPEN = {"/healthz", "/readyz"}  # those who watch a service have no key
_PROTOCOL = (
    "bearer."  # what a browser, which can set no header, puts before the key in a WebSocket's protocol
)
_UNSEEN = "(none)"  # the route of a request that fits none
_OVERHEAD = 65_536  # bytes of a body beside its file: the fields and their borders
_BASE64 = 4 / 3
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WS"}


class Gate:
    """Checks host, origin and key, limits bodies in size and time, and logs and counts every answer."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        seen = _Seen(scope, send)
        body = _Body(self._service, scope, receive)
        try:
            self._check(scope)
            if scope["type"] == "http":
                body.check_length()
                await self._app(scope, body.receive, seen.send)
            else:
                await self._app(scope, receive, seen.send)
        except Problem as problem:
            if seen.status:
                raise
            self._service.metrics.problems.labels(problem.slug).inc()
            await refuse(scope, seen.send, problem)
        finally:
            body.release()
            self._note(scope, seen, body)

    def _check(self, scope: Scope) -> None:
        headers = _headers(scope)
        settings = self._service.settings
        host = headers.get("host", "")
        if not _called(host, settings.hosts):
            raise Problem(
                "wrong-host",
                "the host",
                got=repr(host)[:80],
                expected="an address, localhost, or a name that the service was given",
                fix="topos-rt serve --allow-host NAME",
            )
        origin = headers.get("origin")
        own = headers.get("sec-fetch-site") in (None, "same-origin", "none")
        reads = scope.get("method") in ("GET", "HEAD")  # a link to the page is no harm
        foreign = not own and not reads if origin is None else _netloc(origin) != host.lower()
        if foreign and origin not in settings.origins:
            raise Problem(
                "foreign-page",
                "the page that asks",
                got="one of another site" if origin is None else repr(origin)[:80],
                expected="one that this service served",
                fix="topos-rt serve --allow-origin ORIGIN, where the page is yours",
            )
        key = settings.api_key
        # A browser that asks whether its page may ask shows no key yet.
        free = scope["path"] in _OPEN or scope.get("method") == "OPTIONS"
        if key is not None and not free and not secrets.compare_digest(_shown(headers), key.encode()):
            raise Problem(
                "no-key",
                "the API key",
                got="none, or a wrong one",
                expected="Authorization: Bearer KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _note(self, scope: Scope, seen: _Seen, body: _Body) -> None:
        # The template and not the path, which may hold the id of a head, or anything else.
        route = getattr(scope.get("route"), "path", _UNSEEN)
        method = scope.get("method", "WS")
        method = method if method in _METHODS else "(other)"  # clients may make up as many as they like
        seconds = time.perf_counter() - seen.started
        metrics = self._service.metrics
        metrics.requests.labels(route, method, str(seen.status or 499)).inc()
        if scope["type"] == "http":
            metrics.seconds.labels(route).observe(seconds)
        access.info(
            json.dumps(
                {
                    "request": seen.name,
                    "client": (scope.get("client") or ("",))[0],
                    "method": method,
                    "route": route,
                    "status": seen.status or 499,  # as nginx has it: the client has gone
                    "ms": round(1000 * seconds, 1),
                    "bytes_in": body.taken,
                    "bytes_out": seen.bytes,
                }
            )
        )


class _Seen:
    """Watches the answer of a request, and gives it its name."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.name = secrets.token_hex(8)
        self.started = time.perf_counter()
        self.status = 0
        self.bytes = 0
        self._scope = scope
        self._send = send

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            extra = [(b"x-request-id", self.name.encode()), (b"x-content-type-options", b"nosniff")]
            message = {**message, "headers": [*message.get("headers", ()), *extra]}
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close" and not self.status:  # which is all that Starlette says of no route
            self.status = 404
            await refuse(self._scope, self.send, Problem("not-found", "this address, for a WebSocket"))
            return
        self.bytes += len(message.get("body") or message.get("bytes") or message.get("text") or b"")
        await self._send(message)


class _Body:
    """The body of a request, as it comes in: no larger, no slower and no more at once than is allowed."""

    def __init__(self, service: Service, scope: Scope, receive: Receive) -> None:
        self._service = service
        self._receive = receive
        self._headers = _headers(scope) if scope["type"] == "http" else {}
        self._ends = time.monotonic() + service.settings.body_s
        self._whole = False
        self._most = service.settings.max_upload + _OVERHEAD
        if "json" in self._headers.get("content-type", ""):
            self._most = int(service.settings.max_upload * _BASE64) + _OVERHEAD
        self.taken = 0

    def check_length(self) -> None:
        """Raise Problem for a body that says it is too large, before any of it is read."""
        told = self._headers.get("content-length", "")
        if told.isascii() and told.isdigit() and int(told[:20]) > self._most:
            raise self._too_large(f"{int(told[:20]):,} bytes")

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            left = max(0.0, self._ends - time.monotonic())
            message = await asyncio.wait_for(self._receive(), left)
        except asyncio.TimeoutError:
            got = f"{self.taken:,} bytes in {self._service.settings.body_s:g} s"
            raise Problem("too-slow", "the body", got=got, headers={"Connection": "close"}) from None
        if message["type"] != "http.request":
            self._whole = True
            return message
        count = len(message.get("body", b""))
        self.taken += count
        self._service.uploads += count
        self._whole = not message.get("more_body", False)
        if self.taken > self._most:
            raise self._too_large(f"more than {self._most:,} bytes")
        if self._service.uploads > self._service.settings.held_uploads:
            raise Problem(
                "busy",
                "uploads",
                got=f"{self._service.uploads:,} bytes at once",
                expected=f"at most {self._service.settings.held_uploads:,}",
                headers={"Retry-After": "2"},
            )
        return message

    def release(self) -> None:
        self._service.uploads -= self.taken

    def _too_large(self, got: str) -> Problem:
        most = f"a file of at most {self._service.settings.max_upload:,} bytes"
        return Problem("too-large", "the body", got=got, expected=most, fix="send a smaller picture")


async def refuse(scope: Scope, send: Send, problem: Problem) -> None:
    """Answer a request, or the opening of a WebSocket, with a problem."""
    data = problem.to_bytes()
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(data)), **problem.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    prefix = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": problem.title})
            return
        prefix = "websocket.http.response"
    await send({"type": f"{prefix}.start", "status": problem.status, "headers": raw})
    await send({"type": f"{prefix}.body", "body": data})


def _headers(scope: Scope) -> Mapping[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _netloc(origin: str) -> str:
    """Return host and port of an origin, lower case, or "" for one that has none, such as null."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _called(host: str, names: Collection[str]) -> bool:
    """Return whether a Host header is one of ours.

    Whoever makes a browser believe that a name of theirs is this machine's (DNS rebinding) shows that name.
    Addresses cannot be made up in this way.
    """
    allowed = {name.lower() for name in names}
    if "*" in allowed:
        return True
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost") or name in allowed:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _shown(headers: Mapping[str, str]) -> bytes:
    """Return the key that a client shows, or b""."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip().encode("latin-1")
    if "x-api-key" in headers:
        return headers["x-api-key"].encode("latin-1")
    for part in headers.get("sec-websocket-protocol", "").split(","):
        if part.strip().startswith(_PROTOCOL):
            return part.strip().removeprefix(_PROTOCOL).encode("latin-1")
    return b""
