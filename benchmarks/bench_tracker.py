"""Measure the face tracker on synthetic videos of a posed head: `python -m benchmarks.bench_tracker`.

`--skins DIR` names a folder of MakeHuman's skins in the UVs of `mini`, for heads that look like people.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.face_video import FPS, SIDE, Actor, Moment, acted, mean_head, motion
from benchmarks.report import write_result
from topos_rt import __version__
from topos_rt.bench.machine import load_average
from topos_rt.faces.tracker import EXPRESSIONS, FaceTracker

RESULT = Path(__file__).parent / "results" / "tracker_cpu.json"
SKINS = ("young_caucasian_male2", "middleage_asian_female")
SECONDS = 0.8  # of a gesture
OUTER_EYES, NOSE_TIP = (33, 263), 4  # landmarks
FOLLOWS = 0.8  # the correlation from which on a score is said to follow its expression
_FRAMES, _LOST_EVERY, _LOST = 300, 60, 15  # of the timed video
_LONGEST_LAG = 10  # frames
GAZES = (
    ("eyeLookUpLeft", "eyeLookUpRight"),
    ("eyeLookDownLeft", "eyeLookDownRight"),
    ("eyeLookOutLeft", "eyeLookInRight"),
    ("eyeLookInLeft", "eyeLookOutRight"),
)
ANGLES = ("yaw", "pitch", "roll")


def together() -> list[Mapping[str, float]]:
    """Return gestures in which both sides of a face do the same, and both eyes look the same way."""
    sided = {side for gesture in alone() for side in gesture}
    gestures: list[Mapping[str, float]] = [
        dict.fromkeys((left, left.replace("Left", "Right")), 1.0)
        for left in EXPRESSIONS
        if left.endswith("Left") and left in sided
    ]
    gestures += [dict.fromkeys(pair, 1.0) for pair in GAZES]
    looks = {name for pair in GAZES for name in pair}
    for name in EXPRESSIONS:
        if name not in sided | looks:
            gestures.append({"jawOpen": 0.6, "mouthClose": 0.6} if name == "mouthClose" else {name: 1.0})
    return gestures


def alone() -> list[Mapping[str, float]]:
    """Return gestures of one side of a face."""
    whole = ("eyeLook", "jawLeft", "jawRight", "mouthLeft", "mouthRight")
    return [
        {name: 1.0} for name in EXPRESSIONS if name.endswith(("Left", "Right")) and not name.startswith(whole)
    ]


@dataclass(frozen=True, eq=False)
class Recording:
    """The answers of a tracker for a video of n frames, and the truth. Frames without a face are left out."""

    frames: int  # of the video
    weights: np.ndarray  # [n,E], the truth, in the order of EXPRESSIONS
    pose: np.ndarray  # [n,3], the truth, degrees
    scores: Mapping[str, np.ndarray]  # "raw" and "smooth": [n,E]
    angles: Mapping[str, np.ndarray]  # [n,3]
    landmarks: Mapping[str, np.ndarray]  # [n,478,2], pixels

    @classmethod
    def of(cls, tracker: FaceTracker, actor: Actor, moments: Iterable[Moment]) -> Recording:
        """Track a video."""
        tracker.reset()
        rows: list[tuple[Any, ...]] = []
        count = 0
        for moment in moments:
            count += 1
            face = tracker.track(actor.draw(moment), moment.time)
            if face is None:
                continue
            raw = face.raw
            rows.append(
                (
                    [moment.shapes.get(name, 0.0) for name in EXPRESSIONS],
                    (moment.yaw, moment.pitch, moment.roll),
                    [raw.expression[name] for name in EXPRESSIONS],
                    [face.expression[name] for name in EXPRESSIONS],
                    (raw.yaw, raw.pitch, raw.roll),
                    (face.yaw, face.pitch, face.roll),
                    raw.landmarks[:, :2],
                    face.landmarks[:, :2],
                )
            )
        weights, pose, *seen = (np.array(column, np.float64) for column in zip(*rows, strict=True))
        pairs = [{"raw": seen[k], "smooth": seen[k + 1]} for k in (0, 2, 4)]
        return cls(count, weights, pose, *pairs)


def lag(late: np.ndarray, early: np.ndarray) -> float:
    """Return by how many frames a signal [n] follows another, to a fraction, where they correlate best."""
    late, early = late - late.mean(), early - early.mean()
    found = []
    for shift in range(-1, _LONGEST_LAG + 1):
        a, b = (late[shift:], early[: len(early) - shift]) if shift >= 0 else (late[:shift], early[-shift:])
        found.append(float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)))
    best = int(np.clip(np.argmax(found), 1, len(found) - 2))
    left, middle, right = found[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return best - 1 + (0.5 * (left - right) / bend if bend else 0.0)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's correlation, 0 where one does not change."""
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def judged(recordings: list[Recording]) -> dict[str, dict[str, float]]:
    """Return what each score means, over all recordings in which its expression is acted."""
    result = {}
    for k, name in enumerate(EXPRESSIONS):
        acting = [one for one in recordings if one.weights[:, k].any()]
        if not acting:
            continue
        weights = np.concatenate([one.weights[:, k] for one in acting])
        scores = {key: np.concatenate([one.scores[key][:, k] for one in acting]) for key in ("raw", "smooth")}
        rest = weights == 0
        told = {
            f"correlation_{key}": np.mean([correlation(o.weights[:, k], o.scores[key][:, k]) for o in acting])
            for key in scores
        }
        told["full"] = scores["raw"][weights > 0.95 * weights.max()].mean()
        told["rest"] = scores["raw"][rest].mean()
        told["others_p99"] = np.percentile(scores["raw"][rest], 99)
        told["lag_frames"] = np.mean([lag(o.scores["smooth"][:, k], o.scores["raw"][:, k]) for o in acting])
        result[name] = {key: _round(value) for key, value in told.items()}
    return result


def pose_errors(recordings: list[Recording]) -> dict[str, Any]:
    """Return the errors of the angles, degrees: a constant part, which is the head's own, and the rest."""
    result: dict[str, Any] = {}
    for key in ("raw", "smooth"):
        result[key] = {}
        for n, angle in enumerate(ANGLES):
            errors = np.concatenate([one.angles[key][:, n] - one.pose[:, n] for one in recordings])
            off = np.abs(errors - np.median(errors))
            result[key][angle] = {
                "constant": _round(np.median(errors)),
                "mean": _round(off.mean()),
                "p95": _round(np.percentile(off, 95)),
            }
    return result


def at_rest(recording: Recording) -> dict[str, Any]:
    """Return the jitter of a head that rests, in noise alone: standard deviations."""
    across = recording.landmarks["raw"][:, OUTER_EYES]
    unit = float(np.linalg.norm(across[:, 0] - across[:, 1], axis=1).mean())
    result: dict[str, Any] = {}
    half = len(recording.pose) // 2  # the filters have settled
    for key in ("raw", "smooth"):
        points = recording.landmarks[key][half:]
        result[key] = {
            "landmarks_percent": _round(100 * np.sqrt(points.var(0).sum(1).mean()) / unit),
            "angles_degrees": _round(recording.angles[key][half:].std(0).mean()),
            "scores": _round(recording.scores[key][half:].std(0).mean()),
        }
    return result


def delays(shaken: Recording, blinked: Recording) -> dict[str, float]:
    """Return the delays of smoothing in fast motion, and what it leaves of a blink of a quarter second."""
    yaw = [shaken.angles[key][:, 0] for key in ("smooth", "raw")]
    nose = [shaken.landmarks[key][:, NOSE_TIP, 0] for key in ("smooth", "raw")]
    k = EXPRESSIONS.index("eyeBlinkLeft")
    blinks = {key: blinked.scores[key][:, k] for key in ("raw", "smooth")}
    peaks = {key: np.percentile(values, 97) - np.percentile(values, 20) for key, values in blinks.items()}
    return {
        "yaw_frames": _round(lag(yaw[0], yaw[1])),
        "landmarks_frames": _round(lag(nose[0], nose[1])),
        "blink_frames": _round(lag(blinks["smooth"], blinks["raw"])),
        "blink_kept": _round(peaks["smooth"] / max(peaks["raw"], 1e-6)),
    }


def still(seconds: float) -> Iterator[Moment]:
    """Yield the frames of a head at rest."""
    return (Moment(n / FPS) for n in range(round(seconds * FPS)))


def shaking(seconds: float) -> Iterator[Moment]:
    """Yield the frames of a head that turns by 15 degrees to either side, once a second."""
    for n in range(round(seconds * FPS)):
        wave = float(np.sin(2 * np.pi * n / FPS))
        yield Moment(n / FPS, yaw=15 * wave, x=0.05 * wave)


def blinking(seconds: float) -> Iterator[Moment]:
    """Yield the frames of a head that blinks once a second, for a quarter of a second."""
    for n in range(round(seconds * FPS)):
        phase = n / FPS % 1.0 * 4
        weight = float(np.sin(np.pi * phase) ** 2) if phase < 1 else 0.0
        yield Moment(n / FPS, {"eyeBlinkLeft": weight, "eyeBlinkRight": weight}, **motion(n / FPS, 0.5))


def speed(actor: Actor, frames: int = _FRAMES) -> dict[str, Any]:
    """Return frame times on one core, with a face that stays, one that leaves again and again, and none."""
    moments = list(islice(acted(together(), SECONDS), 0, frames))
    pictures = [actor.draw(moment) for moment in moments]
    empty = np.full_like(pictures[0], 90)
    kinds: dict[str, Callable[[int], np.ndarray]] = {
        "followed": lambda n: pictures[n],
        "losing": lambda n: empty if n % _LOST_EVERY >= _LOST_EVERY - _LOST else pictures[n],
        "no face": lambda n: empty,
    }
    result: dict[str, Any] = {"frames": frames, "side": SIDE, "threads": 1, "load_average": load_average()}
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        if before:
            os.sched_setaffinity(0, {max(before)})
        for kind, picture in kinds.items():
            with FaceTracker.open("onnxruntime", threads=1) as tracker:
                tracker.track(pictures[0], -1.0)  # loads the networks
                wall, own = [], []
                for n in range(frames):
                    frame, start, used = picture(n), time.perf_counter(), time.process_time()
                    tracker.track(frame, n / FPS)
                    wall.append(1e3 * (time.perf_counter() - start))
                    own.append(1e3 * (time.process_time() - used))
            result[kind] = {"wall_ms": _statistics(wall), "cpu_ms": _statistics(own)}
    finally:
        if before:
            os.sched_setaffinity(0, before)
    return result


def _statistics(values: list[float]) -> dict[str, float]:
    told = {f"p{share}": np.percentile(values, share) for share in (10, 50, 99)} | {"mean": np.mean(values)}
    return {key: round(float(value), 2) for key, value in told.items()}


def _round(value: Any) -> float:
    return round(float(value), 4)


def measure(skins: list[Path], seconds: float = SECONDS) -> dict[str, Any]:
    """Return everything that the documentation quotes."""
    head = mean_head()
    actors = {"plain": Actor(head)} | {path.stem: Actor(head, path) for path in skins}
    main = list(actors)[-1]
    result: dict[str, Any] = {"speed": speed(actors[main])}
    with FaceTracker.open("onnxruntime") as tracker:
        records = {
            name: Recording.of(tracker, actor, acted(together(), seconds)) for name, actor in actors.items()
        }
        one_sided = Recording.of(tracker, actors[main], acted(alone(), seconds))
        result["rest"] = at_rest(Recording.of(tracker, actors[main], still(4)))
        result["delay"] = delays(
            *(Recording.of(tracker, actors[main], make(6)) for make in (shaking, blinking))
        )
    people = [record for name, record in records.items() if name != "plain"]
    result["looks"] = {name: {"frames": one.frames, "seen": len(one.pose)} for name, one in records.items()}
    result["plain"] = judged([records["plain"]])
    result["together"] = judged(people or [records["plain"]])
    result["alone"] = judged([one_sided])
    result["pose"] = pose_errors(people or [records["plain"]])
    follows = [facts for facts in result["together"].values() if facts["correlation_raw"] >= FOLLOWS]
    result["delay"]["scores_frames"] = _round(np.median([facts["lag_frames"] for facts in follows]))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skins", type=Path, metavar="DIR", help="folder of MakeHuman's skins")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each gesture")
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument(
        "--speed", action="store_true", help="measure frame times only; keep the other results"
    )
    arguments = parser.parse_args()
    skins = [arguments.skins / f"{name}.png" for name in SKINS] if arguments.skins else []
    about = {"topos_rt": __version__, "model": None}
    if arguments.speed:
        actor = Actor(mean_head(), skins[-1] if skins else None)
        result = json.loads(arguments.json.read_text()) | about | {"speed": speed(actor)}
    else:
        result = about | measure(skins, arguments.seconds)
    write_result(arguments.json, result)
    print(json.dumps({key: result[key] for key in ("speed", "rest", "delay", "pose", "looks")}, indent=2))


if __name__ == "__main__":
    main()
