"""An engine that runs a Python function, so that all above the engines can be tested without a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

import numpy as np

from topos_rt.engines.contract import Value, check_feeds, check_out
from topos_rt.errors import BackendError, InputError
from topos_rt.support.arrays import Array, TensorSpec
from topos_rt.support.closing import Closing

Handler: TypeAlias = Callable[[Mapping[str, Array]], Mapping[str, Array]]


class FakeEngine(Closing):
    """An `Engine` that runs `handler(feeds) -> outputs`, and checks both sides against its specs."""

    def __init__(
        self, handler: Handler, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
    ) -> None:
        self.inputs: dict[str, TensorSpec] = dict(inputs)
        self.outputs: dict[str, TensorSpec] = dict(outputs)
        self._handler: Handler | None = handler

    def run(
        self, feeds: Mapping[str, Value], out: Mapping[str, Array] | None = None, keep: Collection[str] = ()
    ) -> dict[str, Any]:
        """See `Engine.run`."""
        if self._handler is None:
            raise InputError("fake engine", got="a call after close()", expected="an open engine")
        check_feeds(self.inputs, feeds)
        check_out(self.outputs, out or {}, keep)
        made = self._handler({name: np.asarray(value) for name, value in feeds.items()})
        results = {}
        for name, spec in self.outputs.items():
            if name not in made or made[name].shape != spec.shape or made[name].dtype != spec.dtype:
                found = TensorSpec(made[name].shape, made[name].dtype) if name in made else "nothing"
                raise BackendError(f"fake engine, output {name!r}", got=found, expected=spec)
            results[name] = made[name].copy()  # the handler may return the same array each time
        for name, array in (out or {}).items():
            np.copyto(array, results[name])
            results[name] = array
        return results

    def close(self) -> None:
        """Drop the handler."""
        self._handler = None
