"""Landmarks that the detector finds in drawings, cast back onto the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from export.landmarks.drawing import SIDE, Drawing
from topos_rt.faces.finder import FaceFinder
from topos_rt.head.landmark_map import COUNT, IRISES

_FACING = 0.25  # least cosine between the surface and the line of sight: landmarks slide along outlines
_SETTLED = 30  # steps of Weiszfeld's algorithm
_LEAST = 1e-4  # metres; keeps its weights finite
ENOUGH = 4  # hits for a median


@dataclass(frozen=True, eq=False)
class Hits:
    """Where the landmarks were seen, in all drawings of a pose of the head: points of its triangles."""

    landmark: np.ndarray  # [n] 0..467, and IRISES
    triangle: np.ndarray  # [n]
    weights: np.ndarray  # [n,3]
    facing: np.ndarray  # [n] cosine between the surface and the line of sight
    faces: int  # drawings in which a face was found

    def points(self, positions: np.ndarray, triangles: np.ndarray) -> np.ndarray:
        """Return the hits [n,3] on a head with vertices [V,3] and triangles [F,3]."""
        return np.einsum("nij,ni->nj", positions[triangles[self.triangle]], self.weights)


def cast(finder: FaceFinder, drawings: Sequence[tuple[Drawing, np.ndarray]]) -> Hits:
    """Find the landmarks in drawings and cast them back.

    drawings: each with the cosines [F] between its triangles and the line of sight.
    """
    ids = np.concatenate([np.arange(COUNT), IRISES])
    parts = []
    for drawing, cosines in drawings:
        faces = finder.find_in(drawing.picture, most=1)
        if not faces or not len(faces[0].landmarks):
            continue
        x, y = np.floor(faces[0].landmarks[ids, :2]).astype(int).T
        inside = (x >= 0) & (x < SIDE) & (y >= 0) & (y < SIDE)
        x, y = np.clip(x, 0, SIDE - 1), np.clip(y, 0, SIDE - 1)
        triangle = drawing.triangles[y, x]
        seen = np.flatnonzero(inside & (triangle >= 0) & (cosines[triangle] > _FACING))
        parts.append((ids[seen], triangle[seen], drawing.weights[y, x][seen], cosines[triangle[seen]]))
    if not parts:
        empty = np.zeros(0, np.int64)
        return Hits(empty, empty, np.zeros((0, 3)), np.zeros(0), 0)
    landmark, triangle, weights, facing = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Hits(landmark, triangle, weights, facing, len(parts))


def medians(hits: Hits, points: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Return the geometric median of each landmark's hits, weighted by how they face: [474,3].

    points: [n,3] of the hits. usable: [n]. NaN where there are fewer than ENOUGH. (Weiszfeld 1937)
    """
    found = np.full((max(IRISES) + 1, 3), np.nan)
    for landmark in np.unique(hits.landmark[usable]):
        mine = usable & (hits.landmark == landmark)
        if np.count_nonzero(mine) < ENOUGH:
            continue
        own, weight = points[mine], hits.facing[mine]
        middle = np.average(own, axis=0, weights=weight)
        for _ in range(_SETTLED):
            near = weight / np.maximum(np.linalg.norm(own - middle, axis=1), _LEAST)
            middle = near @ own / near.sum()
        found[landmark] = middle
    return found
