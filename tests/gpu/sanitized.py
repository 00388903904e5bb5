"""Run all ops on the host; test_kernels_build.py does so under AddressSanitizer.

    python -m tests.gpu.sanitized MODULE

Every array has an allocation of exactly its size, so that an access to one element too many is found.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.gpu import host_gpu
from tests.gpu.shapes import features, random_csr, random_layer, random_neighbours
from tests.gpu.texture_inputs import finishing, projection
from topos_rt.gpu import ops, texture_ops
from topos_rt.gpu.device_array import DeviceArray
from topos_rt.gpu.layers import SLICES, WIDTHS
from topos_rt.gpu.tables import Neighbours, Sources
from topos_rt.gpu.texture_reference import FinishTexture


class Heap:
    """Presents arrays of the host as arrays of a device."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []

    def put(self, array: np.ndarray) -> DeviceArray:
        self.arrays.append(np.array(array, order="C"))
        return DeviceArray(self.arrays[-1].ctypes.data if array.size else 0, array.shape, array.dtype, 0)

    def poisoned(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        return self.put(np.full(shape, np.nan, dtype))


def graph_conv(rng: np.random.Generator) -> None:
    for width in WIDTHS:
        for rows in (1, 65, 130):
            heap, c_in = Heap(), 8 * int(rng.integers(1, 9))
            inputs, norm = int(rng.integers(1, 40)), width > 8
            residual_rows = rng.integers(0, 5, rows).astype(np.int32)
            out = heap.poisoned((rows, width), np.float16)
            ops.graph_conv(
                heap.put(features(rng, inputs, c_in)),
                random_neighbours(rng, rows, inputs).placed(heap.put),
                random_layer(rng, c_in, width, norm=norm).placed(heap.put),
                heap.put(features(rng, 5, width)),
                heap.put(residual_rows),
                out=out,
            )
            assert np.isfinite(heap.arrays[0]).all()


def graph_conv_tiled(rng: np.random.Generator) -> None:
    for width in SLICES:
        for rows, types in ((1, 2), (65, 1), (193, 2)):
            heap, inputs = Heap(), int(rng.integers(1, 40))
            layer = random_layer(rng, 128, width, types)
            single = Sources(None, rng.integers(0, inputs, rows).astype(np.int32))
            neighbours = Neighbours(rows, inputs, (random_csr(rng, rows, inputs, 6), single)[:types]).tiled()
            ops.graph_conv(
                heap.put(features(rng, inputs, 128)),
                neighbours.placed(heap.put),
                layer.placed(heap.put, True),
                heap.put(features(rng, rows, width)),
                out=heap.poisoned((rows, width), np.float16),
            )
            assert np.isfinite(heap.arrays[-1]).all()


def others(rng: np.random.Generator) -> None:
    for rows in (1, 127, 300):
        heap = Heap()
        x = rng.standard_normal((rows, 6)).astype(np.float32)
        order = heap.put(rng.permutation(rows).astype(np.int32))
        half = heap.poisoned((rows, 8), np.float16)
        ops.pack_rows(heap.put(x), 8, order, out=half)
        layer = random_layer(rng, 8, 6, 1, norm=False).placed(heap.put)
        ops.linear_out(half, layer, order, out=heap.poisoned((rows, 6), np.float32))
        terms = [heap.put(x) for _ in range(4)]
        table, step = heap.put(np.ones((2, 4), np.float32)), heap.put(np.zeros(1, np.int32))
        ops.flow_step(terms, table, step, out=terms[0])
        ops.flow_step(terms, table, step, out=heap.poisoned((rows, 6), np.float32))
        basis = heap.put(rng.standard_normal((7, rows)).astype(np.float32))
        flat = heap.put(x[:, 0])
        scratch = heap.poisoned((7,), np.float32)
        ops.project(flat, basis, scratch=scratch, out=flat)
        moves = heap.put(rng.standard_normal((7, rows, 3)).astype(np.float32))
        ops.add_moves(scratch, moves, heap.put(x), out=heap.poisoned((rows, 6), np.float32))


def textures(rng: np.random.Generator) -> None:
    for texels in (1, 127, 300):
        heap = Heap()
        texture_ops.project_texture(
            *map(heap.put, projection(rng, texels, 2, 3)), out=heap.poisoned((texels, 4), np.float32)
        )
        assert np.isfinite(heap.arrays[-1]).all()
    for step in (1, 3):
        heap, given = Heap(), finishing(rng, step=step)
        there = {name: heap.put(v) if isinstance(v, np.ndarray) else v for name, v in given.items()}
        texture_ops.finish_texture(
            FinishTexture(**there), out=heap.put(np.zeros((8 * step, 8 * step, 3), np.uint8))
        )


if __name__ == "__main__":
    module = host_gpu.load(Path(sys.argv[1]))
    ops.kernels = lambda: module
    for run in (graph_conv, graph_conv_tiled, others, textures):
        run(np.random.default_rng(0))
    print("clean")
