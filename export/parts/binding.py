"""Weights with which vertices of a head place a part, and the motions of parts that blendshapes turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_NOISE_M = 0.4e-3  # of vertices that a decoder makes, in contrast to the source's: keeps the weights small
_ACTIONS = 3.0  # how many heads one blendshape counts for
_MOVES_M = 1e-3  # blendshapes that move a piece less do not move it


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of a piece: where it lies on n heads, and how S blendshapes move it on the mean head."""

    heads: np.ndarray  # [n,V,3]
    points: np.ndarray  # [n,m,3]
    head_moves: np.ndarray  # [S,V,3]
    moves: np.ndarray  # [S,m,3]


def chosen_anchors(head: np.ndarray, points: np.ndarray, reach: float, count: int) -> np.ndarray:
    """Return `count` vertices [count] of a head [V,3] near points [m,3], spread out by farthest points.

    reach: metres; it grows until there are enough.
    """
    away = np.sqrt(((head[:, None] - points[None]) ** 2).sum(2)).min(1)
    ids = np.flatnonzero(away < max(reach, float(np.sort(away)[count - 1]) * 1.001))
    chosen = [int(ids[away[ids].argmin()])]
    far = np.linalg.norm(head[ids] - head[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(ids[far.argmax()]))
        far = np.minimum(far, np.linalg.norm(head[ids] - head[chosen[-1]], axis=1))
    return np.array(chosen)


def fitted(truth: Truth, anchors: np.ndarray, follows: bool) -> np.ndarray:
    """Return weights [m,k] of the anchors [k] by ridge regression over all heads.

    They repeat the piece exactly where the head is an affine image of the mean head. follows: whether the
    blendshapes count as further heads, because the piece is to follow them by the same weights.
    """
    source = truth.heads[:, anchors].astype(np.float64)
    middle, own = source.mean(0), truth.points.mean(0, dtype=np.float64)
    sources, targets = source - middle, truth.points - own
    if follows:
        sources = np.concatenate([sources, _ACTIONS * truth.head_moves[:, anchors]])
        targets = np.concatenate([targets, _ACTIONS * truth.moves])
    k = len(anchors)
    flat = sources.transpose(1, 0, 2).reshape(k, -1)
    wanted = targets.transpose(1, 0, 2).reshape(len(own), -1)
    affine = np.concatenate([middle, np.ones((k, 1))], 1)
    # Lagrange's conditions of the least squares with affine.T @ w = (own, 1)
    system = np.zeros((k + 4, k + 4))
    system[:k, :k] = flat @ flat.T + len(truth.heads) * _NOISE_M**2 * np.eye(k)
    system[:k, k:], system[k:, :k] = affine, affine.T
    right = np.concatenate([flat @ wanted.T, np.concatenate([own, np.ones((len(own), 1))], 1).T])
    found: np.ndarray = np.linalg.solve(system, right)[:k].T
    return found


def nearest_frames(truth: Truth, triangles: np.ndarray) -> np.ndarray:
    """Return where a piece lies [n,m,3] if each vertex keeps its place in the frame of its nearest triangle.

    It is what binding to the surface usually means; `fitted` is judged against it.
    """
    mean, own = truth.heads.mean(0, dtype=np.float64), truth.points.mean(0, dtype=np.float64)
    middles = mean[triangles].mean(1)
    nearest = triangles[((own[:, None] - middles[None]) ** 2).sum(2).argmin(1)]
    local = np.einsum("mij,mi->mj", _axes(mean[nearest]), own - mean[nearest].mean(1))
    out = np.zeros(truth.points.shape)
    sizes = np.sqrt(np.linalg.norm(_cross(mean[nearest]), axis=1))
    for number, head in enumerate(truth.heads.astype(np.float64)):
        corners = head[nearest]
        scale = np.sqrt(np.linalg.norm(_cross(corners), axis=1)) / sizes
        out[number] = corners.mean(1) + np.einsum("mij,mj->mi", _axes(corners), local) * scale[:, None]
    return out


def _cross(corners: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return found


def _axes(corners: np.ndarray) -> np.ndarray:
    """Return right-handed axes [m,3,3], in columns, of triangles [m,3,3]."""
    along = corners[:, 1] - corners[:, 0]
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    normal = _cross(corners)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    return np.stack([along, np.cross(normal, along), normal], -1)


def motion(rest: np.ndarray, moves: np.ndarray) -> np.ndarray | None:
    """Return the affine map [3,4] of points [m,3] that offsets [m,3] move; None where they hardly move."""
    if np.linalg.norm(moves, axis=1).max() < _MOVES_M:
        return None
    flat = np.concatenate([rest, np.ones((len(rest), 1))], 1)
    found: np.ndarray = np.linalg.lstsq(flat, rest + moves, rcond=None)[0].T
    return found
