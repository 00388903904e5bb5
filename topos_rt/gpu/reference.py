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

# Of project_texture, as csrc/texture.h has them: the darkest linear colour, the least weight that is worth
# sampling, the bounds of the log light that is taken away, and the share of its colour that is.
DARKEST, LEAST_FACING = 1e-3, 0.01
LOWEST, HIGHEST, CHROMA = -1.3, 0.9, 0.6
# Of finish_texture: the factor of weights; skin brighter than BRIGHT, in log units, shines, and loses the share
# DULLED of that; the bound of log colours over the base; how much thin hair follows the grain.
WEIGHT_GAIN, BRIGHT, DULLED, BOUND, RAGGED = 1.6, 0.16, 0.7, 2.5, 3.0
TERMS = 9  # of `harmonics`


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
    return _give(y, x.dtype, out)


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
    return _give(y, y.dtype, out)


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
        return _give(wide, np.dtype(np.float16), out)


def project(x: np.ndarray, basis: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """See `topos_rt.gpu.ops.project`."""
    return _give((basis @ x) @ basis, x.dtype, out)


def project_texture(
    vertices: np.ndarray,
    weights: np.ndarray,
    attributes: np.ndarray,
    picture: np.ndarray,
    light: np.ndarray,
    base: np.ndarray,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """See `topos_rt.gpu.ops.project_texture`."""
    work = attributes.dtype
    at = sum(attributes[vertices[:, k]] * weights[:, k, None].astype(work) for k in range(3))
    y = np.zeros((len(vertices), 4), work)
    high, wide = picture.shape[:2]
    x, down, facing = at[:, 0] - work.type(0.5), at[:, 1] - work.type(0.5), at[:, 2]
    inside = (x >= 0) & (down >= 0) & (x <= wide - 1) & (down <= high - 1)
    rows = np.flatnonzero(inside & (facing > LEAST_FACING))
    colour = np.log(np.maximum(_bilinear(picture, x[rows], down[rows]), work.type(DARKEST)))
    normals = at[rows, 3:]
    normals /= np.sqrt(np.maximum((normals * normals).sum(1, keepdims=True), work.type(1e-12)))
    # no matrix product: its sums depend on the number of threads
    shade = sum(
        term[:, None] * row for term, row in zip(harmonics(normals).T, light.astype(work), strict=True)
    )
    mean = shade.mean(1, keepdims=True)
    shade = np.clip(mean + work.type(CHROMA) * (shade - mean), work.type(LOWEST), work.type(HIGHEST))
    y[rows, :3] = colour - shade - base[rows]
    y[rows, 3] = facing[rows]
    return _give(y, work, out)


def finish_texture(
    base: np.ndarray,
    cells: np.ndarray,
    texels: np.ndarray,
    window_cells: np.ndarray,
    skin: np.ndarray,
    grain: np.ndarray,
    hair: np.ndarray,
    tone: np.ndarray,
    srgb: np.ndarray,
    corner: tuple[int, int],
    mirror: bool,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """See `topos_rt.gpu.ops.finish_texture`."""
    one, step = np.float32(1), len(base) // len(cells)
    whole = _grown(cells, step)
    fields = _grown(window_cells, step)
    colour = texels[..., :3] - fields[..., 2:]
    over = np.maximum(colour.sum(2) / np.float32(3) - np.float32(BRIGHT), 0) * np.float32(DULLED) * skin
    colour += tone - over[..., None]
    weight = np.clip(np.float32(WEIGHT_GAIN) * texels[..., 3], 0, 1) * fields[..., 0]
    (top, left), (high, wide) = corner, skin.shape
    window = whole[top : top + high, left : left + wide, :3]
    if mirror:
        share = weight[:, ::-1] * (one - np.clip(2 * weight, 0, 1)) * fields[..., 1]
        window += (colour[:, ::-1] - window) * share[..., None]
    window += (colour - window) * weight[..., None]
    cover = whole[..., 3]
    cover = np.clip(cover * (one + (one - cover) * np.float32(RAGGED) * (grain - one)), 0, 1)[..., None]
    linear = base * np.exp(np.clip(whole[..., :3], -BOUND, BOUND))
    linear += (hair * grain[..., None] - linear) * cover
    last = np.float32(len(srgb) - 1)
    made = srgb[np.clip(linear * last + np.float32(0.5), 0, last).astype(np.int16)]
    if out is None:
        return made
    out[...] = made
    return out


def _grown(cells: np.ndarray, step: int) -> np.ndarray:
    """Return cells [h,w,C], bilinearly, at texels [step*h,step*w,C]."""
    for axis in (0, 1):
        count = cells.shape[axis]
        place = (np.arange(count * step, dtype=np.float32) + np.float32(0.5)) / np.float32(step) - np.float32(
            0.5
        )
        place = np.clip(place, 0, count - 1)
        low = place.astype(np.int32)
        share = (place - low).reshape([-1 if a == axis else 1 for a in range(3)]).astype(np.float32)
        first = np.take(cells, low, axis)
        cells = first + (np.take(cells, np.minimum(low + 1, count - 1), axis) - first) * share
    return cells


def harmonics(normals: np.ndarray) -> np.ndarray:
    """Return the spherical harmonics up to order two at unit normals [n,3], not normalised: [n,9]."""
    x, y, z = normals.T
    one = np.ones_like(x)
    return np.stack([one, x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - one], 1)


def _bilinear(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the colours [n,3] of a picture at places from 0 to its width or height less one."""
    high, wide = picture.shape[:2]
    left, top = np.minimum(x.astype(np.int32), wide - 2), np.minimum(y.astype(np.int32), high - 2)
    u, v = (x - left)[:, None], (y - top)[:, None]
    flat, first = picture.reshape(-1, 3), top * wide + left
    upper = flat[first] * (1 - u) + flat[first + 1] * u
    lower = flat[first + wide] * (1 - u) + flat[first + wide + 1] * u
    found: np.ndarray = upper * (1 - v) + lower * v
    return found


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


def _give(values: np.ndarray, dtype: np.dtype, out: np.ndarray | None) -> np.ndarray:
    with np.errstate(over="ignore"):
        if out is None:
            return values.astype(dtype, copy=False)
        np.copyto(out, values, casting="same_kind")
    return out
