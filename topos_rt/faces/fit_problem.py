"""The sum that the fit of camera and expression minimises, and its minimum.

docs/faces_fit.md has the formulas. The method is Gauss-Newton with Levenberg's damping, bounds by an active
set (Bertsekas 1982, Projected Newton methods), and Huber's weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from topos_rt.faces.scores import trusted
from topos_rt.head.landmark_map import COUNT
from topos_rt.head.pose import rotation_of

DISTANCE_M = 1.2  # of the camera from the head, where the focal length is unknown
_DISTANCE_SPREAD = 0.35  # standard deviation of its logarithm
_LOWEST_M, _HIGHEST_M = 0.25, 12.0
_WEIGHT_SPREAD = 0.3  # prior standard deviation of a weight
_HUBER = 2.5  # standard deviations from which on a landmark counts less
_STEPS, _TRIES = 20, 6
_SETTLED = 1e-5  # relative change of the cost that ends the search


@dataclass(frozen=True, eq=False)
class Shape:
    """What the fit knows of a head: L landmarks, and S shapes that move them in straight lines."""

    names: tuple[str, ...]  # of the shapes
    rest: np.ndarray  # [L,3] metres, around their mean
    moves: np.ndarray  # [3,L,S] metres at full weight
    precision: np.ndarray  # [L,1] one over a landmark's standard deviation, in picture units
    share: np.ndarray  # [L,1] of a landmark that counts


@dataclass(frozen=True)
class State:
    """An estimate. A landmark X in the camera's axes is at (s X + u) / (1 - X_z / d) in the picture.

    Its unit is the outer-eye distance, as it would be from the front.
    """

    turn: np.ndarray  # [3,3]
    middle: np.ndarray  # [2] u, where the head's middle is, from the axis of the lens
    scale: float  # log of s, picture units in a metre at the head's middle
    near: float  # log of 1 / d, d being the distance in metres
    weights: np.ndarray  # [S]


class Problem:
    """The sum that the fit minimises for one face."""

    def __init__(
        self, head: Shape, found: np.ndarray, focal: float | None, scores: Mapping[str, float]
    ) -> None:
        self._head, self._found, self._focal = head, found, focal
        self.expected, spread = np.zeros(len(head.names)), np.full(len(head.names), _WEIGHT_SPREAD)
        for number, name in enumerate(head.names):
            if (prior := trusted(name, scores)) is not None:
                self.expected[number], spread[number] = prior
        self._pull = 1 / spread**2

    def solve(self, state: State) -> State:
        """Return the best state, searched from a first one."""
        damping, cost = 1e-3, self._cost(state)
        for _ in range(_STEPS):
            gradient, hessian, _ = self._normal_equations(state)
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

    def residuals(self, state: State) -> np.ndarray:
        """Return how far the projected landmarks are from those found, [L,2] picture units."""
        return self._project(state)[0] - self._found

    def _project(self, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return landmarks in the picture [L,2], in the camera's axes [L,3], and relative depths [L]."""
        shape = self._head.rest + (self._head.moves @ state.weights).T
        turned = shape @ state.turn.T
        depth = 1 - np.exp(state.near) * turned[:, 2]
        places = (np.exp(state.scale) * turned[:, :2] + state.middle) / depth[:, None]
        return places, turned, depth

    def _nearness(self, state: State) -> float:
        """Return how unlikely the distance is, in standard deviations; 0 for a known focal length."""
        return 0.0 if self._focal else (-state.near - np.log(DISTANCE_M)) / _DISTANCE_SPREAD

    def _cost(self, state: State) -> float:
        places, _, depth = self._project(state)
        if not (depth > 0.05).all():
            return np.inf
        away = np.sqrt((((places - self._found) * self._head.precision) ** 2).sum(1))
        robust = np.where(away < _HUBER, away**2, 2 * _HUBER * away - _HUBER**2)
        prior = (self._pull * (state.weights - self.expected) ** 2).sum()
        return float(self._head.share[:, 0] @ robust + prior + self._nearness(state) ** 2)

    def followed(self, state: State, moves: np.ndarray) -> np.ndarray:
        """Return how residuals [k,468,2] change to first order where the neutral head's landmarks move.

        moves: [k,468,3]. Rotation, place, scale, distance and weights follow; weights at a bound stay there.
        """
        jacobian, to_camera = self._jacobian(state)
        own = np.einsum("lij,jm,klm->kli", to_camera[:COUNT], state.turn, moves)
        gradient, hessian, root = self._normal_equations(state)
        free = np.flatnonzero(~_pushed(state, gradient))
        scale = (root * self._head.precision)[:COUNT] ** 2
        pulls = np.einsum("lip,kli->pk", jacobian[:COUNT][:, :, free], own * scale)
        steps = -np.linalg.solve(hessian[np.ix_(free, free)], pulls)
        return own + np.einsum("lip,pk->kli", jacobian[:COUNT][:, :, free], steps)

    def _jacobian(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Return how places move with rotation, middle, scale, nearness, weights [L,2,7+S], and points.

        The last is [L,2,3], for points in the camera's axes.
        """
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
        for part, moves in zip(np.moveaxis(to_camera @ state.turn, 2, 0), self._head.moves, strict=True):
            jacobian[:, :, 7:] += part[:, :, None] * moves[:, None]
        return jacobian, to_camera

    def _normal_equations(self, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return gradient [7+S], Gauss-Newton's matrix and the roots [L,1] of what each landmark counts."""
        jacobian = self._jacobian(state)[0]
        away = self.residuals(state) * self._head.precision
        distance = np.sqrt((away**2).sum(1, keepdims=True))
        root = np.sqrt(self._head.share * np.minimum(1, _HUBER / np.maximum(distance, 1e-12)))
        rows = (jacobian * (root * self._head.precision)[:, :, None]).reshape(-1, jacobian.shape[2])
        gradient = rows.T @ (away * root).reshape(-1)
        hessian = rows.T @ rows
        gradient[7:] += self._pull * (state.weights - self.expected)
        diagonal = np.einsum("ii->i", hessian)
        diagonal[7:] += self._pull
        gradient[6] -= self._nearness(state) / _DISTANCE_SPREAD
        diagonal[6] += 1 / _DISTANCE_SPREAD**2
        return gradient, hessian, root

    def _moved(self, state: State, gradient: np.ndarray, hessian: np.ndarray, damping: float) -> State:
        """Return the state after a damped step; weights at a bound that the step would cross stay there."""
        free = np.flatnonzero(~_pushed(state, gradient))
        system = hessian[np.ix_(free, free)]
        np.einsum("ii->i", system)[:] *= 1 + damping
        step = np.zeros(len(gradient))
        step[free] = -np.linalg.solve(system, gradient[free])
        scale = state.scale + float(np.clip(step[5], -0.5, 0.5))
        near = state.near + float(np.clip(step[6], -0.5, 0.5))
        if self._focal:
            near = scale - np.log(self._focal)
        return State(
            rotation_of(step[:3]) @ state.turn,
            state.middle + step[3:5],
            scale,
            within(near),
            np.clip(state.weights + step[7:], 0, 1),
        )


def _pushed(state: State, gradient: np.ndarray) -> np.ndarray:
    """Return which unknowns [7+S] are weights at a bound that a step down the gradient would cross."""
    weights, slope = state.weights, gradient[7:]
    crossing = ((weights <= 0) & (slope > 0)) | ((weights >= 1) & (slope < 0))
    return np.concatenate([np.zeros(7, bool), crossing])


def within(near: float) -> float:
    """Return the log of a nearness, kept where a portrait may be taken from."""
    return float(np.clip(near, -np.log(_HIGHEST_M), -np.log(_LOWEST_M)))
