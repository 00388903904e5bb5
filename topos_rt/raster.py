"""A small z-buffer triangle rasteriser in vectorised NumPy.

It draws previews on machines without a display and makes the G-buffers that `mini` is trained on.
"""

from __future__ import annotations

import numpy as np

# Candidate (triangle, pixel) pairs examined at once: bounds memory at about 200 MB.
_PAIRS_PER_CHUNK = 2_000_000
_EMPTY = np.iinfo(np.int64).max


def rasterize(
    screen: np.ndarray, triangles: np.ndarray, height: int, width: int, cull: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest triangle under every pixel centre.

    screen: [V,3] float, x to the right and y down in pixels, z depth (positive, smaller is nearer).
    triangles: [F,3] int, counter-clockwise when seen from the front.
    Returns triangle [H,W] int32 (-1 where empty) and barycentric [H,W,3] float32 (screen-space linear).
    With `cull`, triangles that face away are left out. A tie in depth goes to the lower triangle index.
    """
    corners = np.asarray(screen, np.float32)[triangles]  # [F,3,3]
    xy, z = corners[..., :2], corners[..., 2]
    # y points down, so a counter-clockwise front face has a negative cross product on screen
    area = _cross(xy[:, 1] - xy[:, 0], xy[:, 2] - xy[:, 0])
    low = np.maximum(np.ceil(xy.min(1) - 0.5), 0).astype(np.int32)
    high = np.minimum(np.floor(xy.max(1) - 0.5), (width - 1, height - 1)).astype(np.int32)
    box = high - low + 1  # [F,2] pixels whose centres may lie inside
    drawn = (box > 0).all(1) & (z.min(1) > 0) & (area < 0 if cull else area != 0)
    ids = np.flatnonzero(drawn)
    nearest = np.full(height * width, _EMPTY, np.int64)
    counts = box[ids, 0].astype(np.int64) * box[ids, 1]
    ends = np.cumsum(counts)
    start = 0
    while start < len(ids):
        base = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, base + _PAIRS_PER_CHUNK, side="right")))
        chunk = ids[start:stop]
        _draw(nearest, chunk, counts[start:stop], low[chunk], box[chunk, 0], xy[chunk], z[chunk], width)
        start = stop
    covered = nearest != _EMPTY
    triangle = np.full(height * width, -1, np.int32)
    triangle[covered] = (nearest[covered] & 0xFFFFFFFF).astype(np.int32)
    barycentric = np.zeros((height * width, 3), np.float32)
    pixel = np.flatnonzero(covered)
    centre = np.stack([pixel % width, pixel // width], 1).astype(np.float32) + 0.5
    barycentric[pixel] = _barycentric(xy[triangle[pixel]], centre)
    return triangle.reshape(height, width), barycentric.reshape(height, width, 3)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _barycentric(xy: np.ndarray, point: np.ndarray) -> np.ndarray:
    """xy [n,3,2], point [n,2] -> weights [n,3] that sum to one."""
    total = _cross(xy[:, 1] - xy[:, 0], xy[:, 2] - xy[:, 0])
    w1 = _cross(point - xy[:, 0], xy[:, 2] - xy[:, 0]) / total
    w2 = _cross(xy[:, 1] - xy[:, 0], point - xy[:, 0]) / total
    return np.stack([1 - w1 - w2, w1, w2], 1)


def _draw(
    nearest: np.ndarray,
    ids: np.ndarray,
    counts: np.ndarray,
    low: np.ndarray,
    box_width: np.ndarray,
    xy: np.ndarray,
    z: np.ndarray,
    width: int,
) -> None:
    """Lower `nearest` [H*W] (depth bits above triangle id) by the candidate pairs of some triangles."""
    local = np.repeat(np.arange(len(ids)), counts)
    offset = np.arange(len(local)) - np.repeat(np.cumsum(counts) - counts, counts)
    row, column = np.divmod(offset, box_width[local])
    x, y = low[local, 0] + column, low[local, 1] + row
    weights = _barycentric(xy[local], np.stack([x, y], 1).astype(np.float32) + 0.5)
    inside = (weights >= 0).all(1)
    local, weights = local[inside], weights[inside]
    depth = (weights * z[local]).sum(1).astype(np.float32)
    # the bits of a positive float32 sort like the number itself
    key = (depth.view(np.int32).astype(np.int64) << 32) | ids[local]
    np.minimum.at(nearest, y[inside].astype(np.int64) * width + x[inside], key)
