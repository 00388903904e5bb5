"""Count what a head of a fixed topology must never show."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from models.mini import RADIUS_M
from topos_rt.head.normals import vertex_normals
from training.heads import HeadModel

PENETRATION_MM = 0.5
CREASE_HEADS, CREASE_SHARE = 500, 0.02


class Defects:
    """Counts what a fixed topology must never show: folded faces, and lids or lips through each other.

    Extreme true heads fold a face or two themselves, so only what the head's own truth does not show counts.
    Creases do not count either: they are the few faces that one true head in fifty folds, such as one at the
    root of the tongue.
    """

    def __init__(self, model: HeadModel, heads: np.ndarray) -> None:
        """Learn the limits from true heads [n,V,3], some hundreds, in the networks' frame."""
        mean = heads.mean(0)
        self._triangles = model.topology.triangles
        self._creased = np.zeros(len(self._triangles), bool)
        self._creased = np.mean([self._folded(head) for head in heads[:CREASE_HEADS]], 0) >= CREASE_SHARE
        lips = model.topology.regions["lips"]
        above = mean[lips, 1] > np.median(mean[lips, 1])
        self._lips = self._facing(mean, lips[~above], lips[above])
        upper, lower = (
            np.flatnonzero(model.bone_weight(bone) > 0.5) for bone in ("orbicularis03", "orbicularis04")
        )
        self._lids = self._above_each_other(mean, lower, upper)

    def count(self, got: np.ndarray, want: np.ndarray, radius: float) -> dict[str, int]:
        """Count the defects of one head [V,3] against the true one, both in the networks' frame."""
        folded = self._folded(got) & ~self._folded(want)
        tolerance = PENETRATION_MM / 1000 / radius
        crossings = {
            name: int((gaps(got) < np.minimum(0, gaps(want)) - tolerance).sum())
            for name, gaps in (("lip_crossings", self._lip_gaps), ("lid_crossings", self._lid_gaps))
        }
        return {"folded_faces": int(folded.sum()), **crossings}

    def _folded(self, positions: np.ndarray) -> np.ndarray:
        """Mark the faces [F] that look against the surface around them."""
        a, b, c = positions[self._triangles].transpose(1, 0, 2)
        around = vertex_normals(positions, self._triangles)[self._triangles].sum(1)
        return ((np.cross(b - a, c - a) * around).sum(1) < 0) & ~self._creased

    def _facing(self, mean: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Pair lip vertices [n,2] that lie opposite each other, at most 3 mm apart."""
        normals = vertex_normals(mean, self._triangles)
        distance, nearest = cKDTree(mean[upper]).query(mean[lower])
        pairs = np.stack([lower, upper[nearest]], 1)
        opposite = (normals[pairs[:, 0]] * normals[pairs[:, 1]]).sum(1) < -0.3
        return pairs[opposite & (distance < 0.003 / RADIUS_M)]

    @staticmethod
    def _above_each_other(mean: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Pair each lower lid vertex with the upper one at the same side and depth: [n,2]."""
        _, nearest = cKDTree(mean[upper][:, [0, 2]]).query(mean[lower][:, [0, 2]])
        return np.stack([lower, upper[nearest]], 1)

    def _lip_gaps(self, positions: np.ndarray) -> np.ndarray:
        """Return how far the upper lip lies above the lower one, along the lower one's normal."""
        normals = vertex_normals(positions, self._triangles)
        low, up = self._lips.T
        return ((positions[up] - positions[low]) * normals[low]).sum(1)

    def _lid_gaps(self, positions: np.ndarray) -> np.ndarray:
        low, up = self._lids.T
        return positions[up, 1] - positions[low, 1]
