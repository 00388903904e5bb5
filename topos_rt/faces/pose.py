"""The place of a head in a picture, from its landmarks: which way it looks, how large and where it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topos_rt.faces.bundle import CanonicalFace

# The landmarks at the detector's points: the eyes (the right one first), nose tip, mouth and ears.
_SIX = ((33, 133), (362, 263), (1,), (13, 14), (234,), (454,))
# Measured on rendered heads of known pose (benchmarks/bench_face_fit.py): the canonical face looks down by so
# many degrees where a head looks ahead, and depths of landmarks are too large.
_LOOKS_DOWN, _DEPTH = 6.0, 0.88


@dataclass(frozen=True, eq=False)
class Placement:
    """How the canonical face lies in a picture: pixels = scale * (turn @ centimetres) + shift, y down.

    The centimetres are in the head's axes, in which the canonical face looks ahead.
    """

    turn: np.ndarray  # [3,3], from the head's axes to the camera's: +X right, +Y up, +Z towards the camera
    scale: float  # pixels in a centimetre
    shift: np.ndarray  # [2], the picture's place of the canonical face's origin

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return the pixels [...,2] of points [...,3] in the canonical face's centimetres."""
        return self.shift + (_ahead(points) @ self.turn.T)[..., :2] * [self.scale, -self.scale]


def place(landmarks: np.ndarray, canonical: CanonicalFace) -> Placement:
    """Fit the canonical face to landmarks [478,3] in pixels: a weighted similarity in space (Umeyama 1991).

    The weights are those of MediaPipe's geometry module: 33 landmarks that expressions hardly move.
    """
    weights = canonical.weights.astype(np.float64) / canonical.weights.sum()
    source = _ahead(canonical.positions.astype(np.float64))
    target = _up(landmarks[: len(source)])
    source_middle, target_middle = weights @ source, weights @ target
    source, target = source - source_middle, target - target_middle
    u, s, vt = np.linalg.svd(target.T @ (source * weights[:, None]))
    mirror = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    turn = u @ mirror @ vt
    scale = float((s * np.diag(mirror)).sum() / (weights @ (source**2).sum(1)))
    origin = target_middle - scale * turn @ source_middle
    return Placement(turn, max(scale, 1e-6), origin[:2] * [1, -1])


def own_axes(landmarks: np.ndarray, placement: Placement, canonical: CanonicalFace) -> np.ndarray:
    """Return landmarks [478,3] in pixels in the head's own axes, in centimetres of an average face: [478,3].

    The placement's turn and scale are undone. The origin is the mean that the canonical face's weights give.
    """
    weights = canonical.weights.astype(np.float64)
    points = _up(landmarks)
    points = points - weights @ points[: len(weights)] / weights.sum()
    result: np.ndarray = points @ placement.turn / placement.scale
    return result


def place_points(points: np.ndarray, canonical: CanonicalFace) -> Placement:
    """Fit the canonical face to the detector's six points [6,2], pixels: a scaled orthographic camera.

    The camera is the affine map nearest to the points, made a rotation (POS, DeMenthon and Davis 1995).
    """
    source = _ahead(np.stack([canonical.positions[list(ids)].mean(0) for ids in _SIX]).astype(np.float64))
    middle, centre = source.mean(0), points.mean(0)
    flipped = (points - centre) * [1, -1]
    rows = np.linalg.lstsq(source - middle, flipped, rcond=None)[0].T  # [2,3]
    scale = float(np.linalg.norm(rows, axis=1).mean())
    u, _, vt = np.linalg.svd(np.vstack([rows, np.cross(*rows) / max(scale, 1e-9)]))
    turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    return Placement(turn, max(scale, 1e-6), centre - scale * (turn @ middle)[:2] * [1, -1])


def angles(turn: np.ndarray) -> tuple[float, float, float]:
    """Return yaw, pitch and roll in degrees of a rotation [3,3] that is roll(Z) @ -pitch(X) @ yaw(Y).

    A turn of the picture in its plane changes the roll alone.
    """
    yaw = np.arctan2(-turn[2, 0], turn[2, 2])
    pitch = np.arcsin(np.clip(-turn[2, 1], -1, 1))
    roll = np.arctan2(-turn[0, 1], turn[1, 1])
    return tuple(float(np.degrees(angle)) for angle in (yaw, pitch, roll))  # type: ignore[return-value]


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Return the rotation [3,3] that `angles` takes apart, from degrees."""
    (cy, cp, cr), (sy, sp, sr) = (wave(np.radians([yaw, pitch, roll])) for wave in (np.cos, np.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    result: np.ndarray = about_z @ about_x @ about_y
    return result


def _up(landmarks: np.ndarray) -> np.ndarray:
    """Return landmarks [n,3] in pixels with +Y up, +Z towards the camera, and depths in their true size."""
    points: np.ndarray = landmarks.astype(np.float64) * [1, -1, -_DEPTH]
    return points


def _ahead(points: np.ndarray) -> np.ndarray:
    """Return points [n,3] of the canonical face in axes in which it looks ahead."""
    turned: np.ndarray = points @ rotation(0, _LOOKS_DOWN, 0)
    return turned
