"""Progress, cancellation and timings of one call to the pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from topos_rt.errors import Cancelled

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """What a callback receives before every stage and after every sampling step."""

    # "image" (reading it), the name of an ONNX graph, "flow_graph" (context, all steps and decoder in one
    # CUDA graph), "rig" (fitting it); for scans also "align" and "register".
    stage: str
    step: int  # sampling steps done
    steps: int  # sampling steps in all; 0 where nothing is sampled
    item: int = 0  # index of the head in a batch, from 0
    items: int = 1


Callback: TypeAlias = Callable[[Progress], object]  # what it returns asks to stop, see `cancels`


def cancels(answer: object) -> bool:
    """Return whether what a callback returned asks to stop: anything that is false but None."""
    return answer is not None and not answer


class Tracker:
    """Times the stages of one head and reports them to a callback.

    The callback is not timed. It runs while the pipeline holds no lock, so it may use the pipeline itself.
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

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the work inside as one stage. Raises Cancelled if the callback asks to stop before it."""
        self._report(name)
        with self._timed(name):
            yield

    @contextmanager
    def all_steps(self, name: str) -> Iterator[None]:
        """Time the work inside as one stage that does all sampling steps. Raises as `stage` does."""
        with self.stage(name):
            yield
        self._done = self._steps
        self._report(name)

    def each(self, name: str, steps: Iterable[T]) -> Iterator[T]:
        """Yield `steps`, timed as the stage `name`, and report after each. Raises as `stage` does."""
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

    def part(self, name: str, done: int, count: int) -> None:
        """Report that `done` of `count` parts of the stage `name` are done. Raises as `stage` does."""
        self._tell(Progress(name, done, count, self._item, self._items))

    @classmethod
    @contextmanager
    def shared(cls, trackers: Sequence[Tracker]) -> Iterator[Tracker]:
        """Yield the first of the trackers for what their heads do at once, of which each gets its share.

        Progress is told as that of the first head.
        """
        first = trackers[0]
        before = dict(first.timings)
        yield first
        for name, seconds in first.timings.items():
            spent = seconds - before.get(name, 0.0)
            share = spent / len(trackers)
            first.timings[name] = seconds - spent + share
            for other in trackers[1:]:
                if spent:
                    other.timings[name] = other.timings.get(name, 0.0) + share
        for other in trackers[1:]:
            other._done = first._done

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    def _report(self, stage: str) -> None:
        self._tell(Progress(stage, self._done, self._steps, self._item, self._items))

    def _tell(self, progress: Progress) -> None:
        if self._callback is None:
            return
        if cancels(self._callback(progress)):
            steps = f", step {progress.step} of {progress.steps}" if progress.steps else ""
            raise Cancelled("cancelled by the callback", got=f"stage {progress.stage}{steps}")
