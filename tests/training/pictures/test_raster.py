"""The numba rasteriser against the one of the package, and against what must be hidden, open or in shade."""

from __future__ import annotations

import numpy as np
import pytest

from tests import needs

needs.module("numba")
from topos_rt.head.normals import vertex_normals as exact_normals
from topos_rt.pictures import raster as package
from training.pictures.fields import shadow_frame
from training.pictures.raster import HAIR_CUT, Kind, Looks, Mesh, rasterize, shadow_map, vertex_normals
from training.pictures.textures import pack

SIZE = 64


def mesh_of(points: np.ndarray, triangles: np.ndarray, uvs: np.ndarray | None = None) -> Mesh:
    count = len(triangles)
    return Mesh(
        points.astype(np.float32),
        np.zeros_like(points, np.float32),
        np.ones((len(points), 4), np.float32),
        triangles.astype(np.int32),
        np.zeros((count, 3, 2), np.float32) if uvs is None else uvs.astype(np.float32),
        np.zeros(count, np.int32),
        np.zeros(count, np.bool_),
    )


def looks_of(kind: Kind, image: np.ndarray | None = None) -> Looks:
    textures = pack([image] if image is not None else [np.zeros((1, 1, 4), np.uint8)])
    return Looks(np.array([int(kind)]), np.array([0]), np.zeros((1, 24), np.float32), *textures)


def ball(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a bumpy ball on the screen, in samples and metres of depth."""
    theta, phi = np.meshgrid(
        np.linspace(0.05, np.pi - 0.05, 18), np.linspace(0, 2 * np.pi, 30), indexing="ij"
    )
    unit = np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), np.sin(theta) * np.sin(phi)], -1).reshape(
        -1, 3
    )
    unit *= 1 + 0.2 * rng.random((len(unit), 1))
    a = (np.arange(17)[:, None] * 30 + np.arange(29)).ravel()
    triangles = np.concatenate([np.stack([a, a + 1, a + 31], 1), np.stack([a, a + 31, a + 30], 1)])
    screen = np.stack([32 + 22 * unit[:, 0], 32 - 22 * unit[:, 1], 2 - unit[:, 2]], 1)
    return screen, triangles


def drawn(screen: np.ndarray, mesh: Mesh, looks: Looks) -> tuple[np.ndarray, np.ndarray]:
    ids, inverse = np.empty((SIZE, SIZE), np.int32), np.empty((SIZE, SIZE), np.float32)
    rasterize(screen.astype(np.float32), mesh, looks, HAIR_CUT, ids, inverse)
    return ids, inverse


def test_it_sees_what_the_package_sees(rng: np.random.Generator) -> None:
    screen, triangles = ball(rng)
    ids, inverse = drawn(screen, mesh_of(screen, triangles), looks_of(Kind.SKIN))
    expected, _ = package.rasterize(screen, triangles, SIZE, SIZE)
    assert (expected >= 0).sum() > 1000
    # depth is linear on the screen in one and 1/depth in the other, and edges are rounded differently
    assert (ids == expected).mean() > 0.98
    assert ((ids >= 0) == (expected >= 0)).mean() > 0.995
    assert (inverse[ids >= 0] > 0.3).all()


def test_order_does_not_matter(rng: np.random.Generator) -> None:
    screen, triangles = ball(rng)
    order = rng.permutation(len(triangles))
    first, _ = drawn(screen, mesh_of(screen, triangles), looks_of(Kind.SKIN))
    second, _ = drawn(screen, mesh_of(screen, triangles[order]), looks_of(Kind.SKIN))
    assert (np.where(second >= 0, order[second], -1) == first).mean() > 0.999


def test_hair_is_there_only_where_its_texture_is() -> None:
    corners = np.array([[0, 0, 1], [0, 64, 1], [64, 64, 1], [64, 0, 1.0]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    place = np.array([[0, 1], [0, 0], [1, 0], [1, 1.0]])
    image = np.zeros((8, 8, 4), np.uint8)
    image[:, 4:, 3] = 255
    ids, _ = drawn(corners, mesh_of(corners, triangles, place[triangles]), looks_of(Kind.HAIR, image))
    assert (ids[:, :32] == -1).all()
    assert (ids[:, 32:] >= 0).all()


def test_shadow_maps_keep_the_nearest_surface() -> None:
    points = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0.0]]) * 0.1
    near = points * 0.5 + [0, 0, 0.08]
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    mesh = mesh_of(np.concatenate([points, near]), np.concatenate([triangles, triangles + 4]))
    frame = shadow_frame(np.array([0.0, 0, 1]), np.zeros(3), 0.15, SIZE)
    depth = np.empty((SIZE, SIZE), np.float32)
    shadow_map(
        (mesh.points @ frame[:, :3].T + frame[:, 3]).astype(np.float32), mesh, looks_of(Kind.SKIN), depth
    )
    assert depth[SIZE // 2, SIZE // 2] == pytest.approx(-0.08, abs=1e-6)
    assert depth[SIZE // 2, int(SIZE * 0.75)] == pytest.approx(0, abs=1e-6)
    assert depth[0, 0] > 1e8


def test_normals_are_those_of_the_package(rng: np.random.Generator) -> None:
    points, triangles = ball(rng)
    found = np.empty((len(points), 3), np.float32)
    vertex_normals(points.astype(np.float32), triangles.astype(np.int32), found)
    used = np.unique(triangles)
    assert found[used] == pytest.approx(exact_normals(points, triangles)[used], abs=1e-4)
