"""Run a service: a socket, uvicorn, signals, and the browser."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from topos_rt.errors import InputError, ToposError
from topos_rt.server.protocol import Guarded
from topos_rt.server.service import Service
from topos_rt.server.settings import ACCESS_LOG, LOG

_HEADER_BYTES = 16_384
_KEEP_ALIVE_S = 10
_BACKLOG = 256
_OWN_FILES = 128  # that the service itself may have open


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one. Raises InputError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
    except OSError as error:
        raise InputError(
            f"--host {host}", got=error.strerror, expected="an address of this machine"
        ) from error
    made = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # there it would let two services share a port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        fix = "choose another with --port, or --port 0 for a free one"
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"port {port}", got="one that another program listens on", fix=fix) from error
        if error.errno == errno.EACCES:
            raise InputError(f"port {port}", got="one that needs the system's permission", fix=fix) from error
        raise InputError(
            f"{host}, port {port}", got=error.strerror, expected="one of this machine's"
        ) from error
    return made


def address_of(listening: socket.socket) -> str:
    """Return where a browser on this machine finds the service."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if listening.family == socket.AF_INET6 else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_local(listening: socket.socket) -> bool:
    """Return whether only this machine reaches the socket."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


class _Server(uvicorn.Server):
    """Stops on the first SIGINT or SIGTERM, gives up on the second, and ends with exit code 0."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.draining = True
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(app: FastAPI, listening: socket.socket, started: Callable[[], None] | None = None) -> None:
    """Serve an application on a socket until a signal comes. Raises what kept the model from loading.

    started: called once the model is ready.
    """
    service: Service = app.state.service
    protocol = type("Limited", (Guarded,), {"most": connections(service.settings.connections)})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="websockets-sansio",
        ws_max_size=service.settings.max_upload,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(service.settings.drain_s)),
        backlog=_BACKLOG,
    )
    app.state.server = server = _Server(config, service)

    async def run() -> None:
        watching = asyncio.create_task(_watch(service, server, started))
        try:
            await server.serve(sockets=[listening])
        finally:
            watching.cancel()

    asyncio.run(run())
    if service.failure is not None:
        if isinstance(service.failure, ToposError):
            raise service.failure
        raise InputError("the model", got=service.failure) from service.failure


async def _watch(service: Service, server: _Server, started: Callable[[], None] | None) -> None:
    while not service.ready and service.failure is None:
        await asyncio.sleep(0.05)
    if service.failure is not None:
        server.should_exit = True
    elif started is not None:
        await asyncio.to_thread(started)


def connections(wished: int) -> int:
    """Return how many connections there may be at once: no more than the system lets a process open."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit
        return wished
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(2, min(wished, allowed - _OWN_FILES))


def open_browser(address: str) -> None:
    """Open a page in the user's browser, if there is one."""
    with contextlib.suppress(webbrowser.Error, OSError):
        webbrowser.open(address)


@contextlib.contextmanager
def logging_to_stderr(quiet: bool) -> Iterator[None]:
    """Let the service's log go to standard error: one line of JSON for each request, unless quiet."""
    dated, plain = logging.StreamHandler(), logging.StreamHandler()
    dated.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    plain.setFormatter(logging.Formatter("%(message)s"))
    dated.addFilter(_means_something)
    wanted = {
        LOG: (dated, logging.WARNING),
        "uvicorn.error": (dated, logging.WARNING),
        ACCESS_LOG: (plain, logging.WARNING if quiet else logging.INFO),
    }
    loggers = {name: logging.getLogger(name) for name in wanted}
    before = {name: (logger.level, logger.propagate) for name, logger in loggers.items()}
    for name, (handler, level) in wanted.items():
        loggers[name].addHandler(handler)
        loggers[name].setLevel(level)
        loggers[name].propagate = False
    try:
        yield
    finally:
        for name, (handler, _) in wanted.items():
            loggers[name].removeHandler(handler)
            level, loggers[name].propagate = before[name]
            loggers[name].setLevel(level)


def _means_something(record: logging.LogRecord) -> bool:
    """Return whether a line is news: uvicorn takes a WebSocket that was refused for a mistake of ours."""
    return "without completing handshake" not in record.getMessage()
