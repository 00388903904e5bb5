"""The rasteriser against a naive per-pixel one, and the properties that its users rely on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topos_rt.pictures import raster
from topos_rt.pictures.raster import rasterize

SIDE = 24
SEEDS = st.integers(0, 2**32 - 1)
FRONT = np.array([[0, 1, 2]])  # of the corners below: counter-clockwise on a screen whose y points down
CORNERS = np.array([[2.0, 20, 5], [21, 20, 5], [2, 3, 5]])


def soup(seed: int, count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return triangles that cross each other and the border of the picture, some behind the camera."""
    rng = np.random.default_rng(seed)
    screen = np.concatenate([rng.uniform(-8, SIDE + 8, (20, 2)), rng.uniform(1, 9, (20, 1))], 1)
    screen[0, 2] = rng.choice([0.0, -3.0])
    return screen, rng.integers(0, 20, (count, 3))


def naive(screen: np.ndarray, triangles: np.ndarray, cull: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return weights [F,S,S,3] and depths [F,S,S], infinite where a triangle misses the pixel's centre."""
    weights, depths = np.zeros((len(triangles), SIDE, SIDE, 3)), np.full((len(triangles), SIDE, SIDE), np.inf)
    for number, corners in enumerate(screen[triangles]):
        flat = len(np.unique(triangles[number])) < 3
        matrix = np.concatenate([corners[:, :2].T, np.ones((1, 3))])
        if flat or (cull and np.linalg.det(matrix) > 0) or corners[:, 2].min() <= 0:
            continue
        for row in range(SIDE):
            for column in range(SIDE):
                weight = np.linalg.solve(matrix, [column + 0.5, row + 0.5, 1])
                if weight.min() >= 0:
                    weights[number, row, column] = weight
                    depths[number, row, column] = weight @ corners[:, 2]
    return weights, depths


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.booleans())
def test_random_triangles_against_the_naive_form(seed: int, cull: bool) -> None:
    screen, triangles = soup(seed)
    ids, barycentric = rasterize(screen, triangles, SIDE, SIDE, cull)
    assert (ids.shape, ids.dtype) == ((SIDE, SIDE), np.int32)
    assert (barycentric.shape, barycentric.dtype) == ((SIDE, SIDE, 3), np.float32)
    weights, depths = naive(screen, triangles, cull)
    assert np.array_equal(ids >= 0, np.isfinite(depths).any(0))
    row, column = np.nonzero(ids >= 0)
    chosen = ids[row, column]
    # the rasteriser compares depths in float32, where two that are nearly equal may be equal
    assert (depths[chosen, row, column] <= depths.min(0)[row, column] * (1 + 1e-6)).all()
    assert np.abs(barycentric[row, column] - weights[chosen, row, column]).max(initial=0) < 1e-5
    assert not barycentric[ids < 0].any()


@settings(deadline=None)
@given(SEEDS)
def test_weights_give_the_pixel_s_centre_back(seed: int) -> None:
    screen, triangles = soup(seed)
    ids, barycentric = rasterize(screen, triangles, SIDE, SIDE, cull=False)
    hit = ids >= 0
    assert barycentric.min() >= 0
    assert np.abs(barycentric[hit].sum(1) - 1).max(initial=0) < 1e-6
    centres = np.argwhere(hit)[:, ::-1] + 0.5
    found = (screen[triangles[ids[hit]], :2] * barycentric[hit][..., None]).sum(1)
    assert np.abs(found - centres).max(initial=0) < 1e-3


@settings(deadline=None)
@given(SEEDS, st.sampled_from([1.0, 0.5, 1 / 3, 1e-9]))
def test_shared_edges_leave_no_gap(seed: int, snap: float) -> None:
    """A crumpled grid covers the whole picture; with snap 0.5, edges and vertices lie on pixel centres."""
    rng, cells = np.random.default_rng(seed), 6
    y, x = np.mgrid[0 : cells + 1, 0 : cells + 1] * ((SIDE + 4) / cells) - 2
    moved = np.stack([x, y], -1)
    moved[1:-1, 1:-1] += rng.uniform(-1.2, 1.2, (cells - 1, cells - 1, 2))
    moved = np.round(moved / snap) * snap
    screen = np.concatenate([moved.reshape(-1, 2), np.full(((cells + 1) ** 2, 1), 3.0)], 1)
    first = (np.arange(cells)[:, None] * (cells + 1) + np.arange(cells)).reshape(-1)
    a, b, c, d = first, first + 1, first + cells + 1, first + cells + 2
    triangles = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    ids, _ = rasterize(screen, rng.permutation(triangles), SIDE, SIDE, cull=False)
    assert (ids >= 0).all()


def test_both_sides_of_an_edge_round_alike() -> None:
    """Edges from pixel centre to pixel centre pass through others, with slopes that floats cannot hold."""
    far = 1e6
    for run, rise in itertools.product((29, 31, 47), range(2, 60)):
        height, width = 2 * rise + 1, 2 * run + 1
        ends = [[0.5, 0.5, 1], [0.5 + 2 * run, 0.5 + 2 * rise, 1]]
        screen = np.array([*ends, [-far, height / 2, 1], [far, height / 2, 1]])
        for triangles in ([[0, 1, 2], [1, 0, 3]], [[1, 0, 2], [0, 1, 3]]):
            ids, _ = rasterize(screen, np.array(triangles), height, width, cull=False)
            assert (ids[1:-1] >= 0).all(), (run, rise)


def test_faces_seen_from_behind_are_culled() -> None:
    front, _ = rasterize(CORNERS, FRONT, SIDE, SIDE)
    back, _ = rasterize(CORNERS, FRONT[:, ::-1], SIDE, SIDE)
    both, _ = rasterize(CORNERS, FRONT[:, ::-1], SIDE, SIDE, cull=False)
    assert (front >= 0).sum() > 100
    assert (back == -1).all()
    assert np.array_equal(front, both)


def test_the_nearer_triangle_wins_in_any_order() -> None:
    screen = np.concatenate([CORNERS, CORNERS * [1, 1, 0.5]])
    near_last, _ = rasterize(screen, np.array([[0, 1, 2], [3, 4, 5]]), SIDE, SIDE)
    near_first, _ = rasterize(screen, np.array([[3, 4, 5], [0, 1, 2]]), SIDE, SIDE)
    assert set(np.unique(near_last)) == {-1, 1}
    assert set(np.unique(near_first)) == {-1, 0}


def test_crossing_triangles_hide_each_other_where_they_are_behind() -> None:
    tilted = np.concatenate([CORNERS[:, :2], [[2.0], [9.0], [2.0]]], 1)  # nearer on the left only
    ids, _ = rasterize(np.concatenate([CORNERS, tilted]), np.array([[0, 1, 2], [3, 4, 5]]), SIDE, SIDE)
    row = ids[18][ids[18] >= 0]
    assert row[0] == 1
    assert row[-1] == 0
    assert (np.diff(row) <= 0).all()


def test_ties_go_to_the_lower_index() -> None:
    ids, _ = rasterize(CORNERS, np.array([[1, 2, 0], [0, 1, 2], [2, 0, 1]]), SIDE, SIDE)
    assert set(np.unique(ids)) == {-1, 0}


@pytest.mark.parametrize("depth", [0.0, -1.0])
def test_what_reaches_behind_the_camera_is_left_out(depth: float) -> None:
    screen = CORNERS.copy()
    screen[1, 2] = depth
    assert (rasterize(screen, FRONT, SIDE, SIDE)[0] == -1).all()


EMPTY = {
    "no triangles": (CORNERS, np.zeros((0, 3), np.int64)),
    "off the screen": (CORNERS + np.array([100, 0, 0]), FRONT),
    "no area": (CORNERS * [0, 1, 1], FRONT),
    "between two pixel centres": (CORNERS * [0.01, 0.01, 1], FRONT),
}


@pytest.mark.parametrize(("screen", "triangles"), EMPTY.values(), ids=EMPTY)
def test_empty_pictures(screen: np.ndarray, triangles: np.ndarray) -> None:
    ids, barycentric = rasterize(screen, triangles, SIDE, SIDE, cull=False)
    assert (ids == -1).all()
    assert not barycentric.any()


def test_a_picture_need_not_be_square() -> None:
    ids, barycentric = rasterize(CORNERS, FRONT, 7, 31, cull=False)
    assert ids.shape == (7, 31)
    assert barycentric.shape == (7, 31, 3)
    assert np.array_equal(ids[:, :SIDE], rasterize(CORNERS, FRONT, SIDE, SIDE, cull=False)[0][:7])


def test_drawing_in_small_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, triangles = soup(3, count=40)
    whole = rasterize(screen, triangles, SIDE, SIDE)
    for pixels in (1, 50):
        monkeypatch.setattr(raster, "_PIXELS_PER_CHUNK", pixels)
        for got, want in zip(rasterize(screen, triangles, SIDE, SIDE), whole, strict=True):
            assert np.array_equal(got, want)


def test_float32_and_float64_and_int32_are_taken() -> None:
    ids, barycentric = rasterize(CORNERS, FRONT, SIDE, SIDE)
    again, weights = rasterize(CORNERS.astype(np.float32), FRONT.astype(np.int32), SIDE, SIDE)
    assert np.array_equal(again, ids)
    assert np.array_equal(weights, barycentric)
