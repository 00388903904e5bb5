"""The leader of a batch: what is left to do, who does it, and what became of it.

Each head is made once: this process alone writes the journal, takes one answer for each picture, and gives a
picture to a second worker only when the first has died. A head that was written by a worker which died before
it could say so is made again, and replaces itself with the same bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from topos_rt.errors import BackendError, ToposError
from topos_rt.model.bundle import Bundle
from topos_rt.server.batch_crew import DIED, MADE, READY, REFUSED, Crew, Event
from topos_rt.server.batch_inputs import Picture, Pictures, unique_names
from topos_rt.server.batch_journal import Journal
from topos_rt.server.batch_results import Results
from topos_rt.server.batch_work import About, Row, Setup, Task, check_wanted, failed

MOST_ATTEMPTS = 2
_MOST_STILLBORN = 3  # workers in a row that died while they loaded the model
_WAIT_S = 1.0
_LEFT_OVER = re.compile(r"\.topos-rt-[0-9a-f]{12}\.tmp")


@dataclass
class Summary:
    """What a run has done so far."""

    pictures: int = 0  # looked at, of all
    of: int = 0  # pictures named by the inputs; one that is named twice counts twice
    made: int = 0  # heads
    failed: int = 0  # rows without a head
    skipped: int = 0  # heads that were there already
    deaths: int = 0  # of workers
    ready: int = 0  # workers
    about: About | None = None  # what the first worker said
    codes: set[int] = field(default_factory=set)  # exit codes of failures

    @property
    def exit_code(self) -> int:
        """That of `topos-rt generate`: 1 if a failure was ours, else 2 if a picture was of no use, else 0."""
        return 1 if 1 in self.codes else max(self.codes, default=0)


@dataclass(frozen=True)
class Telling:
    """Who hears of what happens. None of it may raise."""

    row: Callable[[Row], object]  # every head and every failure
    progress: Callable[[Summary], object]
    note: Callable[[str], object]  # a remark for people


def run(
    setup: Setup,
    pictures: list[Pictures],
    seeds: tuple[int, ...],
    hire: Callable[[Setup, str], Crew],
    telling: Telling,
    redo: bool = False,
) -> Summary:
    """Make the heads that are missing.

    hire: makes the workers, given what they need to know and the first line of the journal. It is called only
    if there is something to do.

    Raises:
        OptionError, InputError, OutputError: see `Journal`; BundleError: the model.
        BackendError: no worker can load the model.
        ToposError: what a worker refuses to work for.
    """
    bundle = Bundle.open(setup.model)
    check_wanted(setup, bundle)
    summary = Summary(of=sum(map(len, pictures)))
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(setup.out, setup.settings(bundle), redo))
        resumed = bool(journal.done)
        if journal.damaged:
            telling.note(f"{journal.path}: {journal.damaged} damaged lines; their heads are made again")
        results = Results(journal)
        stack.callback(results.write)  # also where the run is interrupted
        tasks = _tasks(pictures, seeds, journal, summary, setup.out, telling)
        first = next(tasks, None)
        if first is not None:
            with contextlib.closing(hire(setup, journal.header)) as crew:
                _Leader(crew, chain([first], tasks), journal, results, summary, telling).work()
        if resumed or summary.deaths:
            _sweep(setup.out)
    return summary


def _tasks(
    pictures: list[Pictures],
    seeds: tuple[int, ...],
    journal: Journal,
    summary: Summary,
    out: Path,
    telling: Telling,
) -> Iterator[Task]:
    """Yield what is left to do, and write down the pictures of which it is known that they are of no use."""
    for picture, name in unique_names(_counted(pictures, summary), dict(journal.names)):
        left = tuple(seed for seed in seeds if not _is_done(journal, picture, seed, out))
        summary.skipped += len(seeds) - len(left)
        if not left:
            continue
        task = Task(picture.input, picture.source, name, left, picture.stamp)
        if picture.fault is None:
            yield task
            continue
        row = failed(task, picture.fault)
        _account(summary, [row], telling)
        journal.add(task.input, name, task.stamp, left, [row])


def _counted(pictures: list[Pictures], summary: Summary) -> Iterator[Picture]:
    for picture in chain.from_iterable(pictures):
        summary.pictures += 1
        yield picture


def _is_done(journal: Journal, picture: Picture, seed: int, out: Path) -> bool:
    """Whether a head was made of this picture, as it is now, and is still there."""
    done = journal.done.get((picture.input, seed))
    if done is None or not done.made or done.stamp != picture.stamp:
        return False
    return all((out / file).is_file() for file in done.files)


def _account(summary: Summary, rows: list[Row], telling: Telling) -> None:
    for row in rows:
        code = row["exit_code"]
        summary.made += code == 0
        summary.failed += code != 0
        summary.codes.add(code)
        telling.row(row)


class _Leader:
    """Gives tasks to workers, and takes their answers."""

    def __init__(
        self,
        crew: Crew,
        tasks: Iterator[Task],
        journal: Journal,
        results: Results,
        summary: Summary,
        telling: Telling,
    ) -> None:
        self._crew, self._journal, self._results = crew, journal, results
        self._summary, self._telling = summary, telling
        self._tasks = tasks
        self._again: deque[Task] = deque()  # whose worker died
        self._idle: list[int] = []
        self._busy: dict[int, Task] = {}
        self._stillborn = 0  # how many died in a row before they were ready
        self._answers = {READY: self._ready, MADE: self._made, DIED: self._died, REFUSED: self._refused}

    def work(self) -> None:
        """Work until nothing is left. Raises what ends a batch."""
        while self._give() or self._busy:
            for event in self._crew.wait(_WAIT_S):
                self._answers[event.kind](event)
            self._journal.flush()
            self._results.update()
            self._telling.progress(self._summary)

    def _give(self) -> bool:
        """Give a task to every idle worker. Return whether a task is left that nobody is there to take."""
        while True:
            if not self._again:
                following = next(self._tasks, None)
                if following is None:
                    return False
                self._again.append(following)
            if not self._idle:
                return True
            worker = self._idle.pop()
            self._busy[worker] = self._again.popleft()
            self._crew.give(worker, self._busy[worker])

    def _ready(self, event: Event) -> None:
        self._stillborn = 0
        self._summary.ready += 1
        self._summary.about = self._summary.about or event.value
        self._idle.append(event.worker)

    def _made(self, event: Event) -> None:
        self._write(self._busy.pop(event.worker), event.value)
        self._idle.append(event.worker)

    def _died(self, event: Event) -> None:
        self._summary.deaths += 1
        if event.worker in self._idle:
            self._idle.remove(event.worker)
            return
        task = self._busy.pop(event.worker, None)
        if task is None:
            self._stillborn += 1
            if self._stillborn >= _MOST_STILLBORN:
                raise BackendError(
                    f"{_MOST_STILLBORN} workers died one after the other before their first picture",
                    got=event.value,
                    fix="use fewer workers (--workers), or see what 'topos-rt generate' says",
                )
            return
        if task.attempt < MOST_ATTEMPTS:
            self._telling.note(f"{task.input}: its worker died ({event.value}); it is tried once more")
            self._again.appendleft(dataclasses.replace(task, attempt=task.attempt + 1))
            return
        error = BackendError(
            f"{MOST_ATTEMPTS} workers died over this picture", got=event.value, fix="run the batch again"
        )
        self._write(task, [failed(task, error)])

    def _refused(self, event: Event) -> None:
        error = event.value
        assert isinstance(error, ToposError)
        raise error

    def _write(self, task: Task, rows: list[Row]) -> None:
        self._journal.add(task.input, task.name, task.stamp, task.seeds, rows)
        _account(self._summary, rows, self._telling)


def _sweep(directory: Path) -> None:
    """Remove what processes that were killed have left of files they had begun."""
    for folder, _, names in os.walk(directory):
        for name in filter(_LEFT_OVER.fullmatch, names):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))
