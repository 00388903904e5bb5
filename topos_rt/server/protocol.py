"""HTTP/1.1 as uvicorn speaks it, with limits for clients that send or read slowly, or are too many."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from topos_rt.server.problems import MEDIA_TYPE, Problem

HEAD_S = 10.0  # in which the head of a request has to come, and what is left of a refused body
STALL_S = 20.0  # in which a client has to take LEAST_TAKEN bytes of an answer
LEAST_TAKEN = 16_384
_TOO_SLOW = Problem("too-slow", "the head of a request", got=f"no whole one in {HEAD_S:g} s")
_TOO_MANY = Problem("not-ready", "connections", got="too many at once", headers={"Retry-After": "1"})


class Guarded(H11Protocol):
    """One connection. `most` is how many there may be; `topos_rt.server.run` sets it."""

    most = 512

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._patience: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._end_with(_TOO_MANY)
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._cancel()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent = self.transport.get_write_buffer_size()
        self._stall = self.loop.call_later(STALL_S, self._look)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def send_400_response(self, msg: str) -> None:
        self._end_with(Problem("bad-request", "the request", got="what is not HTTP/1.1, or a head too large"))

    def _watch(self) -> None:
        """Start to wait for the head of a request, unless one is being answered."""
        if self.transport.get_protocol() is not self:  # it has become a WebSocket
            return
        if self.cycle is not None and not self.cycle.response_complete:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
        elif self._patience is None and not self.transport.is_closing():
            self._patience = self.loop.call_later(HEAD_S, self._give_up)

    def _give_up(self) -> None:
        self._patience = None
        if self.transport.is_closing() or (self.cycle is not None and not self.cycle.response_complete):
            return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._end_with(_TOO_SLOW)
        else:
            self.transport.close()

    def _look(self) -> None:
        """Let go of a client that takes its answer too slowly."""
        now = self.transport.get_write_buffer_size()
        if self._unsent - now < LEAST_TAKEN:
            self.transport.abort()
            return
        self._unsent = now
        self._stall = self.loop.call_later(STALL_S, self._look)

    def _cancel(self) -> None:
        for timer in (self._patience, self._stall):
            if timer is not None:
                timer.cancel()
        self._patience = self._stall = None

    def _end_with(self, problem: Problem) -> None:
        """Answer on the wire, since no request has come through, and close."""
        body = problem.to_bytes()
        headers = {"Content-Type": MEDIA_TYPE, "Content-Length": len(body), "Connection": "close"}
        lines = [f"{name}: {value}" for name, value in (headers | problem.headers).items()]
        head = "\r\n".join([f"HTTP/1.1 {problem.status} {problem.title}", *lines, "", ""])
        self.transport.write(head.encode() + body)
        self.transport.close()
