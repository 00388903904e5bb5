"""Following a face through videos of a drawn head whose pose and expressions are known."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

import topos_rt
from benchmarks.face_video import FPS, SIDE, Actor, Moment, acted, mean_head
from topos_rt.errors import ImageError, InputError, OptionError
from topos_rt.faces.frames import Frame
from topos_rt.faces.tracker import EXPRESSIONS, FaceTracker, TrackedFace
from topos_rt.faces.warp import Square, cut

ACTED = {
    "mouthSmileLeft": {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0},
    "jawOpen": {"jawOpen": 1.0},
    "eyeBlinkRight": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "eyeLookOutLeft": {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0},
}
EMPTY = np.full((SIDE, SIDE, 3), 90, np.uint8)


class Counter:
    """Counts the runs of the detector and of the landmark network."""

    def __init__(self, tracker: FaceTracker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.detected = self.looked = 0
        networks = tracker._finder.networks
        detect, landmarks = networks.detect, networks.landmarks

        def counted_detect(pixels: Any) -> Any:
            self.detected += 1
            return detect(pixels)

        def counted_landmarks(pixels: Any) -> Any:
            self.looked += 1
            return landmarks(pixels)

        monkeypatch.setattr(networks, "detect", counted_detect)
        monkeypatch.setattr(networks, "landmarks", counted_landmarks)


@pytest.fixture(scope="module")
def opened() -> Iterator[FaceTracker]:
    with FaceTracker.open("onnxruntime", threads=1) as tracker:
        yield tracker


@pytest.fixture
def tracker(opened: FaceTracker) -> FaceTracker:
    opened.reset()
    opened.calibrate(None)
    return opened


@pytest.fixture(scope="module")
def actor() -> Actor:
    return Actor(mean_head())


@pytest.fixture(scope="module")
def portrait(actor: Actor) -> np.ndarray:
    return actor.draw(Moment(0))


@pytest.fixture(scope="module")
def video(opened: FaceTracker, actor: Actor) -> list[tuple[Moment, TrackedFace]]:
    """Return each moment of a video of four gestures and what the tracker saw in it."""
    opened.reset()
    seen = []
    for moment in acted(list(ACTED.values()), 0.8):
        face = opened.track(actor.draw(moment), moment.time)
        assert face is not None
        seen.append((moment, face))
    return seen


@pytest.mark.parametrize("name", ACTED)
def test_scores_follow_what_is_acted(video: list[tuple[Moment, TrackedFace]], name: str) -> None:
    weights = [moment.shapes.get(name, 0.0) for moment, _ in video]
    for scores in (
        [face.raw.expression[name] for _, face in video],
        [face.expression[name] for _, face in video],
    ):
        assert np.corrcoef(weights, scores)[0, 1] > 0.85
        assert 0 <= min(scores) <= max(scores) <= 1


def test_angles_follow_the_head(video: list[tuple[Moment, TrackedFace]]) -> None:
    truth = np.array([(moment.yaw, moment.pitch, moment.roll) for moment, _ in video])
    found = np.array([(face.yaw, face.pitch, face.roll) for _, face in video])
    off = found - truth
    assert np.ptp(truth[:, 0]) > 15
    assert np.abs(off - np.median(off, 0)).max(0).tolist() <= [5.0, 9.0, 3.0]  # an open jaw lifts the pitch
    assert np.abs(np.median(off, 0)).max() < 13  # the canonical face looks up by 10 degrees


def test_position_and_scale_follow_the_head(video: list[tuple[Moment, TrackedFace]]) -> None:
    truth = np.array([(moment.x * SIDE, moment.y * SIDE) for moment, _ in video])
    off = np.array([face.position for _, face in video]) - truth
    assert np.abs(off - np.median(off, 0)).max() < 0.06 * SIDE
    scales = np.array([face.scale / moment.zoom for moment, face in video])
    np.testing.assert_allclose(scales, np.median(scales), rtol=0.06)


def test_all_but_one_of_arkits_expressions_have_scores(video: list[tuple[Moment, TrackedFace]]) -> None:
    rig = mean_head().rig
    assert rig is not None
    assert set(rig.shape_names) - set(EXPRESSIONS) == {"tongueOut"}
    assert tuple(video[-1][1].expression) == EXPRESSIONS


def test_only_the_first_frame_is_unsmoothed(video: list[tuple[Moment, TrackedFace]]) -> None:
    assert [face.found for _, face in video] == [True] + [False] * (len(video) - 1)
    first, later = video[0][1], video[10][1]
    np.testing.assert_array_equal(first.landmarks, first.raw.landmarks)
    assert later.landmarks.dtype == np.float32
    assert np.abs(later.landmarks - later.raw.landmarks).max() > 0.1
    np.testing.assert_allclose(later.turn @ later.turn.T, np.eye(3), atol=1e-12)


def test_a_frame_costs_one_pass(
    tracker: FaceTracker, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = Counter(tracker, monkeypatch)
    for n in range(10):
        assert tracker.track(portrait, n / FPS) is not None
    assert (count.detected, count.looked) == (1, 10)


def test_a_face_that_leaves_is_found_again(
    tracker: FaceTracker, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, times = Counter(tracker, monkeypatch), iter(np.arange(200) / FPS)
    for _ in range(3):
        assert tracker.track(portrait, next(times)) is not None
    assert [tracker.track(EMPTY, next(times)) for _ in range(45)] == [None] * 45
    assert count.detected <= 1 + 4 + 45 / FPS / 0.2  # one in 0.2 seconds, but for the first few
    faces = [tracker.track(portrait, next(times)) for _ in range(round(0.5 * FPS))]
    found = [face for face in faces if face is not None]
    assert found, "not found within half a second"
    assert [face.found for face in found] == [True] + [False] * (len(found) - 1)
    np.testing.assert_array_equal(found[0].landmarks, found[0].raw.landmarks)


@pytest.mark.parametrize("to", [Moment(0, x=0.22, y=0.1, zoom=0.6), Moment(0, x=-0.05, zoom=1.4)])
def test_a_face_elsewhere_after_a_cut_is_found_at_once(
    tracker: FaceTracker, actor: Actor, to: Moment
) -> None:
    """No face is missed, and nothing of the scene before is in what is smoothed."""
    before = actor.draw(Moment(0, x=-0.2, y=-0.12, zoom=0.6))
    for n in range(5):
        assert tracker.track(before, n / FPS) is not None
    face = tracker.track(actor.draw(to), 5 / FPS)
    assert face is not None and face.found
    tracker.reset()
    alone = tracker.track(actor.draw(to), 0.0)
    assert alone is not None
    assert np.linalg.norm(face.landmarks - alone.landmarks, axis=1).max() < 0.05 * face.raw.size


def test_a_quick_head_is_not_taken_for_a_cut(tracker: FaceTracker, actor: Actor) -> None:
    """A head that crosses its own width in a third of a second is followed."""
    for n in range(8):
        face = tracker.track(actor.draw(Moment(n / FPS, x=-0.15 + 0.04 * n, zoom=0.7)), n / FPS)
        assert face is not None and face.found == (n == 0)


def test_a_face_that_slides_out_is_lost(tracker: FaceTracker, actor: Actor) -> None:
    seen = [
        tracker.track(actor.draw(Moment(0, x=0.05 * n, zoom=0.7)), n / FPS) is not None for n in range(14)
    ]
    assert seen[:5] == [True] * 5
    assert not any(seen[11:])


def test_frames_may_change_their_size(tracker: FaceTracker, portrait: np.ndarray) -> None:
    large = np.repeat(np.repeat(portrait, 2, 0), 2, 1)
    wide = np.pad(portrait, ((0, 0), (100, 0), (0, 0)))
    faces = [
        tracker.track(frame, n / FPS) for n, frame in enumerate((portrait, large, large, wide, portrait))
    ]
    assert all(face is not None for face in faces)
    seen = [face for face in faces if face is not None]
    assert [face.found for face in seen] == [True, True, False, True, True]
    first, doubled, _, shifted, last = (face.landmarks[:, :2] for face in seen)
    close = 0.03 * seen[0].raw.size
    assert np.abs(doubled / 2 - first).max() < close
    assert np.abs(shifted - (100, 0) - first).max() < close
    np.testing.assert_array_equal(last, first)


def test_smoothing_does_not_depend_on_the_resolution(tracker: FaceTracker, actor: Actor) -> None:
    """The same video with four times the pixels differs by no more than its landmarks do."""
    frames = [actor.draw(Moment(n / FPS, yaw=3.0 * n, x=0.01 * n)) for n in range(12)]
    ends = []
    for size in (1, 2):
        tracker.reset()
        for n, frame in enumerate(frames):
            face = tracker.track(frame.repeat(size, 0).repeat(size, 1), n / FPS)
        assert face is not None
        ends.append((face.landmarks[:, :2] / size, face.raw.landmarks[:, :2] / size))
    (small, small_raw), (large, large_raw) = ends
    assert np.abs(small - small_raw).max() > 1
    assert np.median(np.linalg.norm((small - small_raw) - (large - large_raw), axis=1)) < 0.15


def test_the_roll_is_smoothed_across_half_a_turn(tracker: FaceTracker, portrait: np.ndarray) -> None:
    picture = Image.fromarray(portrait)
    time, face = 0.0, None
    while face is None and time < 20:  # turned searches come in between
        face = tracker.track(picture.rotate(172), time)
        time += 0.25
    assert face is not None
    for turn in range(173, 189):
        face = tracker.track(picture.rotate(turn, fillcolor=(90, 90, 90)), time)
        time += 1 / FPS
        assert face is not None and not face.found
        assert abs((face.roll - turn + 180) % 360 - 180) < 9
        assert -180 <= face.roll < 180
    assert face.roll < 0


def test_any_picture_is_a_frame(tracker: FaceTracker, portrait: np.ndarray) -> None:
    kinds = {
        "bytes": portrait,
        "floats": portrait.astype(np.float32) / 255,
        "Pillow": Image.fromarray(portrait),
        "strided": np.ascontiguousarray(portrait[:, ::-1])[:, ::-1],
        "RGBA": np.dstack([portrait, np.full((SIDE, SIDE), 255, np.uint8)]),
    }
    found = {}
    for name, frame in kinds.items():
        tracker.reset()
        found[name] = tracker.track(frame, 0.0)
    for face in found.values():
        assert face is not None and found["bytes"] is not None
        np.testing.assert_allclose(face.landmarks, found["bytes"].landmarks, atol=1e-3)


@pytest.mark.parametrize("square", [
    Square(120, 130, 90), Square(10, 20, 300, 0.3), Square(250, 250, 40, -2.0), Square(128, 128, 1100, 1.0),
    Square(-400, 20, 30),
])  # fmt: skip
def test_the_part_of_a_frame_is_enough_for_the_cut(portrait: np.ndarray, square: Square) -> None:
    part, left, top = Frame(portrait).around(square)
    moved = dataclasses.replace(square, x=square.x - left, y=square.y - top)
    whole = cut(Image.fromarray(portrait), square, 256)
    np.testing.assert_array_equal(np.asarray(cut(part, moved, 256)), np.asarray(whole))


def test_a_resting_face_can_be_subtracted(tracker: FaceTracker, actor: Actor, portrait: np.ndarray) -> None:
    resting = [tracker.track(portrait, n / FPS) for n in range(3)]
    faces = [face for face in resting if face is not None]
    before = max(faces[-1].expression.values())
    tracker.calibrate(faces)
    after = tracker.track(portrait, 3 / FPS)
    assert after is not None
    assert before > 0.3 and max(after.expression.values()) < 0.05
    assert max(after.raw.expression.values()) > 0.3
    for n in range(4, 12):
        smiling = tracker.track(actor.draw(Moment(0, ACTED["mouthSmileLeft"])), n / FPS)
    assert smiling is not None and smiling.expression["mouthSmileLeft"] > 0.6
    tracker.calibrate([face.raw for face in faces])  # what `find_faces` returns will do
    tracker.calibrate(None)
    last = tracker.track(portrait, 12 / FPS)
    assert last is not None and max(last.expression.values()) > 0.3


BAD_CALIBRATIONS: dict[str, tuple[Any, str]] = {
    "no face": ([], "got no face with an expression"),
    "only frames without a face": ([None, None], "got no face with an expression"),
    "scores": ([{"jawOpen": 0.1}], "got an object of type dict; expected faces"),
}


@pytest.mark.parametrize("case", BAD_CALIBRATIONS)
def test_a_calibration_needs_a_face(tracker: FaceTracker, case: str) -> None:
    faces, message = BAD_CALIBRATIONS[case]
    with pytest.raises(InputError, match=f"calibration: {message}"):
        tracker.calibrate(faces)


BAD_FRAMES: dict[str, Any] = {
    "NaN": np.full((64, 64, 3), np.nan, np.float32),
    "too bright": np.full((64, 64, 3), 2.0, np.float32),
    "grey": np.zeros((64, 64), np.uint8),
    "16 bits": np.zeros((64, 64, 3), np.uint16),
    "tiny": np.zeros((8, 300, 3), np.uint8),
    "empty": np.zeros((0, 0, 3), np.uint8),
    "five channels": np.zeros((64, 64, 5), np.uint8),
    "nothing": None,
    "a missing file": "no such frame.png",
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_a_bad_frame_is_refused_and_loses_nothing(
    tracker: FaceTracker, portrait: np.ndarray, case: str
) -> None:
    assert tracker.track(portrait, 1.0) is not None
    with pytest.raises(ImageError):
        tracker.track(BAD_FRAMES[case], 2.0)
    face = tracker.track(portrait, 1.5)  # the time of the bad frame does not count either
    assert face is not None and not face.found


BAD_TIMES: dict[str, Any] = {
    "the same": 1.0,
    "earlier": 0.5,
    "NaN": float("nan"),
    "infinite": float("inf"),
    "text": "1.5",
    "too large": 10**400,
    "complex": 2j,
    "a truth value": True,
}


@pytest.mark.parametrize("case", BAD_TIMES)
def test_a_bad_time_is_refused_and_loses_nothing(
    tracker: FaceTracker, portrait: np.ndarray, case: str
) -> None:
    assert tracker.track(portrait, 1.0) is not None
    with pytest.raises(OptionError, match=r"time: got .*; expected"):
        tracker.track(portrait, BAD_TIMES[case])
    face = tracker.track(portrait, 1.1)
    assert face is not None and not face.found


def test_another_video_may_begin_at_zero(tracker: FaceTracker, portrait: np.ndarray) -> None:
    assert tracker.track(portrait, 100.0) is not None
    tracker.reset()
    face = tracker.track(portrait, 0.0)
    assert face is not None and face.found


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_threads_out_of_range_are_refused(threads: Any) -> None:
    with pytest.raises(OptionError, match="threads"):
        FaceTracker.open("onnxruntime", threads=threads)


def test_smoothing_of_another_kind_is_refused(opened: FaceTracker) -> None:
    with pytest.raises(OptionError, match=r"smoothing: got 1\.0; expected a Smoothing"):
        FaceTracker(opened._finder, 1.0)  # type: ignore[arg-type]


def test_a_closed_tracker_says_so(portrait: np.ndarray) -> None:
    tracker = topos_rt.FaceTracker.open("onnxruntime", threads=1)
    tracker.close()
    tracker.close()
    for call in (lambda: tracker.track(portrait), tracker.reset):
        with pytest.raises(InputError, match=r"face tracker: got a call after close\(\)"):
            call()


def test_threads_take_turns(tracker: FaceTracker, portrait: np.ndarray) -> None:
    """Calls from many threads, without times, are served one after the other."""
    faces: list[TrackedFace | None] = []
    work = [
        threading.Thread(target=lambda: faces.extend(tracker.track(portrait) for _ in range(4)))
        for _ in range(4)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    seen = [face for face in faces if face is not None]
    assert len(seen) == 16
    assert sum(face.found for face in seen) == 1
    assert len({face.time for face in seen}) == 16
