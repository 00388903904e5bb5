"""The type alias for arrays on the host, and the shape and element type of a graph's tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """The static shape and the element type of a tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"

    @property
    def nbytes(self) -> int:
        """The size of the tensor in bytes, without gaps."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
