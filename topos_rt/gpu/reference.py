"""The NumPy twin of every kernel, with the names and argument order of `topos_rt.gpu.ops`, which checks.

FP32 is computed in FP32 and FP64, which the tests take for the truth, in FP64; FP16 is computed in FP32 and
rounded at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from topos_rt.gpu.layers import GROUP_EPS, GROUPS, Layer
from topos_rt.gpu.tables import Neighbours, Sources, degrees


def graph_conv(
    x: np.ndarray,
    neighbours: Neighbours,
    layer: Layer,
    residual: np.ndarray | None = None,
    residual_rows: np.ndarray | None = None,
    silu: bool = True,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """See `topos_rt.gpu.ops.graph_conv`."""
    work = _work(x.dtype)
    wide = x.astype(work)
    sums = [neighbour_sum(wide, sources, neighbours.rows) for sources in neighbours.types]
    y = np.concatenate(sums, 1) @ layer.matrix.astype(work)
    if layer.bias is not None:
        for degree, bias in zip(degrees(neighbours), layer.bias, strict=True):
            y += degree.astype(work)[:, None] * bias.astype(work)
    if layer.gamma is not None and layer.beta is not None:
        y = group_norm(y, layer.gamma, layer.beta)
    if residual is not None:
        y += residual if residual_rows is None else residual[residual_rows]
    if silu:
        with np.errstate(
            over="ignore"
        ):  # exp of a large number is infinite, and the quotient 0, as it should be
            y /= 1 + np.exp(-y)
    return give(y, x.dtype, out)


def linear_out(
    x: np.ndarray,
    layer: Layer,
    out_rows: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    mean: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """See `topos_rt.gpu.ops.linear_out`."""
    work = _work(x.dtype)
    y = x.astype(work) @ layer.matrix.astype(work)
    if layer.bias is not None:
        y += layer.bias[0]
    if out_rows is not None:
        ordered = np.empty_like(y)
        ordered[out_rows] = y
        y = ordered
    if scale is not None:
        y *= scale
    if mean is not None:
        y += mean
    return give(y, y.dtype, out)


def flow_step(terms: Sequence[np.ndarray], table: np.ndarray, step: np.ndarray, out: np.ndarray) -> None:
    """See `topos_rt.gpu.ops.flow_step`."""
    index = int(step[0])
    if 0 <= index < len(table):
        total = np.zeros_like(terms[0])
        for weight, term in zip(table[index], terms, strict=True):
            total += weight * term
        np.copyto(out, total)
    step += 1


def pack_rows(
    x: np.ndarray, columns: int, source_rows: np.ndarray | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """See `topos_rt.gpu.ops.pack_rows`."""
    rows = x if source_rows is None else x[source_rows]
    with np.errstate(over="ignore"):
        wide = np.pad(rows, ((0, 0), (0, columns - x.shape[1])))
        return give(wide, np.dtype(np.float16), out)


def project(x: np.ndarray, basis: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """See `topos_rt.gpu.ops.project`."""
    return give((basis @ x) @ basis, x.dtype, out)


def add_moves(
    coordinates: np.ndarray, rows: np.ndarray, base: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """See `topos_rt.gpu.ops.add_moves`."""
    directions, vertices, moved = rows.shape
    made = base.copy()
    made[:, :moved] += (coordinates @ rows.reshape(directions, -1)).reshape(vertices, moved)
    return give(made, base.dtype, out)


def neighbour_sum(x: np.ndarray, sources: Sources, rows: int) -> np.ndarray:
    """Return [rows,C], x summed over each row's sources in the order of the table, as the kernel sums."""
    if sources.offsets is None:
        return x[:rows].copy() if sources.indices is None else x[sources.indices]
    assert sources.indices is not None  # `Neighbours` has checked it
    out = np.zeros((rows, x.shape[1]), x.dtype)
    begin, degree = sources.offsets[:-1], np.diff(sources.offsets)
    for place in range(int(degree.max(initial=0))):
        some = np.flatnonzero(degree > place)
        out[some] += x[sources.indices[begin[some] + place]]
    return out


def group_norm(y: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Normalise each row on its own: 4 groups of channels and eps 1e-3, as released."""
    groups = y.reshape(len(y), GROUPS, y.shape[1] // GROUPS)
    centred = groups - groups.mean(2, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(2, keepdims=True) + y.dtype.type(GROUP_EPS))
    return (centred / deviation).reshape(y.shape) * gamma.astype(y.dtype) + beta.astype(y.dtype)


def _work(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that numbers of a type are computed in."""
    return np.promote_types(dtype, np.float32)


def give(values: np.ndarray, dtype: np.dtype, out: np.ndarray | None) -> np.ndarray:
    with np.errstate(over="ignore"):
        if out is None:
            return values.astype(dtype, copy=False)
        np.copyto(out, values, casting="same_kind")
    return out
