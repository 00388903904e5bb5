"""The fit of a head to a face in C++ against `topos_rt.faces.fit`: the same search, rounded otherwise."""

from __future__ import annotations

import ctypes
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.part_heads import plain
from tests.sdk.numerics.calls import call
from topos_rt.errors import InputError
from topos_rt.faces.camera import Camera
from topos_rt.faces.expression import NAMES
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.fit import ARKIT, HeadFit, fit_head
from topos_rt.faces.pose import rotation
from topos_rt.faces.seen import _facts
from topos_rt.head.landmark_map import COUNT, IRISES, LandmarkMap
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.rig import Rig
from topos_rt.model.bundle import Bundle

EXAMPLES = Path(__file__).parents[3] / "examples"


@cache
def head() -> tuple[HeadMesh, LandmarkMap]:
    found = Bundle.open("mini", verify=False).landmarks
    assert found is not None
    return plain(), found


def table(arrays: list[np.ndarray | None]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(None if each is None else each.ctypes.data for each in arrays))


def fitted(
    lib: ctypes.CDLL,
    rig: Rig | None,
    landmarks: np.ndarray,
    size: Any,
    focal: float,
    scores: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, str] | str:
    """Return the camera's and the residual's numbers, the weights and the facts; or what was wrong."""
    mesh, at = head()
    names = () if rig is None else rig.shape_names
    ids = np.array([names.index(name) if name in names else -1 for name in ARKIT], np.int32)
    shapes = [None] * 3 if rig is None else [rig.shape_index, rig.shape_delta, rig.shape_offsets]
    numbers, weights, text = np.empty(16), np.full(52, np.nan), ctypes.create_string_buffer(4000)
    on_head = table([at.vertices, at.weights, at.noise, at.mirrored, at.irises])
    fits = call(lib, "head_fit", mesh.positions, on_head, len(names), table(shapes), ids,
                np.ascontiguousarray(landmarks, np.float32),
                None if size is None else np.array(size, np.int32), focal, scores, numbers, weights, text,
                returns=ctypes.c_int32)  # fmt: skip
    said = text.value.decode()
    return (numbers, weights, said) if fits else said


def check(got: Any, want: HeadFit) -> None:
    numbers, weights, facts = got
    assert np.abs(numbers[:9].reshape(3, 3) - want.pose.turn).max() < 1e-5
    assert numbers[9:12] == pytest.approx(want.pose.shift, abs=1e-5)
    assert numbers[12] == pytest.approx(want.pose.focal, rel=1e-5)
    assert numbers[13:15] == pytest.approx(want.pose.centre)
    assert numbers[15] == pytest.approx(want.residual, abs=1e-5)
    wanted = [want.expression.get(name, np.nan) for name in ARKIT]
    assert weights == pytest.approx(wanted, abs=1e-5, nan_ok=True)
    known, told = _facts(want), json.loads("{" + facts + "}")
    assert told["pose"] == pytest.approx(known["pose"], abs=0.011)
    assert told["expression"] == pytest.approx(known["expression"], abs=0.0011)
    assert list(told["pose"]) == list(known["pose"]) and list(told["expression"]) == list(known["expression"])


def seen(camera: Camera, shapes: dict[str, float], seed: int) -> np.ndarray:
    """Return the landmarks [478,3] float32 of the head with an expression, each about a pixel off."""
    mesh, landmarks = head()
    posed = mesh.posed(shapes).positions.astype(np.float64)
    found = np.zeros((478, 3))
    found[:COUNT, :2] = camera.project(landmarks.points(posed))
    for first, middle in zip(IRISES, camera.project(posed[landmarks.irises]), strict=True):
        found[first : first + 5, :2] = middle
    found[:, :2] += np.random.default_rng(seed).normal(0, 0.7, (478, 2))
    return found.astype(np.float32)


angles = st.tuples(st.floats(-40, 40), st.floats(-25, 25), st.floats(-60, 60))


@given(angles, st.floats(0.5, 3), st.tuples(*[st.booleans()] * 4), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_heads_of_any_pose(
    lib: ctypes.CDLL, turn: tuple[float, float, float], distance: float, chosen: tuple[bool, ...], seed: int
) -> None:
    rng, (rigged, sized, focused, scored) = np.random.default_rng(seed), chosen
    truth = Camera(rotation(*turn), np.array([0.05, -0.02, -distance]), 1100 * distance, (320, 240))
    landmarks = seen(truth, {"jawOpen": rng.random(), "eyeBlinkLeft": rng.random()}, seed)
    scores = rng.random(52).astype(np.float32)
    size, focal, rig = (640, 480) if sized else None, 1100 * distance if focused else 0.0, head()[0].rig
    named = dict(zip(NAMES, scores.tolist(), strict=True)) if scored else None
    want = fit_head(
        head()[0].positions, rig if rigged else None, head()[1], landmarks, size, focal or None, named
    )
    check(fitted(lib, rig if rigged else None, landmarks, size, focal, scores if scored else None), want)


@pytest.mark.parametrize("name", ["astronaut.jpg", "hopper.jpg"])
def test_heads_of_photographs(lib: ctypes.CDLL, name: str) -> None:
    with FaceFinder.open(threads=1) as finder:
        face = finder.find(EXAMPLES / name)[0]
    scores = np.array([0, *(face.expression[each] for each in NAMES[1:])], np.float32)
    want = fit_head(
        head()[0].positions, head()[0].rig, head()[1], face.landmarks, (512, 512), None, face.expression
    )
    check(fitted(lib, head()[0].rig, face.landmarks, (512, 512), 0.0, scores), want)


WRONG = {
    "nan": lambda points: np.where(np.arange(1434).reshape(478, 3) == 3, np.nan, points),
    "infinite": lambda points: np.where(np.arange(1434).reshape(478, 3) == 4, np.inf, points),
    "huge": lambda points: points * 1e6,
    "one point": lambda points: points * 0 + 100,
    "tiny": lambda points: points * 0.01,
    "no face": lambda points: np.random.default_rng(3).normal(200, 80, (478, 3)),
}


@pytest.mark.parametrize("kind", WRONG)
def test_landmarks_that_are_no_face(lib: ctypes.CDLL, kind: str) -> None:
    truth = Camera(rotation(0, 0, 0), np.array([0, 0, -1.2]), 1100, (320, 240))
    landmarks = WRONG[kind](seen(truth, {}, 0)).astype(np.float32)
    with pytest.raises(InputError) as caught:
        fit_head(head()[0].positions, head()[0].rig, head()[1], landmarks)
    assert fitted(lib, head()[0].rig, landmarks, None, 0.0, None) == caught.value.got


def test_cameras(lib: ctypes.CDLL) -> None:
    camera = Camera(rotation(20, -10, 35), np.array([0.05, -0.02, -0.9]), 987.5, (320.5, 240))
    points, out = np.random.default_rng(1).normal(0, 0.1, (50, 3)), np.empty((50, 2))
    numbers = np.concatenate([camera.turn.ravel(), camera.shift, [camera.focal], camera.centre])
    call(lib, "camera_project", numbers, points, 50, out)
    assert out == pytest.approx(camera.project(points), rel=1e-12)


@given(st.floats(-1e6, 1e6), st.integers(1, 5))
def test_rounded_numbers(lib: ctypes.CDLL, value: float, digits: int) -> None:
    out = ctypes.create_string_buffer(40)
    for number in (value, round(value) + 0.5, round(value) / 8):
        size = call(lib, "rounded_text", float(number), digits, out, returns=ctypes.c_uint64)
        assert out.raw[:size].decode() == repr(round(number, digits))


def test_names(lib: ctypes.CDLL) -> None:
    names = [call(lib, "arkit_name", i, returns=ctypes.c_char_p).decode() for i in range(52)]
    assert tuple(names) == ARKIT
