"""What a model gets to know of a face, against the formulas written out, and what is loaded for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from topos_rt.errors import ImageError, InputError
from topos_rt.faces.bundle import CanonicalFace, FaceBundle
from topos_rt.faces.evidence import evidence
from topos_rt.faces.expression import NAMES, POINTS
from topos_rt.faces.face import Face
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.networks import LOOKED_WITH
from topos_rt.faces.pose import own_axes, place, rotation
from topos_rt.model.evidence import BIOMETRIC, EVIDENCE

EXAMPLES = Path(__file__).parents[2] / "examples"
ALL = tuple(EVIDENCE)


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder.open("onnxruntime", 1) as opened:
        yield opened


@pytest.fixture(scope="module")
def hopper() -> Image.Image:
    return Image.open(EXAMPLES / "hopper.jpg").convert("RGB")


@pytest.fixture(scope="module")
def face(finder: FaceFinder, hopper: Image.Image) -> Face:
    (found,) = finder.find(hopper)
    return found


def reference(face: Face, canonical: CanonicalFace) -> np.ndarray:
    """Compute the landmarks' evidence point by point."""
    points = [(float(x), -float(y), -0.88 * float(z)) for x, y, z in face.landmarks]
    total = float(canonical.weights.astype(np.float64).sum())
    middle = [
        sum(float(w) / total * points[v][axis] for v, w in enumerate(canonical.weights)) for axis in range(3)
    ]
    turn = face.placement.turn
    return np.array(
        [
            [
                sum((point[row] - middle[row]) * turn[row, column] for row in range(3)) / face.placement.scale
                for column in range(3)
            ]
            for point in points
        ]
    )


def test_landmarks_pose_and_expression(finder: FaceFinder, hopper: Image.Image, face: Face) -> None:
    found = evidence(("landmarks", "pose", "expression"), hopper, face, finder)
    canonical = finder.networks.bundle.canonical
    assert found["landmarks"][0] == pytest.approx(reference(face, canonical), abs=1e-5)
    assert found["pose"][0] == pytest.approx(np.radians([face.yaw, face.pitch]), abs=1e-7)
    scores = finder.networks.expression(face.landmarks[POINTS, :2][None])
    assert found["expression"][0] == pytest.approx(scores, abs=1e-5)
    assert found["expression"][0, NAMES.index("mouthSmileLeft")] == np.float32(
        face.expression["mouthSmileLeft"]
    )


def test_shapes_and_types_are_those_of_the_table(finder: FaceFinder, hopper: Image.Image, face: Face) -> None:
    for found in (evidence(ALL, hopper, face, finder), evidence(ALL, hopper, None, finder)):
        assert {name: array.shape for name, array in found.items()} == EVIDENCE
        assert all(array.dtype == np.float32 for array in found.values())


CANONICAL = FaceBundle.open(verify=False).canonical


@given(
    yaw=st.floats(-50, 50), pitch=st.floats(-30, 30), roll=st.floats(-180, 180), scale=st.floats(1, 50),
    x=st.floats(0, 2000), y=st.floats(0, 2000),
)  # fmt: skip
@settings(max_examples=50)
def test_the_place_turn_and_size_of_a_head_leave_its_landmarks_alone(
    yaw: float, pitch: float, roll: float, scale: float, x: float, y: float
) -> None:
    head = np.vstack([CANONICAL.positions, CANONICAL.positions[:10] + 1]).astype(np.float64)

    def seen(turn: np.ndarray, scale: float, x: float, y: float) -> np.ndarray:
        """Put the head into a picture; its depths are exaggerated as the landmark network does."""
        camera = scale * head @ turn.T
        return np.stack([x + camera[:, 0], y - camera[:, 1], -camera[:, 2] / 0.88], 1)

    plain, moved = seen(np.eye(3), 1, 0, 0), seen(rotation(yaw, pitch, roll), scale, x, y)
    got = own_axes(moved, place(moved, CANONICAL), CANONICAL)
    assert got == pytest.approx(own_axes(plain, place(plain, CANONICAL), CANONICAL), abs=1e-6)
    apart = np.linalg.norm(got[0] - got[100]), np.linalg.norm(head[0] - head[100])
    assert apart[0] == pytest.approx(apart[1], abs=1e-6)  # in centimetres
    assert CANONICAL.weights.astype(np.float64) @ got[:468] == pytest.approx([0, 0, 0], abs=1e-6)


def test_identity_and_features(finder: FaceFinder, hopper: Image.Image, face: Face) -> None:
    found = evidence(("identity", "features"), hopper, face, finder)
    assert np.array_equal(found["identity"][0], finder.identity(hopper, face))
    assert found["features"].min() == 0 and found["features"].max() > 1  # behind a ReLU
    moved = Image.new("RGB", (hopper.width + 90, hopper.height + 40))
    moved.paste(hopper, (90, 40))
    again = evidence(("identity",), moved, face.moved(90, 40), finder)
    assert again["identity"] == pytest.approx(found["identity"], abs=1e-4)


def test_a_transparent_picture_is_laid_on_black(finder: FaceFinder, hopper: Image.Image, face: Face) -> None:
    clear = hopper.convert("RGBA")
    clear.putalpha(128)
    flat = Image.new("RGB", hopper.size)
    flat.paste(clear, mask=clear.getchannel("A"))
    found = evidence(("identity",), clear, face, finder)["identity"]
    assert found == pytest.approx(evidence(("identity",), flat, face, finder)["identity"], abs=1e-2)
    assert np.abs(found - finder.identity(hopper, face)[None]).max() > 1e-2


@pytest.mark.parametrize("names", [(), ("landmarks",), ("pose", "expression"), ("landmarks", "identity")])
def test_only_what_is_asked_for_is_computed(
    names: tuple[str, ...], hopper: Image.Image, face: Face, finder: FaceFinder
) -> None:
    with FaceFinder.open("onnxruntime", 1) as own:
        found = evidence(names, hopper, face, own)
        loaded = {"face_identity"} if BIOMETRIC & set(names) else set()
        assert set(own.networks._engines) == loaded
    assert tuple(found) == names
    everything = evidence(ALL, hopper, face, finder)
    assert all(np.array_equal(found[name], everything[name]) for name in names)


def test_what_is_not_seen_is_zero(hopper: Image.Image, face: Face) -> None:
    profile = dataclasses.replace(face, landmarks=np.zeros((0, 3), np.float32), yaw=80.0, expression={})
    with FaceFinder.open("onnxruntime", 1) as own:
        for nobody in (None, profile):
            for used in (own, None):
                found = evidence(ALL, hopper, nobody, used)
                assert tuple(found) == ALL and not any(array.any() for array in found.values())
        assert not own.networks._engines


@pytest.mark.parametrize("landmarks", [np.zeros((468, 3)), np.full((478, 3), np.nan), np.zeros(478)])
def test_landmarks_of_a_caller_s_own_face_are_checked(
    landmarks: np.ndarray, hopper: Image.Image, face: Face, finder: FaceFinder
) -> None:
    with pytest.raises(ImageError, match=r"landmarks of a face: got .*; expected \[478, 3\] finite numbers"):
        evidence(("pose",), hopper, dataclasses.replace(face, landmarks=landmarks), finder)


def test_a_face_needs_a_finder(hopper: Image.Image, face: Face) -> None:
    with pytest.raises(InputError, match="without a face finder; expected one that `open` made"):
        evidence(("landmarks",), hopper, face, None)


def test_warming_up_loads_the_identity_network_only_for_a_model_that_asks() -> None:
    for names, loaded in ((None, False), (("landmarks",), False), (("features",), True)):
        with FaceFinder.open("onnxruntime", 1) as own:
            own.warm_up(names)
            assert set(own.networks._engines) == {*LOOKED_WITH, *(["face_identity"] if loaded else [])}
