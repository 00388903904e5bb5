"""A small z-buffer triangle rasteriser in vectorised NumPy.

It draws previews on machines without a display and makes the G-buffers that `mini` is trained on.
"""

from __future__ import annotations

import numpy as np

# Pixels drawn at once: few enough that their arrays stay in the processor's cache.
_PIXELS_PER_CHUNK = 100_000
_EMPTY = np.iinfo(np.int64).max


def rasterize(
    screen: np.ndarray, triangles: np.ndarray, height: int, width: int, cull: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest triangle under every pixel centre.

    screen: [V,3] float, x to the right and y down in pixels, z depth (positive, smaller is nearer).
    triangles: [F,3] int, counter-clockwise when seen from the front.
    Returns triangle ids [H,W] int32 (-1 where empty) and barycentric weights [H,W,3] float32 (screen-space
    linear). With `cull`, triangles that face away are left out. A tie in depth goes to the lower triangle id.
    Triangles that share an edge leave no pixel between them uncovered.
    """
    # float64, because in float32 the two sides of an edge may round away from each other
    x, y, z = np.asarray(screen, np.float64).T[:, np.asarray(triangles).T]  # [3,F] each
    # y points down, so a counter-clockwise front face has a negative cross product on screen
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    drawn = (area < 0 if cull else area != 0) & (np.minimum.reduce(z) > 0)
    ids = np.flatnonzero(drawn)
    x, y, z, area = x[:, ids], y[:, ids], z[:, ids], area[ids]
    span, first, count, depth, slope = _spans(x, y, z, area, height, width)
    nearest = np.full(height * width, _EMPTY, np.int64)
    ends = np.cumsum(count)
    start = 0
    while start < len(count):
        base = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, base + _PIXELS_PER_CHUNK, side="right")))
        part = slice(start, stop)
        _draw(nearest, span[part], first[part], count[part], depth[part], slope[part])
        start = stop
    pixel = np.flatnonzero(nearest != _EMPTY)
    drawn_id = nearest[pixel] & 0xFFFFFFFF
    triangle = np.full(height * width, -1, np.int32)
    triangle[pixel] = ids[drawn_id]
    barycentric = np.zeros((height * width, 3), np.float32)
    barycentric[pixel] = _barycentric(x, y, area, drawn_id, pixel, width)
    return triangle.reshape(height, width), barycentric.reshape(height, width, 3)


def _spans(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, area: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Split each triangle into runs of pixels, one per row.

    x, y, z: [3,n] coordinates of the corners. area: [n] twice the signed area.
    Returns per run: the triangle's number, first pixel, length, depth at the first, its change per pixel.
    """
    top = np.maximum(np.ceil(np.minimum.reduce(y) - 0.5), 0).astype(np.int64)
    bottom = np.minimum(np.floor(np.maximum.reduce(y) - 0.5), height - 1).astype(np.int64)
    rows = np.maximum(bottom - top + 1, 0)
    span = np.repeat(np.arange(len(area)), rows)
    row = np.arange(len(span)) - np.repeat(np.cumsum(rows) - rows - top, rows)
    left, right = np.full(len(span), -1.0), np.full(len(span), width + 1.0)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        # measured from the upper end, so that both triangles at an edge find the same crossing
        down = y[i] < y[j]
        upper_x, upper_y = np.where(down, x[i], x[j]), np.where(down, y[i], y[j])
        flat = y[i] == y[j]
        run = np.where(down, x[j] - x[i], x[i] - x[j]) / np.where(flat, 1, np.abs(y[j] - y[i]))
        cross = upper_x[span] + (row + 0.5 - upper_y[span]) * run[span]
        is_left = down == (area < 0)
        np.maximum(left, cross, out=left, where=(is_left & ~flat)[span])
        np.minimum(right, cross, out=right, where=(~is_left & ~flat)[span])
    start = np.maximum(np.ceil(left - 0.5), 0).astype(np.int64)
    count = np.minimum(np.floor(right - 0.5), width - 1).astype(np.int64) - start + 1
    kept = np.flatnonzero(count > 0)
    span, row, start = span[kept], row[kept], start[kept]
    slope_x = ((z[1] - z[0]) * (y[2] - y[0]) - (z[2] - z[0]) * (y[1] - y[0])) / area
    slope_y = ((z[2] - z[0]) * (x[1] - x[0]) - (z[1] - z[0]) * (x[2] - x[0])) / area
    at_origin = z[0] - slope_x * x[0] - slope_y * y[0]
    depth = at_origin[span] + slope_x[span] * (start + 0.5) + slope_y[span] * (row + 0.5)
    return span, row * width + start, count[kept], depth, slope_x[span]


def _draw(
    nearest: np.ndarray,
    ids: np.ndarray,
    first: np.ndarray,
    count: np.ndarray,
    depth: np.ndarray,
    slope: np.ndarray,
) -> None:
    """Draw runs of pixels into `nearest` [H*W] (depth bits above triangle id), which keeps the minimum."""
    run = np.repeat(np.arange(len(count)), count)
    step = np.arange(len(run)) - np.repeat(np.cumsum(count) - count, count)
    # the bits of a positive float32 sort like the number itself
    z = np.maximum(depth[run] + slope[run] * step, 1e-30).astype(np.float32)
    np.minimum.at(nearest, first[run] + step, (z.view(np.int32).astype(np.int64) << 32) | ids[run])


def _barycentric(
    x: np.ndarray, y: np.ndarray, area: np.ndarray, triangle: np.ndarray, pixel: np.ndarray, width: int
) -> np.ndarray:
    """Return weights [n,3] that sum to one: affine functions of the pixel, set up once per triangle."""
    row, column = np.divmod(pixel, width)
    across, down = column + 0.5, row + 0.5
    weights = np.empty((len(pixel), 3), np.float32)
    for number, (i, j) in ((1, (2, 0)), (2, (0, 1))):
        # zero on the edge from corner i to corner j, one at the third corner
        per_x, per_y = (y[i] - y[j]) / area, (x[j] - x[i]) / area
        constant = -per_x * x[i] - per_y * y[i]
        weights[:, number] = per_x[triangle] * across + per_y[triangle] * down + constant[triangle]
    np.clip(weights[:, 1:], 0, 1, out=weights[:, 1:])
    weights[:, 0] = np.maximum(1 - weights[:, 1] - weights[:, 2], 0)
    return weights
