"""The buffers of a synthetic head hold what is in view, at the place that the view asks for."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tests.training.synthetic import ACTIONS, egg
from training.gbuffers import LANDMARKS, SIZE, GBuffer, Material, Painter, View

FRONT = View(yaw=0, pitch=0, roll=0, distance=1.0, height=0.7, shift=(0.0, 0.0))
OWN = (Material.SKIN, Material.LIPS, Material.BROWS, Material.SCLERA, Material.IRIS, Material.PUPIL,
       Material.MOUTH, Material.BEARD)  # fmt: skip


@pytest.fixture(scope="module")
def painter() -> Painter:
    return Painter(egg())


def draw(painter: Painter, view: View = FRONT, seed: int = 0) -> GBuffer:
    return painter.draw(egg().template, view, np.random.default_rng(seed))


class Bald(np.random.Generator):
    """A generator whose chances never come up: no hair, no shoulders."""

    def random(self, *_: Any) -> float:
        return 1.0


def draw_bald(painter: Painter, **changes: Any) -> GBuffer:
    return painter.draw(egg().template, dataclasses.replace(FRONT, **changes), Bald(np.random.PCG64(0)))


def test_shapes_and_types(painter: Painter) -> None:
    buffer = draw(painter)
    assert (buffer.normals.shape, buffer.normals.dtype) == ((SIZE, SIZE, 3), np.int8)
    assert (buffer.materials.shape, buffer.materials.dtype) == ((SIZE, SIZE), np.uint8)
    assert (buffer.landmarks.shape, buffer.landmarks.dtype) == ((LANDMARKS, 2), np.float16)


def test_a_seed_repeats(painter: Painter) -> None:
    for one, again in zip(draw(painter, seed=5), draw(painter, seed=5), strict=True):
        assert np.array_equal(one, again)
    assert not np.array_equal(draw(painter, seed=5).materials, draw(painter, seed=6).materials)


def test_normals_are_unit_where_something_is_and_zero_elsewhere(painter: Painter) -> None:
    for seed in range(4):
        normals, materials, _ = draw(painter, seed=seed)
        lengths = np.linalg.norm(normals.astype(np.float64), axis=2)
        assert not lengths[materials == Material.BACKGROUND].any()
        assert np.abs(lengths[materials != Material.BACKGROUND] - 127).max() < 2


def test_faces_and_their_normals_point_to_the_camera(painter: Painter) -> None:
    normals, materials, _ = draw_bald(painter)
    assert (normals[materials != Material.BACKGROUND, 2] > -40).all()  # a little below zero at the rim
    rows, columns = np.nonzero(materials)
    x, y = columns - columns.mean(), rows - rows.mean()
    assert np.corrcoef(x, normals[rows, columns, 0])[0, 1] > 0.9
    assert np.corrcoef(y, normals[rows, columns, 1])[0, 1] < -0.9  # rows count downwards


@pytest.mark.parametrize("height", [0.5, 0.9])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.1, -0.05)])
def test_the_head_has_the_wished_height_and_place(
    painter: Painter, height: float, shift: tuple[float, float]
) -> None:
    _, materials, _ = draw_bald(painter, height=height, shift=shift, yaw=20.0, roll=5.0)
    rows, columns = np.nonzero(materials)
    top, bottom = max(0.0, 0.5 + shift[1] - height / 2), min(1.0, 0.5 + shift[1] + height / 2)
    assert [rows.min(), rows.max() + 1] == pytest.approx([top * SIZE, bottom * SIZE], abs=2)
    assert (columns.min() + columns.max() + 1) / 2 == pytest.approx((0.5 + shift[0]) * SIZE, abs=2)


def test_landmarks_follow_their_vertices(painter: Painter) -> None:
    """The foremost one is in the middle; it moves to the right when the model turns to its left."""
    nose = int(egg().template[painter.landmarks, 2].argmax())
    assert abs(draw_bald(painter).landmarks[nose, 0]) < 0.25
    turned = draw_bald(painter, yaw=30.0).landmarks[nose] - draw_bald(painter, yaw=-30.0).landmarks[nose]
    assert turned[0] > 0.2
    nodded = draw_bald(painter, pitch=15.0).landmarks[nose] - draw_bald(painter, pitch=-15.0).landmarks[nose]
    assert nodded[1] > 0.1
    assert np.abs(draw_bald(painter).landmarks.astype(float)).max() < 0.75  # the head fills 0.7


def test_landmarks_are_spread_out_and_off_the_eyes(painter: Painter) -> None:
    points = egg().template[painter.landmarks]
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(LANDMARKS)
    assert apart.min() > 0.008
    assert egg().skin[painter.landmarks][:, 1:4].max() < 0.5


def test_the_face_is_where_it_belongs(painter: Painter) -> None:
    buffer = draw_bald(painter)
    where = {m: np.argwhere(buffer.materials == m).mean(0) / SIZE - 0.5 for m in OWN if m in buffer.materials}
    assert {Material.SKIN, Material.LIPS, Material.SCLERA, Material.MOUTH} <= where.keys()
    assert where[Material.SCLERA][0] < 0 < where[Material.LIPS][0]
    assert abs(where[Material.SCLERA][1]) < 0.02  # both eyes
    assert not np.isin(buffer.materials, [Material.HAIR, Material.CLOTHES]).any()
    assert set(np.unique(buffer.materials)) <= {int(m) for m in (*OWN, Material.BACKGROUND)}


def test_hair_and_shoulders_come_up(painter: Painter) -> None:
    seen = np.unique(np.concatenate([np.unique(draw(painter, seed=seed).materials) for seed in range(6)]))
    assert {Material.HAIR, Material.CLOTHES, Material.SKIN} <= set(seen.tolist())


def test_random_views_keep_their_bounds() -> None:
    rng = np.random.default_rng(0)
    views = [View.random(rng) for _ in range(500)]
    assert max(abs(view.yaw) for view in views) <= 38
    assert max(abs(view.pitch) for view in views) <= 18
    assert max(abs(view.roll) for view in views) <= 15
    assert 0.5 <= min(view.height for view in views) <= max(view.height for view in views) <= 0.95
    assert 0.6 <= min(view.distance for view in views) <= max(view.distance for view in views) <= 2.5
    for view in views:  # at most a little of the head is cut off
        assert max(map(abs, view.shift)) + view.height / 2 <= 0.54 + 1e-9


def test_expressions_move_a_copy(painter: Painter) -> None:
    rng, head = np.random.default_rng(1), egg().template
    before = head.copy()
    shown = [painter.with_expression(head, rng) for _ in range(40)]
    assert np.array_equal(head, before)
    moved = [not np.array_equal(face, head) for face in shown]
    assert 10 < sum(moved) < 35
    assert len(ACTIONS) == len(set(ACTIONS))
    assert max(np.abs(face - head).max() for face in shown) < 0.02
