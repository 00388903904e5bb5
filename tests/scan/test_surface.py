"""Exact distances against the naive search, even samples, and normals of bare clouds."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.meshes import ball
from topos_rt.errors import MeshInputError, MissingExtraError
from topos_rt.scan.surface import Surface, closest_on_triangles, estimate_normals

NO_TRIANGLES = np.zeros((0, 3), np.int64)


def naive(surface: Surface, queries: np.ndarray) -> np.ndarray:
    """Return the distances found by trying every triangle."""
    corners = surface.points[surface.triangles]
    best = np.full(len(queries), np.inf)
    for triangle in corners:
        repeated = np.repeat(triangle[None], len(queries), 0)
        found = closest_on_triangles(queries, repeated)
        best = np.minimum(best, np.linalg.norm(found - queries, axis=1))
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(0.01, 100))
def test_closest_is_that_of_the_naive_search(seed: int, count: int, stretch: float) -> None:
    """Triangles of very different sizes, points near and far."""
    draw = np.random.default_rng(seed)
    points = draw.normal(size=(count + 2, 3))
    points[: len(points) // 3] *= stretch
    triangles = np.stack([draw.permutation(count + 2)[:3] for _ in range(count)])
    surface = Surface(points, triangles)
    queries = draw.normal(size=(30, 3)) * draw.choice([0.1, 1, 5], (30, 1))
    assert np.abs(surface.closest(queries).distances - naive(surface, queries)).max() < 1e-9


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["any", "line", "point"]))
def test_the_nearest_point_of_a_triangle_beats_every_other(seed: int, shape: str) -> None:
    draw = np.random.default_rng(seed)
    corners = draw.normal(size=(1, 3, 3))
    if shape == "line":
        corners[0, 2] = 0.3 * corners[0, 0] + 0.7 * corners[0, 1]
    if shape == "point":
        corners[0, 1:] = corners[0, 0]
    point = draw.normal(size=(1, 3)) * 2
    found = np.linalg.norm(closest_on_triangles(point, corners) - point)
    weights = draw.dirichlet(np.ones(3), 500)
    others = np.linalg.norm(np.concatenate([weights, np.eye(3)]) @ corners[0] - point, axis=1)
    assert found <= others.min() + 1e-9
    # It is a point of the triangle: in its plane, and between its corners.
    near = closest_on_triangles(closest_on_triangles(point, corners), corners)
    assert np.linalg.norm(near - closest_on_triangles(point, corners)) < 1e-9


def test_far_points_of_a_curved_surface_are_off_by_less_than_a_piece() -> None:
    head = ball(rings=60, segments=80, radius=1.0)
    surface = Surface(head.positions, head.triangles)
    found = surface.closest(np.zeros((1, 3)))  # every triangle is equally near
    assert abs(found.distances[0] - naive(surface, np.zeros((1, 3)))[0]) < surface._reach


def test_samples_are_even_repeatable_and_on_the_surface() -> None:
    corners = np.float64([[0, 0, 0], [3, 0, 0], [0, 1, 0], [0, 0, 5], [1, 0, 5], [0, 1, 5]])
    surface = Surface(corners, np.array([[0, 1, 2], [3, 4, 5]]))  # areas 3 to 1
    samples = surface.sample(20_000, seed=3)
    assert samples.normals is not None
    low = samples.points[:, 2] == 0
    assert abs(low.mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 20_000)
    assert np.allclose(samples.points[low].mean(0), [1, 1 / 3, 0], atol=0.03)
    assert np.array_equal(samples.normals, np.tile([0.0, 0, 1], (20_000, 1)))
    assert surface.closest(samples.points[:200]).distances.max() < 1e-12
    assert np.array_equal(samples.points, surface.sample(20_000, seed=3).points)
    assert not np.array_equal(samples.points, surface.sample(20_000, seed=4).points)


def test_triangles_without_area_are_never_sampled() -> None:
    corners = np.float64([[0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9]])
    surface = Surface(corners, np.array([[3, 3, 3], [0, 1, 2], [0, 3, 3]]))
    assert surface.sample(500).points.max() <= 1
    with pytest.raises(MeshInputError, match="triangles without area"):
        Surface(corners, np.array([[3, 3, 3]]))


def test_a_cloud_gives_each_point_once_and_its_nearest_points() -> None:
    points = np.random.default_rng(1).normal(size=(50, 3))
    cloud = Surface(points, NO_TRIANGLES)
    assert cloud.is_cloud
    assert np.array_equal(np.sort(cloud.sample(100).points, 0), np.sort(points, 0))
    assert len(cloud.sample(7).points) == 7
    queries = np.random.default_rng(2).normal(size=(20, 3))
    distances = np.linalg.norm(points[None] - queries[:, None], axis=2)
    found = cloud.closest(queries)
    assert np.allclose(found.distances, distances.min(1))
    assert np.array_equal(found.points, points[distances.argmin(1)])


def test_estimated_normals_point_out_of_a_ball_and_of_two() -> None:
    head = ball(rings=30, segments=40, radius=0.1)
    points = Surface(head.positions, head.triangles).sample(3000, 1).points
    normals = estimate_normals(points)
    cosines = (normals * points).sum(1) / np.linalg.norm(points, axis=1)
    assert cosines.min() > 0.95
    assert np.allclose(np.linalg.norm(normals, axis=1), 1)
    pair = np.concatenate([points, points + np.array([0.5, 0, 0])])
    normals = estimate_normals(pair)
    towards = (normals[:3000] * points).sum(1), (normals[3000:] * points).sum(1)
    # Each ball is flipped as a whole, so that its normals agree.
    assert all((part > 0).all() or (part < 0).all() for part in towards)


def test_without_scipy_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: object, **more: object) -> object:
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=r"topos-rt\[mesh\]"):
        Surface(np.eye(3), NO_TRIANGLES).closest(np.zeros((1, 3)))


def renamed(surface: Surface, seed: int, digits: int = 15) -> Surface:
    """Return a surface with its vertices, triangles and first corners in another order, and rounded."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(surface.points))
    triangles = np.argsort(order)[surface.triangles][draw.permutation(len(surface.triangles))]
    turn = draw.integers(0, 3, len(triangles))[:, None] + np.arange(3)
    return Surface(
        (surface.points[order] if digits == 15 else surface.points[order].round(digits)),
        np.take_along_axis(triangles, turn % 3, 1),
    )


def uneven() -> Surface:
    """Return a ball whose triangles have very different sizes, some lying twice at the same place."""
    head = ball(rings=20, segments=30, radius=0.12)
    points = head.positions.astype(np.float64) * [1, 1.3, 0.9]
    points[:, 2] += 0.3 * points[:, 0] ** 2
    return Surface(points, np.concatenate([head.triangles, head.triangles[:40]]))


def test_scattered_points_do_not_depend_on_the_order_of_the_file() -> None:
    surface = uneven()
    first = surface.scattered(3000)
    for seed in range(3):
        again = renamed(surface, seed).scattered(3000)
        assert np.array_equal(first.points, again.points)
        assert first.normals is not None and again.normals is not None
        assert first.normals == pytest.approx(again.normals, abs=1e-9)


def test_rounding_changes_few_scattered_points() -> None:
    surface = uneven()
    first = surface.scattered(5000).points
    for digits, share in ((8, 0.001), (6, 0.03)):
        again = renamed(surface, 1, digits).scattered(5000).points
        moved = Surface(first, np.zeros((0, 3), int)).closest(again).distances
        assert np.mean(moved > 10.0 ** (1 - digits)) < share


def test_samples_stay_in_their_triangles_when_a_surface_bends() -> None:
    surface = uneven()
    bent = Surface(surface.points * [1.001, 0.999, 1.0005], surface.triangles)
    first, again = surface.sample(4000, 3).points, bent.sample(4000, 3).points
    moved = Surface(first, np.zeros((0, 3), int)).closest(again).distances
    assert np.mean(moved > 0.0005) < 0.03  # points lie 5 mm apart


@pytest.mark.parametrize("way", ["sample", "scattered"])
@pytest.mark.parametrize("count", [1, 16, 500, 20_000])
def test_points_are_spread_evenly_by_area(way: str, count: int) -> None:
    surface = uneven()
    samples = getattr(surface, way)(count)
    assert samples.points.shape == samples.normals.shape == (count, 3)
    assert surface.closest(samples.points).distances.max() < 1e-9
    if count < 20_000:
        return
    # Eight parts of the surface get what their areas deserve.
    middles = surface.points[surface.triangles].mean(1)
    parts = ((middles > 0) @ [1, 2, 4], (samples.points > 0) @ [1, 2, 4])
    areas = np.bincount(parts[0], surface.areas, 8) / surface.areas.sum()
    found = np.bincount(parts[1], minlength=8) / count
    assert np.abs(found - areas).max() < 0.01


def test_a_triangle_in_a_tiny_cell_and_a_giant_one_are_both_sampled() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1e-5], [1e-5, 0, 1e-5], [0, 1e-5, 1e-5]])
    surface = Surface(points, np.array([[0, 1, 2], [3, 4, 5]]))
    assert len(surface.scattered(7000).points) == len(surface.sample(7000).points) == 7000


def test_a_scattered_cloud_does_not_depend_on_its_order() -> None:
    points = np.random.default_rng(4).normal(size=(500, 3))
    points[400:] = points[:100]  # twins
    normals = points + 1
    order = np.random.default_rng(5).permutation(500)
    none = np.zeros((0, 3), int)
    first, again = Surface(points, none, normals), Surface(points[order], none, normals[order])
    for count in (100, 500):
        assert np.array_equal(first.scattered(count).points, again.scattered(count).points)
        assert np.array_equal(first.scattered(count).normals, again.scattered(count).normals)
    assert not np.array_equal(first.scattered(100).points, first.scattered(100, 1).points)
