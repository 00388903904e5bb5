"""An engine over another one: the base of engines that watch what passes through."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from topos_rt.engines import Engine

T = TypeVar("T", bound="WrappedEngine")


class WrappedEngine:
    """Everything of an `Engine` but `run`, passed on to the engine inside."""

    def __init__(self, inner: Engine) -> None:
        self.inner = inner
        self.inputs, self.outputs = inner.inputs, inner.outputs

    def close(self) -> None:
        """Close the engine inside."""
        self.inner.close()

    def __enter__(self: T) -> T:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
