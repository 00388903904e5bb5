"""One flat buffer for all textures of a process, so that a numba loop can read any of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from training.pictures.compiled import inlined

# Logarithms of linear light for 8-bit sRGB values; black is kept finite.
_SRGB = np.arange(256) / 255
LINEAR = np.where(_SRGB <= 0.04045, _SRGB / 12.92, ((_SRGB + 0.055) / 1.055) ** 2.4).astype(np.float32)
LOG_LINEAR = np.log(LINEAR + 0.004).astype(np.float32)


class Textures(NamedTuple):
    """Texels of all textures, four bytes each (RGBA, sRGB), row by row from the top."""

    texels: np.ndarray  # [n] uint8
    table: np.ndarray  # [textures,3] int64: first byte, height, width


def pack(images: list[np.ndarray]) -> Textures:
    """Pack images [h,w,4] uint8."""
    table, start = [], 0
    for image in images:
        table.append((start, *image.shape[:2]))
        start += image.size
    texels = np.concatenate([image.reshape(-1) for image in images]) if images else np.zeros(0, np.uint8)
    return Textures(texels, np.array(table, np.int64).reshape(-1, 3))


def read(path: Path, side: int) -> np.ndarray:
    """Read a picture as RGBA [side,side,4] uint8. Transparent texels take the colour of the nearest others.

    Colours are averaged with their alpha, and spread into what is transparent, so that edges have no fringe.
    """
    with Image.open(path) as opened:
        image = opened.convert("RGBa").resize((side, side), Image.Resampling.BOX).convert("RGBA")
    rgba = np.array(image)
    return spread(rgba, rgba[..., 3] > 8)


def spread(rgba: np.ndarray, known: np.ndarray, reach: int = 24) -> np.ndarray:
    """Fill the colours of unknown texels within `reach` texels of known ones from the nearest of those."""
    out = rgba.copy()
    if known.all() or not known.any():
        return out
    small = ndimage.binary_dilation(known, iterations=reach) & ~known
    rows, columns = np.nonzero(small)
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    out[rows, columns, :3] = rgba[nearest[0][rows, columns], nearest[1][rows, columns], :3]
    return out


@inlined
def alpha_at(texels: np.ndarray, table: np.ndarray, texture: int, u: float, v: float) -> float:
    """Return the alpha in 0..1 of the nearest texel at (u, v), v upwards; textures repeat."""
    first, height, width = table[texture, 0], table[texture, 1], table[texture, 2]
    x = int(np.floor(u * width)) % width
    y = int(np.floor((1 - v) * height)) % height
    return texels[first + (y * width + x) * 4 + 3] / 255.0


@inlined
def sample(textures: Textures, texture: int, u: float, v: float, curve: np.ndarray, out: np.ndarray) -> None:
    """Read (u, v) bilinearly into out [4]: colours through `curve` [256], alpha in 0..1."""
    texels, table = textures.texels, textures.table
    first, height, width = table[texture, 0], table[texture, 1], table[texture, 2]
    x, y = u * width - 0.5, (1 - v) * height - 0.5
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - x0, y - y0
    x1, y1 = (x0 + 1) % width, (y0 + 1) % height
    x0, y0 = x0 % width, y0 % height
    a, b = first + (y0 * width + x0) * 4, first + (y0 * width + x1) * 4
    c, d = first + (y1 * width + x0) * 4, first + (y1 * width + x1) * 4
    wa, wb, wc, wd = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    for k in range(3):
        out[k] = (
            wa * curve[texels[a + k]] + wb * curve[texels[b + k]]
            + wc * curve[texels[c + k]] + wd * curve[texels[d + k]]
        )  # fmt: skip
    out[3] = (wa * texels[a + 3] + wb * texels[b + 3] + wc * texels[c + 3] + wd * texels[d + 3]) / 255.0
