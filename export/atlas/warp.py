"""The matrix that spreads shifts of landmarks over the vertices of a face."""

from __future__ import annotations

import numpy as np

from export.atlas.layout import Layout
from topos_rt.head.landmark_map import COUNT, LandmarkMap
from topos_rt.head.topology import Topology

_SMOOTH = 2e-4  # of the spline: how far it may miss what the detector only guesses
_NOISY = 0.05  # share of the outer-eye distance: landmarks that are found this badly are left out
_INNER, _OUTER = (
    0.04,
    0.26,
)  # distances in the atlas from the landmarks at which the shifts begin and end to fade
_LEAST = 0.002


def spread(
    topology: Topology, layout: Layout, landmarks: LandmarkMap
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the matrix [m,k] of a thin-plate spline in the atlas, its vertices [m] and its landmarks [k]."""
    used = np.flatnonzero(landmarks.noise < _NOISY)
    on_skin = layout.parts[topology.triangle_uvs] == 0
    vertices, first = np.unique(topology.triangles[on_skin], return_index=True)
    places = layout.uvs[topology.triangle_uvs[on_skin][first]].astype(np.float64)
    centres = layout.landmark_uvs[used].astype(np.float64)
    # Landmarks of eyelids' insides and the like may share a place, which the smoothing copes with.
    matrix = _spline(centres, places)
    near = np.sqrt(((places[:, None] - centres) ** 2).sum(2)).min(1)
    fade = np.clip((_OUTER - near) / (_OUTER - _INNER), 0, 1)
    matrix *= fade[:, None]
    kept = np.abs(matrix).max(1) > _LEAST
    assert len(used) <= COUNT
    return matrix[kept].astype(np.float16), vertices[kept].astype(np.int32), used.astype(np.int32)


def _spline(centres: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the [n,k] matrix of a smoothing thin-plate spline (Bookstein 1989) from centres to places."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        squares = ((a[:, None] - b[None]) ** 2).sum(-1)
        found: np.ndarray = 0.5 * squares * np.log(np.maximum(squares, 1e-12))
        return found

    count = len(centres)
    flat = np.concatenate([np.ones((count, 1)), centres], 1)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = kernel(centres, centres) + _SMOOTH * np.eye(count)
    system[:count, count:], system[count:, :count] = flat, flat.T
    solved = np.linalg.solve(system, np.concatenate([np.eye(count), np.zeros((3, count))]))
    rows = np.concatenate([kernel(places, centres), np.ones((len(places), 1)), places], 1)
    found: np.ndarray = rows @ solved
    return found
