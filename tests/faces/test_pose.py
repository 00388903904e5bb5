"""The place of a head from landmarks: known ones come back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from topos_rt.faces import pose
from topos_rt.faces.bundle import CanonicalFace, FaceBundle
from topos_rt.faces.pose import Placement, angles, place, place_points, rotation

CANONICAL: CanonicalFace = FaceBundle.open().canonical
YAWS, PITCHES, ROLLS = st.floats(-80, 80), st.floats(-60, 60), st.floats(-179, 179)
PLACES = st.floats(-500, 500)
RIGHT_EYE, LEFT_EYE, NOSE, MOUTH = [33, 133], [362, 263], [1], [13, 14]


def landmarks(placement: Placement) -> np.ndarray:
    """Return the landmarks [478,3] of the canonical face, placed; the irises are left at zero."""
    found = np.zeros((478, 3))
    turned = pose._ahead(CANONICAL.positions) @ placement.turn.T * placement.scale
    found[:468] = np.column_stack([placement.at(CANONICAL.positions), -turned[:, 2] / pose._DEPTH])
    return found


@given(yaw=YAWS, pitch=PITCHES, roll=ROLLS)
def test_angles_come_back(yaw: float, pitch: float, roll: float) -> None:
    assert np.allclose(angles(rotation(yaw, pitch, roll)), (yaw, pitch, roll), atol=1e-6)


@given(yaw=YAWS, pitch=PITCHES, roll=ROLLS, scale=st.floats(0.5, 100), x=PLACES, y=PLACES)
def test_a_placement_comes_back(
    yaw: float, pitch: float, roll: float, scale: float, x: float, y: float
) -> None:
    placement = Placement(rotation(yaw, pitch, roll), scale, np.array([x, y]))
    found = place(landmarks(placement), CANONICAL)
    assert np.allclose(found.turn, placement.turn, atol=1e-5)
    assert np.isclose(found.scale, scale, rtol=1e-5)
    assert np.allclose(found.shift, placement.shift, atol=1e-3)


@given(yaw=YAWS, pitch=PITCHES, roll=ROLLS, scale=st.floats(0.5, 100), x=PLACES, y=PLACES)
def test_six_points_give_it_too(
    yaw: float, pitch: float, roll: float, scale: float, x: float, y: float
) -> None:
    placement = Placement(rotation(yaw, pitch, roll), scale, np.array([x, y]))
    groups = (RIGHT_EYE, LEFT_EYE, NOSE, MOUTH, [234], [454])
    points = np.stack([placement.at(CANONICAL.positions[ids].mean(0)) for ids in groups])
    found = place_points(points, CANONICAL)
    assert np.allclose(found.turn, placement.turn, atol=1e-4)
    assert np.isclose(found.scale, scale, rtol=1e-4)
    assert np.allclose(found.shift, placement.shift, atol=1e-2)


def test_the_angles_mean_what_they_say() -> None:
    forward, up, right = np.eye(3)[[2, 1, 0]]
    assert (rotation(30, 0, 0) @ forward)[0] > 0  # the face looks to the right of the picture
    assert (rotation(0, 20, 0) @ forward)[1] > 0  # and up
    assert (rotation(0, 0, 10) @ right)[1] > 0  # counter-clockwise: its own left side, on our right, rises
    assert np.allclose(rotation(0, 0, 0) @ up, up)


def test_the_canonical_face_is_a_face() -> None:
    middle = [CANONICAL.positions[ids].mean(0) for ids in (RIGHT_EYE, LEFT_EYE, NOSE, MOUTH)]
    right_eye, left_eye, nose, mouth = middle
    assert right_eye[0] < 0 < left_eye[0] and abs(nose[0]) < 0.01
    assert right_eye[1] > nose[1] > mouth[1] and nose[2] > max(right_eye[2], mouth[2])
    assert np.array_equal(CANONICAL.mirrored[CANONICAL.mirrored], np.arange(468))
    reflected = CANONICAL.positions[CANONICAL.mirrored] * [-1, 1, 1]
    assert np.abs(reflected - CANONICAL.positions).max() < 0.05
