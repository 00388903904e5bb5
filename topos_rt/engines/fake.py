"""An engine that is a Python function: what everything above the backends is tested with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np

from topos_rt.engines.contract import Tensor, TensorSpec, Value, check_feeds, check_out
from topos_rt.errors import BackendError, InputError

Handler: TypeAlias = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


class FakeEngine:
    """An `Engine` that runs `handler(feeds) -> outputs`, and checks both sides against its specs."""

    def __init__(
        self, handler: Handler, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
    ) -> None:
        self.inputs: dict[str, TensorSpec] = dict(inputs)
        self.outputs: dict[str, TensorSpec] = dict(outputs)
        self._handler: Handler | None = handler

    def run(
        self, feeds: Mapping[str, Value], out: Mapping[str, Tensor] | None = None, keep: Collection[str] = ()
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
            # A copy, since the handler may give the same array each time.
            results[name] = made[name].copy()
        for name, array in (out or {}).items():
            np.copyto(array, results[name])
            results[name] = array
        return results

    def close(self) -> None:
        """Drop the handler."""
        self._handler = None

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
