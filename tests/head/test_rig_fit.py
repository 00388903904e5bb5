from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.meshes import ball, ball_rig, bundled_head, cube, cube_rig
from topos_rt.errors import MeshInputError
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.rig import Rig
from topos_rt.head.rig_fit import fit_rig
from topos_rt.model.bundle import Bundle

POINTS = ball().positions.astype(np.float64)
STRETCH = np.diag([1.1, 1.4, 0.9])


@cache
def rig() -> Rig:
    return ball_rig()


@cache
def mini_rig() -> Rig:
    found = Bundle.open("mini", verify=False).rig
    assert found is not None and found.binding is not None
    return found


def template(of: Rig) -> np.ndarray:
    assert of.binding is not None
    return of.binding.template.astype(np.float64)


def turn_of(angles: list[float]) -> np.ndarray:
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        turn = turn @ np.roll(np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), (axis, axis), (0, 1))
    return turn


@pytest.mark.parametrize("make", [rig, mini_rig])
def test_on_its_own_template_nothing_changes(make: Any) -> None:
    fitted, binding = fit_rig(make(), template(make())), make().binding
    assert fitted.binding is None
    off = np.linalg.norm(fitted.shape_delta - make().shape_delta, axis=1)
    assert off[binding.parts[make().shape_index] == 0].max() < 2e-6
    assert off.max() < 4e-4  # the offsets of mini's eyeballs are not quite rotations themselves
    assert fitted.joint_positions == pytest.approx(make().joint_positions, abs=1e-6)
    for name in ("joint_parents", "skin_joints", "skin_weights", "shape_index", "shape_offsets"):
        assert np.array_equal(getattr(fitted, name), getattr(make(), name))


@given(
    st.lists(st.floats(-3.1, 3.1), min_size=3, max_size=3),
    st.floats(0.01, 100),
    st.lists(st.floats(-50, 50), min_size=3, max_size=3),
)
def test_the_rig_turns_grows_and_moves_with_the_head(
    angles: list[float], scale: float, shift: list[float]
) -> None:
    turn = turn_of(angles)
    fitted = fit_rig(rig(), POINTS @ turn.T * scale + shift)
    expected = rig().shape_delta @ turn.T * scale
    assert np.abs(fitted.shape_delta - expected).max() < 2e-5 * scale
    joints = rig().joint_positions @ turn.T * scale + shift
    assert np.abs(fitted.joint_positions - joints).max() < 1e-5 * (scale + 50)


def test_offsets_follow_the_surface_around_them() -> None:
    """Where one half of the ball grows, its offsets grow, and those of the other half stay."""
    grown = POINTS * np.where(POINTS[:, :1] > 0, 1.5, 1.0)
    whole = ball_rig(parts=False)
    before, after = whole.shape("swell"), fit_rig(whole, grown).shape("swell")
    grew = np.linalg.norm(after, axis=1) / np.linalg.norm(before, axis=1)
    assert grew[POINTS[:, 0] > 0.05] == pytest.approx(1.5, abs=0.02)
    assert grew[POINTS[:, 0] < -0.05] == pytest.approx(1.0, abs=0.02)


def gaps(head: np.ndarray, of: Rig) -> np.ndarray:
    """Return how far apart the pairs of the slit are when it is closed."""
    binding = rig().binding
    assert binding is not None
    posed = head + of.shape("close")
    return np.linalg.norm(posed[binding.contact_pairs[:, 0]] - posed[binding.contact_pairs[:, 1]], axis=1)


def test_what_meets_on_the_template_meets_on_every_head() -> None:
    head = POINTS.copy()
    head[:, 1] += 0.004 * np.sign(head[:, 1]) * (np.abs(head[:, 1]) < 0.03)  # only the slit is wider
    binding = rig().binding
    assert binding is not None
    careless = dataclasses.replace(
        rig(),
        binding=dataclasses.replace(
            binding, contact_pairs=np.zeros((0, 2), int), contact_offsets=np.zeros(4, int)
        ),
    )
    assert gaps(head, rig()).mean() > 0.007  # plain addition
    assert gaps(head, fit_rig(careless, head)).mean() > 0.006
    assert gaps(head, fit_rig(rig(), head)).mean() < 0.002


def test_parts_move_rigidly_on_any_head() -> None:
    binding = rig().binding
    assert binding is not None
    members = np.flatnonzero(binding.parts)
    head = POINTS @ STRETCH + 0.002 * np.random.default_rng(0).normal(size=POINTS.shape)

    def worst_stretch(of: Rig) -> float:
        before, after = head[members], (head + of.shape("turn"))[members]
        lengths = [np.linalg.norm(part[:, None] - part[None], axis=2) for part in (before, after)]
        return float(np.abs(lengths[1] - lengths[0]).max())

    moved = np.linalg.norm(fit_rig(rig(), head).shape("turn")[members], axis=1)
    assert moved.max() > 0.01
    assert worst_stretch(fit_rig(rig(), head)) < 1e-6
    assert worst_stretch(fit_rig(ball_rig(parts=False), head)) > 1e-3


def test_a_rig_without_binding_stays_as_it_is() -> None:
    assert fit_rig(cube_rig(), cube().positions * 2) is not None
    fixed = cube_rig()
    assert fit_rig(fixed, cube().positions) is fixed


@pytest.mark.parametrize("shape", [(7, 3), (9, 3), (8, 2), (8,)])
def test_heads_of_another_topology_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MeshInputError, match=r"the head to fit a rig to: got shape .* expected \[8, 3\]"):
        fit_rig(cube_rig(), np.zeros(shape))


def test_a_head_without_extent_gives_no_nan() -> None:
    fitted = fit_rig(rig(), np.ones_like(POINTS))
    assert np.isfinite(fitted.shape_delta).all()


# what the bundled rig must do


def narrowed(factor: float) -> np.ndarray:
    """Return the template of mini with its eyes narrower or wider open."""
    points, lids = template(mini_rig()), mini_rig().shape("eyeBlinkLeft") + mini_rig().shape("eyeBlinkRight")
    return points + lids * (1 - factor)


@pytest.mark.parametrize("factor", [0.6, 1.3])
@pytest.mark.parametrize("side", ["Left", "Right"])
def test_lids_close_however_wide_the_eyes_are(factor: float, side: str) -> None:
    rig, name = mini_rig(), f"eyeBlink{side}"
    head, number, binding = narrowed(factor), rig.shape_names.index(name), rig.binding
    assert binding is not None
    pairs = binding.contact_pairs[slice(*binding.contact_offsets[number : number + 2])]
    assert len(pairs) > 30

    def apart(points: np.ndarray) -> np.ndarray:
        return points[pairs[:, 0]] - points[pairs[:, 1]]

    closed = apart(template(rig) + rig.shape(name))
    plain = np.linalg.norm(apart(head + rig.shape(name)) - closed, axis=1).mean()
    fitted = np.linalg.norm(apart(head + fit_rig(rig, head).shape(name)) - closed, axis=1).mean()
    assert plain > 1.5e-3 and fitted < 0.35 * plain


@pytest.mark.parametrize("name", ["eyeLookDownLeft", "eyeLookInRight", "jawOpen"])
def test_the_eyes_of_mini_keep_their_shape(name: str) -> None:
    rig = mini_rig()
    head = template(rig) * [1.1, 0.95, 1.05]
    binding = rig.binding
    assert binding is not None
    fitted, moved_any = fit_rig(rig, head).shape(name), False
    for part in (2, 3):
        members = np.flatnonzero(binding.parts == part)
        before, after = head[members], head[members] + fitted[members]
        moved_any |= bool(fitted[members].any())
        lengths = [np.linalg.norm(points[:, None] - points[None], axis=2) for points in (before, after)]
        assert np.abs(lengths[1] - lengths[0]).max() < 1e-4
    assert moved_any == name.startswith("eye")


def test_the_joints_of_mini_lie_where_they_should() -> None:
    rig = mini_rig()
    found = dict(zip(rig.joint_names, rig.joint_positions, strict=True))
    assert found["eye_L"] * [-1, 1, 1] == pytest.approx(found["eye_R"], abs=1e-3)
    assert found["neck01"][1] < found["neck02"][1] < found["head"][1] < found["eye_L"][1]
    assert abs(found["jaw"][0]) < 2e-3 and found["jaw"][2] < found["oris05"][2]


# pose


def rigged_ball() -> HeadMesh:
    return dataclasses.replace(ball(), rig=fit_rig(rig(), POINTS))


def test_shapes_add_up_by_their_weights() -> None:
    head = rigged_ball()
    posed = head.posed({"swell": 0.5, "close": -0.25})
    assert head.rig is not None and posed.rig is None
    expected = head.positions + 0.5 * head.rig.shape("swell") - 0.25 * head.rig.shape("close")
    assert posed.positions == pytest.approx(expected, abs=1e-7)
    assert np.array_equal(head.posed({}).positions, head.positions)


def test_joints_turn_what_hangs_on_them_and_their_children() -> None:
    head = rigged_ball()
    assert head.rig is not None
    quarter = [0.0, 90.0, 0.0]
    turn = turn_of([0, np.pi / 2, 0])
    whole = head.posed({}, degrees={"head": quarter})  # the cap is its child
    pivot = head.rig.joint_positions[0]
    assert whole.positions == pytest.approx((head.positions - pivot) @ turn.T + pivot, abs=1e-6)
    assert whole.normals == pytest.approx(head.normals @ turn.T, abs=1e-4)
    part = head.posed({}, degrees={"cap": quarter})
    cap = head.rig.skin_weights[:, 1] > 0
    assert np.array_equal(part.positions[~cap], head.positions[~cap])
    pivot = head.rig.joint_positions[1]
    turned = (head.positions[cap] - pivot) @ turn.T + pivot
    assert part.positions[cap] == pytest.approx(0.25 * head.positions[cap] + 0.75 * turned, abs=1e-6)


@pytest.mark.parametrize(
    ("shapes", "turns", "message"),
    [
        ({"jawOpen": 1}, {}, "unknown blendshape: got 'jawOpen'; expected one of: turn, close, swell"),
        ({}, {"jaw": [0, 0, 1]}, "unknown joint: got 'jaw'; expected one of: head, cap"),
        ({}, {"cap": [0, 0]}, "the turn of a joint: got"),
        ({}, {"cap": [0, 0, np.nan]}, "the turn of a joint: got"),
        ({"swell": np.inf}, {}, "the weight of swell: got inf"),
    ],
)
def test_bad_poses(shapes: Any, turns: Any, message: str) -> None:
    with pytest.raises(MeshInputError, match=message):
        rigged_ball().posed(shapes, degrees=turns)


def test_only_rigged_heads_can_be_posed() -> None:
    with pytest.raises(MeshInputError, match="a head without rig"):
        ball().posed({})


def test_mini_opens_its_mouth_and_closes_its_eyes() -> None:
    head = bundled_head()
    assert head.rig is not None
    head = dataclasses.replace(head, rig=fit_rig(head.rig, head.positions))
    low, high = head.posed({"jawOpen": 1, "eyeBlinkLeft": 1}).bounds
    assert low[1] < head.bounds[0][1] + 1e-3 and high[1] == pytest.approx(head.bounds[1][1], abs=1e-4)
