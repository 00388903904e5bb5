"""Registration: it recovers transforms, finds orientations, and copes with missing and extra parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topos_rt.errors import MeshInputError
from topos_rt.model.bundle import Bundle
from topos_rt.scan.alignment import ORIENTATIONS, Target, align, even_rotations, register
from topos_rt.scan.fit import mean_head, outer_part
from topos_rt.scan.surface import Samples, Surface
from topos_rt.support.similarity import Similarity, fit_similarity


def rotation(draw: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(draw.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def degrees(a: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(a) - 1) / 2, -1, 1))))


@pytest.fixture(scope="module")
def outside() -> Surface:
    bundle = Bundle.open("mini", verify=False)
    return Surface(mean_head(bundle).points, outer_part(bundle))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.booleans())
def test_a_similarity_is_recovered_and_inverted(seed: int, scale: float, rotate: bool) -> None:
    draw = np.random.default_rng(seed)
    true = Similarity(scale, rotation(draw) if rotate else np.eye(3), draw.normal(size=3))
    points = draw.normal(size=(12, 3))
    found = fit_similarity(points, true.points(points), rotate)
    assert found.scale == pytest.approx(scale)
    assert np.abs(found.rotation - true.rotation).max() < 1e-7
    assert np.abs(found.inverse.points(true.points(points)) - points).max() < 1e-6
    both = true.after(found.inverse)
    assert both.scale == pytest.approx(1) and np.abs(both.points(points) - points).max() < 1e-5


def test_a_mirror_image_is_not_taken_for_a_rotation() -> None:
    points = np.random.default_rng(0).normal(size=(20, 3))
    assert np.linalg.det(fit_similarity(points, points * [-1, 1, 1]).rotation) == pytest.approx(1)
    with pytest.raises(MeshInputError, match="the same point"):
        fit_similarity(points, np.zeros_like(points))


def test_rotations_are_even() -> None:
    """Every one of many random orientations is near one of the rotations."""
    rotations = even_rotations(ORIENTATIONS)
    assert np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3))
    assert np.allclose(np.linalg.det(rotations), 1)
    draw = np.random.default_rng(1)
    wanted = [rotation(draw) for _ in range(40)]
    farthest = max(min(degrees(r @ want.T) for r in rotations) for want in wanted)
    assert farthest < 35


def test_registration_finds_back_from_a_small_turn_and_leaves_out_what_is_too_much(outside: Surface) -> None:
    draw = np.random.default_rng(2)
    source, target = outside.sample(1500, 1), outside.sample(3000, 2)
    angle = np.radians(12)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    assert target.normals is not None
    clutter = draw.normal(size=(300, 3)) * 0.2 + [2, 0, 0]
    cluttered = Samples(
        np.concatenate([target.points, clutter]),
        np.concatenate([target.normals, np.tile([1.0, 0, 0], (300, 1))]),
    )
    start = Similarity(1.1, turn, np.array([0.1, -0.05, 0.02]))
    found, left = register(source, Target(cluttered), start, iterations=40)
    assert degrees(found.rotation) < 2 and abs(found.scale - 1) < 0.02 and np.abs(found.shift).max() < 0.02
    assert left < 0.05
    kept, _ = register(source, Target(cluttered), start, rotate=False, iterations=10)
    assert np.array_equal(kept.rotation, turn)


@pytest.mark.parametrize("seed", range(3))
def test_any_orientation_size_and_place_is_found(outside: Surface, seed: int) -> None:
    draw = np.random.default_rng(seed)
    true = Similarity(float(draw.uniform(0.1, 200)), rotation(draw), 3 * draw.normal(size=3))
    points, normals = outside.sample(4000, 5)
    assert normals is not None
    above = points[:, 1] > -0.6  # no neck
    kept = Samples(points[above], normals[above])
    found, left = align(
        Samples(true.points(kept.points), true.normals(kept.normals)), outside.sample(4000, 6)
    )
    assert degrees(found.rotation @ true.rotation) < 5
    assert found.scale * true.scale == pytest.approx(1, abs=0.05)
    assert left < 0.06


def test_points_without_normals_are_refused() -> None:
    with pytest.raises(MeshInputError, match="no normals"):
        Target(Samples(np.eye(3), None))
