"""Progress, cancellation and timings of one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from topos_rt.errors import Cancelled

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """What a callback is told: before every stage, and after every sampling step."""

    stage: str  # "image" (reading it), the graph that runs, "rig" (fitting it); "align", "register" of scans
    step: int  # sampling steps done
    steps: int  # of all; 0 where nothing is sampled
    item: int = 0  # which head of a batch, from 0
    items: int = 1


Callback: TypeAlias = Callable[[Progress], object]  # returning False asks to stop


class Tracker:
    """Times the stages of one head and tells a callback about them.

    The callback is not timed, and runs while the pipeline holds no lock: it may use the pipeline itself.
    """

    def __init__(
        self, callback: Callback | None = None, steps: int = 0, item: int = 0, items: int = 1
    ) -> None:
        self.timings: dict[str, float] = {}  # stage -> seconds
        self._callback = callback
        self._steps = steps
        self._item = item
        self._items = items
        self._done = 0

    @property
    def watched(self) -> bool:
        """Whether somebody is told of every step."""
        return self._callback is not None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Around the work of one stage. Raises Cancelled if the callback says so."""
        self._report(name)
        with self._timed(name):
            yield

    def each(self, name: str, steps: Iterable[T]) -> Iterator[T]:
        """`steps`, with the time each takes to come counted as the stage `name`, and progress after each."""
        self._report(name)
        iterator = iter(steps)
        while True:
            with self._timed(name):
                step = next(iterator, None)
            if step is None:
                return
            self._done += 1
            self._report(name)
            yield step

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    def _report(self, stage: str) -> None:
        if self._callback is None:
            return
        if self._callback(Progress(stage, self._done, self._steps, self._item, self._items)) is False:
            steps = f", step {self._done} of {self._steps}" if self._steps else ""
            raise Cancelled("cancelled by the callback", got=f"stage {stage}{steps}")
