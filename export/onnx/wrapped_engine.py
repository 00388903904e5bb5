"""An engine over another one: the base of engines that watch what passes through."""

from __future__ import annotations

from topos_rt.engines import Engine
from topos_rt.support.closing import Closing


class WrappedEngine(Closing):
    """Everything of an `Engine` but `run`, passed on to the engine inside."""

    def __init__(self, inner: Engine) -> None:
        self.inner = inner
        self.inputs, self.outputs = inner.inputs, inner.outputs

    def close(self) -> None:
        """Close the engine inside."""
        self.inner.close()
