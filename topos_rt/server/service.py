"""What a service holds while it runs: the model, loaded once, the workers and the kept heads."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

from topos_rt.engines.contract import MAX_THREADS
from topos_rt.errors import ToposError
from topos_rt.faces.finder import FaceFinder
from topos_rt.pipeline import HeadPipeline
from topos_rt.server.metrics import Metrics
from topos_rt.server.problems import Problem
from topos_rt.server.results import InMemory, Results
from topos_rt.server.settings import Settings
from topos_rt.server.work import Desk, Job

log = logging.getLogger("topos_rt.server")
_SWEEP_S = 5.0
__all__ = ["MAX_THREADS", "Service"]


class Service:
    """The state of one application. Made without work; `start` loads the model in a thread."""

    def __init__(self, settings: Settings, pipeline: HeadPipeline | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics(self)
        self.failure: BaseException | None = None  # why the model could not be loaded
        self.draining = False
        self.uploads = 0  # bytes of bodies that are held now
        self.mirrors = 0
        self._given = pipeline
        self._pipeline: HeadPipeline | None = None
        self._finder: FaceFinder | None = None
        self._finder_lock = threading.Lock()
        self._results: Results | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.desk: Desk
        self.failed = asyncio.Event()

    @property
    def ready(self) -> bool:
        return self._results is not None and not self.draining

    @property
    def pipeline(self) -> HeadPipeline:
        """The loaded model. Raises Problem where there is none yet, or none any more."""
        self.require_ready()
        assert self._pipeline is not None
        return self._pipeline

    @property
    def results(self) -> Results:
        self.require_ready()
        assert self._results is not None
        return self._results

    @property
    def kept(self) -> Results | None:
        return self._results

    def require_ready(self) -> None:
        """Raise Problem before the model is loaded, and where it could not be."""
        if self.failure is not None:
            raise Problem("failure", "the model could not be loaded", fix="see the service's log")
        if self._results is None:
            raise Problem(
                "not-ready", "the model", got="one that is still loading", headers={"Retry-After": "1"}
            )

    def require_open(self) -> None:
        """Raise Problem for new work where the service is about to stop or not ready yet."""
        if self.draining:
            fix = "send it again: another instance will take it"
            raise Problem(
                "draining", "the service", got="an order to stop", fix=fix, headers={"Retry-After": "1"}
            )
        self.require_ready()

    def job(self) -> Job:
        return Job(self.settings.deadline_s)

    @property
    def finder(self) -> FaceFinder:
        """The finder of the mirrors, which has its own engines, so that they do not wait behind heads."""
        with self._finder_lock:
            if self._finder is None:
                self._finder = FaceFinder.open(self.settings.backend, self.settings.threads)
            return self._finder

    async def start(self) -> None:
        """Make the workers, and load the model in the background."""
        self.desk = Desk(self.settings.workers, self.settings.queue)
        if self._given is not None:
            self._take(self._given)
        else:
            self._tasks.append(asyncio.create_task(self._load()))
        self._tasks.append(asyncio.create_task(self._sweep()))

    async def _load(self) -> None:
        started = time.perf_counter()
        try:
            pipeline = await asyncio.to_thread(self._open)
        except (ToposError, OSError, MemoryError) as error:
            log.error("cannot load the model: %s", error)
            self.failure = error
            self.failed.set()
            return
        self._take(pipeline)
        log.info("model %s is ready after %.1f s", self.settings.model, time.perf_counter() - started)

    def _open(self) -> HeadPipeline:
        own: dict[str, Any] = {"precision": self.settings.precision}
        pipeline = HeadPipeline.open(
            self.settings.model,
            self.settings.backend,  # type: ignore[arg-type]
            self.settings.threads,
            **own,
        )
        pipeline.warm_up()
        return pipeline

    def _take(self, pipeline: HeadPipeline) -> None:
        self._pipeline = pipeline
        settings, bundle = self.settings, pipeline.bundle
        shared = (bundle.topology, bundle.rig, bundle.parts)
        self._results = InMemory(settings.keep_s, settings.kept_bytes, shared)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP_S, self.settings.keep_s))
            if self._results is not None:
                await asyncio.to_thread(self._results.sweep)

    async def close(self) -> None:
        """Stop the work and free the model."""
        self.draining = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.desk.close(self.settings.drain_s)
        if self._pipeline is not None and self._given is None:
            self._pipeline.close()
        if self._finder is not None:
            self._finder.close()
