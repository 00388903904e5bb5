"""The base class that makes an object with a `close` method a context manager."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

T = TypeVar("T", bound="Closing")


class Closing:
    """An object that a `with` block closes at its end."""

    def close(self) -> None:
        """Release everything that the object holds. It may be called more than once."""
        raise NotImplementedError

    def __enter__(self: T) -> T:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
