"""The heads that a service keeps for a while, so that their files can be fetched: in memory."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import numpy as np

from topos_rt.head.mesh import HeadMesh
from topos_rt.server.problems import Problem

ID = re.compile(r"[0-9a-f]{32}")
_MOST_REMEMBERED = 10_000  # ids that are known to be gone


@dataclass(frozen=True, eq=False)
class Kept:
    """A head that can be fetched."""

    about: dict[str, Any]  # what its client was told of it
    expires: float  # Unix time
    head: Callable[[], HeadMesh]
    glb: Callable[[], bytes] | None = None  # the file, where it was made already


class Results(Protocol):
    """The interface of a store. Its methods may be called from any thread, and raise Problem."""

    @property
    def count(self) -> int: ...

    @property
    def size(self) -> int: ...

    def put(self, head: HeadMesh, about: dict[str, Any]) -> tuple[str, float]:
        """Keep a head; return its id, and the Unix time from which it is gone."""

    def get(self, name: str) -> Kept: ...

    def drop(self, name: str) -> None: ...

    def sweep(self) -> None: ...


def new_id() -> str:
    """Return a name that nobody can guess: who knows it may fetch the head."""
    return secrets.token_hex(16)


def unknown() -> Problem:
    return Problem(
        "not-found", "this head", got="an id that is not known", expected="one that a POST returned"
    )


def gone() -> Problem:
    return Problem("gone", "this head", got="one that is kept no longer", fix="make it again")


class Remembered:
    """The ids that are gone, as far back as they are remembered."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, None] = OrderedDict()

    def add(self, name: str) -> None:
        self._names[name] = None
        if len(self._names) > _MOST_REMEMBERED:
            self._names.popitem(last=False)

    def problem(self, name: str) -> Problem:
        return gone() if name in self._names else unknown()


class InMemory:
    """Keeps heads in memory: each goes when its time has come, the oldest when they are too large together.

    The newest stays in any case. What all heads of a model share, `shared`, is not counted.
    """

    def __init__(self, keep_s: float, most_bytes: int, shared: object = None) -> None:
        self._keep_s = keep_s
        self._most = most_bytes
        self._lock = threading.RLock()
        self._kept: OrderedDict[str, tuple[Kept, int]] = OrderedDict()
        self._gone = Remembered()
        self._size = 0
        self._shared = {id(array) for array in arrays_of(shared)}

    @property
    def count(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        return self._size

    def put(self, head: HeadMesh, about: dict[str, Any]) -> tuple[str, float]:
        name, expires = new_id(), time.time() + self._keep_s
        size = sum(array.nbytes for array in arrays_of(head) if id(array) not in self._shared)
        with self._lock:
            self._kept[name] = Kept(about, expires, lambda: head), size
            self._size += size
            while self._size > self._most and len(self._kept) > 1:
                self._forget(next(iter(self._kept)))
        return name, expires

    def get(self, name: str) -> Kept:
        with self._lock:
            if name in self._kept and self._kept[name][0].expires <= time.time():
                self._forget(name)
            if name not in self._kept:
                raise self._gone.problem(name)
            return self._kept[name][0]

    def drop(self, name: str) -> None:
        with self._lock:
            self.get(name)
            self._forget(name)

    def sweep(self) -> None:
        with self._lock:
            now = time.time()
            for name in [name for name, (kept, _) in self._kept.items() if kept.expires <= now]:
                self._forget(name)

    def _forget(self, name: str) -> None:
        self._size -= self._kept.pop(name)[1]
        self._gone.add(name)


def arrays_of(value: object, seen: set[int] | None = None) -> Iterator[np.ndarray]:
    """Yield every array that a dataclass holds, also in the dataclasses and tuples inside, each once."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from arrays_of(item, seen)
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from arrays_of(getattr(value, each.name), seen)
