"""mesh_normals against its twin and `topos_rt.head.normals.vertex_normals`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from topos_rt.errors import InputError, MeshInputError
from topos_rt.gpu import ops, reference
from topos_rt.gpu.tables import Corners
from topos_rt.head.normals import vertex_normals
from topos_rt.model.manifest import FrameSpec

EYE, ZERO = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)


def random_mesh(rng: np.random.Generator, vertices: int, triangles: int) -> tuple[np.ndarray, np.ndarray]:
    positions = rng.standard_normal((vertices, 3)).astype(np.float32)
    faces = (
        np.stack([rng.permutation(vertices)[:3] for _ in range(triangles)])
        if triangles
        else np.zeros((0, 3), int)
    )
    return positions, faces


def run(
    arena: Any, positions: np.ndarray, corners: Corners, *placement: Any
) -> tuple[np.ndarray, np.ndarray]:
    put = arena.put
    outs = tuple(put(np.full((corners.rows, 3), np.nan, np.float32)) for _ in range(2))
    ops.mesh_normals(put(positions), corners.placed(put), *placement, outs=outs, stream=arena._stream.handle)
    return arena.get(outs[0]), arena.get(outs[1])


@pytest.mark.parametrize("vertices", [3, 4, 127, 128, 129, 400])
@pytest.mark.parametrize("pitch", [3, 6])
def test_random_meshes(arena: Any, vertices: int, pitch: int) -> None:
    """Some vertices without triangles, some coincident."""
    rng = np.random.default_rng(vertices)
    positions, faces = random_mesh(rng, vertices, 2 * vertices)
    positions[1] = positions[0]
    corners = Corners.of_triangles(vertices, faces)
    wide = np.hstack([positions, rng.standard_normal((vertices, pitch - 3)).astype(np.float32)])
    turn, centre = FrameSpec("-z", "+x", 0.1).rotation, np.float32([0.1, -0.2, 0.3])
    metres, normals = run(arena, wide, corners, turn, 0.139, centre)
    want_metres, want_normals = ops.mesh_normals(wide, corners, turn, 0.139, centre)
    assert np.allclose(metres, want_metres, atol=1e-6) and np.allclose(normals, want_normals, atol=2e-5)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    assert np.allclose(want_normals, vertex_normals(positions @ turn.T, faces), atol=1e-5)


@pytest.mark.parametrize("scale", [1e-20, 1e-12, 1.0, 1e15])
def test_meshes_of_any_size(arena: Any, scale: float) -> None:
    positions, faces = random_mesh(np.random.default_rng(1), 30, 60)
    _, normals = run(arena, positions * np.float32(scale), Corners.of_triangles(30, faces), EYE, 1.0, ZERO)
    assert np.allclose(normals, vertex_normals(positions, faces), atol=2e-5)


def test_no_direction_is_up(arena: Any) -> None:
    """No triangles; triangles without area; two that cancel."""
    positions = np.float32([[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0], [9, 9, 9]])
    corners = Corners.of_triangles(5, np.array([[0, 1, 2], [0, 1, 3], [1, 0, 3]]))
    _, normals = run(arena, positions, corners, EYE, 1.0, ZERO)
    assert np.array_equal(normals, np.tile(np.float32([0, 1, 0]), (5, 1)))


def test_values_that_are_not_finite(arena: Any) -> None:
    positions = np.float32([[0, 0, 0], [np.nan, 0, 0], [0, 1, 0]])
    _, normals = run(arena, positions, Corners.of_triangles(3, np.array([[0, 1, 2]])), EYE, 1.0, ZERO)
    assert np.array_equal(normals[1], [0, 1, 0]) and np.isfinite(normals).all()


def test_the_same_bits_every_time(arena: Any) -> None:
    positions, faces = random_mesh(np.random.default_rng(2), 200, 800)
    corners = Corners.of_triangles(200, faces)
    first, second = (run(arena, positions, corners, EYE, 1.0, ZERO)[1] for _ in range(2))
    assert np.array_equal(first, second)


BAD_TRIANGLES = {
    "outside": (np.array([[0, 1, 5]]), "0..4"),
    "negative": (np.array([[0, 1, -1]]), "0..4"),
    "floats": (np.zeros((1, 3)), "integers"),
    "quads": (np.zeros((1, 4), int), r"\[F,3\]"),
}


@pytest.mark.parametrize("case", BAD_TRIANGLES)
def test_bad_triangles(case: str) -> None:
    triangles, message = BAD_TRIANGLES[case]
    with pytest.raises(MeshInputError, match=message):
        Corners.of_triangles(5, triangles)


def test_bad_input() -> None:
    corners = Corners.of_triangles(3, np.array([[0, 1, 2]]))
    good = np.zeros((3, 3), np.float32)
    for positions, message in (
        (np.zeros((4, 3), np.float32), "positions: got"),
        (good.astype(float), "float64"),
        (np.zeros((3, 2), np.float32), "or wider"),
        (np.zeros(9, np.float32), "or wider"),
    ):
        with pytest.raises(InputError, match=message):
            ops.mesh_normals(positions, corners, EYE, 1.0, ZERO)
    with pytest.raises(InputError, match="rotation and centre"):
        ops.mesh_normals(good, corners, np.eye(2), 1.0, ZERO)
    with pytest.raises(InputError, match=r"outs\[1\]"):
        ops.mesh_normals(good, corners, EYE, 1.0, ZERO, outs=(good.copy(), np.zeros((3, 3))))
    assert reference.mesh_normals(good, corners, EYE, 1.0, ZERO)[0].dtype == np.float32
