"""Synthetic scans of heads whose true shape is known: other topologies, missing parts, noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from topos_rt.scan.surface import Surface, kd_tree

NOISE_M = 0.0005
CLOUD_POINTS = 20_000
NECK_SHARE = 0.12  # of the height, cut off at the bottom
VOXEL_M = 0.0025


@dataclass(frozen=True, eq=False)
class TrueHead:
    """A head of the model's topology, and which of its triangles are visible from outside."""

    positions: np.ndarray  # [V,3] metres
    triangles: np.ndarray  # [F,3]
    outside: np.ndarray  # [F] bool

    @cached_property
    def whole(self) -> Surface:
        return Surface(self.positions, self.triangles)

    @cached_property
    def outer(self) -> Surface:
        return Surface(self.positions, self.triangles[self.outside])


def same(head: TrueHead, draw: np.random.Generator) -> Any:
    return _mesh(head.positions, head.triangles)


def subdivided(head: TrueHead, draw: np.random.Generator) -> Any:
    import trimesh

    return _mesh(*trimesh.remesh.subdivide_loop(head.positions, head.triangles, 1))


def decimated(share: float) -> Callable[[TrueHead, np.random.Generator], Any]:
    """Return a function that decimates a head by quadric errors to a share of its triangles."""

    def make(head: TrueHead, draw: np.random.Generator) -> Any:
        import fast_simplification

        vertices = head.positions.astype(np.float32)
        return _mesh(*fast_simplification.simplify(vertices, head.triangles, 1 - share))

    return make


def outside(head: TrueHead, draw: np.random.Generator) -> Any:
    """Return the outside, which is open where the eyes, nostrils and lips lead inside."""
    return _mesh(head.positions, head.triangles[head.outside])


def remeshed(head: TrueHead, draw: np.random.Generator) -> Any:
    """Return the outside by marching cubes on the signed distance to its points (Hoppe et al. 1992)."""
    from skimage.measure import marching_cubes

    points, normals = head.outer.sample(200_000, 3)
    assert normals is not None
    low = points.min(0) - 3 * VOXEL_M
    counts = np.ceil((points.max(0) + 3 * VOXEL_M - low) / VOXEL_M).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in counts), indexing="ij"), -1).reshape(-1, 3)
    places = low + VOXEL_M * grid
    # Farther away, on the open sides, the sign means nothing.
    reach = 1.8 * VOXEL_M
    distances, ids = kd_tree(points).query(places, distance_upper_bound=reach)
    near = np.isfinite(distances)
    signed = np.full(len(places), reach)
    ids = ids[near]
    signed[near] = distances[near] * np.sign(((places[near] - points[ids]) * normals[ids]).sum(1))
    vertices, faces, _, _ = marching_cubes(
        signed.reshape(counts), 0.0, spacing=(VOXEL_M,) * 3, mask=near.reshape(counts)
    )
    return _mesh(vertices + low, faces)


def neck_cut(head: TrueHead, draw: np.random.Generator) -> Any:
    height = head.positions[:, 1]
    keep = height > height.min() + NECK_SHARE * np.ptp(height)
    triangles = head.triangles[head.outside]
    return _mesh(head.positions, triangles[keep[triangles].all(1)])


def noisy_cloud(head: TrueHead, draw: np.random.Generator) -> Any:
    """Return points of the outside, with noise and without normals."""
    import trimesh

    points = head.outer.sample(CLOUD_POINTS, 4).points
    return trimesh.PointCloud(points + draw.normal(0, NOISE_M, points.shape))


KINDS: dict[str, Callable[[TrueHead, np.random.Generator], Any]] = {
    "the model's own mesh": same, "subdivided (Loop)": subdivided, "decimated to 50 %": decimated(0.5),
    "decimated to 10 %": decimated(0.1), "outside only": outside, "outside, marching cubes 2.5 mm": remeshed,
    "outside, neck cut": neck_cut, "outside, 20,000 points, 0.5 mm noise, no normals": noisy_cloud,
}  # fmt: skip


def _mesh(vertices: np.ndarray, triangles: np.ndarray) -> Any:
    import trimesh

    return trimesh.Trimesh(vertices, triangles, process=False)
