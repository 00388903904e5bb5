"""Fit a camera and an expression to the landmarks of a face, for a head whose neutral shape is known.

The unknowns are the camera and the weights of the rig's ARKit shapes, which move landmarks in straight lines.
What is minimised is the robust distance between projected and found landmarks, plus priors: weights are small
unless the picture says otherwise, scores of the expression network that are worth something pull at theirs,
and the camera is about as far away as for a portrait where its focal length is unknown. The sum and its
minimum are in `topos_rt.faces.fit_problem`; docs/faces_fit.md has the formulas and what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from topos_rt.errors import InputError, MeshInputError
from topos_rt.faces.camera import Camera
from topos_rt.faces.expression import NAMES
from topos_rt.faces.fit_problem import DISTANCE_M, Problem, Shape, State, within
from topos_rt.head.landmark_map import COUNT, IRISES, LandmarkMap
from topos_rt.head.rig import Rig
from topos_rt.support.native import native

ARKIT = (*NAMES[1:], "tongueOut")  # all 52; no landmark shows the tongue
_OUTER_EYES = (33, 263)
# Relative to the outer-eye distance: of a head that is not quite that of the picture, and of the irises.
_SHAPE_NOISE, _IRIS_NOISE = 0.02, 0.03
_INDEPENDENT = 0.08  # share of the landmarks that counts, for the errors of neighbours agree
_MOVING = (
    3.0  # how many times more those of eyelids, brows and lips count, which expressions move and edges show
)
# Landmarks of the right eyelid, the right brow and the right half of the lips; the map mirrors them.
_EXPRESSIVE = (
    33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246,
    70, 63, 105, 66, 107, 55, 65, 52, 53, 46,
    61, 185, 40, 39, 37, 0, 17, 84, 181, 91, 146, 78, 191, 80, 81, 82, 13, 14, 87, 178, 88, 95,
)  # fmt: skip
_SMALLEST_PX = 2.0  # between the outer corners of the eyes
_NOT_A_FACE = 0.25  # residual beyond which landmarks are no face's


@dataclass(frozen=True, eq=False)
class HeadFit:
    """The camera and the expression with which a head looks most like a face in a picture."""

    pose: Camera
    expression: Mapping[str, float]  # each ARKit shape of the rig -> 0 to 1, for `HeadMesh.posed`
    residual: float  # percent of the outer-eye distance: the root mean square over the landmarks


@dataclass(frozen=True, eq=False)
class LinearFit:
    """What a fit leaves, and how that changes with the head. Axes are +X right, +Y up, unturned.

    The unit is the outer-eye distance, as it would be from the front.
    """

    turn: np.ndarray  # [3,3] of the camera
    residuals: np.ndarray  # [468,2] projected landmarks minus found ones
    moved: np.ndarray  # [k,468,2] what each way to move adds to them


@dataclass(frozen=True, eq=False)
class _Solved:
    """A problem and its best state."""

    problem: Problem
    state: State
    ratio: float  # outer-eye distances in a unit of the problem, which the first guess of the camera gave
    unit: float  # pixels of that unit
    centre: np.ndarray  # [2] where the axis of the lens meets the picture, y up

    @property
    def away(self) -> np.ndarray:
        """How far the projected landmarks are from those found, [468,2] units of the problem."""
        return self.problem.residuals(self.state)[:COUNT]

    @property
    def residual(self) -> float:
        """The root mean square of that, in outer-eye distances."""
        return float(np.sqrt((self.away**2).sum(1).mean())) * self.ratio


class HeadFitter:
    """Fits one head to any number of faces. What depends on the head alone is computed once."""

    def __init__(self, positions: np.ndarray, rig: Rig | None, landmarks: LandmarkMap) -> None:
        """Prepare a head.

        positions: [V,3] its neutral vertices, metres. rig: fitted to it, as that of a `HeadMesh`; None fits
        the camera alone. landmarks: of its topology. Raises MeshInputError where they do not fit together.
        """
        _check_topology(positions, rig, landmarks)
        self.names = tuple(name for name in ARKIT if rig is not None and name in rig.shape_names)
        rest = _at_landmarks(positions.astype(np.float64), landmarks)
        self._middle = rest.mean(0)
        moves = np.zeros((3, len(rest), len(self.names)))
        if rig is not None:
            moves = _moves(rig, self.names, landmarks)
        self._across = float(np.linalg.norm(np.subtract(*rest[list(_OUTER_EYES)])))
        self._seen = np.array([*range(COUNT), *IRISES[: len(landmarks.irises)]])
        noise = np.full(len(rest), _IRIS_NOISE)
        noise[:COUNT] = np.hypot(landmarks.noise, _SHAPE_NOISE)
        share = np.full((len(rest), 1), _INDEPENDENT)
        share[[*_EXPRESSIVE, *landmarks.mirrored[list(_EXPRESSIVE)]]] *= _MOVING
        share[COUNT:] = 1
        self._shape = Shape(self.names, rest - self._middle, moves, (1 / noise)[:, None], share)

    def fit(
        self,
        landmarks: np.ndarray,
        size: tuple[int, int] | None = None,
        focal: float | None = None,
        scores: Mapping[str, float] | None = None,
    ) -> HeadFit:
        """Fit camera and expression to a face.

        Args:
            landmarks: [478,3] or [478,2], pixels, as those of a `Face`; depths are not used.
            size: width and height of the upright picture, whose middle the axis of the lens meets; None puts
                that where the face is, as if the picture had been cut out of a larger one.
            focal: the focal length in pixels; None leaves it open, at a distance of about DISTANCE_M metres.
            scores: the face's `expression`; those that mean something serve as prior.

        Raises InputError for landmarks that are not those of a face.
        """
        solved = self._solved(landmarks, size, focal, scores)
        camera = self._camera(solved.state, solved.unit, solved.centre)
        return HeadFit(camera, self._expression(solved.state), 100 * solved.residual)

    def linearised(
        self,
        landmarks: np.ndarray,
        moves: np.ndarray,
        size: tuple[int, int] | None = None,
        scores: Mapping[str, float] | None = None,
    ) -> LinearFit:
        """Fit as `fit` does, and tell how the landmarks' residuals change as the neutral head does.

        moves: [k,468,3] metres, ways in which the landmarks of the neutral head may move together. Camera and
        expression follow each of them, so that a residual tells only what these cannot explain.

        Raises InputError for landmarks that are not those of a face.
        """
        solved = self._solved(landmarks, size, None, scores)
        moved = solved.problem.followed(solved.state, moves) * solved.ratio
        return LinearFit(solved.state.turn, solved.away * solved.ratio, moved)

    def _solved(
        self,
        landmarks: np.ndarray,
        size: tuple[int, int] | None,
        focal: float | None,
        scores: Mapping[str, float] | None,
    ) -> _Solved:
        points = _checked(landmarks)
        found = points[self._seen] * [1, -1]
        turn, scale, middle = self._first(found)
        unit = scale * self._across  # pixels of the outer-eye distance, as if seen from the front
        centre = middle if size is None else np.array(size) / 2 * [1, -1]
        lens = None if focal is None else _positive(focal) / unit
        problem = Problem(self._shape, (found - centre) / unit, lens, scores or {})
        size_log = float(np.log(scale / unit))
        near = -np.log(DISTANCE_M) if lens is None else size_log - np.log(lens)
        start = State(turn, (middle - centre) / unit, size_log, within(near), problem.expected)
        state = problem.solve(start)
        solved = _Solved(problem, state, float(np.exp(start.scale - state.scale)), unit, centre)
        if not (away := solved.residual) < _NOT_A_FACE:
            raise InputError(
                "landmarks",
                got=f"points {100 * away:.0f} % of the outer-eye distance away from those of a head",
                expected=f"at most {100 * _NOT_A_FACE:.0f} %",
                fix="pass the landmarks of a Face as they are",
            )
        return solved

    def _first(self, found: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """Return rotation, pixels in a metre and the middle [2] of the scaled orthographic camera (POS)."""
        flat = np.concatenate([self._shape.rest, np.ones((len(self._shape.rest), 1))], 1)
        precision = self._shape.precision
        rows = np.linalg.lstsq(flat * precision, found * precision, rcond=None)[0].T  # [2,4]
        lengths = np.linalg.norm(rows[:, :3], axis=1)
        scale = float(lengths.mean())
        if not scale * self._across >= _SMALLEST_PX:
            raise InputError(
                "landmarks", got="points too close together", expected="a face of 10 pixels or more"
            )
        across = rows[:, :3] / lengths[:, None]
        u, _, v = np.linalg.svd(np.vstack([across, np.cross(*across)]))
        turn = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v
        return turn, scale, rows[:, 3]

    def _camera(self, state: State, unit: float, centre: np.ndarray) -> Camera:
        distance = float(np.exp(-state.near))
        focal = float(np.exp(state.scale)) * distance
        middle = np.array([*(state.middle * distance / focal), -distance])
        shift = middle - state.turn @ self._middle
        return Camera(state.turn, shift, focal * unit, (float(centre[0]), float(-centre[1])))

    def _expression(self, state: State) -> dict[str, float]:
        return {name: float(weight) for name, weight in zip(self.names, state.weights, strict=True)}


def fit_head(
    positions: np.ndarray,
    rig: Rig | None,
    landmark_map: LandmarkMap,
    landmarks: np.ndarray,
    size: tuple[int, int] | None = None,
    focal: float | None = None,
    scores: Mapping[str, float] | None = None,
) -> HeadFit:
    """Fit camera and expression of one head to one face: see `HeadFitter`.

    Where the passes for the CPU are built, this is the C library's fit: the same search, rounded otherwise.
    """
    _check_topology(positions, rig, landmark_map)
    found = _compiled(positions, rig, landmark_map, landmarks, size, focal, scores)
    return found or HeadFitter(positions, rig, landmark_map).fit(landmarks, size, focal, scores)


def _compiled(
    positions: np.ndarray,
    rig: Rig | None,
    at: LandmarkMap,
    landmarks: np.ndarray,
    size: tuple[int, int] | None,
    focal: float | None,
    scores: Mapping[str, float] | None,
) -> HeadFit | None:
    """Return the C library's fit; None where it was not built, or for what `HeadFitter` refuses."""
    compiled, points = native(), np.asarray(landmarks)
    single = points.dtype == np.float32 and positions.dtype == np.float32
    scored = not scores or all(name in scores for name in NAMES[1:])  # as a network gives them
    if compiled is None or not single or points.shape != (478, 3) or not scored:
        return None
    shapes: tuple[np.ndarray, ...] = (
        np.zeros(0, np.int32),
        np.zeros((0, 3), np.float32),
        np.zeros(1, np.int32),
    )
    names = () if rig is None else rig.shape_names
    if rig is not None:
        shapes = rig.shape_index, rig.shape_delta, rig.shape_offsets
    said, camera, weights = compiled.fit_face(
        positions=np.ascontiguousarray(positions),
        map=(at.vertices, at.weights, at.noise, at.mirrored, at.irises),
        shapes=(*shapes, np.array([names.index(name) if name in names else -1 for name in ARKIT], np.int32)),
        landmarks=np.ascontiguousarray(points),
        size=size,
        focal=0.0 if focal is None else _positive(focal),
        scores=np.array([0, *(scores[name] for name in NAMES[1:])] if scores else [], np.float32),
    )
    if said:
        return None
    numbers = np.array(camera)
    pose = Camera(numbers[:9].reshape(3, 3), numbers[9:12], camera[12], (camera[13], camera[14]))
    expression = {name: weight for name, weight in zip(ARKIT, weights, strict=True) if name in names}
    return HeadFit(pose, expression, camera[15])


def _check_topology(positions: np.ndarray, rig: Rig | None, landmarks: LandmarkMap) -> None:
    vertices = (len(positions), landmarks.num_vertices, rig.num_vertices if rig else len(positions))
    if len(set(vertices)) != 1:
        raise MeshInputError(
            "head, landmark map and rig",
            got=f"{vertices[0]}, {vertices[1]} and {vertices[2]} vertices",
            expected="those of one topology",
            fix="fit the full head, not a level of detail, with its bundle's map",
        )


def _at_landmarks(values: np.ndarray, landmarks: LandmarkMap) -> np.ndarray:
    """Return values [...,V,3] at the landmarks and, where there are any, the irises."""
    return np.concatenate([landmarks.points(values), values[..., landmarks.irises, :]], -2)


def _moves(rig: Rig, names: tuple[str, ...], landmarks: LandmarkMap) -> np.ndarray:
    """Return how shapes move the landmarks: [3,L,S] metres at full weight."""
    used = np.concatenate([landmarks.vertices.ravel(), landmarks.irises])
    vertices, places = np.unique(used, return_inverse=True)
    row = np.full(rig.num_vertices, -1, np.int32)
    row[vertices] = np.arange(len(vertices))
    offsets = np.zeros((len(names), len(vertices), 3))
    for number, name in enumerate(names):
        at = rig.shape_names.index(name)
        part = slice(*rig.shape_offsets[at : at + 2])
        rows = row[rig.shape_index[part]]
        offsets[number, rows[rows >= 0]] = rig.shape_delta[part][rows >= 0]
    corners = offsets[:, places[: 3 * COUNT]].reshape(len(names), COUNT, 3, 3)
    on_skin = np.einsum("slkc,lk->slc", corners, landmarks.weights.astype(np.float64))
    moved = np.concatenate([on_skin, offsets[:, places[3 * COUNT :]]], 1)
    return np.ascontiguousarray(moved.transpose(2, 1, 0))


def _checked(landmarks: np.ndarray) -> np.ndarray:
    """Return landmarks as [478,2] float64. Raises InputError."""
    points = np.asarray(landmarks)
    if points.dtype.kind not in "fiu" or points.ndim != 2 or points.shape not in ((478, 2), (478, 3)):
        raise InputError(
            "landmarks",
            got=f"shape {list(points.shape)} of {points.dtype}",
            expected="[478,3] numbers",
            fix="pass the landmarks of a Face; one that looks too far sideways has none",
        )
    points = points[:, :2].astype(np.float64)
    if not (np.abs(points) < 1e7).all():
        raise InputError("landmarks", got="NaN, infinite or huge values", expected="pixels")
    if float(np.ptp(points, axis=0).max()) < _SMALLEST_PX:
        raise InputError("landmarks", got="points too close together", expected="a face of 10 pixels or more")
    return points


def _positive(focal: float) -> float:
    if not 1 <= focal < 1e7:
        raise InputError("focal length", got=focal, expected="pixels, 1 or more")
    return float(focal)
