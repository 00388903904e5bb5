"""The NumPy twins of the texture kernels, with the names and arguments of `topos_rt.gpu.texture_ops`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from topos_rt.gpu.reference import give
from topos_rt.gpu.tables import AnyArray

# Of project_texture, as csrc/texture.h has them: the darkest linear colour, the least weight that is worth
# sampling, the bounds of the log light that is taken away, and the share of its colour that is.
DARKEST, LEAST_FACING = 1e-3, 0.01
LOWEST, HIGHEST, CHROMA = -1.3, 0.9, 0.6
# Of finish_texture: the factor of weights; skin brighter than BRIGHT, in log units, shines, and loses the
# share
# DULLED of that; the bound of log colours over the base; how much thin hair follows the grain.
WEIGHT_GAIN, BRIGHT, DULLED, BOUND, RAGGED = 1.6, 0.16, 0.7, 2.5, 3.0
TERMS = 9  # of `harmonics`


@dataclass(frozen=True, eq=False)
class FinishTexture:
    """The arguments of `topos_rt.gpu.texture_ops.finish_texture`: S texels and Q cells along a side."""

    base: AnyArray  # [S,S,3] float32, linear
    cells: AnyArray  # [Q,Q,4] float32, S a multiple of Q: log colour over the base, and the cover of hair
    texels: AnyArray  # [h,w,4] float32: what project_texture made, less the tone; zero where there is none
    window_cells: AnyArray  # [h/step,w/step,5] float32: share of the texels to keep, face, unevenness
    skin: AnyArray  # [h,w] float32: the share of skin that may shine
    grain: AnyArray  # [S,S] float32 around one, of hair
    hair: AnyArray  # [3] float32, linear
    tone: AnyArray  # [3] float32, added to the texels
    srgb: AnyArray  # [4096] uint8: what linear 0..1 is in the output
    corner: tuple[int, int]  # row and column of the window in the texture
    mirror: bool  # whether the columns of the window mirror each other

    @property
    def step(self) -> int:
        """Texels of a cell, along a side; 0 where there are no cells."""
        sides = [array.shape[0] if len(array.shape) else 0 for array in (self.base, self.cells)]
        return int(sides[0] // sides[1]) if sides[1] else 0


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
    return give(y, work, out)


def finish_texture(given: FinishTexture, out: np.ndarray | None = None) -> np.ndarray:
    """See `topos_rt.gpu.texture_ops.finish_texture`."""
    one, step, grain = np.float32(1), given.step, given.grain
    whole = _grown(given.cells, step)
    fields = _grown(given.window_cells, step)
    colour = given.texels[..., :3] - fields[..., 2:]
    over = np.maximum(colour.sum(2) / np.float32(3) - np.float32(BRIGHT), 0) * np.float32(DULLED) * given.skin
    colour += given.tone - over[..., None]
    weight = np.clip(np.float32(WEIGHT_GAIN) * given.texels[..., 3], 0, 1) * fields[..., 0]
    (top, left), (high, wide) = given.corner, given.skin.shape
    window = whole[top : top + high, left : left + wide, :3]
    if given.mirror:
        share = weight[:, ::-1] * (one - np.clip(2 * weight, 0, 1)) * fields[..., 1]
        window += (colour[:, ::-1] - window) * share[..., None]
    window += (colour - window) * weight[..., None]
    cover = whole[..., 3]
    cover = np.clip(cover * (one + (one - cover) * np.float32(RAGGED) * (grain - one)), 0, 1)[..., None]
    linear = given.base * np.exp(np.clip(whole[..., :3], -BOUND, BOUND))
    linear += (given.hair * grain[..., None] - linear) * cover
    last = np.float32(len(given.srgb) - 1)
    made: np.ndarray = given.srgb[np.clip(linear * last + np.float32(0.5), 0, last).astype(np.int16)]
    if out is None:
        return made
    out[...] = made
    return out


def box_means(values: np.ndarray, radii: Sequence[int]) -> np.ndarray:
    """See `topos_rt.gpu.texture_ops.box_means`."""
    for radius in radii:
        values = _box_mean(_box_mean(values, radius, 0), radius, 1)
    return values


def _box_mean(values: np.ndarray, radius: int, axis: int) -> np.ndarray:
    pad = [(0, 0)] * values.ndim
    pad[axis] = (radius + 1, radius)
    sums = np.cumsum(np.pad(values, pad, mode="edge"), axis)
    lead: tuple[slice, ...] = (slice(None),) * axis
    width = 2 * radius + 1
    means: np.ndarray = sums[(*lead, slice(width, None))] - sums[(*lead, slice(None, -width))]
    means /= width
    return means


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
