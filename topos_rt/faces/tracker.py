"""Follow one face through the frames of a video: landmarks, head pose and expression, smoothed."""

from __future__ import annotations

import itertools
import math
import os
import threading
import time as clock
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real

import numpy as np

from topos_rt.engines import AUTO
from topos_rt.errors import InputError, OptionError
from topos_rt.faces.bundle import FaceBundle
from topos_rt.faces.detection import detections, searches
from topos_rt.faces.expression import NAMES
from topos_rt.faces.face import Face
from topos_rt.faces.finder import FaceFinder, square_around
from topos_rt.faces.frames import Frame
from topos_rt.faces.one_euro import OneEuro, Smoothing
from topos_rt.faces.pose import Placement, place, rotation
from topos_rt.faces.warp import Square
from topos_rt.pictures.sources import ImageSource
from topos_rt.support.closing import Closing

EXPRESSIONS = NAMES[1:]
_PRESENT = 0.5  # the landmark network's flag from which on there is a face
_MARGIN = 1.5  # of the cut around a detected face, as in `finder`
_SKIN = 468  # the landmarks after these are the irises
_TRIES = 2  # detections looked at in one search
# From one frame to the next: how far a face may move in its own sizes, grow, and turn, in degrees.
_FARTHEST, _MOST_GROWTH, _MOST_TURN = 0.5, 1.4, 50.0
_INSIDE = 0.5  # the share of the landmarks that has to lie in the picture
# After each failed search the next one waits twice as long, in seconds.
_FIRST_WAIT, _LONGEST_WAIT = 1 / 60, 0.2
_MOST_REST = 0.9  # the score at rest up to which some expression is left to see


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A face in one frame of a video, smoothed over the frames before it.

    Pixels are those of the upright frame, from its top left corner. The landmarks and angles are those of
    `Face`.
    """

    time: float  # seconds, of the frame
    found: bool  # whether it was detected anew in this frame, so that nothing before it was taken over
    landmarks: np.ndarray  # [478,3] float32
    yaw: float  # degrees; positive turns the face to the right of the picture
    pitch: float  # degrees; positive lifts it
    roll: float  # degrees; positive turns it counter-clockwise in the picture
    position: tuple[float, float]  # pixels: the origin of the canonical face, in the middle of the head
    scale: float  # pixels in one centimetre of an average face, at the depth of the face
    expression: Mapping[str, float]  # names as in Face -> 0 to 1, less what the person shows at rest
    raw: Face = field(repr=False)  # the same without smoothing and calibration, with its confidence

    @property
    def turn(self) -> np.ndarray:
        """The rotation [3,3] from the head's axes to the camera's: +X right, +Y up, +Z towards the camera."""
        return rotation(self.yaw, self.pitch, self.roll)


@dataclass(frozen=True, eq=False)
class _Seen:
    """A face in one frame, and how the canonical face lies there."""

    face: Face
    placement: Placement


class FaceTracker(Closing):
    """Follows the largest face of a video.

    A frame costs one pass of the landmark network over the place where the face was. Faces are detected only
    where none is followed: at the start, when the landmark network no longer sees one, when the landmarks
    jump, when the face leaves the picture, and when the frames change their size. Without a face, searches
    become rarer, down to one in 0.2 seconds. Each is one run of the detector: two of three look at the whole
    upright picture, the third at the turned picture and its parts in turn, where smaller faces are found.

    A face is followed until it is lost, even if a larger one comes in; other faces are not looked at.
    Calls from several threads take turns, but frames have to come in their order: use one tracker for a
    video.
    """

    def __init__(self, finder: FaceFinder, smoothing: Smoothing | None = None) -> None:
        """Take over a finder, whose networks do the work. Raises OptionError."""
        if smoothing is not None and not isinstance(smoothing, Smoothing):
            raise OptionError("smoothing", got=repr(smoothing), expected="a Smoothing, or None")
        self._finder = finder
        self._smoothing = smoothing or Smoothing()
        self._lock = threading.Lock()
        self._closed = False
        self._rest = np.zeros(len(EXPRESSIONS))
        self._size: tuple[int, int] | None = None
        self._last: _Seen | None = None
        self._filters: dict[str, OneEuro] = {}
        self._roll = 0.0  # degrees, going on beyond 180
        self._time = -math.inf
        self._forget()

    @classmethod
    def open(
        cls,
        backend: str = AUTO,
        threads: int | None = None,
        *,
        smoothing: Smoothing | None = None,
        cache: str | os.PathLike[str] | None = None,
        bundle: FaceBundle | None = None,
    ) -> FaceTracker:
        """Open a tracker. Arguments and errors are those of `FaceFinder.open`, and `smoothing`."""
        return cls(FaceFinder.open(backend, threads, cache=cache, bundle=bundle), smoothing)

    def track(self, frame: ImageSource, time: float | None = None) -> TrackedFace | None:
        """Return the face in the next frame, or None where none is seen.

        Args:
            frame: an RGB array [H,W,3] uint8, of which only the part around the face is looked at; or any
                picture that `find_faces` takes.
            time: seconds, above those of the frame before, from any start; None is the time of this call.

        Raises:
            ImageError: the frame cannot be used. The next one goes on where the last one ended.
            OptionError: `time` is no finite number, or not above that of the frame before.
            InputError: the tracker is closed.
        """
        with self._lock:
            self._require_open()
            time = self._checked(time)
            taken = Frame(frame)
            elapsed = time - self._time
            self._time = time
            if taken.size != self._size:
                self._forget()
                self._size = taken.size
            seen = None if self._last is None else self._followed(taken, self._last)
            found = seen is None
            if seen is None:
                seen = self._searched(taken, time, was_followed=self._last is not None)
            self._last = seen
            return None if seen is None else self._smoothed(seen, elapsed, found)

    def calibrate(self, faces: Iterable[TrackedFace | Face | None] | None) -> None:
        """Subtract a person's resting scores from all expressions that follow.

        A score s becomes (s - r) / (1 - r), at least 0, where r is the median of the raw scores of `faces`.

        faces: what `track` returned while the person looked neutral, of which every None is passed over; or
        None to end the calibration. Raises InputError where none of them has an expression.
        """
        rest = np.zeros(len(EXPRESSIONS))
        if faces is not None:
            given = [
                face.raw if isinstance(face, TrackedFace) else face for face in faces if face is not None
            ]
            if other := [face for face in given if not isinstance(face, Face)]:
                kind = type(other[0]).__name__
                raise InputError(
                    "calibration", got=f"an object of type {kind}", expected="faces from track()"
                )
            rows = [[face.expression[name] for name in EXPRESSIONS] for face in given if face.expression]
            if not rows:
                raise InputError(
                    "calibration", got="no face with an expression", expected="one or more", fix="track first"
                )
            rest = np.minimum(np.median(rows, axis=0), _MOST_REST)
        with self._lock:
            self._rest = rest

    def reset(self) -> None:
        """Forget the face and the time, as before the first frame of a video. A calibration stays."""
        with self._lock:
            self._require_open()
            self._time = -math.inf
            self._forget()

    def close(self) -> None:
        """Free the networks. Later calls of `track` raise InputError."""
        with self._lock:
            self._closed = True
            self._finder.close()

    def _require_open(self) -> None:
        if self._closed:
            raise InputError(
                "face tracker", got="a call after close()", expected="an open one", fix="open another"
            )

    def _checked(self, time: float | None) -> float:
        if time is None:
            time = clock.perf_counter()
        try:
            seconds = float(time) if isinstance(time, Real) and not isinstance(time, bool) else math.nan
        except OverflowError:
            seconds = math.inf
        if not math.isfinite(seconds):
            raise OptionError("time", got=repr(time)[:40], expected="seconds, a finite number")
        if seconds <= self._time:
            raise OptionError(
                "time",
                got=f"{seconds:g} s",
                expected=f"more than {self._time:g} s, that of the frame before",
                fix="pass frames in their order, or call reset() before another video",
            )
        return seconds

    def _forget(self) -> None:
        """Forget the face, and search at once."""
        self._size = self._last = None
        self._search_again()

    def _search_again(self) -> None:
        self._failures, self._search_from = 0, -math.inf
        self._squares: Iterator[Square] | None = None

    def _followed(self, frame: Frame, last: _Seen) -> _Seen | None:
        """Return the face where it was in the frame before, or None where it is lost."""
        seen = self._look(frame, square_around(last.face.landmarks.astype(np.float64)))
        return None if seen is None or _jumped(last, seen) else seen

    def _searched(self, frame: Frame, time: float, was_followed: bool) -> _Seen | None:
        """Return the largest face that one run of the detector finds, if it is time for one."""
        if was_followed:
            self._search_again()
        if time < self._search_from:
            return None
        if self._squares is None:
            self._squares = _squares(frame.size)
        found = detections(frame.picture(), [next(self._squares)], self._finder.networks.detect)
        for detection in found[:_TRIES]:
            if seen := self._look(frame, detection.square(_MARGIN)):
                self._search_again()
                return seen
        self._search_from = time + min(_FIRST_WAIT * 2**self._failures, _LONGEST_WAIT)
        self._failures = min(self._failures + 1, 10)
        return None

    def _look(self, frame: Frame, square: Square) -> _Seen | None:
        """Return the face that the landmark network sees in a square, or None."""
        part, left, top = frame.around(square)
        shifted = Square(square.x - left, square.y - top, square.side, square.angle)
        landmarks, confidence = self._finder.landmarks(part, shifted)
        if confidence < _PRESENT:
            return None
        landmarks[:, :2] += (left, top)
        skin = landmarks[:_SKIN, :2]
        if np.mean(((skin >= 0) & (skin < frame.size)).all(1)) < _INSIDE:
            return None
        placement = place(landmarks, self._finder.networks.bundle.canonical)
        return _Seen(self._finder.face(frame, landmarks, confidence), placement)

    def _smoothed(self, seen: _Seen, elapsed: float, found: bool) -> TrackedFace:
        face, placed = seen.face, seen.placement
        if found:
            self._filters = {name: OneEuro(cut) for name, cut in vars(self._smoothing).items()}
            self._roll = face.roll
        # The roll goes on beyond 180 degrees, so that it can be smoothed.
        self._roll += (face.roll - self._roll + 180) % 360 - 180
        scores = [[face.expression[name]] for name in EXPRESSIONS]
        given = {
            "landmarks": (face.landmarks[:, :2], placed.scale),
            "depth": (face.landmarks[:, 2:], placed.scale),
            "angles": (np.array([[face.yaw], [face.pitch], [self._roll]]), 1.0),
            "position": (placed.shift[None], placed.scale),
            "scale": (np.log([[placed.scale]]), 1.0),
            "expression": (np.array(scores), 1.0),
        }
        made = {name: self._filters[name](points, elapsed, unit) for name, (points, unit) in given.items()}
        yaw, pitch, roll = made["angles"][:, 0].tolist()
        left = np.clip((made["expression"][:, 0] - self._rest) / (1 - self._rest), 0, 1)
        x, y = made["position"][0].tolist()
        return TrackedFace(
            time=self._time,
            found=found,
            landmarks=np.hstack([made["landmarks"], made["depth"]]).astype(np.float32),
            yaw=yaw,
            pitch=pitch,
            roll=(roll + 180) % 360 - 180,
            position=(x, y),
            scale=float(np.exp(made["scale"][0, 0])),
            expression=dict(zip(EXPRESSIONS, left.tolist(), strict=True)),
            raw=face,
        )


def _squares(size: tuple[int, int]) -> Iterator[Square]:
    """Yield what to search, without end: the whole picture, and between two times one of all the others."""
    (whole,), *others = searches(size)
    for other in itertools.cycle([square for turn in others for square in turn]):
        yield whole
        yield whole  # a face is most often upright and missed in one frame only
        yield other


def _jumped(last: _Seen, seen: _Seen) -> bool:
    """Return whether a face differs from the one in the frame before by more than a head can move."""
    middles = [one.face.landmarks[:_SKIN, :2].mean(0) for one in (last, seen)]
    moved = float(np.linalg.norm(middles[1] - middles[0])) / max(last.face.size, 1e-6)
    growth = abs(math.log(seen.placement.scale / last.placement.scale))
    turned = _turned(last.placement, seen.placement)
    return moved > _FARTHEST or growth > math.log(_MOST_GROWTH) or turned > _MOST_TURN


def _turned(before: Placement, after: Placement) -> float:
    """Return the angle between two placements, degrees."""
    cosine = (np.trace(after.turn @ before.turn.T) - 1) / 2
    return math.degrees(math.acos(float(np.clip(cosine, -1, 1))))
