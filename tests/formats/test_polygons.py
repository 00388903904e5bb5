"""Polygons become triangles that cover them, convex or not, and repeated corners are taken out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tests import needs
from topos_rt.errors import MissingExtraError
from topos_rt.formats.mesh_reader import read_mesh
from topos_rt.formats.polygons import distinct, triangulated

L_SHAPE = [[0, 2], [0, 0], [2, 0], [2, 1], [1, 1], [1, 2]]
ARROW = [[0, 0], [2, -1], [0.5, 0], [2, 1]]  # concave at its third corner
STAR = [
    [np.cos(a) * (1 + 0.6 * (i % 2)), np.sin(a) * (1 + 0.6 * (i % 2))]
    for i, a in enumerate(np.arange(10) * 0.62)
]
SHAPES = {
    "triangle": [[0, 0], [1, 0], [0, 1]],
    "square": [[0, 0], [1, 0], [1, 1], [0, 1]],
    "arrow": ARROW,
    "L": L_SHAPE,
    "star": STAR,
    "with a straight corner": [[0, 0], [1, 0], [2, 0], [2, 1], [0, 1]],
}
TURNS = {
    "front": np.eye(3),
    "side": np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0]]),
    "tilted": np.linalg.qr(np.arange(9).reshape(3, 3) ** 2 + np.eye(3))[0],
}


def area(points: np.ndarray) -> np.ndarray:
    """Return the vector area of a polygon [n,3]."""
    return np.asarray(np.cross(points, np.roll(points, -1, 0)).sum(0) / 2)


def covered(points: np.ndarray, triangles: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the area of triangles without regard to their orientation, and their vector area."""
    crosses = np.array([area(points[triangle]) for triangle in triangles])
    return float(np.linalg.norm(crosses, axis=1).sum()), crosses.sum(0)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_from_every_corner_in_both_directions_is_covered(name: str, turn: str) -> None:
    needs.module("mapbox_earcut")
    flat = np.array(SHAPES[name], float)
    points = np.column_stack([flat, np.zeros(len(flat))]) @ TURNS[turn] + [5, -3, 2]
    for step in (1, -1):
        for start in range(len(points)):
            ids = np.roll(np.arange(len(points)), start)[::step]
            triangles = ids[triangulated(np.array([len(ids)]), ids, points)]
            assert len(triangles) == len(ids) - 2
            whole, vector = covered(points, triangles)
            assert vector == pytest.approx(area(points[ids]), abs=1e-9)
            assert whole == pytest.approx(np.linalg.norm(area(points[ids])), abs=1e-9)


def test_polygons_of_all_sizes_keep_their_order() -> None:
    points = np.array([[np.cos(a), np.sin(a), 0] for a in np.arange(9) * 0.6])
    sizes = np.array([4, 3, 5, 3, 4])
    vertices = np.concatenate([np.arange(size) for size in sizes])
    triangles = triangulated(sizes, vertices, points)
    assert vertices[triangles].tolist() == [
        *([0, 1, 2], [0, 2, 3]),
        [0, 1, 2],
        *([0, 1, 2], [0, 2, 3], [0, 3, 4]),
        [0, 1, 2],
        *([0, 1, 2], [0, 2, 3]),
    ]


def test_a_bent_quad_among_triangles_is_cut_along_its_shorter_diagonal() -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [1.5, 0.8, 0.1], [0.5, 0.8, 0], [9, 9, 9]])
    quad = np.array([0, 1, 2, 3])
    assert triangulated(np.array([4]), quad, points).tolist() == [[0, 1, 2], [0, 2, 3]]
    ids = np.concatenate([quad, [0, 1, 4], [1, 2, 4]])
    found = ids[triangulated(np.array([4, 3, 3]), ids, points)]
    assert found[:2].tolist() == [[1, 2, 3], [1, 3, 0]]


def test_repeated_corners() -> None:
    points = np.random.default_rng(0).normal(size=(9, 3))
    polygons = [[0, 1, 2], [1, 1, 2], [3, 3, 3], [0, 1, 1, 2], [4, 5, 6, 4], [0, 1], [7], [5, 5, 6, 6, 7, 7]]
    sizes, ids = np.array([len(p) for p in polygons]), np.concatenate(polygons)
    found = distinct(sizes, ids, points)
    parts = np.split(ids[found.corners], np.cumsum(found.sizes)[:-1])
    kept = [part.tolist() for part in parts]
    assert kept == [[0, 1, 2], [0, 1, 2], [5, 6, 4], [5, 6, 7]] or kept == [
        [0, 1, 2],
        [0, 1, 2],
        [4, 5, 6],
        [5, 6, 7],
    ]
    assert found.dropped == 4


def test_a_bridge_to_a_hole_is_cut_into_triangles() -> None:
    needs.module("mapbox_earcut")
    outer = [[0, 0], [4, 0], [4, 4], [0, 4]]
    inner = [[1, 1], [1, 3], [3, 3], [3, 1]]
    points = np.column_stack([np.array(outer + inner, float), np.zeros(8)])
    ring = np.array([0, 1, 2, 3, 0, 4, 5, 6, 7, 4])  # there and back along 0-4
    found = distinct(np.array([len(ring)]), ring, points)
    assert (found.sizes == 3).all() and found.dropped == 0
    triangles = ring[found.corners].reshape(-1, 3)
    assert covered(points, triangles)[0] == pytest.approx(16 - 4)


def test_only_what_is_not_convex_needs_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mapbox_earcut", None)
    square = np.column_stack([np.array(SHAPES["with a straight corner"], float), np.zeros(5)])
    assert len(triangulated(np.array([5]), np.arange(5), square)) == 3
    concave = "".join(f"v {x} {y} 0\n" for x, y in L_SHAPE) + "f 1 2 3 4 5 6\n"
    (tmp_path / "l.obj").write_text(concave)
    with pytest.raises(MissingExtraError, match="a polygon that is not convex needs"):
        _ = read_mesh(tmp_path / "l.obj").triangles


def test_an_obj_keeps_its_polygons_and_covers_them(tmp_path: Path) -> None:
    needs.module("mapbox_earcut")
    text = "".join(f"v {x} {y} 0\n" for x, y in L_SHAPE) + "f 1 2 3 4 5 6\n"
    (tmp_path / "l.obj").write_text(text)
    mesh = read_mesh(tmp_path / "l.obj")
    assert mesh.topology.polygon_sizes.tolist() == [6]
    assert covered(mesh.positions.astype(float), mesh.triangles)[0] == pytest.approx(3)
