"""Compute differentiable mesh geometry for the losses, and sample surfaces for the VAE encoder."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from topos_rt.head.topology import Topology


class MeshGeometry:
    """The geometry of heads [B,V,3] of one topology."""

    def __init__(self, topology: Topology, mean_positions: np.ndarray) -> None:
        self.triangles = torch.from_numpy(topology.triangles.astype(np.int64))
        self.num_vertices = topology.num_vertices
        self.edge_triangles = torch.from_numpy(_edge_triangles(topology.triangles))
        _, area = self.face_normals(torch.from_numpy(mean_positions)[None])
        self._area = area[0]
        faces = len(self.triangles)
        places = torch.stack([self.triangles.T.reshape(-1), torch.arange(faces).repeat(3)])
        incidence = torch.sparse_coo_tensor(places, torch.ones(3 * faces), (self.num_vertices, faces))
        self._incidence = incidence.to_sparse_csr()

    def face_normals(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit normals [B,F,3] and areas [B,F] of positions [B,V,3]."""
        a, b, c = positions[:, self.triangles].unbind(2)
        cross = torch.linalg.cross(b - a, c - a)
        length = cross.norm(dim=-1)
        return cross / length.clamp_min(1e-12)[..., None], length / 2

    def vertex_normals(self, positions: Tensor) -> Tensor:
        """Return area-weighted unit normals [B,V,3] of positions [B,V,3]."""
        normals, area = self.face_normals(positions)
        weighted = (normals * area[..., None]).permute(1, 0, 2).flatten(1)
        return F.normalize((self._incidence @ weighted).unflatten(1, (-1, 3)).permute(1, 0, 2), dim=-1)

    def sample_surface(self, positions: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Draw surface points with face normals, [B,count,6], by the areas of the faces on the mean head."""
        batch = len(positions)
        ids = torch.multinomial(self._area, batch * count, True, generator=generator).view(batch, count)
        u, v = torch.rand(2, batch, count, 1, generator=generator)
        flip = u + v > 1
        u, v = torch.where(flip, 1 - u, u), torch.where(flip, 1 - v, v)
        corners = positions[torch.arange(batch)[:, None, None], self.triangles[ids]]
        a, b, c = corners.unbind(2)
        normal = F.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
        return torch.cat([a + u * (b - a) + v * (c - a), normal], -1)


def surface_losses(geometry: MeshGeometry, got: Tensor, want: Tensor) -> dict[str, Tensor]:
    """Return the face-normal, face-angle and edge-curvature terms between positions [B,V,3]."""
    normal_got, _ = geometry.face_normals(got)
    normal_want, _ = geometry.face_normals(want)
    left, right = geometry.edge_triangles.unbind(1)
    bend_got = (normal_got[:, left] * normal_got[:, right]).sum(-1)
    bend_want = (normal_want[:, left] * normal_want[:, right]).sum(-1)
    return {
        "face_normal": (1 - (normal_got * normal_want).sum(-1)).mean(),
        "face_angle": (_corner_cosines(geometry, got) - _corner_cosines(geometry, want)).square().mean(),
        "edge_curvature": (bend_got - bend_want).square().mean(),
    }


def _corner_cosines(geometry: MeshGeometry, positions: Tensor) -> Tensor:
    a, b, c = positions[:, geometry.triangles].unbind(2)
    ab, bc, ca = (F.normalize(side, dim=-1) for side in (b - a, c - b, a - c))
    return torch.stack([-(ab * ca).sum(-1), -(bc * ab).sum(-1), -(ca * bc).sum(-1)], -1)


def _edge_triangles(triangles: np.ndarray) -> np.ndarray:
    """List the pairs of triangles [E,2] that share an edge."""
    sides = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1).astype(np.int64)
    owner = np.repeat(np.arange(len(triangles)), 3)
    order = np.lexsort((sides[:, 1], sides[:, 0]))
    sides, owner = sides[order], owner[order]
    same = (sides[1:] == sides[:-1]).all(1)
    return np.stack([owner[:-1][same], owner[1:][same]], 1)
