"""Random gather tables, layers and features, and the check of how near a kernel must come."""

from __future__ import annotations

from typing import Any

import numpy as np

from topos_rt.gpu import reference
from topos_rt.gpu.layers import Layer
from topos_rt.gpu.tables import Neighbours, Sources, degrees


def random_csr(rng: np.random.Generator, rows: int, inputs: int, most: int = 16) -> Sources:
    """Draw 0 to `most` sources for each row; some rows have none, and some sources are repeated."""
    degree = rng.integers(0, most + 1, rows) * (rng.random(rows) < 0.8) if inputs else np.zeros(rows, int)
    offsets = np.concatenate([[0], np.cumsum(degree)]).astype(np.int32)
    return Sources(offsets, rng.integers(0, max(inputs, 1), int(offsets[-1])).astype(np.int32))


def random_neighbours(rng: np.random.Generator, rows: int, inputs: int) -> Neighbours:
    return Neighbours(rows, inputs, (random_csr(rng, rows, inputs), random_csr(rng, rows, inputs, 3)))


def random_layer(
    rng: np.random.Generator, c_in: int, c_out: int, types: int = 2, norm: bool = True, bias: bool = True
) -> Layer:
    def draw(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    return Layer(
        draw(types * c_in, c_out) * np.float32(c_in**-0.5),
        types,
        0.1 * draw(types, c_out) if bias else None,
        1 + 0.1 * draw(c_out) if norm else None,
        0.1 * draw(c_out) if norm else None,
    )


def features(rng: np.random.Generator, rows: int, channels: int) -> np.ndarray:
    return rng.standard_normal((rows, channels)).astype(np.float16)


def naive(
    x: np.ndarray,
    neighbours: Neighbours,
    layer: Layer,
    residual: np.ndarray | None = None,
    residual_rows: np.ndarray | None = None,
    silu: bool = True,
) -> np.ndarray:
    """Do the same maths the plain way: FP16 operands, FP32 sums, FP16 after every operation."""
    half, wide = np.float16, np.float32
    sums = [
        reference.neighbour_sum(x.astype(wide), s, neighbours.rows).astype(half) for s in neighbours.types
    ]
    y = (np.concatenate(sums, 1).astype(wide) @ layer.matrix.astype(half).astype(wide)).astype(half)
    if layer.bias is not None:
        for degree, bias in zip(degrees(neighbours), layer.bias, strict=True):
            y = (y + degree[:, None].astype(half) * bias.astype(half)).astype(half)
    if layer.gamma is not None and layer.beta is not None:
        y = reference.group_norm(y.astype(wide), layer.gamma, layer.beta).astype(half)
    if residual is not None:
        y = (y + (residual if residual_rows is None else residual[residual_rows])).astype(half)
    if silu:
        y = (y.astype(wide) / (1 + np.exp(-y.astype(wide)))).astype(half)
    return y


def near(got: np.ndarray, plain: np.ndarray, truth: np.ndarray, factor: float = 2.0) -> None:
    """Assert that RMS and largest error against FP64 are at most `factor` times those of the plain way."""
    assert got.shape == truth.shape and np.isfinite(got).all()
    if not truth.size:
        return
    mine, theirs = np.abs(np.float64(got) - truth), np.abs(np.float64(plain) - truth)
    least = np.finfo(got.dtype).eps * max(1e-3, float(np.abs(truth).max())) / 4
    assert np.sqrt((mine**2).mean()) <= max(factor * np.sqrt((theirs**2).mean()), least)
    assert mine.max() <= max(factor * theirs.max(), 4 * least)
