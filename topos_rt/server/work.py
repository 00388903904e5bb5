"""The workers of a service: a bounded queue before threads that can be told to stop."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from topos_rt.errors import Cancelled
from topos_rt.server.problems import Problem

T = TypeVar("T")
_FIRST_GUESS_S = 2.0  # of how long a job takes, before one is done
_MEMORY = 0.8  # the share of the past in the running mean of that time


class Job:
    """One request's work. `check` is the callback of a pipeline's call."""

    def __init__(self, seconds: float) -> None:
        self.ends = time.monotonic() + seconds
        self._stopped = threading.Event()

    @property
    def left(self) -> float:
        """The seconds until the deadline, 0 at least."""
        return max(0.0, self.ends - time.monotonic())

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        """Ask the work to end at its next stage or step; nobody waits for it any more."""
        self._stopped.set()

    def check(self, progress: object = None) -> bool:
        """Return whether to go on."""
        return not self._stopped.is_set() and time.monotonic() < self.ends

    def require(self) -> None:
        """Raise Cancelled where there is no point in going on."""
        if not self.check():
            raise Cancelled("stopped", got="a client that has gone, or a deadline that has passed")


class Desk:
    """Hands jobs to threads, some at a time; a bounded number waits, and the rest is turned away."""

    def __init__(self, workers: int, waiting: int) -> None:
        self._workers = workers
        self._most = waiting
        self._places = asyncio.Semaphore(workers)
        self._threads = ThreadPoolExecutor(workers, "topos-rt-worker")
        self._jobs: set[Job] = set()
        self._seconds = _FIRST_GUESS_S
        self.waiting = 0
        self.running = 0

    def admit(self) -> None:
        """Raise Problem where a job would be turned away now, before its body is read."""
        if self._places.locked() and self.waiting >= self._most:
            seconds = math.ceil(self._seconds * (self.waiting + self.running) / self._workers)
            raise Problem(
                "busy",
                "the queue",
                got=f"{self.waiting} waiting",
                expected=f"at most {self._most}",
                fix=f"try again in {max(1, seconds)} s",
                headers={"Retry-After": str(max(1, seconds))},
            )

    async def run(self, job: Job, work: Callable[[], T]) -> T:
        """Run `work` in a thread once there is one, and return what it returns.

        Raises Problem where the queue is full or the deadline passes, and what `work` raises. Where the
        caller is cancelled, the job is told to stop. A thread counts as taken until its work has ended.
        """
        self.admit()
        if self._places.locked():
            await self._wait(job)
        else:
            await self._places.acquire()  # at once, so that nobody counts as waiting who does not wait
        self.running += 1
        self._jobs.add(job)
        started = time.monotonic()
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)

        def ended(done: asyncio.Future[T]) -> None:
            self.running -= 1
            self._jobs.discard(job)
            self._places.release()
            if not done.cancelled() and done.exception() is None:
                self._seconds = _MEMORY * self._seconds + (1 - _MEMORY) * (time.monotonic() - started)

        future.add_done_callback(ended)
        try:
            return await asyncio.wait_for(asyncio.shield(future), job.left)
        except asyncio.TimeoutError:
            raise _late("at work") from None
        except Cancelled:
            raise _late("at work") from None
        finally:
            job.stop()

    async def _wait(self, job: Job) -> None:
        self.waiting += 1
        try:
            await asyncio.wait_for(self._places.acquire(), job.left)
        except asyncio.TimeoutError:
            raise _late("waiting for a worker") from None
        finally:
            self.waiting -= 1

    def stop(self) -> None:
        """Tell every job to stop."""
        for job in list(self._jobs):
            job.stop()

    async def close(self, seconds: float) -> None:
        """Stop every job, and wait for the threads for so many seconds at most."""
        self.stop()
        ends = time.monotonic() + seconds
        while self.running and time.monotonic() < ends:
            await asyncio.sleep(0.02)
        self._threads.shutdown(wait=not self.running, cancel_futures=True)


def _late(where: str) -> Problem:
    return Problem(
        "deadline",
        "the deadline",
        got=f"a request that was still {where}",
        fix="try again later, or ask for less: a faster preset, fewer seeds",
    )


async def first_of(work: asyncio.Task[T], left: asyncio.Task[None]) -> T | None:
    """Return what `work` returns, or None where the client left first; the other task is cancelled."""
    try:
        await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        await ended(work, left)


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended. What they raise is passed over."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # which asyncio would complain of otherwise
