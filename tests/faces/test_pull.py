"""The pull of landmarks: its step against a dense solve, and a world in which it finds what made a face."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest

from tests.landmark_worlds import SIGMA, SIZE, World, camera, exact_errors, face_of, smooth_fields
from topos_rt.errors import MeshInputError
from topos_rt.faces.face import Face
from topos_rt.faces.fit import HeadFitter
from topos_rt.faces.pull import LandmarkPull, least_squares_step, left_open, upright
from topos_rt.flow.sampling import clean_estimate, corrected, noise, sample
from topos_rt.flow.settings import SamplerSettings
from topos_rt.head.landmark_map import LandmarkMap
from topos_rt.model.bundle import Bundle
from topos_rt.model.landmark_errors import YAWS, LandmarkErrors

FIELDS, LATENT = 6, (5, 4)


@cache
def world() -> World:
    mini = Bundle.open("mini", verify=False)
    # The states of this world are latents, not what an estimate of them is off by.
    bundle = dataclasses.replace(mini, manifest=dataclasses.replace(mini.manifest, residual_scale=None))
    plain = World(bundle, LATENT, np.zeros((FIELDS, 1, 3)), np.ones(FIELDS))
    spreads = np.linspace(1.5, 0.5, FIELDS)
    return World(bundle, LATENT, smooth_fields(plain.mean, bundle.topology, FIELDS), spreads)


def landmarks() -> LandmarkMap:
    found = world().bundle.landmarks
    assert found is not None
    return found


def some_errors(seed: int = 0) -> LandmarkErrors:
    draw = np.random.default_rng(seed)
    modes = draw.normal(0, 0.02, (2, 5, 468, 2)).astype(np.float32)
    return LandmarkErrors(
        np.float32([20, 90]), modes, draw.uniform(0.005, 0.03, (2, 468, 2)).astype(np.float32)
    )


def dense(errors: LandmarkErrors, bin_: int) -> np.ndarray:
    rows = errors.modes[bin_].reshape(-1, 936).astype(np.float64)
    return rows.T @ rows + np.diag(errors.noise[bin_].reshape(-1).astype(np.float64) ** 2)


@pytest.mark.parametrize(("yaw", "bin_"), [(0, 0), (20, 0), (-19, 0), (21, 1), (80, 1), (95, 1)])
def test_weights_are_the_inverse_covariance_of_the_yaw(yaw: float, bin_: int) -> None:
    columns = np.random.default_rng(1).normal(size=(936, 3))
    expected = np.linalg.solve(dense(some_errors(), bin_), columns)
    assert some_errors().weighed(yaw, columns) == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("weight", [0.3, 1.0, 8.0])
def test_the_step_is_that_of_a_dense_solve(weight: float) -> None:
    draw = np.random.default_rng(2)
    residuals, moved = draw.normal(0, 0.03, (468, 2)), draw.normal(0, 0.02, (7, 468, 2))
    spreads = draw.uniform(0.2, 3, 7)
    step = least_squares_step(residuals, moved, some_errors(), 40, spreads, weight)
    whitened = np.linalg.inv(np.linalg.cholesky(dense(some_errors(), 1))) * np.sqrt(weight)
    rows = np.concatenate([whitened @ moved.reshape(7, -1).T, np.diag(1 / spreads)])
    wanted = np.concatenate([-whitened @ residuals.ravel(), np.zeros(7)])
    assert step == pytest.approx(np.linalg.lstsq(rows, wanted, rcond=None)[0], rel=1e-7)


def test_covariances_are_those_of_the_residuals() -> None:
    """Of more residuals than numbers, the modes and the rest hold nearly all that there is."""
    truth, draw = some_errors(5), np.random.default_rng(7)
    yaws = draw.uniform(0, 60, 500)
    rows = np.stack([
        np.einsum("m,mlc->lc", draw.normal(size=5), truth.modes[int(yaw > 20)])
        + draw.normal(0, 0.004, (468, 2))
        for yaw in yaws
    ])  # fmt: skip
    found = LandmarkErrors.measured(rows, yaws)
    assert found.yaws.tolist() == list(YAWS) and len(found.modes) == 3
    for bin_, other in ((0, 0), (2, 1)):
        rows_found, rows_true = (
            e.modes[b].reshape(len(e.modes[b]), -1) for e, b in ((found, bin_), (truth, other))
        )
        kept = np.linalg.qr(rows_found[:5].T.astype(np.float64))[0]
        shares = np.linalg.norm(kept.T @ (rows_true / np.linalg.norm(rows_true, axis=1)[:, None]).T, axis=0)
        assert (shares > 0.95).all()
        assert np.linalg.norm(rows_found[:5]) == pytest.approx(np.linalg.norm(rows_true), rel=0.1)
        assert 0.004 < np.median(found.noise[bin_]) < 0.01  # what neighbours share is counted several times


def test_ranges_of_yaw_with_few_residuals_are_joined() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(0, 0.01, (60, 468, 2))
    joined = LandmarkErrors.measured(rows, np.array([1.0] * 40 + [20.0] * 10 + [50.0] * 10))
    assert joined.yaws.tolist() == [90] and joined.modes.shape == (1, 15, 468, 2)
    beyond = LandmarkErrors.measured(rows, np.array([1.0] * 10 + [20.0] * 25 + [50.0] * 25))
    assert beyond.yaws.tolist() == [28, 90]
    with pytest.raises(MeshInputError, match="residuals of landmarks: got 20; expected 24 or more"):
        LandmarkErrors.measured(rows[:20], np.zeros(20))


def test_a_mirrored_and_turned_picture_is_upright_the_same() -> None:
    values = np.random.default_rng(4).normal(size=(2, 468, 2))
    mirrored = landmarks().mirrored
    plain, yaw = upright(values, camera(25, 6, 0).turn, mirrored)
    assert plain == pytest.approx(values) and yaw == pytest.approx(25)
    angle = np.radians(30)  # counter-clockwise
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned, yaw = upright(values @ turn.T, camera(25, 6, 30).turn, mirrored)
    assert turned == pytest.approx(values) and yaw == pytest.approx(25)
    other, yaw = upright(values[:, mirrored] * [-1, 1], camera(-25, 6, 0).turn, mirrored)
    assert other == pytest.approx(values) and yaw == pytest.approx(25)


def test_estimates_are_the_less_open_the_further_the_steps_are() -> None:
    spreads = np.array([0.2, 5.0])
    assert left_open(spreads, 1.0) == pytest.approx(spreads)
    draw = np.random.default_rng(0)
    clean = draw.normal(size=(200_000, 2)) * spreads
    state = 0.3 * clean + 0.7 * draw.normal(size=clean.shape)
    for i in range(2):
        slope = (clean[:, i] @ state[:, i]) / (state[:, i] @ state[:, i])
        left = (clean[:, i] - slope * state[:, i]).std()
        assert left_open(spreads, 0.7)[i] == pytest.approx(left, rel=0.01)


def pull_of(face: Face, errors: LandmarkErrors, weight: float = 1.0) -> LandmarkPull:
    w = world()
    rigless = dataclasses.replace(w.bundle, rig=None)
    return LandmarkPull(rigless, w.response(errors), landmarks(), w.decode, face, SIZE, weight)


def found_numbers(pull: LandmarkPull | None, solver: str = "unipc", seed: int = 0) -> np.ndarray:
    """Return the numbers [K] of the head that is sampled."""
    velocity = world().velocity if pull is None else corrected(world().velocity, pull.moved, SIGMA)
    settings = SamplerSettings(steps=12, solver=solver, shift=3.0)
    for step in sample(velocity, noise(seed, (1, *LATENT)), settings):
        latent = step.x_next
    return np.asarray(world().basis @ latent.ravel().astype(np.float64))


TRUE = np.array([1.4, -1.2, 0.9, 0.8, -0.7, 0.4])


@pytest.mark.parametrize(("solver", "yaw"), [("euler", 0), ("heun", -30), ("unipc", -30)])
def test_exact_landmarks_give_back_the_latent_that_made_them(yaw: float, solver: str) -> None:
    face = face_of(landmarks().points(world().head(TRUE)), camera(yaw, 5, 12))
    pull = pull_of(face, exact_errors(2e-3))
    numbers = found_numbers(pull, solver)
    assert np.linalg.norm(found_numbers(None, solver) - TRUE) > 1
    assert np.linalg.norm(numbers - TRUE) < RECOVERED, numbers
    assert not pull.warning and pull.evaluations >= 12


def test_landmarks_that_are_not_to_be_trusted_leave_the_sample_alone() -> None:
    face = face_of(landmarks().points(world().head(TRUE)), camera(10))
    alone, exact = found_numbers(None), found_numbers(pull_of(face, exact_errors(2e-3)))
    far = found_numbers(pull_of(face, exact_errors(50.0)))
    assert np.linalg.norm(far - alone) < 0.01 * np.linalg.norm(exact - alone)
    half = found_numbers(pull_of(face, exact_errors(0.2)))
    assert 0.1 < np.linalg.norm(half - alone) / np.linalg.norm(exact - alone) < 0.95
    # a weight is a number of equal observations
    same = found_numbers(pull_of(face, exact_errors(0.4), weight=4.0))
    assert same == pytest.approx(half, abs=1e-4)


def test_an_error_that_is_known_is_not_explained_by_the_head() -> None:
    """Where landmarks err as a move of the head would, the covariance keeps the head from following."""
    w, wrong = world(), np.zeros(FIELDS)
    wrong[2] = 1.5
    face = face_of(
        landmarks().points(w.head(wrong)), camera(8)
    )  # the head is the mean, and its landmarks err
    nothing = np.zeros((1, *LATENT), np.float32)

    def explained(errors: LandmarkErrors) -> float:
        return float((w.basis @ pull_of(face, errors).moved(nothing, 1.0).ravel())[2])

    plain = exact_errors(5e-3)
    fitter = HeadFitter(w.mean, None, landmarks())
    fit = fitter.linearised(face.landmarks, landmarks().points(w.fields[2:3]), SIZE)
    mode, _ = upright(fit.moved, fit.turn, landmarks().mirrored)
    known = dataclasses.replace(plain, modes=1.5 * mode[None].astype(np.float32))
    assert explained(plain) > 1.2 and explained(known) < 0.6 * explained(plain)


def test_estimates_without_a_fit_are_left_alone_and_told() -> None:
    wild = face_of(np.random.default_rng(0).uniform(-0.1, 0.1, (468, 3)), camera())
    pull = pull_of(wild, exact_errors(0.01))
    latent = noise(0, (1, *LATENT))
    assert pull.moved(latent, 0.5) is latent
    assert pull.warning.startswith("the landmarks could not pull 1 of 1 estimates: points ")


def test_previews_show_the_moved_estimate() -> None:
    face = face_of(landmarks().points(world().head(TRUE)), camera(10))
    pull, given = pull_of(face, exact_errors(0.01)), []

    def move(estimate: np.ndarray, t: float) -> np.ndarray:
        given.append(pull.moved(estimate, t))
        return given[-1]

    velocity = corrected(world().velocity, move, SIGMA)
    steps = sample(velocity, noise(3, (1, *LATENT)), SamplerSettings(steps=4))
    for step, moved in zip(steps, given, strict=False):
        assert clean_estimate(step, SIGMA) == pytest.approx(moved, abs=1e-5)


RECOVERED = 0.15
