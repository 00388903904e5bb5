"""The settings of a service: what it loads, whom it serves, and the most that anyone may ask of it."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from topos_rt.errors import OptionError

MIB = 2**20
LOG = __name__.rpartition(".")[0]  # the name of the service's logger
ACCESS_LOG = "topos_rt.access"
MOST_HEADS = 16  # of one request
MOST_PORT = 65_535
_LEAST_KEY = 16  # characters of an API key


@dataclass(frozen=True)
class Settings:
    """What `create_app` makes a service of. Raises OptionError for a value out of range.

    model, backend, threads, precision: those of `HeadPipeline.open`.
    workers: how many heads are worked on at once. queue: how many more requests may wait for a worker.
    body_s: seconds in which a body has to come. deadline_s: seconds from a whole request to its answer.
    max_upload: bytes of a picture or scan. held_uploads: bytes of all bodies at once.
    keep_s: seconds for which a head can be fetched. kept_bytes: what kept heads may take; then the oldest go.
    results: the directory that keeps heads, so that they outlive the process; None keeps them in memory.
    api_key: what clients have to show; None asks for nothing.
    hosts: names by which the service is called beside its addresses and localhost; "*" allows all.
    origins: web pages elsewhere that may use it, such as "https://app.example".
    mirrors: how many faces are followed at once. connections: open connections, of any kind.
    drain_s: seconds that running work has to end in when the service is told to stop.
    page: whether the studio's page is served at /.
    """

    model: str = "mini"
    backend: str = "auto"
    threads: int | None = None
    precision: str | None = None
    workers: int = 2
    queue: int = 16
    deadline_s: float = 60.0
    body_s: float = 60.0
    max_upload: int = 32 * MIB
    held_uploads: int = 256 * MIB
    keep_s: float = 3600.0
    kept_bytes: int = 512 * MIB
    results: Path | None = None
    api_key: str | None = field(default=None, repr=False)
    hosts: Collection[str] = ()
    origins: Collection[str] = ()
    mirrors: int = 4
    connections: int = 512
    drain_s: float = 20.0
    page: bool = False

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            whole = isinstance(getattr(type(self), name), int)
            number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not low <= value <= high:
                expected = f"{'a whole number' if whole else 'a number'} from {low:,} to {high:,}"
                raise OptionError(name.replace("_", " "), got=repr(value)[:40], expected=expected)
        if self.held_uploads < self.max_upload:
            raise OptionError(
                "held uploads", got=f"{self.held_uploads:,}", expected=f"{self.max_upload:,} or more"
            )
        if self.api_key is not None and not (
            len(self.api_key) >= _LEAST_KEY and self.api_key.isascii() and self.api_key.isprintable()
        ):
            raise OptionError(
                "API key",
                got=f"{len(self.api_key)} characters",  # never the key itself
                expected=f"{_LEAST_KEY} or more, all printable ASCII",
                fix="openssl rand -hex 32 makes a good one",
            )


_RANGES: tuple[tuple[str, int, int], ...] = (
    ("workers", 1, 64),
    ("queue", 0, 10_000),
    ("deadline_s", 1, 86_400),
    ("body_s", 1, 3600),
    ("max_upload", 1024, 1024 * MIB),
    ("held_uploads", 1024, 65_536 * MIB),
    ("keep_s", 1, 31_536_000),
    ("kept_bytes", 0, 1024 * 1024 * MIB),
    ("mirrors", 0, 64),
    ("connections", 2, 100_000),
    ("drain_s", 0, 3600),
)
