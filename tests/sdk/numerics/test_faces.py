"""The face stage between its networks, in C++, against `topos_rt.faces`.

NumPy has arctangents and exponentials of its own where a processor has AVX-512. They round otherwise than
the C library's, by 1e-7 in float32, which moves a landmark by less than a hundredth of a pixel. Where Python
calls the C library's instead, landmarks are equal bit for bit.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.sdk.numerics.calls import call
from topos_rt.faces import detection, finder, pose
from topos_rt.faces.bundle import CanonicalFace, FaceBundle
from topos_rt.faces.evidence import evidence
from topos_rt.faces.expression import NAMES, POINTS
from topos_rt.faces.face import Face
from topos_rt.faces.portrait import portrait_square
from topos_rt.faces.warp import Square, cut, to_floats
from topos_rt.pictures.image import read_picture

EXAMPLES = Path(__file__).parents[3] / "examples"
_FLOATS = ctypes.POINTER(ctypes.c_float)
_NETWORK = ctypes.CFUNCTYPE(ctypes.c_int32, _FLOATS, _FLOATS, _FLOATS)
_EXPRESSION = ctypes.CFUNCTYPE(ctypes.c_int32, _FLOATS, _FLOATS)


class Callbacks(ctypes.Structure):
    _fields_ = (("detect", _NETWORK), ("landmarks", _NETWORK), ("expression", _EXPRESSION))


@pytest.fixture(scope="module")
def opened() -> Iterator[finder.FaceFinder]:
    with finder.FaceFinder.open(threads=1) as made:
        yield made


@pytest.fixture(scope="module")
def canonical() -> CanonicalFace:
    return FaceBundle.open(verify=False).canonical


def array(pointer: Any, *shape: int) -> np.ndarray:
    return np.ctypeslib.as_array(pointer, shape)


def callbacks_of(networks: Any, fails: str = "") -> Callbacks:
    """Return C functions that run the networks of Python; the one that `fails` says that it did not run."""

    def detect(pixels: Any, boxes: Any, scores: Any) -> int:
        made = networks.detect(array(pixels, 1, 192, 192, 3).copy())
        array(boxes, 1, 2304, 16)[:], array(scores, 1, 2304, 1)[:] = made
        return int(fails == "detect")

    def landmarks(pixels: Any, points: Any, logit: Any) -> int:
        out = networks._run("face_landmarks", {"pixels": array(pixels, 1, 256, 256, 3).copy()})
        array(points, 478, 3)[:] = out["landmarks"].reshape(478, 3)
        logit[0] = float(out["face"].reshape(-1)[0])
        return int(fails == "landmarks")

    def expression(points: Any, scores: Any) -> int:
        array(scores, 52)[:] = networks.expression(array(points, 1, 146, 2).copy())
        return int(fails == "expression")

    return Callbacks(_NETWORK(detect), _NETWORK(landmarks), _EXPRESSION(expression))


def search(
    lib: ctypes.CDLL, pixels: np.ndarray, canonical: CanonicalFace, callbacks: Callbacks, most: int
) -> int:
    height, width, _ = pixels.shape
    return call(lib, "faces_find", pixels, width, height, canonical.positions, canonical.weights,
                ctypes.byref(callbacks), most, returns=ctypes.c_int64)  # fmt: skip


def group() -> Image.Image:
    """Two faces of different sizes and rolls."""
    astronaut, hopper = (read_picture(EXAMPLES / name) for name in ("astronaut.jpg", "hopper.jpg"))
    made = Image.new("RGB", (900, 700), (90, 110, 130))
    made.paste(astronaut.resize((420, 420)).rotate(17, fillcolor=(90, 110, 130)), (20, 30))
    made.paste(hopper.resize((260, 260)), (640, 410))
    return made


def crowd() -> Image.Image:
    """Faces that are found in tiles alone, one of them at the edge of the picture."""
    hopper = read_picture(EXAMPLES / "hopper.jpg").resize((130, 130))
    made = Image.new("RGB", (2400, 1500), (90, 110, 130))
    for place in ((300, 200), (1500, 900), (2300, 1100)):
        made.paste(hopper, place)
    return made


COUNTS = {"group": 2, "crowd": 3, "empty": 0}
PICTURES: dict[str, Callable[[], Image.Image]] = {
    "astronaut": lambda: read_picture(EXAMPLES / "astronaut.jpg"),
    "hopper": lambda: read_picture(EXAMPLES / "hopper.jpg"),
    "group": group,
    "crowd": crowd,
    "turned": lambda: read_picture(EXAMPLES / "astronaut.jpg").rotate(100, expand=True),
    "empty": lambda: Image.new("RGB", (300, 200), (128, 128, 128)),
}


class PlainNumbers:
    """NumPy with the C library's arctangents and exponentials, in float64."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def arctan2(y: Any, x: Any) -> float:
        return math.atan2(float(y), float(x))

    @staticmethod
    def exp(values: Any) -> Any:
        return np.array([math.exp(value) for value in np.ravel(values)]).reshape(np.shape(values))


def check_face(lib: ctypes.CDLL, number: int, want: Face, exact: bool) -> None:
    want = want.moved(3, 5)
    numbers, landmarks, scores = np.empty(24), np.empty((478, 3), np.float32), np.empty(52, np.float32)
    told = ctypes.create_string_buffer(400)
    seen = call(lib, "faces_get", number, 3.0, 5.0, numbers, landmarks, scores, told, returns=ctypes.c_int32)
    assert seen == int(len(want.landmarks) > 0)
    if exact:
        assert landmarks.tobytes() == want.landmarks.tobytes()
        assert numbers[8] == pytest.approx(want.placement.scale, rel=1e-12)
        square = portrait_square(want)
        wanted = [square.x, square.y, square.side, square.angle]
        assert np.abs(numbers[20:24] - wanted).max() < 1e-10
    assert np.abs(landmarks - want.landmarks).max() < 0.01
    assert numbers[:4] == pytest.approx(want.box, abs=0.01)
    assert numbers[4:7] == pytest.approx([want.yaw, want.pitch, want.roll], abs=0.01)
    assert numbers[7] == pytest.approx(want.confidence, abs=1e-4)
    assert scores[1:] == pytest.approx([want.expression[name] for name in NAMES[1:]], abs=2e-3)
    assert numbers[8] == pytest.approx(want.placement.scale, rel=1e-4)
    assert np.abs(numbers[9:18].reshape(3, 3) - want.placement.turn).max() < 2e-4
    assert numbers[18:20] == pytest.approx(want.placement.shift, abs=0.01)
    square = portrait_square(want)
    assert numbers[20:23] == pytest.approx([square.x, square.y, square.side], abs=0.02)
    assert numbers[23] == pytest.approx(square.angle, abs=2e-4)
    assert told.value.decode() == "".join(want.warnings)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", PICTURES)
def test_faces_of_pictures(
    lib: ctypes.CDLL, name: str, exact: bool, opened: finder.FaceFinder, canonical: CanonicalFace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for module in (detection, finder, pose) if exact else ():
        monkeypatch.setattr(module, "np", PlainNumbers())
    picture = PICTURES[name]()
    pixels, want = np.asarray(picture), opened.find_in(picture)
    assert search(lib, pixels, canonical, callbacks_of(opened.networks), 50) == len(want)
    assert len(want) == COUNTS.get(name, 1)
    for number, face in enumerate(want):
        check_face(lib, number, face, exact)
        landmarks, angles = np.empty((1, 478, 3), np.float32), np.empty((1, 2), np.float32)
        scores, shown = np.empty((1, 52), np.float32), np.empty((1, 150, 150, 3), np.float32)
        call(lib, "faces_evidence", number, canonical.positions, canonical.weights, pixels, picture.width,
             picture.height, landmarks, angles, scores, shown)  # fmt: skip
        known = evidence(("landmarks", "pose", "expression"), picture, face, opened)
        assert np.abs(landmarks - known["landmarks"]).max() < 2e-3  # centimetres
        assert np.abs(angles - known["pose"]).max() < 2e-4
        assert np.abs(scores - known["expression"]).max() < 2e-3
        target = (np.array(finder._FIVE_AT) + 0.25) / 1.5 * 150
        aligned = finder._aligned(target, face.landmarks[list(finder._FIVE), :2].astype(np.float64), 150)
        off = np.abs(shown - to_floats(cut(picture, aligned, 150, filtered=True)))
        assert off.mean() < 1e-3 and off.max() < 0.02


def test_the_search_ends_at_enough_faces_and_where_a_network_fails(
    lib: ctypes.CDLL, opened: finder.FaceFinder, canonical: CanonicalFace
) -> None:
    picture = group()
    pixels = np.asarray(picture)
    assert (
        search(lib, pixels, canonical, callbacks_of(opened.networks), 2)
        == len(opened.find_in(picture, 2))
        == 2
    )
    for fails in ("detect", "landmarks", "expression"):
        assert search(lib, pixels, canonical, callbacks_of(opened.networks, fails), 50) == -1


class Sideways:
    """Networks that see a face from the side: a sure detection without landmarks."""

    def __init__(self, canonical: CanonicalFace, yaw: float, logit: float) -> None:
        self.bundle = SimpleNamespace(canonical=canonical)
        self._boxes, self._scores = (
            np.zeros((1, 2304, 8, 2), np.float32),
            np.full((1, 2304, 1), -9, np.float32),
        )
        points = np.stack([canonical.positions[list(ids)].mean(0) for ids in pose._SIX])
        seen = (points @ pose.rotation(yaw, 0, 5).T * [4, -4, 4])[:, :2]
        self._boxes[0, 1000, 0], self._boxes[0, 1000, 1] = (1, 2), (60, 70)
        self._boxes[0, 1000, 2:], self._scores[0, 1000] = seen, logit

    def detect(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._boxes.reshape(1, 2304, 16), self._scores

    def landmarks(self, pixels: np.ndarray) -> tuple[np.ndarray, float]:
        return np.zeros((478, 3), np.float32), float(1 / (1 + np.exp(5)))

    def _run(self, name: str, feeds: Any) -> dict[str, np.ndarray]:
        return {"landmarks": np.zeros(1434, np.float32), "face": np.float32([-5])}


@pytest.mark.parametrize(("yaw", "logit"), [(75, 3), (-80, 3), (40, 3), (75, 0.2)])
def test_faces_seen_from_the_side(
    lib: ctypes.CDLL, canonical: CanonicalFace, yaw: float, logit: float
) -> None:
    networks: Any = Sideways(canonical, yaw, logit)
    picture = Image.new("RGB", (192, 192))
    want = finder.FaceFinder(networks).find_in(picture)
    assert search(lib, np.asarray(picture), canonical, callbacks_of(networks), 50) == len(want)
    assert len(want) == (1 if abs(yaw) > 60 and logit > 1 else 0)
    for number, face in enumerate(want):
        told = ctypes.create_string_buffer(400)
        numbers, unused = np.empty(24), np.empty((478, 3), np.float32)
        assert not call(
            lib, "faces_get", number, 0.0, 0.0, numbers, unused, unused, told, returns=ctypes.c_int32
        )
        assert numbers[:4] == pytest.approx(face.box, abs=1e-6)
        assert numbers[4:8] == pytest.approx([face.yaw, face.pitch, face.roll, face.confidence], abs=1e-6)
        assert told.value.decode() == "".join(face.warnings)


sizes = st.tuples(st.integers(16, 9000), st.integers(16, 9000))


@given(sizes)
def test_where_faces_are_looked_for(lib: ctypes.CDLL, size: tuple[int, int]) -> None:
    turns = list(detection.searches(size))
    for turn, want in enumerate([*turns, [], []]):
        count = call(lib, "search_turn", *size, turn, None, returns=ctypes.c_uint64)
        out = np.empty((count, 4))
        call(lib, "search_turn", *size, turn, out, returns=ctypes.c_uint64)
        assert np.array_equal(out, [[s.x, s.y, s.side, s.angle] for s in want] or np.empty((0, 4)))


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.floats(-4, 4))
def test_what_the_detector_says(lib: ctypes.CDLL, seed: int, count: int, angle: float) -> None:
    rng = np.random.default_rng(seed)
    boxes = rng.normal(0, 20, (1, 2304, 8, 2)).astype(np.float32)
    boxes[:, :, 1] = np.abs(boxes[:, :, 1]) * 3
    scores = np.full((1, 2304, 1), -3, np.float32)
    scores[0, rng.choice(2304, count, replace=False)] = rng.normal(1, 2, (count, 1))
    square = Square(300, 200, 640, angle)
    made = boxes.reshape(1, 2304, 16), scores
    picture = Image.new("RGB", (9, 9))
    want = detection._merged(detection._in_square(picture, square, lambda _: made))
    want.sort(key=lambda face: -face.side)
    out = np.empty((2304, 17))
    found = call(
        lib, "detections", boxes, scores, np.array([300, 200, 640, angle]), out, returns=ctypes.c_uint64
    )
    assert found == len(want)
    for row, face in zip(out, want, strict=False):
        assert row[0] == pytest.approx(face.score, rel=1e-6)
        assert row[1:] == pytest.approx([*face.box, *face.points.ravel()], abs=1e-3)


def placed(out: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    return float(out[0]), out[1:10].reshape(3, 3), out[10:]


def some_landmarks(canonical: CanonicalFace, seed: int) -> np.ndarray:
    """Return landmarks [478,3] float32 of the canonical face, turned, scaled, shifted and shaken."""
    rng = np.random.default_rng(seed)
    turn = pose.rotation(*rng.uniform(-50, 50, 3))
    points = canonical.positions.astype(np.float64) @ turn.T * rng.uniform(2, 60) + rng.normal(0, 300, 3)
    points = np.concatenate([points, points[rng.integers(0, 468, 10)]]) + rng.normal(0, 1, (478, 3))
    return (points * [1, -1, -1]).astype(np.float32)


@given(st.integers(0, 2**32 - 1))
def test_placements_and_squares(lib: ctypes.CDLL, canonical: CanonicalFace, seed: int) -> None:
    landmarks = some_landmarks(canonical, seed)
    want, out = pose.place(landmarks, canonical), np.empty(12)
    call(lib, "place_landmarks", landmarks, canonical.positions, canonical.weights, out)
    scale, turn, shift = placed(out)
    assert scale == pytest.approx(want.scale, rel=1e-6)
    assert np.abs(turn - want.turn).max() < 1e-6
    assert shift == pytest.approx(want.shift, abs=1e-3)
    around = finder.square_around(landmarks)
    target = (np.array(finder._FIVE_AT) + 0.25) / 1.5 * 150
    aligned = finder._aligned(target, landmarks[list(finder._FIVE), :2].astype(np.float64), 150)
    for name, square in (("square_around", around), ("identity_square", aligned)):
        got = np.empty(4)
        call(lib, name, landmarks, got)
        assert got[:3] == pytest.approx([square.x, square.y, square.side], abs=1e-3)
        assert abs((got[3] - square.angle + np.pi) % (2 * np.pi) - np.pi) < 1e-6


@given(st.integers(0, 2**32 - 1))
def test_placements_by_six_points(lib: ctypes.CDLL, canonical: CanonicalFace, seed: int) -> None:
    landmarks = some_landmarks(canonical, seed).astype(np.float64)
    points = np.stack([landmarks[list(ids), :2].mean(0) for ids in pose._SIX])
    want, out = pose.place_points(points, canonical), np.empty(12)
    call(lib, "place_points", points, canonical.positions, canonical.weights, out)
    scale, turn, shift = placed(out)
    assert scale == pytest.approx(want.scale, rel=1e-9)
    assert np.abs(turn - want.turn).max() < 1e-9
    assert shift == pytest.approx(want.shift, abs=1e-7)


@given(st.floats(-179, 179), st.floats(-89, 89), st.floats(-179, 179))
def test_angles(lib: ctypes.CDLL, yaw: float, pitch: float, roll: float) -> None:
    turn, out, back = pose.rotation(yaw, pitch, roll), np.empty(3), np.empty((3, 3))
    call(lib, "angles_of", turn, out, back)
    assert out == pytest.approx(pose.angles(turn), abs=1e-9)
    assert back == pytest.approx(turn, abs=1e-12)


def test_tables(lib: ctypes.CDLL) -> None:
    names = [call(lib, "expression_name", i, returns=ctypes.c_char_p).decode() for i in range(len(NAMES))]
    assert tuple(names) == NAMES
    assert tuple(call(lib, "expression_point", i, returns=ctypes.c_int32) for i in range(146)) == POINTS
