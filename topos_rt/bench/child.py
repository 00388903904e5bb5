"""`python -m topos_rt.bench.child JSON`: one fresh process up to its first heads, timed by its own clock.

It prints one JSON object. Only the standard library is imported before the clock starts.
"""

from __future__ import annotations

import time

_BEGAN = time.monotonic()

import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402


def main() -> None:
    """Import, load and make two heads, then print the milliseconds of each."""
    task = json.loads(sys.argv[1])
    ms = {"interpreter": 1e3 * (_BEGAN - task["spawned"])}
    clock = _Clock(ms)
    clock.lap("arguments")
    from topos_rt.bench.machine import device_memory, peak_bytes
    from topos_rt.bench.session import Request, opened
    from topos_rt.engines import backend

    clock.lap("import")
    request = Request(**task["request"] | {"graphs": (), "cache": Path(task["request"]["cache"])})
    builds = _Builds()
    on_device = backend(request.backend).on_device
    free = device_memory() if on_device else None  # this creates the CUDA context, which is part of loading
    with opened(request, builds.progress) as session:
        clock.lap("load")
        ms["build"] = builds.ms
        if task["warm_up"]:
            session.pipeline.warm_up()
            clock.lap("warm_up")
        _head(session, clock, "first")
        ms["to_first_head"] = sum(value for name, value in ms.items() if name != "build")
        _head(session, clock, "second")
        after = device_memory() if on_device else None
    del ms["arguments"]
    device = None if free is None or after is None else free["free_bytes"] - after["free_bytes"]
    print(json.dumps({"ms": ms, "peak_host_bytes": peak_bytes(), "device_bytes": device}))


def _head(session: Any, clock: _Clock, name: str) -> None:
    from topos_rt.bench.session import HEAD

    clock.ms[name] = session.head()[HEAD]
    clock.restart()  # the time of the GLB does not count


class _Clock:
    """A clock that notes laps in milliseconds."""

    def __init__(self, ms: dict[str, float]) -> None:
        self.ms = ms
        self._since = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.ms[name] = 1e3 * (now - self._since)
        self._since = now

    def restart(self) -> None:
        self._since = time.monotonic()


class _Builds:
    """The time spent on building engines, measured by the progress callback of their builds."""

    def __init__(self) -> None:
        self.ms = 0.0
        self._began: dict[str, float] = {}

    def progress(self, graph: str, share: float) -> None:
        now = time.monotonic()
        began = self._began.setdefault(graph, now)
        if share >= 1:
            self.ms += 1e3 * (now - began)
            del self._began[graph]


if __name__ == "__main__":
    main()
