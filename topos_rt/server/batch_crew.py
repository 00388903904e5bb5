"""The workers of a batch, as processes of this machine.

Neither `ProcessPoolExecutor` nor `multiprocessing.Pool` is used: when one worker dies, the first fails all
work of all others, and the second waits for ever.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Protocol

from topos_rt.errors import ToposError
from topos_rt.server.batch_work import Maker, Setup, Task
from topos_rt.support.boundary import ending, occupy_standard_streams, terminated_cleanly
from topos_rt.support.closing import Closing

READY, MADE, DIED, REFUSED = "ready", "made", "died", "refused"
_LAST_WORDS = "last words"
_ENDING_S = 5.0  # for a worker that was asked to end
# What the libraries below NumPy read once, when they are loaded.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Event:
    """What happened to a worker.

    READY comes with its `About`, MADE with rows, DIED with the reason, REFUSED with why it cannot work.
    """

    worker: int
    kind: str
    value: Any = None


class Crew(Protocol):
    """Workers that turn tasks into rows. One that dies is replaced by another, with a number of its own."""

    size: int
    kind: str  # for people

    def give(self, worker: int, task: Task) -> None:
        """Give a task to a worker that is ready. It answers with MADE or DIED."""

    def wait(self, seconds: float) -> list[Event]:
        """Return what happened, at once if something has, else as soon as it does or the time is over."""

    def close(self) -> None:
        """End all workers, whatever they do."""


class Processes(Closing):
    """Workers in processes of their own, which are spawned, since forks of threads may hang."""

    kind = "processes"

    def __init__(self, setup: Setup, header: str, size: int) -> None:
        self.size = size
        self._given = setup, header
        self._members: dict[int, _Member] = {}
        self._hired = 0
        for _ in range(size):
            self._hire()

    def give(self, worker: int, task: Task) -> None:
        with contextlib.suppress(OSError):  # it has died, which `wait` will notice
            self._members[worker].pipe.send(task)

    def wait(self, seconds: float) -> list[Event]:
        by_pipe = {member.pipe: number for number, member in self._members.items()}
        return [self._heard(by_pipe[pipe]) for pipe in wait_for(list(by_pipe), seconds)]  # type: ignore[index]

    def close(self) -> None:
        for member in self._members.values():
            member.pipe.close()
            member.process.terminate()
        for member in self._members.values():
            member.process.join(_ENDING_S)
            if member.process.is_alive():
                member.process.kill()
                member.process.join()
        self._members = {}

    def _heard(self, number: int) -> Event:
        member, words = self._members[number], ""
        try:
            kind, value = member.pipe.recv()
            if kind != _LAST_WORDS:
                return Event(number, kind, value)
            words = value
        except (EOFError, OSError):  # it ended, maybe in the middle of an answer
            pass
        member.process.join(_ENDING_S)
        if member.process.is_alive():
            member.process.kill()
            member.process.join()
        code = member.process.exitcode or 0
        member.pipe.close()
        del self._members[number]
        self._hire()
        return Event(number, DIED, words or _how_it_ended(code))

    def _hire(self) -> None:
        self._hired += 1
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, *self._given), name=f"topos-rt-{self._hired}")
        with _threads(self._given[0].engines.get("threads")):
            process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self._members[self._hired] = _Member(process, ours)


@dataclass(frozen=True)
class _Member:
    process: BaseProcess
    pipe: Connection


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let processes that start meanwhile use so many threads in NumPy, unless the user said how many."""
    names = [name for name in _THREADS if count is not None and name not in os.environ]
    os.environ.update({name: str(count) for name in names})
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = ", which is what a system does that runs out of memory" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"


def _work(pipe: Connection, setup: Setup, header: str) -> None:
    """Be a worker: open the model, then answer each task, until the pipe is closed."""
    occupy_standard_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal interrupts all processes; the leader ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with terminated_cleanly(), _LastWords(pipe), Maker(setup, header) as maker:
        try:
            pipe.send((READY, maker.open()))
        except ToposError as error:
            pipe.send((REFUSED, error))
            return
        with contextlib.suppress(EOFError):
            while True:
                pipe.send((MADE, maker.make(pipe.recv())))


class _LastWords:
    """Tells the leader what ends this process, if that is an exception."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        with contextlib.suppress(OSError):  # the leader has gone
            self._pipe.send((_LAST_WORDS, ending(error, "topos-rt batch", debug=False).message))
        return True


def _end_with_parent() -> None:
    """End this process when its parent has ended, also in the middle of a picture."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
