"""The heads that a service keeps for a while, so that their files can be fetched."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol

import numpy as np

from topos_rt.head.mesh import HeadMesh
from topos_rt.server.problems import Problem

ID = re.compile(r"[0-9a-f]{32}")
_MOST_FORGOTTEN = 10_000  # ids that are remembered as gone


@dataclass(frozen=True, eq=False)
class Kept:
    """A head, what its client was told of it, and when it goes."""

    head: HeadMesh
    about: dict[str, Any]
    expires: float  # time.time()
    size: int = field(default=0)


class Results(Protocol):
    """The interface of a store. Its methods may be called from any thread."""

    def put(self, head: HeadMesh, about: dict[str, Any]) -> str: ...

    def get(self, name: str) -> Kept: ...

    def drop(self, name: str) -> None: ...

    def sweep(self) -> None: ...

    @property
    def count(self) -> int: ...

    @property
    def size(self) -> int: ...


def new_id() -> str:
    """Return a name that nobody can guess: who knows it may fetch the head."""
    return secrets.token_hex(16)


def unknown(name: str) -> Problem:
    return Problem(
        "not-found", "this head", got="an id that is not known", expected="one that a POST returned"
    )


def gone() -> Problem:
    return Problem("gone", "this head", got="one that is kept no longer", fix="make it again")


class InMemory:
    """Keeps heads in memory: the oldest go when they are too many, each goes when its time has come."""

    def __init__(self, keep_s: float, most_bytes: int, shared: object = None) -> None:
        self._keep_s = keep_s
        self._most = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._size = 0
        self._shared = {id(array) for array in arrays_of(shared)}

    @property
    def count(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        return self._size

    def put(self, head: HeadMesh, about: dict[str, Any]) -> str:
        """Keep a head and return its id."""
        name = new_id()
        size = sum(array.nbytes for array in arrays_of(head) if id(array) not in self._shared)
        with self._lock:
            self._kept[name] = Kept(head, about, time.time() + self._keep_s, size)
            self._size += size
            # The newest stays, whatever its size: its client has just been promised it.
            while self._size > self._most and len(self._kept) > 1:
                self._forget(next(iter(self._kept)))
        return name

    def get(self, name: str) -> Kept:
        """Return what was kept. Raises Problem for an id that is unknown, or known no longer."""
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None and kept.expires > time.time():
                return kept
            if kept is not None:
                self._forget(name)
            raise gone() if name in self._gone else unknown(name)

    def drop(self, name: str) -> None:
        """Keep a head no longer. Raises as `get` does."""
        self.get(name)
        with self._lock:
            self._forget(name)

    def sweep(self) -> None:
        """Let go of every head whose time has come."""
        with self._lock:
            now = time.time()
            for name in [name for name, kept in self._kept.items() if kept.expires <= now]:
                self._forget(name)

    def _forget(self, name: str) -> None:
        kept = self._kept.pop(name, None)
        if kept is None:
            return
        self._size -= kept.size
        self._gone[name] = None
        if len(self._gone) > _MOST_FORGOTTEN:
            self._gone.popitem(last=False)


def arrays_of(value: object, seen: set[int] | None = None) -> Iterator[np.ndarray]:
    """Yield every array that a dataclass holds, also in the dataclasses and tuples inside, each once."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        base = value.base
        yield base if isinstance(base, np.ndarray) else value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from arrays_of(item, seen)
    elif isinstance(value, dict):
        for item in value.values():
            yield from arrays_of(item, seen)
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from arrays_of(getattr(value, each.name), seen)
