"""The fit of camera and expression: exact landmarks of `mini`'s mean head give back what made them."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topos_rt.errors import InputError, MeshInputError
from topos_rt.faces import fit as fit_module
from topos_rt.faces.camera import Camera
from topos_rt.faces.expression import NAMES
from topos_rt.faces.fit import ARKIT, HeadFit, HeadFitter, fit_head
from topos_rt.faces.pose import angles, rotation
from topos_rt.head.landmark_map import COUNT, IRISES, LandmarkMap
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.rig_fit import fit_rig
from topos_rt.model.bundle import Bundle

SIZE = (640, 480)
LOOKS = {"jawOpen": 0.6, "mouthSmileLeft": 0.5, "mouthSmileRight": 0.5, "eyeBlinkLeft": 0.7}


@cache
def head() -> tuple[HeadMesh, LandmarkMap]:
    """Return the mean head, made symmetric as far as its landmarks go, and its map."""
    bundle = Bundle.open("mini", verify=False)
    frame = bundle.manifest.frame
    positions = bundle.hierarchy.levels[0].features[:, :3] @ frame.rotation.T * np.float32(frame.radius_m)
    assert bundle.rig is not None and bundle.landmarks is not None
    normals = vertex_normals(positions, bundle.topology.triangles)
    return HeadMesh(positions, normals, bundle.topology, fit_rig(bundle.rig, positions)), bundle.landmarks


@cache
def fitter() -> HeadFitter:
    mesh, landmarks = head()
    return HeadFitter(mesh.positions, mesh.rig, landmarks)


def seen(camera: Camera, shapes: dict[str, float]) -> np.ndarray:
    """Return the landmarks [478,3] of the head with an expression; depths are NaN, for none may be used."""
    mesh, landmarks = head()
    posed = mesh.posed(shapes).positions.astype(np.float64)
    found = np.full((478, 3), np.nan)
    found[:COUNT, :2] = camera.project(landmarks.points(posed))
    irises = camera.project(posed[landmarks.irises])
    for first, middle in zip(IRISES, irises, strict=True):
        found[first : first + 5, :2] = middle
    return found


def camera(
    yaw: float = 0, pitch: float = 0, roll: float = 0, distance: float = 1.2, focal: float = 1100
) -> Camera:
    return Camera(rotation(yaw, pitch, roll), np.array([0.05, -0.02, -distance]), focal, (320, 240))


def pose_error(fit: HeadFit, truth: Camera) -> float:
    """Return the angle between two turns in degrees."""
    off = fit.pose.turn @ truth.turn.T
    return float(np.degrees(np.arccos(np.clip((np.trace(off) - 1) / 2, -1, 1))))


@given(
    yaw=st.floats(-40, 40), pitch=st.floats(-20, 20), roll=st.floats(-180, 180), distance=st.floats(0.5, 3)
)
@settings(max_examples=20, deadline=None)
def test_exact_landmarks_give_the_camera_back(yaw: float, pitch: float, roll: float, distance: float) -> None:
    truth = camera(yaw, pitch, roll, distance, 900 * distance)
    found = seen(truth, {})
    fit = fitter().fit(found, SIZE, truth.focal)
    assert pose_error(fit, truth) < EXACT_DEGREES
    assert np.linalg.norm(fit.pose.shift - truth.shift) < EXACT_SHIFT * distance
    assert fit.residual < EXACT_RESIDUAL
    assert max(fit.expression.values()) < 1e-3
    assert fit.pose.project(head()[0].positions) == pytest.approx(truth.project(head()[0].positions), abs=1)


@pytest.mark.parametrize(
    "name, least",
    [
        ("jawOpen", 0.6),
        ("mouthSmileLeft", 0.4),
        ("eyeBlinkRight", 0.4),
        ("mouthPucker", 0.3),
        ("browInnerUp", 0.15),
    ],
)
def test_a_shape_is_found_as_far_as_its_prior_lets_it(name: str, least: float) -> None:
    truth = camera(12, -5, 3)
    fit = fitter().fit(seen(truth, {name: 0.8}), SIZE, truth.focal)
    assert max(fit.expression, key=lambda key: fit.expression[key]) == name
    assert least < fit.expression[name] <= 0.85
    assert pose_error(fit, truth) < 1.5 and fit.residual < 1.5


def test_without_a_prior_worth_speaking_of_weights_and_camera_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fit_module, "_INDEPENDENT", 1e6)
    mesh, landmarks = head()
    truth = camera(-15, 6, -8)
    made = HeadFitter(mesh.positions, mesh.rig, landmarks).fit(seen(truth, LOOKS), SIZE, truth.focal)
    assert pose_error(made, truth) < 0.3 and made.residual < 0.05
    for name, weight in made.expression.items():
        assert weight == pytest.approx(LOOKS.get(name, 0), abs=0.08), name


def test_an_open_focal_length_is_of_a_portrait() -> None:
    truth = camera(20, 5, -4, 1.0, 900)
    fit = fitter().fit(seen(truth, LOOKS), SIZE)
    assert pose_error(fit, truth) < 2
    assert 0.6 < -fit.pose.shift[2] < 2.4
    assert fit.residual < 1.5


def test_the_posed_head_lies_on_the_landmarks() -> None:
    truth = camera(15, 8, 10)
    found = seen(truth, LOOKS)
    fit = fitter().fit(found, SIZE, truth.focal)
    posed = head()[0].posed(fit.expression)
    again = fit.pose.project(head()[1].points(posed.positions.astype(np.float64)))
    away = np.linalg.norm(again - found[:COUNT, :2], axis=1)
    rest = head()[1].points(head()[0].positions.astype(np.float64))
    depth = -(truth.turn @ rest.mean(0) + truth.shift)[2]
    across = truth.focal / depth * np.linalg.norm(rest[33] - rest[263])
    assert 100 * np.sqrt((away**2).mean()) / across == pytest.approx(fit.residual, rel=0.05)


def test_a_mirrored_picture_gives_the_mirrored_result() -> None:
    truth = camera(18, 4, 6)
    found = seen(truth, {**LOOKS, "mouthLeft": 0.4})
    order = np.concatenate([head()[1].mirrored, range(473, 478), range(468, 473)])
    mirrored = found[order] * [-1, 1, 1] + [SIZE[0], 0, 0]
    one, other = fitter().fit(found, SIZE), fitter().fit(mirrored, SIZE)
    assert other.pose.angles == pytest.approx(np.array(one.pose.angles) * [-1, 1, -1], abs=MIRROR_DEGREES)
    assert other.residual == pytest.approx(one.residual, abs=0.3)
    for name, weight in one.expression.items():
        swapped = name.replace("Left", "*").replace("Right", "Left").replace("*", "Right")
        assert other.expression[swapped] == pytest.approx(weight, abs=MIRROR_WEIGHT)


@pytest.mark.parametrize("shift", [(0, 0), (300, -150)])
@pytest.mark.parametrize("scale, turn", [(1, 0), (0.3, 0), (2.5, 40), (1, -90), (1, 180)])
def test_moving_the_picture_changes_the_camera_alone(
    shift: tuple[float, float], scale: float, turn: float
) -> None:
    found = seen(camera(18, 4, 6), LOOKS)
    own = rotation(0, 0, turn)[:2, :2] * [[1, -1], [-1, 1]]  # counter-clockwise, in pixels with y down
    moved = found.copy()
    moved[:, :2] = scale * found[:, :2] @ own.T + shift
    one, other = fitter().fit(found), fitter().fit(moved)
    assert [*other.expression.values()] == pytest.approx([*one.expression.values()], abs=1e-3)
    assert other.residual == pytest.approx(one.residual, abs=1e-3)
    yaw, pitch, roll = one.pose.angles
    found_yaw, found_pitch, found_roll = other.pose.angles
    assert (found_yaw, found_pitch) == pytest.approx((yaw, pitch), abs=0.02)
    assert (found_roll - roll - turn + 180) % 360 - 180 == pytest.approx(0, abs=0.02)
    assert other.pose.focal == pytest.approx(scale * one.pose.focal, rel=1e-3)


def test_scores_that_mean_something_pull() -> None:
    found = seen(camera(), {})
    shut = dict.fromkeys(NAMES[1:], 0.0)
    without = fitter().fit(found, SIZE, scores=shut).expression
    smiling = fitter().fit(found, SIZE, scores=shut | {"mouthSmileLeft": 1.0}).expression
    assert smiling["mouthSmileLeft"] > without["mouthSmileLeft"] + 0.1
    puffed = fitter().fit(found, SIZE, scores=shut | {"cheekPuff": 1.0}).expression
    assert puffed == without  # that score says nothing


def test_all_names_are_arkits() -> None:
    assert len(ARKIT) == len(set(ARKIT)) == 52
    fit = fitter().fit(seen(camera(), LOOKS), SIZE)
    assert tuple(fit.expression) == ARKIT and fit.expression["tongueOut"] == 0
    assert all(type(weight) is float and 0 <= weight <= 1 for weight in fit.expression.values())


def test_without_a_rig_or_eyes_only_the_camera_is_fitted() -> None:
    mesh, landmarks = head()
    blind = dataclasses.replace(landmarks, irises=np.zeros(0, np.int32))
    truth = camera(10, 5, 2)
    fit = fit_head(mesh.positions, None, blind, seen(truth, {}), SIZE, truth.focal)
    assert fit.expression == {} and pose_error(fit, truth) < EXACT_DEGREES


def test_wild_landmarks_count_less() -> None:
    truth = camera(10, 5, 2)
    found = seen(truth, {})
    found[[50, 280, 152], :2] += [60, -40]
    assert pose_error(fitter().fit(found, SIZE, truth.focal), truth) < 1.5


BAD = {
    "no landmarks": (np.zeros((0, 3)), {}, "landmarks: got shape [0, 3]"),
    "one too few": (np.zeros((477, 3)), {}, "landmarks: got shape [477, 3]"),
    "words": (np.full((478, 3), "a"), {}, "landmarks: got shape [478, 3] of <U1"),
    "NaN": (np.full((478, 3), np.nan), {}, "got NaN, infinite or huge values"),
    "infinite": (np.full((478, 2), np.inf), {}, "got NaN, infinite or huge values"),
    "all equal": (np.full((478, 3), 5.0), {}, "points too close together"),
    "on a line": (np.linspace(0, 100, 478)[:, None] * [1, 1, 1], {}, "landmarks: got points"),
    "noise": (np.random.default_rng(0).uniform(0, 500, (478, 3)), {}, "away from those of a head"),
}


@pytest.mark.parametrize("case", BAD)
def test_nonsense_is_refused(case: str) -> None:
    found, options, message = BAD[case]
    with pytest.raises(InputError) as caught:
        fitter().fit(found, SIZE, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("focal", [0, -3.0, np.nan, np.inf])
def test_an_impossible_focal_length_is_refused(focal: float) -> None:
    with pytest.raises(InputError, match="focal length"):
        fitter().fit(seen(camera(), {}), SIZE, focal)


def test_a_reduced_head_is_refused() -> None:
    mesh, landmarks = head()
    reduced = mesh.lod(1)
    with pytest.raises(MeshInputError, match="head, landmark map and rig"):
        HeadFitter(reduced.positions, reduced.rig, landmarks)


def test_a_camera_projects_with_the_picture_upside_down() -> None:
    plain = Camera(np.eye(3), np.array([0, 0, -2.0]), 100, (50, 40))
    assert plain.project(np.array([[0, 0, 0], [0.2, 0, 0], [0, 0.2, 0]])).tolist() == [
        [50, 40], [60, 40], [50, 30],
    ]  # fmt: skip
    assert plain.distance == 2 and plain.angles == pytest.approx((0, 0, 0))
    assert angles(rotation(20, 10, 5)) == pytest.approx((20, 10, 5))


# Measured: the first three are below 1e-4; a map that is not quite symmetric mirrors to 0.3 degrees and 0.02.
EXACT_DEGREES, EXACT_SHIFT, EXACT_RESIDUAL = 0.01, 1e-3, 0.01
MIRROR_DEGREES, MIRROR_WEIGHT = 0.6, 0.06
