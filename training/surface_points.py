"""Points of a head's surface, and where they are in the aligned cut of a render: dense landmarks.

A network that has seen renders alone can find such points in photographs (Wood et al., arXiv 2204.02776).
`training.place_limits` measures what their places tell of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.heads import HeadModel
from training.pictures.shards import Shard

COUNT = 320
_FRONT_M, _BELOW_M = -0.02, -0.12  # of the tip of the nose's distance to the middle: what a cut may show
_HIDDEN = ("eyes", "tongue")


@dataclass(frozen=True)
class SurfacePoints:
    """Some vertices of the head, spread evenly over what a cut of the face shows."""

    vertices: np.ndarray  # [P]
    actions: np.ndarray  # [52,P,3] metres, how facial actions move them

    @classmethod
    def of(cls, model: HeadModel) -> SurfacePoints:
        """Choose the points of one side, and take their partners on the other, so that both count alike."""
        at = model.template - (model.template.min(0) + model.template.max(0)) / 2
        partner = _partners(at)
        allowed = (at[:, 2] > _FRONT_M) & (at[:, 1] > _BELOW_M)
        for name in _HIDDEN:
            allowed[model.topology.regions.get(name, [])] = False
        allowed &= allowed[partner] & (partner[partner] == np.arange(len(at)))
        left = np.flatnonzero(allowed & (at[:, 0] >= -1e-4))
        chosen: list[int] = [int(left[at[left, 2].argmax()])]
        away = np.full(len(left), np.inf)
        count = 0
        while True:
            newest = chosen[-1]
            count += 1 if partner[newest] == newest else 2
            away = np.minimum(away, np.linalg.norm(at[left] - at[newest], axis=1))
            if count >= COUNT - 1:
                break
            chosen.append(int(left[away.argmax()]))
        own = np.array(chosen)
        vertices = np.concatenate([own, partner[own][partner[own] != own]])
        return cls(vertices, model.action_deltas[:, vertices])

    def places(self, shard: Shard, heads: np.ndarray, i: int, to_cut: np.ndarray) -> np.ndarray:
        """Return the true places [P,3] of the points in a cut of the i-th picture of a shard.

        heads: the shard's neutral heads [m,V,3], metres. to_cut: [2,3], the map from the picture's pixels to
        the cut's. x and y are the cut's pixels; z is depth in them, 0 at the points' mean, nearer is larger.
        """
        points = heads[shard.person[i], self.vertices]
        points = points + np.tensordot(shard.weights[i].astype(np.float32), self.actions, 1)
        seen = shard.camera_of(i).project(points).astype(np.float64)
        flat = seen[:, :2] @ to_cut[:, :2].T + to_cut[:, 2]
        camera = shard.camera_of(i)
        scale = camera.focal / seen[:, 2].mean() * np.sqrt(abs(np.linalg.det(to_cut[:, :2])))
        depth = (seen[:, 2].mean() - seen[:, 2]) * scale
        return np.column_stack([flat, depth]).astype(np.float32)


def _partners(at: np.ndarray) -> np.ndarray:
    """Return for each vertex of a symmetric head [V,3] the nearest one to its place in a mirror."""
    from scipy.spatial import cKDTree

    _, nearest = cKDTree(at * [-1, 1, 1]).query(at)
    return np.asarray(nearest)
