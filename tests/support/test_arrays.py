"""Products whose bits do not depend on the number of threads of BLAS, and heads made with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topos_rt.support.arrays import product

ROOT = Path(__file__).parents[2]
SHAPES = [
    (1, 5, 1), (2, 2, 2), (1, 9000, 3), (5000, 7, 1), (4538, 300, 9), (300, 4538, 12), (718, 104, 104),
    (300, 24049, 12), (33, 5000, 40), (3, 70000, 17), (0, 3, 4), (4, 0, 3), (2, 131072, 2), (17, 4097, 16),
]  # fmt: skip


class Watched(np.ndarray):
    """An array that records the sizes of the products it takes part in."""

    sizes: list[tuple[int, int, int]] = []  # noqa: RUF012

    def __matmul__(self, other: Any) -> Any:
        self.sizes.append((len(self), other.shape[1], len(other)))
        return np.asarray(self) @ np.asarray(other)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_are_right_and_of_blocks_for_one_thread(shape: tuple[int, int, int], dtype: Any) -> None:
    n, k, m = shape
    draw = np.random.default_rng(0)
    a, b = (draw.standard_normal(size).astype(dtype) for size in ((n, k), (k, m)))
    Watched.sizes.clear()
    found = product(a.view(Watched), b)
    want = a.astype(np.float64) @ b.astype(np.float64)
    assert found.shape == (n, m) and found.dtype == dtype
    assert np.abs(found - want).max(initial=0) <= 8 * np.finfo(dtype).eps * max(k, 1) ** 0.5 * 8
    for rows, columns, depth in Watched.sizes:
        assert rows * columns * depth <= 1 << 18 and (min(rows, columns) >= 2 or not rows * columns * depth)


HASHES = """
import hashlib, sys
import numpy as np
import topos_rt
from topos_rt.formats import EXPORTERS, ExportOptions
with topos_rt.HeadPipeline.open("mini", "onnxruntime", threads=1) as pipe:
    head = pipe("examples/hopper.jpg", preset="fast")
    other = pipe.retopologize(head.positions, head.normals, passes=1)
for made in (head, other):
    print(hashlib.sha256(EXPORTERS["glb"](made, ExportOptions())).hexdigest())
print(hashlib.sha256(topos_rt.render_preview(head)).hexdigest())
"""


def test_heads_are_the_same_bytes_whatever_the_number_of_threads_of_blas() -> None:
    """This can tell only as many threads apart as there are cores."""
    found = set()
    for threads in (1, 2, os.cpu_count() or 1):
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, str(threads))
        words = [sys.executable, "-c", HASHES]
        found.add(subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, check=True).stdout)
    assert len(found) == 1
