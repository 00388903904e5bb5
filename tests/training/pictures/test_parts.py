"""Cameras, expressions, lights, backdrops, occluders and film: what each of them promises."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests import needs

needs.module("numba")
from topos_rt import Bundle
from topos_rt.faces.pose import rotation
from topos_rt.head.rig import Rig
from training.pictures import backdrops, film, lights, occluders, views
from training.pictures.camera import Camera


def arkit() -> tuple[str, ...]:
    bundle = Bundle.open("mini")
    assert bundle.manifest.rig is not None
    return Rig.load(bundle.path / bundle.manifest.rig).shape_names


def test_a_camera_survives_its_numbers_and_projects_by_hand(rng: np.random.Generator) -> None:
    camera = Camera(rotation(20, -10, 5), np.array([0.1, 0.7, 0.0]), 1.2, 900.0, np.array([128.0, 120.0]))
    again = Camera.from_numbers(camera.numbers())
    points = rng.normal(0, 0.1, (50, 3)) + camera.centre
    assert again.project(points) == pytest.approx(camera.project(points), abs=2e-3)
    assert camera.project(camera.centre[None])[0] == pytest.approx([128, 120, 1.2], abs=1e-4)
    x, y, z = camera.rotation @ (points[0] - camera.centre)
    by_hand = [128 + 900 * x / (1.2 - z), 120 - 900 * y / (1.2 - z), 1.2 - z]
    assert camera.project(points)[0] == pytest.approx(by_hand, abs=1e-2)


def test_a_head_turns_to_its_left_and_upwards() -> None:
    nose = np.array([0, 0, 1.0])
    assert (rotation(30, 0, 0) @ nose)[0] > 0.4  # its left is to the right of the picture
    assert (rotation(0, 20, 0) @ nose)[1] > 0.3


def test_cameras_keep_the_head_in_the_picture(rng: np.random.Generator) -> None:
    head = rng.normal(0, 1, (500, 3))
    head *= np.array([0.08, 0.12, 0.1]) / np.linalg.norm(head, axis=1, keepdims=True)
    for _ in range(200):
        camera = views.camera(head, 256, rng)
        x, y, depth = camera.project(head).T
        assert 0.45 < (y.max() - y.min()) / 256 < 0.95
        assert depth.min() > 0.3 and depth.max() < 3.3
        assert y.min() > -40 and y.max() < 256 + 40
        assert x.min() > -60 and x.max() < 256 + 60


def test_expressions_are_made_of_arkit_actions(rng: np.random.Generator) -> None:
    names = arkit()
    known = {name.removesuffix("Left").removesuffix("Right") for name in names} | set(names)
    for _, actions in views.EXPRESSIONS.values():
        assert set(actions) <= known
    drawn = np.stack([views.expression(names, rng) for _ in range(400)])
    assert drawn.min() >= 0 and drawn.max() <= 1
    gaze = np.array([name.startswith("eyeLook") for name in names])
    assert 0.2 < (drawn[:, ~gaze] == 0).all(1).mean() < 0.4  # neutral ones
    assert (drawn[:, names.index("jawOpen")] > 0.2).mean() > 0.08


def test_lights_shine_from_in_front_and_vary(rng: np.random.Generator) -> None:
    drawn = [lights.draw(rng) for _ in range(200)]
    assert np.linalg.norm([s.directions for s in drawn], axis=2) == pytest.approx(1)
    assert all(s.directions[0, 2] > 0 and (s.colours >= 0).all() for s in drawn)
    assert np.ptp([s.colours[0].mean() for s in drawn]) > 0.5


def test_backdrops_vary_within_bounds(rng: np.random.Generator) -> None:
    drawn = np.stack([backdrops.draw(64, rng) for _ in range(60)])
    assert drawn.dtype == np.float32 and drawn.min() >= 0 and drawn.max() <= 1.2
    assert drawn.mean((1, 2, 3)).std() > 0.1


def test_occluders_cover_a_part_near_the_face(rng: np.random.Generator) -> None:
    kinds = set()
    for _ in range(60):
        face, tone = np.array([64.0, 64, 30]), np.array([0.4, 0.25, 0.2])
        colour, cover, kind = occluders.draw(128, face, tone, lights.draw(rng), rng)
        kinds.add(kind)
        assert cover.min() >= 0 and cover.max() <= 1
        assert 0.001 < (cover > 0.5).mean() < 0.6
        assert colour[cover > 0.5].min() >= 0
    assert kinds == set(occluders.KINDS)


def photograph(seed: int, level: float = 0.2) -> np.ndarray:
    image = np.full((64, 64, 3), level, np.float32)
    image[:, 32:] *= 0.5
    return film.develop(image, np.ones((64, 64), bool), np.random.default_rng(seed))


def test_film_is_deterministic_and_meters_the_face() -> None:
    assert np.array_equal(photograph(3), photograph(3))
    assert not np.array_equal(photograph(3), photograph(4))
    dark, bright = (np.mean([photograph(s, level).mean() for s in range(30)]) for level in (0.02, 1.0))
    assert 85 < dark < bright < 170  # fifty times the light gives less than twice the brightness


def test_jpegs_keep_size_and_content(rng: np.random.Generator) -> None:
    pixels = photograph(5)
    for _ in range(20):
        image = np.asarray(Image.open(io.BytesIO(film.encode(pixels, rng))).convert("RGB"), np.float32)
        assert image.shape == pixels.shape
        assert np.abs(image - pixels).mean() < 12
