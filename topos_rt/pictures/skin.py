"""The texture of a head, as pictures of the head need it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topos_rt.head.texture import Texture
from topos_rt.head.topology import Topology
from topos_rt.pictures.colour import LINEAR

_SIDE = 1024  # texels along a side at most: in a preview a texel of more would be smaller than a pixel


@dataclass(frozen=True, eq=False)
class Skin:
    """A head's colours by the UVs of its triangles' corners."""

    corners: np.ndarray  # [F,3,2] float32: texels, x to the right and y down
    picture: np.ndarray  # [S*S,3] float32, linear
    side: int  # S

    @classmethod
    def of(cls, topology: Topology, texture: Texture) -> Skin:
        pixels = texture.albedo
        step = max(1, -(-len(pixels) // _SIDE))
        side = len(pixels) // step
        linear = LINEAR[pixels[: side * step, : side * step]]
        if step > 1:
            linear = linear.reshape(side, step, side, step, 3).mean((1, 3))
        uvs = np.stack([topology.uvs[:, 0], 1 - topology.uvs[:, 1]], 1) * np.float32(side) - np.float32(0.5)
        return cls(uvs[topology.triangle_uvs].astype(np.float32), linear.reshape(-1, 3), side)

    @staticmethod
    def gloss(topology: Topology, texture: Texture) -> np.ndarray:
        """Return how smooth the material is at the vertices, [V] float32: 1 is wet, 0 dull."""
        at = np.zeros((topology.num_vertices, 2), np.float32)
        at[topology.triangles.reshape(-1)] = topology.uvs[topology.triangle_uvs.reshape(-1)]
        side = len(texture.orm)
        x, y = np.clip(np.stack([at[:, 0], 1 - at[:, 1]]) * side, 0, side - 1).astype(int)
        found: np.ndarray = 1 - texture.orm[y, x, 1].astype(np.float32) / np.float32(255)
        return found

    def subdivided(self) -> Skin:
        """Return the skin of triangles split in four, in the order of `shading._subdivision`."""
        a, b, c = np.moveaxis(self.corners, 1, 0)
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        parts = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
        corners = np.concatenate([np.stack(part, 1) for part in parts])
        return Skin(corners.astype(np.float32), self.picture, self.side)

    def colours(self, triangle: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the linear colours [3,n] at points in triangles [n] with barycentric weights [n,3]."""
        at = np.zeros((len(triangle), 2), np.float32)
        for corner in range(3):
            at += np.take(self.corners[:, corner], triangle, axis=0) * weights[:, corner, None]
        np.clip(at, 0, self.side - 1.001, out=at)
        low = at.astype(np.int32)
        x, y = (at - low).T
        first = low[:, 1] * self.side + low[:, 0]
        colour = np.zeros((len(triangle), 3), np.float32)
        for step, share in (
            (0, (1 - x) * (1 - y)), (1, x * (1 - y)), (self.side, (1 - x) * y), (self.side + 1, x * y),
        ):  # fmt: skip
            colour += np.take(self.picture, first + step, axis=0) * share[:, None]
        return np.ascontiguousarray(colour.T)
