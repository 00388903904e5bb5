"""Make head-like meshes of a wanted size from nothing, as the topology of bundles with random weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from topos_rt.head.hierarchy import Hierarchy, voxel_cluster
from topos_rt.head.normals import vertex_normals
from topos_rt.head.topology import Topology
from topos_rt.support.similarity import sphere_frame

# One quad in so many is cut in two, because real heads have some vertices of valence 5 as well.
_CUT_EVERY = 50
_NOSE = np.array([0.0, -0.1, 0.995])  # direction of the tip, which shows which way the head faces
# A head that is its own mirror image has as many nodes left as right, so heads bend to reach odd counts.
_BENDS = (0.04, 0.02, 0.03, 0.05, 0.06, 0.07, 0.08)
_WIDTHS = (0.35, 0.95)
_CANDIDATES = 1000


@dataclass(frozen=True)
class Recipe:
    """The size of a head, which is a box, open below, that is blown up."""

    quads: tuple[int, int, int]  # quads along x, y and z
    latents: int  # wanted number of nodes of level `stages`
    stages: int
    depth: int  # the first voxel grid has cells of 2 / 2**depth
    width: float  # x : y : z = width : 1 : 1.2 width, where the search for `latents` begins


@dataclass(frozen=True, eq=False)
class Generated:
    """A generated head and its hierarchy."""

    topology: Topology
    hierarchy: Hierarchy
    positions: np.ndarray  # [V,3] float32 in the networks' frame, +Y up, facing +Z


def generate(recipe: Recipe) -> Generated:
    """Make the head of a recipe, with the width nearest to the recipe's that gives exactly its latents.

    Clusters are the release's voxel grids. Raises ValueError when no width gives the wanted count.
    """
    lattice, topology = _open_box(*recipe.quads)
    for width, bend in itertools.product(_widths(recipe.width), _BENDS):
        positions = _blown_up(lattice, recipe.quads, width, bend)
        if _nodes(positions, recipe.depth, recipe.stages) == recipe.latents:
            normals = vertex_normals(positions, topology.triangles)
            hierarchy = Hierarchy.build(positions, normals, topology.edges, depth=recipe.depth)
            return Generated(topology, hierarchy, positions)
    raise ValueError(f"got no width for {recipe}; expected one of {_WIDTHS} to give {recipe.latents} latents")


def _widths(start: float) -> Iterator[float]:
    """Yield `start` and then its neighbours, ever farther away."""
    for i in range(_CANDIDATES):
        width = start + (i + 1) // 2 * (-1) ** i * 2.5e-4
        if _WIDTHS[0] <= width <= _WIDTHS[1]:
            yield width


def _nodes(positions: np.ndarray, depth: int, levels: int) -> int:
    """Count the nodes of level `levels`; only positions matter to voxel grids."""
    for level in range(levels):
        cluster = voxel_cluster(positions, 2.0 / 2**depth * 2**level)
        counts = np.bincount(cluster)[:, None]
        sums = np.stack([np.bincount(cluster, axis) for axis in positions.astype(np.float64).T], 1)
        positions = (sums / counts).astype(np.float32)
    return len(positions)


def _blown_up(lattice: np.ndarray, quads: tuple[int, int, int], width: float, bend: float) -> np.ndarray:
    """Turn the box's lattice points into points of a head [V,3] in the sphere-normalised frame."""
    cube = np.tan((lattice / np.array(quads) * 2 - 1) * (np.pi / 4))  # even angles instead of even distances
    direction = cube / np.linalg.norm(cube, axis=1, keepdims=True)
    points = direction * np.array([width, 1.0, 1.2 * width])
    apart = np.linalg.norm(direction - _NOSE, axis=1)
    points[:, 2] += 0.15 * np.exp(-((apart / 0.15) ** 2))
    points[:, 0] += bend * points[:, 1] ** 2
    centre, radius = sphere_frame(points)
    return ((points - centre) / radius).astype(np.float32)


def _open_box(x: int, y: int, z: int) -> tuple[np.ndarray, Topology]:
    """Return the surface of a box of x * y * z cells without its bottom: lattice points [V,3] and quads.

    V = (x+1)(z+1) + 2y(x+z). Each side is a UV island of its own.
    """
    sides = [  # origin, directions of rows and columns, whose product points outwards; their counts
        ((0, 0, z), (1, 0, 0), (0, 1, 0), x, y),
        ((x, 0, 0), (-1, 0, 0), (0, 1, 0), x, y),
        ((x, 0, z), (0, 0, -1), (0, 1, 0), z, y),
        ((0, 0, 0), (0, 0, 1), (0, 1, 0), z, y),
        ((0, y, z), (1, 0, 0), (0, 0, -1), x, z),
    ]
    points, quads, uvs = [], [], []
    start = 0
    for number, (origin, du, dv, nu, nv) in enumerate(sides):
        u, v = (
            axis.reshape(-1, 1) for axis in np.meshgrid(np.arange(nu + 1), np.arange(nv + 1), indexing="ij")
        )
        points.append(np.array(origin) + u * np.array(du) + v * np.array(dv))
        ids = start + np.arange((nu + 1) * (nv + 1)).reshape(nu + 1, nv + 1)
        quads.append(np.stack([ids[:-1, :-1], ids[1:, :-1], ids[1:, 1:], ids[:-1, 1:]], -1).reshape(-1, 4))
        corner = np.array([number % 3 / 3, number // 3 / 2])
        uvs.append(corner + np.hstack([u / nu / 3, v / nv / 2]) * 0.96 + [0.02 / 3, 0.02 / 2])
        start += ids.size
    # Sides share the vertices along their edges, but not the UVs.
    lattice, vertex = np.unique(np.concatenate(points), axis=0, return_inverse=True)
    polygons: list[list[int]] = []
    for number, quad in enumerate(np.concatenate(quads).tolist()):
        polygons += [quad[:3], [quad[0], *quad[2:]]] if number % _CUT_EVERY == 0 else [quad]
    vertices = [[int(i) for i in vertex.reshape(-1)[polygon]] for polygon in polygons]
    return lattice, Topology.from_polygons(len(lattice), vertices, np.concatenate(uvs), polygons)
