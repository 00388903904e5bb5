"""What a fit says of how residuals follow the head, against heads that were moved."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tests.landmark_worlds import SIZE, World, camera, face_of, smooth_fields
from topos_rt.errors import InputError
from topos_rt.faces.fit import HeadFitter, LinearFit
from topos_rt.head.rig_fit import fit_rig
from topos_rt.model.bundle import Bundle


@cache
def world() -> World:
    bundle = Bundle.open("mini", verify=False)
    plain = World(bundle, (4, 3), np.zeros((3, 1, 3)), np.ones(3))
    return World(bundle, (4, 3), smooth_fields(plain.mean, bundle.topology, 3), np.ones(3))


def fitted(numbers: np.ndarray) -> LinearFit:
    """Fit a head with numbers to the landmarks of another, which neither camera nor expression explain."""
    bundle = world().bundle
    assert bundle.landmarks is not None and bundle.rig is not None
    # The heads are near: what Gauss-Newton's matrix leaves out grows with the residuals.
    other = world().head(np.array([0.07, -0.05, 0.09]))
    face = face_of(bundle.landmarks.points(other), camera(18, 5, -9))
    # The rig is that of the mean head: `moves` say nothing of how shapes change with the head.
    fitter = HeadFitter(world().head(numbers), fit_rig(bundle.rig, world().mean), bundle.landmarks)
    return fitter.linearised(face.landmarks, bundle.landmarks.points(world().fields), SIZE)


def test_it_tells_what_heads_that_are_moved_leave() -> None:
    at = fitted(np.zeros(3))
    for number, unit in enumerate(np.eye(3)):
        slope = (fitted(STEP * unit).residuals - fitted(-STEP * unit).residuals) / (2 * STEP)
        off, moved = slope - at.moved[number], at.moved[number]
        assert np.sqrt((off**2).mean()) < OFF * np.sqrt((moved**2).mean()), number


def test_its_residuals_are_those_of_the_fit() -> None:
    bundle = world().bundle
    assert bundle.landmarks is not None
    face = face_of(bundle.landmarks.points(world().head(np.ones(3))), camera(-20, 3, 4))
    fitter = HeadFitter(world().mean, None, bundle.landmarks)
    linear = fitter.linearised(face.landmarks, np.zeros((0, 468, 3)), SIZE)
    plain = fitter.fit(face.landmarks, SIZE)
    assert 100 * np.sqrt((linear.residuals**2).sum(1).mean()) == pytest.approx(plain.residual, rel=1e-9)
    assert np.array_equal(linear.turn, plain.pose.turn) and linear.moved.shape == (0, 468, 2)


def test_a_shift_a_turn_and_a_change_of_size_leave_nothing() -> None:
    bundle = world().bundle
    assert bundle.landmarks is not None
    points = bundle.landmarks.points(world().mean.astype(np.float64))
    around = points - points.mean(0)
    free = np.stack([np.full_like(points, 0.01), 0.1 * around, 0.1 * np.cross([1, 2, 3], around)])
    nose = np.exp(-((points - points[1]) ** 2).sum(1) / 0.02**2)[:, None] * [0, 0.01, 0]
    face = face_of(points, camera(10, 4, 2))
    moved = HeadFitter(world().mean, None, bundle.landmarks).linearised(
        face.landmarks, np.stack([*free, nose]), SIZE
    )
    sizes = np.abs(moved.moved).max((1, 2))
    assert (sizes[:3] < FREE * sizes[3]).all()


def test_landmarks_of_no_face_are_refused() -> None:
    bundle = world().bundle
    assert bundle.landmarks is not None
    wild = np.random.default_rng(0).uniform(0, 500, (478, 3))
    with pytest.raises(InputError, match="away from those of a head"):
        HeadFitter(world().mean, None, bundle.landmarks).linearised(wild, np.zeros((0, 468, 3)), SIZE)


STEP = 0.02
# Measured: 0.07 for moves; the prior on the distance leaves 0.06 of a nose's of a shift towards the camera.
OFF, FREE = 0.1, 0.08
