"""Engines that record how long each of their runs takes."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from topos_rt.engines import Engine
from topos_rt.engines.contract import DeviceTimes, Traced, Value
from topos_rt.support.arrays import Array
from topos_rt.support.closing import Closing

# Milliseconds of one engine run, under trtexec's names; `hostMs` is ours. On a CPU nothing is enqueued or
# transferred, and the whole run is compute.
FIELDS = ("enqMs", "h2dMs", "computeMs", "d2hMs", "latencyMs", "hostMs")


class Watched(Closing):
    """An `Engine` that wraps another.

    While `recording` is on, the times of each run are added to `samples`, which has the names of `FIELDS`.
    `feeds` holds the inputs of the last run.
    """

    def __init__(self, inner: Engine) -> None:
        self._inner = inner
        self.inputs, self.outputs = inner.inputs, inner.outputs
        self.samples: dict[str, list[float]] = {name: [] for name in FIELDS}
        self.recording = False
        self.feeds: dict[str, Value] = {}
        self.on_device = isinstance(inner, Traced)
        self._seen: DeviceTimes | None = None

    def run(
        self, feeds: Mapping[str, Value], out: Mapping[str, Array] | None = None, keep: Collection[str] = ()
    ) -> dict[str, Any]:
        """Run the engine; see `Engine.run`."""
        self.feeds = dict(feeds)
        if not self.recording:
            return self._inner.run(feeds, out, keep)
        start = time.perf_counter()
        results = self._inner.run(feeds, out, keep)
        self._note(1e3 * (time.perf_counter() - start))
        return results

    @contextmanager
    def record(self) -> Iterator[None]:
        """Record the runs inside the `with` block; on a device, by its events."""
        self.recording = True
        if isinstance(self._inner, Traced):
            self._inner.trace(self._take)
        try:
            yield
        finally:
            self.recording = False
            if isinstance(self._inner, Traced):
                self._inner.trace(None)

    def _take(self, times: DeviceTimes) -> None:
        self._seen = times

    def _note(self, host: float) -> None:
        if self._seen is None:
            found = {"h2dMs": 0.0, "computeMs": host, "d2hMs": 0.0, "latencyMs": host}
        else:
            d, self._seen = self._seen, None
            found = {
                "enqMs": d.enqueue,
                "h2dMs": d.to_device,
                "computeMs": d.compute,
                "d2hMs": d.to_host,
                "latencyMs": d.to_device + d.compute + d.to_host,
            }
        for name, value in (found | {"hostMs": host}).items():
            self.samples[name].append(value)

    def close(self) -> None:
        """Close the engine."""
        self._inner.close()
