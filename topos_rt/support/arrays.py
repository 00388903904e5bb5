"""The type alias for arrays on the host, and the shape and element type of a graph's tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int32]
# Of a product: multiplications, and the largest sum and width of a block of that many with two rows.
_ONE_THREAD, _DEEPEST, _WIDEST = 1 << 17, 1 << 12, 16


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the matrix product of a [n,k] and b [k,m]: the same bits whatever the number of threads of BLAS.

    OpenBLAS splits `a @ b` over its threads, whose number then decides how sums are rounded, where that has
    more than 2**18 multiplications (interface/gemm.c), or 9,216 where n or m is one. So this computes blocks
    that are small enough, each of two rows and columns or more.
    """
    n, m, k = len(a), b.shape[1], len(b)
    if not n * m * k:
        return np.zeros((n, m), np.result_type(a, b))
    if n == 1 or m == 1:
        return product(np.repeat(a, 2, 0) if n == 1 else a, np.repeat(b, 2, 1) if m == 1 else b)[:n, :m]
    if n * m * k <= _ONE_THREAD:
        return np.asarray(a @ b)
    out = np.zeros((n, m), np.result_type(a, b))
    for first in range(0, k, _DEEPEST):
        deep = slice(first, first + _DEEPEST)
        depth = min(_DEEPEST, k - first)
        wide = min(m, _WIDEST)
        high = min(n, max(2, _ONE_THREAD // (depth * wide)))
        before = out.copy()  # the last blocks overlap those before them
        for column in (*range(0, m - wide, wide), m - wide):
            columns, part = (
                slice(column, column + wide),
                np.ascontiguousarray(b[deep, column : column + wide]),
            )
            for row in (*range(0, n - high, high), n - high):
                rows = slice(row, row + high)
                out[rows, columns] = before[rows, columns] + a[rows, deep] @ part
    return out


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
