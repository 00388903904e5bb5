"""Fit a camera and an expression to the landmarks of a face, for a head whose neutral shape is known.

The unknowns are the camera and the weights of the rig's ARKit shapes, which move landmarks in straight lines.
What is minimised is the robust distance between projected and found landmarks, plus priors: weights are small
unless the picture says otherwise, scores of the expression network that are worth something pull at theirs,
and the camera is about as far away as for a portrait where its focal length is unknown. The method is
Gauss-Newton with Levenberg's damping, bounds by an active set (Bertsekas 1982, Projected Newton methods), and
Huber's weights. docs/faces_fit.md has the formulas and what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from topos_rt.errors import InputError, MeshInputError
from topos_rt.faces.camera import Camera
from topos_rt.faces.expression import NAMES
from topos_rt.faces.scores import trusted
from topos_rt.head.landmark_map import COUNT, IRISES, LandmarkMap
from topos_rt.head.pose import rotation_of
from topos_rt.head.rig import Rig

DISTANCE_M = 1.2  # of the camera from the head, where the focal length is unknown
_DISTANCE_SPREAD = 0.35  # standard deviation of its logarithm
_LOWEST_M, _HIGHEST_M = 0.25, 12.0
ARKIT = (*NAMES[1:], "tongueOut")  # all 52; no landmark shows the tongue
_OUTER_EYES = (33, 263)
# Relative to the outer-eye distance: of a head that is not quite that of the picture, and of the irises.
_SHAPE_NOISE, _IRIS_NOISE = 0.02, 0.03
_INDEPENDENT = 0.08  # share of the landmarks that counts, for the errors of neighbours agree
_MOVING = (
    3.0  # how many times more those of eyelids, brows and lips count, which expressions move and edges show
)
_WEIGHT_SPREAD = 0.3  # prior standard deviation of a weight
# Landmarks of the right eyelid, the right brow and the right half of the lips; the map mirrors them.
_EXPRESSIVE = (
    33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246,
    70, 63, 105, 66, 107, 55, 65, 52, 53, 46,
    61, 185, 40, 39, 37, 0, 17, 84, 181, 91, 146, 78, 191, 80, 81, 82, 13, 14, 87, 178, 88, 95,
)  # fmt: skip
_HUBER = 2.5  # standard deviations from which on a landmark counts less
_STEPS, _TRIES = 20, 6
_SETTLED = 1e-5  # relative change of the cost that ends the search
_SMALLEST_PX = 2.0  # between the outer corners of the eyes
_NOT_A_FACE = 0.25  # residual beyond which landmarks are no face's


@dataclass(frozen=True, eq=False)
class HeadFit:
    """The camera and the expression with which a head looks most like a face in a picture."""

    pose: Camera
    expression: Mapping[str, float]  # each ARKit shape of the rig -> 0 to 1, for `HeadMesh.posed`
    residual: float  # percent of the outer-eye distance: the root mean square over the landmarks


@dataclass(frozen=True)
class _State:
    """An estimate. A landmark X in the camera's axes is at (s X + u) / (1 - X_z / d) in the picture.

    Its unit is the outer-eye distance, as it would be from the front.
    """

    turn: np.ndarray  # [3,3]
    middle: np.ndarray  # [2] u, where the head's middle is, from the axis of the lens
    scale: float  # log of s, picture units in a metre at the head's middle
    near: float  # log of 1 / d, d being the distance in metres
    weights: np.ndarray  # [S]


class HeadFitter:
    """Fits one head to any number of faces. What depends on the head alone is computed once."""

    def __init__(self, positions: np.ndarray, rig: Rig | None, landmarks: LandmarkMap) -> None:
        """Prepare a head.

        positions: [V,3] its neutral vertices, metres. rig: fitted to it, as that of a `HeadMesh`; None fits
        the camera alone. landmarks: of its topology. Raises MeshInputError where they do not fit together.
        """
        vertices = (len(positions), landmarks.num_vertices, rig.num_vertices if rig else len(positions))
        if len(set(vertices)) != 1:
            raise MeshInputError(
                "head, landmark map and rig",
                got=f"{vertices[0]}, {vertices[1]} and {vertices[2]} vertices",
                expected="those of one topology",
                fix="fit the full head, not a level of detail, with its bundle's map",
            )
        self.names = tuple(name for name in ARKIT if rig is not None and name in rig.shape_names)
        rest = _at_landmarks(positions.astype(np.float64), landmarks)
        self._middle = rest.mean(0)
        self._rest = rest - self._middle
        self._moves = np.zeros((3, len(rest), len(self.names)))
        if rig is not None:
            self._moves = _moves(rig, self.names, landmarks)
        self._across = float(np.linalg.norm(np.subtract(*rest[list(_OUTER_EYES)])))
        self._seen = np.array([*range(COUNT), *IRISES[: len(landmarks.irises)]])
        noise = np.full(len(rest), _IRIS_NOISE)
        noise[:COUNT] = np.hypot(landmarks.noise, _SHAPE_NOISE)
        self._precision = (1 / noise)[:, None]  # [L,1]
        share = np.full((len(rest), 1), _INDEPENDENT)
        share[[*_EXPRESSIVE, *landmarks.mirrored[list(_EXPRESSIVE)]]] *= _MOVING
        share[COUNT:] = 1
        self._share = share

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
        points = _checked(landmarks)
        found = points[self._seen] * [1, -1]
        turn, scale, middle = self._first(found)
        unit = scale * self._across  # pixels of the outer-eye distance, as if seen from the front
        centre = middle if size is None else np.array(size) / 2 * [1, -1]
        lens = None if focal is None else _positive(focal) / unit
        problem = _Problem(self, (found - centre) / unit, lens, scores or {})
        size_log = float(np.log(scale / unit))
        near = -np.log(DISTANCE_M) if lens is None else size_log - np.log(lens)
        start = _State(turn, (middle - centre) / unit, size_log, _within(near), problem.expected)
        state = problem.solve(start)
        away = problem.residuals(state)
        residual = float(np.sqrt((away**2).sum(1)[:COUNT].mean())) * np.exp(start.scale - state.scale)
        if not residual < _NOT_A_FACE:
            raise InputError(
                "landmarks",
                got=f"points {100 * residual:.0f} % of the outer-eye distance away from those of a head",
                expected=f"at most {100 * _NOT_A_FACE:.0f} %",
                fix="pass the landmarks of a Face as they are",
            )
        return HeadFit(self._camera(state, unit, centre), self._expression(state), 100 * residual)

    def _first(self, found: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """Return rotation, pixels in a metre and the middle [2] of the scaled orthographic camera (POS)."""
        flat = np.concatenate([self._rest, np.ones((len(self._rest), 1))], 1)
        rows = np.linalg.lstsq(flat * self._precision, found * self._precision, rcond=None)[0].T  # [2,4]
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

    def _camera(self, state: _State, unit: float, centre: np.ndarray) -> Camera:
        distance = float(np.exp(-state.near))
        focal = float(np.exp(state.scale)) * distance
        middle = np.array([*(state.middle * distance / focal), -distance])
        shift = middle - state.turn @ self._middle
        return Camera(state.turn, shift, focal * unit, (float(centre[0]), float(-centre[1])))

    def _expression(self, state: _State) -> dict[str, float]:
        return {name: float(weight) for name, weight in zip(self.names, state.weights, strict=True)}


class _Problem:
    """The sum that the fit minimises for one face."""

    def __init__(
        self, head: HeadFitter, found: np.ndarray, focal: float | None, scores: Mapping[str, float]
    ) -> None:
        self._head, self._found, self._focal = head, found, focal
        self.expected, spread = np.zeros(len(head.names)), np.full(len(head.names), _WEIGHT_SPREAD)
        for number, name in enumerate(head.names):
            if (prior := trusted(name, scores)) is not None:
                self.expected[number], spread[number] = prior
        self._pull = 1 / spread**2

    def solve(self, state: _State) -> _State:
        """Return the best state, searched from a first one."""
        damping, cost = 1e-3, self._cost(state)
        for _ in range(_STEPS):
            gradient, hessian = self._normal_equations(state)
            before = cost
            for _ in range(_TRIES):
                tried = self._moved(state, gradient, hessian, damping)
                cost = self._cost(tried)
                if cost < before:
                    state, damping = tried, max(damping / 5, 1e-7)
                    break
                damping *= 6
            else:
                return state
            if before - cost < _SETTLED * before:
                return state
        return state

    def residuals(self, state: _State) -> np.ndarray:
        """Return how far the projected landmarks are from those found, [L,2] picture units."""
        return self._project(state)[0] - self._found

    def _project(self, state: _State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return landmarks in the picture [L,2], in the camera's axes [L,3], and relative depths [L]."""
        shape = self._head._rest + (self._head._moves @ state.weights).T
        turned = shape @ state.turn.T
        depth = 1 - np.exp(state.near) * turned[:, 2]
        places = (np.exp(state.scale) * turned[:, :2] + state.middle) / depth[:, None]
        return places, turned, depth

    def _nearness(self, state: _State) -> float:
        """Return how unlikely the distance is, in standard deviations; 0 for a known focal length."""
        return 0.0 if self._focal else (-state.near - np.log(DISTANCE_M)) / _DISTANCE_SPREAD

    def _cost(self, state: _State) -> float:
        places, _, depth = self._project(state)
        if not (depth > 0.05).all():
            return np.inf
        away = np.sqrt((((places - self._found) * self._head._precision) ** 2).sum(1))
        robust = np.where(away < _HUBER, away**2, 2 * _HUBER * away - _HUBER**2)
        prior = (self._pull * (state.weights - self.expected) ** 2).sum()
        return float(self._head._share[:, 0] @ robust + prior + self._nearness(state) ** 2)

    def _normal_equations(self, state: _State) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient [7+S] and Gauss-Newton's matrix, for rotation, middle, scale, nearness, weights."""
        places, turned, depth = self._project(state)
        scale, near = np.exp(state.scale), np.exp(state.near)
        count, own = len(places), 7 + len(state.weights)
        to_camera = np.zeros((count, 2, 3))
        to_camera[:, 0, 0] = to_camera[:, 1, 1] = scale / depth
        to_camera[:, :, 2] = places * (near / depth)[:, None]
        jacobian = np.zeros((count, 2, own))
        x, y, z = turned.T
        zero = np.zeros(count)
        spin = np.stack([zero, z, -y, -z, zero, x, y, -x, zero], 1).reshape(-1, 3, 3)
        jacobian[:, :, :3] = to_camera @ spin
        jacobian[:, 0, 3] = jacobian[:, 1, 4] = 1 / depth
        jacobian[:, :, 5] = scale * turned[:, :2] / depth[:, None]
        jacobian[:, :, 6] = places * (near * z / depth)[:, None]
        if self._focal:  # the distance follows from the size
            jacobian[:, :, 5] += jacobian[:, :, 6]
            jacobian[:, :, 6] = 0
        for part, moves in zip(np.moveaxis(to_camera @ state.turn, 2, 0), self._head._moves, strict=True):
            jacobian[:, :, 7:] += part[:, :, None] * moves[:, None]
        away = (places - self._found) * self._head._precision
        distance = np.sqrt((away**2).sum(1, keepdims=True))
        root = np.sqrt(self._head._share * np.minimum(1, _HUBER / np.maximum(distance, 1e-12)))
        rows = (jacobian * (root * self._head._precision)[:, :, None]).reshape(-1, own)
        gradient = rows.T @ (away * root).reshape(-1)
        hessian = rows.T @ rows
        gradient[7:] += self._pull * (state.weights - self.expected)
        diagonal = np.einsum("ii->i", hessian)
        diagonal[7:] += self._pull
        gradient[6] -= self._nearness(state) / _DISTANCE_SPREAD
        diagonal[6] += 1 / _DISTANCE_SPREAD**2
        return gradient, hessian

    def _moved(self, state: _State, gradient: np.ndarray, hessian: np.ndarray, damping: float) -> _State:
        """Return the state after a damped step; weights at a bound that the step would cross stay there."""
        weights = state.weights
        pushed = np.zeros(len(gradient), bool)
        pushed[7:] = ((weights <= 0) & (gradient[7:] > 0)) | ((weights >= 1) & (gradient[7:] < 0))
        free = np.flatnonzero(~pushed)
        system = hessian[np.ix_(free, free)]
        np.einsum("ii->i", system)[:] *= 1 + damping
        step = np.zeros(len(gradient))
        step[free] = -np.linalg.solve(system, gradient[free])
        scale = state.scale + float(np.clip(step[5], -0.5, 0.5))
        near = state.near + float(np.clip(step[6], -0.5, 0.5))
        if self._focal:
            near = scale - np.log(self._focal)
        return _State(
            rotation_of(step[:3]) @ state.turn,
            state.middle + step[3:5],
            scale,
            _within(near),
            np.clip(weights + step[7:], 0, 1),
        )


def fit_head(
    positions: np.ndarray,
    rig: Rig | None,
    landmark_map: LandmarkMap,
    landmarks: np.ndarray,
    size: tuple[int, int] | None = None,
    focal: float | None = None,
    scores: Mapping[str, float] | None = None,
) -> HeadFit:
    """Fit camera and expression of one head to one face: see `HeadFitter`."""
    return HeadFitter(positions, rig, landmark_map).fit(landmarks, size, focal, scores)


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


def _within(near: float) -> float:
    """Return the log of a nearness, kept where a portrait may be taken from."""
    return float(np.clip(near, -np.log(_HIGHEST_M), -np.log(_LOWEST_M)))
