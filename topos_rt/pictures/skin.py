"""The texture of a head, as pictures of the head need it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topos_rt.head.part_kit import PartKit
from topos_rt.head.texture import Texture
from topos_rt.head.topology import Topology
from topos_rt.pictures.colour import LINEAR

_SIDE = 1024  # texels along a side at most: in a preview a texel of more would be smaller than a pixel

_PART_SIDE = 256  # for teeth and lashes: single lashes are finer than the samples of a preview


@dataclass(frozen=True, eq=False)
class Skin:
    """A head's colours by the UVs of its triangles' corners."""

    corners: np.ndarray  # [F,3,2] float32: texels, x to the right and y down
    picture: np.ndarray  # [S*S,3] float32, linear
    side: int  # S
    coverage: np.ndarray | None = None  # [S*S] float32, 0 to 1; None covers everything

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

    @classmethod
    def of_parts(cls, kit: PartKit) -> Skin:
        """Return the picture of teeth and lashes on their triangles."""
        step = max(1, len(kit.pixels) // _PART_SIDE)
        side = len(kit.pixels) // step
        pixels = kit.pixels[: side * step, : side * step]
        coverage = pixels[..., 3].astype(np.float32).reshape(side, step, side, step).mean((1, 3))
        colours = LINEAR[pixels[..., :3]].reshape(side, step, side, step, 3).mean((1, 3))
        uvs = np.stack([kit.uvs[:, 0], 1 - kit.uvs[:, 1]], 1) * np.float32(side) - np.float32(0.5)
        corners = uvs[kit.triangles].astype(np.float32)
        return cls(corners, colours.reshape(-1, 3), side, coverage.reshape(-1) / np.float32(255))

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
        return Skin(corners.astype(np.float32), self.picture, self.side, self.coverage)

    def colours(self, triangle: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the linear colours [3,n] at points in triangles [n] with barycentric weights [n,3]."""
        return np.ascontiguousarray(self._sampled(self.picture, triangle, weights).T)

    def cover(self, triangle: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the coverage [n] float32 at such points."""
        if self.coverage is None:
            return np.ones(len(triangle), np.float32)
        return self._sampled(self.coverage[:, None], triangle, weights)[:, 0]

    def _sampled(self, picture: np.ndarray, triangle: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return values of a picture [S*S,C] at points of the triangles, [n,C] float32, bilinearly."""
        at = np.zeros((len(triangle), 2), np.float32)
        for corner in range(3):
            at += np.take(self.corners[:, corner], triangle, axis=0) * weights[:, corner, None]
        np.clip(at, 0, self.side - 1.001, out=at)
        low = at.astype(np.int32)
        x, y = (at - low).T
        first = low[:, 1] * self.side + low[:, 0]
        found = np.zeros((len(triangle), picture.shape[1]), np.float32)
        for step, share in (
            (0, (1 - x) * (1 - y)), (1, x * (1 - y)), (self.side, (1 - x) * y), (self.side + 1, x * y),
        ):  # fmt: skip
            found += np.take(picture, first + step, axis=0) * share[:, None]
        return found
