"""Arrays on the host: the one alias for them, and what a tensor of a graph looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """Static shape and element type of a tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"

    @property
    def nbytes(self) -> int:
        """Size of the tensor in memory, dense."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
