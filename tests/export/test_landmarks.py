"""`python -m export landmarks`: its parts on known shapes, and the whole on `mini` with few drawings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests import needs

needs.module("scipy")

from export.__main__ import main
from export.landmarks import command
from export.landmarks.casting import Hits, medians
from export.landmarks.drawing import SIDE, Model, View
from export.landmarks.paint import Stroke, iris_strokes, strokes
from export.landmarks.smoothing import INNER_LIPS, project, symmetric, warped
from tests.meshes import ball
from topos_rt.faces.bundle import FaceBundle
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.pose import rotation
from topos_rt.model.bundle import Bundle

CANONICAL = FaceBundle.open(verify=False).canonical
METRES = CANONICAL.positions.astype(np.float64) / 100


def test_medians_ignore_strays() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal([1, 2, 3], 1e-3, (20, 3)), [[9, 9, 9]] * 4, [[5, 5, 5]] * 3])
    landmark = np.array([7] * 24 + [8] * 3)
    hits = Hits(landmark, np.zeros(27, int), np.zeros((27, 3)), np.ones(27), 1)
    found = medians(hits, points, np.ones(27, bool))
    assert found[7] == pytest.approx([1, 2, 3], abs=2e-3)
    assert np.isnan(found[8]).all()  # three hits are too few
    assert np.isnan(medians(hits, points, np.arange(27) < 3)).all()


def test_symmetric_landmarks_mirror_each_other() -> None:
    rng = np.random.default_rng(0)
    noisy = METRES + np.array([0.5, 0, 0]) + rng.normal(0, 1e-3, METRES.shape)
    noisy[33] = np.nan
    noisy[[61, 291]] = np.nan
    found = symmetric(noisy, CANONICAL.mirrored)
    known = ~np.isnan(found[:, 0])
    assert set(np.flatnonzero(~known)) == {61, 291}
    reflected = found[CANONICAL.mirrored] * [-1, 1, 1] + [1, 0, 0]
    assert found[known] == pytest.approx(reflected[known], abs=1e-3)
    assert np.linalg.norm((found - METRES - [0.5, 0, 0])[known], axis=1).mean() < 1.2e-3


def test_warping_fills_gaps_and_leaves_out_the_inner_lips() -> None:
    turned = METRES @ rotation(10, 5, 3).T * 1.3 + [0.1, 0.2, 0.3]
    known = turned.copy()
    known[[33, 152, 205]] = np.nan
    known[list(INNER_LIPS)] += 1
    assert warped(CANONICAL, known) == pytest.approx(turned, abs=1e-4)


def test_points_are_projected_on_the_surface() -> None:
    head = ball()
    points = head.positions[:400:7] * 1.2
    ids, weights = project(points, head.positions.astype(np.float64), head.triangles)
    assert weights.sum(1) == pytest.approx(1) and (weights >= 0).all()
    landed = (head.positions[ids] * weights[..., None]).sum(1)
    assert np.linalg.norm(landed - head.positions[:400:7], axis=1).max() < 1e-3


def test_a_stroke_colours_what_it_covers() -> None:
    stroke = Stroke(np.array([[0.0, 0, 0], [1, 0, 0]]), np.array([0.1, 0.2]), (0.5, 0.0, 1.0))
    factors = stroke.factors(np.array([[0.5, 0, 0], [0, 0.11, 0], [1, 0.15, 0], [-0.05, 0, 0], [3, 3, 3]]))
    assert factors[0] == pytest.approx([0.5, 0, 1])
    assert factors[[1, 4]] == pytest.approx(np.ones((2, 3)))
    assert 0 < factors[2, 1] < 1 and factors[3, 1] < 1


def test_paint_is_where_the_landmarks_are() -> None:
    painted = strokes(METRES, CANONICAL.mirrored, True) + iris_strokes(METRES[[159, 386]], METRES)
    assert len(painted) == 6
    for landmark in (105, 334, 0, 17):  # brows and lips
        rim = METRES[landmark] * [1, 1, 1]
        assert min(np.linalg.norm(rim - stroke.centres, axis=1).min() for stroke in painted) < 0.01
    nose = METRES[[4]]
    assert all((stroke.factors(nose) == 1).all() for stroke in painted)


def test_a_drawing_says_what_is_at_each_pixel() -> None:
    head = ball()
    drawing = Model(head).draw(View(30, 20), head.positions.astype(np.float64), [])
    assert drawing.picture.size == (SIDE, SIDE) and drawing.triangles.shape == (SIDE, SIDE)
    middle = SIDE // 2
    at = drawing.weights[middle, middle] @ head.positions[head.triangles[drawing.triangles[middle, middle]]]
    towards = rotation(30, 20, 0).T @ [0, 0, 0.1]
    assert at == pytest.approx(towards, abs=2e-3)
    assert drawing.triangles[0, 0] == -1


@pytest.fixture
def few_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    views = tuple(View(yaw, pitch) for yaw in (-18, 0, 18) for pitch in (-6, 6))
    for name in ("_FIRST", "_VIEWS", "_OPEN_VIEWS"):
        monkeypatch.setattr(command, name, views)
    monkeypatch.setattr(command, "_KNOWN", 300)


@pytest.mark.usefixtures("few_drawings")
def test_few_drawings_of_mini_give_nearly_its_map() -> None:
    bundle = Bundle.open("mini", verify=False)
    head = command.mean_head(bundle)
    with FaceFinder.open(threads=1) as finder:
        made = command.make_map(head, finder)
    shipped = bundle.landmarks
    assert shipped is not None
    away = np.linalg.norm(made.points(head.positions) - shipped.points(head.positions), axis=1)
    # measured: 0.0006 and 0.004; the outer-eye distance is 0.091
    assert np.median(away) < 2e-3 and away.max() < 1.2e-2
    assert np.array_equal(made.irises, shipped.irises)
    # the lips touch at rest, but belong to different sides of the mouth
    opened = head.posed({"jawOpen": 1.0}).positions
    gap = (made.points(opened) - made.points(head.positions))[[13, 14]]
    assert gap[0, 1] > gap[1, 1] + 0.01


@pytest.mark.usefixtures("few_drawings")
def test_a_head_without_a_face_is_refused_and_the_bundle_kept(
    own_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in own_bundle.iterdir()}
    assert main(["landmarks", str(own_bundle)]) == 2
    assert "the bundle's head: got a face in 0 of 6 drawings" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in own_bundle.iterdir()} == before


@pytest.mark.usefixtures("few_drawings")
def test_the_command_writes_the_map_into_the_bundle(
    own_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Bundle.open(own_bundle).landmarks
    assert made is not None
    quieter = dataclasses.replace(made, noise=made.noise / 2)
    monkeypatch.setattr(command, "make_map", lambda head, finder: quieter)
    assert main(["landmarks", str(own_bundle)]) == 0
    found = Bundle.open(own_bundle).landmarks
    assert found is not None and np.array_equal(found.noise, quieter.noise)
    assert "468 landmarks" in capsys.readouterr().out
