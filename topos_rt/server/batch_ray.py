"""The workers of a batch, as actors of a Ray cluster.

These are plain actors, and not Ray Data's `map_batches`, which cannot keep what a batch promises. When an
actor dies, Ray Data runs its whole block again, without limit by default, so that one picture which takes too
much memory would end actor after actor; `max_errored_blocks` then drops good pictures with the bad one; and
what the actor had done already is done twice. Here an actor has one picture at a time and is never restarted
by Ray: its death is an event that the leader of the batch counts, as it does for processes of this machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from typing import Any

from topos_rt.errors import InputError, MissingExtraError, OptionError, ToposError, one_line, shortened
from topos_rt.server.batch_crew import DIED, MADE, READY, REFUSED, Event
from topos_rt.server.batch_work import Maker, Setup, Task, wants_gpu
from topos_rt.support.closing import Closing

AUTO = "auto"
_ANSWERS_S = 10.0
_MOST = 1024  # actors, where nobody says how many
_WHY = 300  # characters of Ray's reasons


def library() -> Any:
    """Return Ray. Raises MissingExtraError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of ours tells anybody what runs here
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError.needs("--ray", "ray") from error
    return ray


class Actors(Closing):
    """Workers on a Ray cluster."""

    kind = "actors on Ray"

    def __init__(self, setup: Setup, header: str, address: str, size: int | None = None) -> None:
        """Connect to a cluster and start the actors, each with a GPU where the cluster has any.

        address: "auto" for the cluster of this machine, or what `ray.init` takes. size: None is one for each
        GPU, or for each core of the cluster, of which each takes as many as it has threads.

        Raises MissingExtraError; OptionError where there is no such cluster.
        """
        self._ray = library()
        self._connect(os.environ.get("RAY_ADDRESS", AUTO) if address == AUTO else address)
        try:
            self._start(setup, header, size)
        except BaseException:
            self._ray.shutdown()
            raise

    def _start(self, setup: Setup, header: str, size: int | None) -> None:
        threads = setup.engines.get("threads") or 1
        setup = dataclasses.replace(setup, engines={**setup.engines, "threads": threads})
        self._given = setup, header
        resources = self._ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if wants_gpu(setup.engines.get("backend")) else 0
        cores = int(resources.get("CPU", 1))
        self._needs = {"num_cpus": threads, "num_gpus": 1 if gpus else 0}
        most = gpus or cores // threads
        if most < 1:
            raise OptionError(
                "--threads", got=threads, expected=f"at most {cores}, the cores of the Ray cluster"
            )
        self.size = min(size or most, _MOST)
        self._actors: dict[int, Any] = {}
        self._waited: dict[Any, int] = {}  # what an actor was asked for -> its number
        self._hired = 0
        for _ in range(self.size):
            self._hire()

    def give(self, worker: int, task: Task) -> None:
        self._waited[self._actors[worker].make.remote(task)] = worker

    def wait(self, seconds: float) -> list[Event]:
        waited = list(self._waited)
        ready, _ = self._ray.wait(waited, num_returns=1, timeout=seconds)
        if ready:  # and whatever else has come by now
            ready, _ = self._ray.wait(waited, num_returns=len(waited), timeout=0)
        return [self._heard(reference) for reference in ready]

    def close(self) -> None:
        for actor in self._actors.values():
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)
        self._actors, self._waited = {}, {}
        self._ray.shutdown()

    def _connect(self, address: str) -> None:
        if self._ray.is_initialized():
            raise InputError("Ray", got="a connection that is open", fix="call ray.shutdown() first")
        try:
            _check_listened(address)
            self._ray.init(
                address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False
            )
        except (OSError, OverflowError, RuntimeError, ValueError) as error:
            raise OptionError(
                f"--ray {shortened(address, 100)}",
                got=shortened(one_line(str(error)), _WHY),
                expected="a Ray cluster that runs",
                fix="start one with 'ray start --head', or leave --ray out to use this machine alone",
            ) from error

    def _hire(self) -> None:
        self._hired += 1
        # Ray starts no actor again, and gives it nothing twice: that is for the leader to decide.
        remote = self._ray.remote(max_restarts=0, max_task_retries=0, **self._needs)(Maker)
        actor = remote.remote(*self._given)
        self._actors[self._hired] = actor
        self._waited[actor.open.remote()] = self._hired

    def _heard(self, reference: Any) -> Event:
        errors = self._ray.exceptions
        number = self._waited.pop(reference)
        try:
            value = self._ray.get(reference)
        except errors.RayTaskError as error:  # what the method raised: the actor itself is alive
            cause = error.cause
            if isinstance(cause, ToposError):
                return Event(number, REFUSED, cause)
            reason = f"unexpected {type(cause).__name__}: {cause}"
        except errors.RayError as error:
            reason = str(error)
        else:
            return Event(number, MADE if isinstance(value, list) else READY, value)
        with contextlib.suppress(errors.RayError):
            self._ray.kill(self._actors.pop(number))
        self._hire()
        return Event(number, DIED, shortened(one_line(reason), _WHY))


def _check_listened(address: str) -> None:
    """Raise OSError or ValueError where nobody listens at HOST:PORT: Ray itself would try for minutes."""
    if address == AUTO:  # Ray knows at once
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("no address of the form HOST:PORT")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS_S):
        pass
