"""The measures of benchmarks/bench_tracker.py on signals whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import bench_tracker as bench
from benchmarks.bench_tracker import GAZES, Recording, alone, correlation, judged, lag, pose_errors, together
from benchmarks.face_video import FPS, Moment, acted
from topos_rt.faces.tracker import EXPRESSIONS


@pytest.mark.parametrize("late", [0.0, 1.0, 2.5, 6.25])
def test_lag_is_found_to_a_fraction(late: float) -> None:
    times = np.arange(200)
    early, follower = (np.sin(0.11 * (times - shift)) + np.sin(0.23 * (times - shift)) for shift in (0, late))
    assert lag(follower, early) == pytest.approx(late, abs=0.06)


def test_correlation_is_pearsons_and_zero_where_nothing_moves() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (2, 50))
    assert correlation(a, 3 * a + 1) == pytest.approx(1)
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert correlation(a, np.ones(50)) == 0


def test_every_score_is_acted() -> None:
    assert {name for gesture in together() for name in gesture} == set(EXPRESSIONS)
    sided = {name for gesture in alone() for name in gesture}
    assert all(len(gesture) == 1 for gesture in alone())
    assert all({name.replace("Left", "Right"), name} <= sided for name in sided if "Left" in name)
    assert not sided & {name for pair in GAZES for name in pair}


def test_a_gesture_rises_to_its_weights_and_falls() -> None:
    moments = list(acted([{"jawOpen": 0.6}, {"cheekPuff": 1.0}], 0.8))
    assert [moment.time for moment in moments] == pytest.approx(np.arange(48) / FPS)
    jaw = [moment.shapes.get("jawOpen", 0.0) for moment in moments]
    assert max(jaw) == pytest.approx(0.6) and jaw[0] == 0 and not any(jaw[24:])
    assert max(moment.shapes.get("cheekPuff", 0.0) for moment in moments[24:]) == pytest.approx(1)


def recording(scores: np.ndarray, weights: np.ndarray, off: float = 0.0) -> Recording:
    """Return a recording whose smoothed values come one frame late, and whose angles are `off` by degrees."""
    pose = np.cumsum(np.ones((len(weights), 3)), 0)
    late = np.roll(scores, 1, 0)
    angles = pose + off + np.where(np.arange(len(pose)) % 2, 1.0, -1.0)[:, None]
    points = np.zeros((len(weights), 478, 2))
    points[:, bench.OUTER_EYES[1], 0] = 50
    both = {"raw": scores, "smooth": late}
    return Recording(
        len(weights), weights, pose, both, {"raw": angles, "smooth": angles}, dict.fromkeys(both, points)
    )


def test_scores_are_judged_by_what_they_follow() -> None:
    times = np.arange(240)
    weights = np.zeros((240, len(EXPRESSIONS)))
    good, bad, silent = (EXPRESSIONS.index(name) for name in ("jawOpen", "cheekPuff", "mouthPucker"))
    weights[:, good] = np.maximum(np.sin(2 * np.pi * times / 60), 0)
    weights[:, bad] = np.maximum(-np.sin(2 * np.pi * times / 60), 0)
    scores = np.zeros_like(weights)
    scores[:, good] = 0.1 + 0.8 * weights[:, good]
    found = judged([recording(scores, weights)])
    assert set(found) == {"jawOpen", "cheekPuff"} and EXPRESSIONS[silent] not in found
    jaw = found["jawOpen"]
    assert jaw["correlation_raw"] == pytest.approx(1) and found["cheekPuff"]["correlation_raw"] == 0
    assert jaw["full"] == pytest.approx(0.9, abs=0.02) and jaw["rest"] == pytest.approx(0.1)
    assert jaw["lag_frames"] == pytest.approx(1, abs=0.1)


def test_the_constant_part_of_a_pose_is_told_apart() -> None:
    zeros = np.zeros((100, len(EXPRESSIONS)))
    errors = pose_errors([recording(zeros, zeros, off=10.0)])["raw"]["yaw"]
    assert errors["constant"] == pytest.approx(10, abs=1.01)
    assert errors["mean"] == pytest.approx(1, abs=1.01)


def test_a_recording_says_how_many_frames_showed_no_face() -> None:
    class Blind:
        """A tracker that sees a face in every second frame only."""

        def reset(self) -> None:
            self.calls = 0

        def track(self, frame: np.ndarray, time: float) -> object:
            self.calls += 1
            if self.calls % 2:
                return None
            scores = dict.fromkeys(EXPRESSIONS, 0.5)
            face = type("Seen", (), {"expression": scores, "yaw": 0.0, "pitch": 0.0, "roll": 0.0})()
            face.landmarks = np.zeros((478, 3))
            face.raw = face
            return face

    class Still:
        """Draws nothing."""

        def draw(self, moment: Moment) -> np.ndarray:
            return np.zeros((1, 1, 3), np.uint8)

    moments = [Moment(n / FPS) for n in range(10)]
    found = Recording.of(Blind(), Still(), moments)  # type: ignore[arg-type]
    assert (found.frames, len(found.pose), found.scores["raw"].shape) == (10, 5, (5, 51))
