"""The meaning of a latent of `mini`: how far its patch of the head lies from the mean head.

The released VAE finds a code of its own. A small VAE that is left to itself on a CPU does not: at first a
latent varies twenty times more between nodes than between heads, and the KL term empties it before the
decoder has noticed. So both halves start from an *anchor* that needs no training: token k is the position and
normal offset, at unit variance, of the vertices that node k of the top level pools. The decoder learns to
invert it, and the encoder and the flow network learn to predict it, so that each has a direct target.
"""

from __future__ import annotations

import torch
from torch import Tensor

from topos_rt.head.hierarchy import Hierarchy
from training.geometry import MeshGeometry


class NodeOffsets:
    """Computes the anchors [B,N,6] of heads [B,V,3]."""

    def __init__(self, hierarchy: Hierarchy, geometry: MeshGeometry, positions: Tensor) -> None:
        """Take the mean and the spread from heads [n,V,3] in the networks' frame."""
        self._clusters = [torch.from_numpy(level.cluster) for level in hierarchy.levels[1:]]
        self._geometry = geometry
        self.mean = torch.zeros(self.num_latents, 6)
        self.scale = torch.ones(6)
        raw = self.of_many(positions)
        self.mean = raw.mean(0)
        self.scale = (raw - self.mean).square().mean((0, 1)).sqrt()

    @property
    def num_latents(self) -> int:
        return int(self._clusters[-1].max()) + 1

    def of_many(self, positions: Tensor) -> Tensor:
        """Return the anchors [n,N,6] of any number of heads [n,V,3], some at a time to save memory."""
        return torch.cat([self(some) for some in positions.split(256)])

    def __call__(self, positions: Tensor) -> Tensor:
        """Return the anchors [B,N,6] of positions [B,V,3] in the networks' frame."""
        features = torch.cat([positions, self._geometry.vertex_normals(positions)], -1).transpose(0, 1)
        for cluster in self._clusters:
            count = torch.bincount(cluster)
            sums = features.new_zeros(len(count), *features.shape[1:]).index_add(0, cluster, features)
            features = sums / count[:, None, None]
        return (features.transpose(0, 1) - self.mean) / self.scale
