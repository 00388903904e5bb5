"""What a service holds while it runs: the model, loaded once, the workers and the kept heads."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from topos_rt.errors import ToposError
from topos_rt.faces.finder import FaceFinder
from topos_rt.pipeline import HeadPipeline
from topos_rt.server.metrics import Metrics
from topos_rt.server.problems import Problem
from topos_rt.server.results import InMemory, Results
from topos_rt.server.results_folder import InFolder
from topos_rt.server.settings import LOG, Settings
from topos_rt.server.work import Desk, Job

log = logging.getLogger(LOG)
_SWEEP_S = 5.0
_END_S = 10.0  # in which threads that were told to stop have to end


class Service:
    """The state of one application. Made without work; `start` loads the model in a thread."""

    def __init__(self, settings: Settings, pipeline: HeadPipeline | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics(self)
        self.failure: BaseException | None = None  # why the model could not be loaded
        self.draining = False
        self.uploads = 0  # bytes of bodies that are held now
        self.mirrors = 0  # faces that are followed now
        self.streams = 0  # open WebSockets of heads that grow
        self._given = pipeline
        self._pipeline: HeadPipeline | None = None
        self._finder: FaceFinder | None = None
        self._finder_lock = threading.Lock()
        self._results: Results | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.desk = Desk(self.settings.workers, self.settings.queue)
        # Files have a thread of their own: whoever fetches a head does not wait until others have theirs.
        self.files = Desk(1, self.settings.queue)
        self.mirror_threads = ThreadPoolExecutor(max(1, self.settings.mirrors), "topos-rt-mirror")

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

    def kept_now(self) -> tuple[int, int]:
        """Return the number of kept heads and their bytes."""
        return (0, 0) if self._results is None else (self._results.count, self._results.size)

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
        if self._given is not None:
            self._take(self._given)
        else:
            self._tasks.append(asyncio.create_task(self._load()))
        self._tasks.append(asyncio.create_task(self._sweep()))

    async def _load(self) -> None:
        started = time.perf_counter()
        try:
            await asyncio.to_thread(lambda: self._take(self._open()))
            await asyncio.to_thread(self._warm_mirrors)
        except (ToposError, OSError, MemoryError) as error:
            log.error("cannot load the model: %s", error)
            self.failure = error
            return
        log.info("model %s is ready after %.1f s", self.settings.model, time.perf_counter() - started)

    def _warm_mirrors(self) -> None:
        if self.settings.page and self.settings.mirrors:
            self.finder.warm_up()

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
        if settings.results is not None:
            self._results = InFolder(settings.results, settings.keep_s, settings.kept_bytes)
        else:
            shared = (bundle.topology, bundle.rig, bundle.parts)
            self._results = InMemory(settings.keep_s, settings.kept_bytes, shared)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP_S, self.settings.keep_s))
            if self._results is None:
                continue
            try:
                await asyncio.to_thread(self._results.sweep)
            except OSError as error:  # of a directory that has gone: heads are lost, but the service goes on
                log.error("cannot look through the kept heads: %s", error)

    async def close(self) -> None:
        """Stop the work and free the model."""
        self.draining = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(self.desk.close(_END_S), self.files.close(_END_S))
        self.mirror_threads.shutdown(cancel_futures=True)
        if self._pipeline is not None and self._given is None:
            self._pipeline.close()
        if self._finder is not None:
            self._finder.close()
