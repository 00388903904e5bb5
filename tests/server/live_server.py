"""A service on a socket of its own, in a thread of the test's process."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from topos_rt.pipeline import HeadPipeline
from topos_rt.server import Settings, create_app, run


@dataclass(frozen=True)
class Running:
    """A service that answers. `said` hears all that the test's end of a connection reads."""

    port: int
    app: Any

    @property
    def service(self) -> Any:
        return self.app.state.service

    def stop(self) -> None:
        """Do what a signal does."""
        self.app.state.server.handle_exit(15, None)

    @contextlib.contextmanager
    def connected(self, *sent: bytes) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as made:
            for data in sent:
                made.sendall(data)
            yield made


@contextlib.contextmanager
def running(pipe: HeadPipeline, **settings: Any) -> Iterator[Running]:
    app = create_app(Settings(**settings), pipe)
    listening, ready = run.listen("127.0.0.1", 0), threading.Event()
    thread = threading.Thread(target=run.serve, args=(app, listening, ready.set))
    thread.start()
    try:
        assert ready.wait(30)
        yield Running(listening.getsockname()[1], app)
    finally:
        app.state.server.handle_exit(15, None)
        thread.join(60)
        assert not thread.is_alive(), "the service does not stop"


def heard(made: socket.socket) -> bytes:
    """Return all that comes until the other end closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := made.recv(65_536):
            parts.append(part)
    return b"".join(parts)
