"""Landmarks in the loop of sampling: move an estimate of the latent to what explains a face's landmarks.

This is reconstruction guidance by the pseudoinverse (Song et al. 2023, "Pseudoinverse-guided diffusion models
for inverse problems"), with the covariance of the detector's errors in place of white noise. Where heads are
a linear function of a Gaussian latent and the flow is exact, it samples the posterior exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from topos_rt.errors import FaceError, InputError, OptionError
from topos_rt.faces.face import Face
from topos_rt.faces.fit import HeadFitter
from topos_rt.faces.portrait import Portrait
from topos_rt.faces.pose import angles
from topos_rt.head.landmark_map import LandmarkMap
from topos_rt.model.bundle import Bundle
from topos_rt.model.frame import place, place_rig
from topos_rt.model.landmark_errors import LandmarkErrors
from topos_rt.model.landmark_response import LandmarkResponse
from topos_rt.support.arrays import Array


@dataclass(eq=False)
class LandmarkPull:
    """Moves estimates of the flow's clean state for one face. It is made for each run of the sampler."""

    bundle: Bundle
    response: LandmarkResponse
    landmarks: LandmarkMap
    decode: Callable[[Array], Array]  # state [1,N,D] of the flow, without noise -> vertices [V,6]
    face: Face
    size: tuple[int, int]  # width and height of the picture that the face is in
    weight: float  # how much landmarks count: 1 is as much as their errors allow, 0 not at all
    evaluations: int = 0  # so far
    failures: list[str] = field(default_factory=list)  # why estimates were left as they were

    @classmethod
    def of(
        cls, bundle: Bundle, decode: Callable[[Array], Array], portrait: Portrait, weight: float
    ) -> LandmarkPull:
        """Prepare for a portrait.

        Raises OptionError for a bundle without a response, FaceError for a portrait without landmarks.
        """
        response, landmarks = checked_response(bundle)
        face = portrait.face
        if face is None or not len(face.landmarks):
            raise FaceError(
                "landmark pull",
                got="no face was found" if face is None else "a face that looks too far sideways",
                expected="a picture of a face whose landmarks are seen",
                fix="leave landmark_pull out, or use another picture",
            )
        return cls(bundle, response, landmarks, decode, face, portrait.picture.size, weight)

    def moved(self, state: Array, t: float) -> Array:
        """Return an estimate [1,N,D] of the clean state at time t, moved.

        An estimate whose head cannot be fitted to the landmarks is returned as it is.
        """
        self.evaluations += 1
        response, frame = self.response, self.bundle.manifest.frame
        head = place(self.decode(state), frame, self.bundle.topology).positions
        rig = None if self.bundle.rig is None else place_rig(self.bundle.rig, head, frame)
        fitter = HeadFitter(head, rig, self.landmarks)
        seen = self.face
        try:
            fit = fitter.linearised(seen.landmarks, response.moves, self.size, seen.expression)
        except InputError as error:
            self.failures.append(str(error.got))
            return state
        residuals, yaw = upright(fit.residuals, fit.turn, self.landmarks.mirrored)
        moved, _ = upright(fit.moved, fit.turn, self.landmarks.mirrored)
        # The response is of latents, and a state may hold them at another scale.
        scale = self.bundle.manifest.residual_scale or 1.0
        spreads = scale * left_open(response.spreads.astype(np.float64) / scale, t)
        step = least_squares_step(residuals, moved, response.errors, yaw, spreads, self.weight)
        offset = (step @ response.directions / scale).astype(np.float32)
        return state + offset.reshape(state.shape)

    @property
    def warning(self) -> str:
        """What to tell of estimates that were left as they were; "" where there are none."""
        if not self.failures:
            return ""
        share = f"{len(self.failures)} of {self.evaluations} estimates"
        return f"the landmarks could not pull {share}: {self.failures[-1]}"


def check_pull(bundle: Bundle, weight: float, one_launch: bool) -> None:
    """Raise OptionError where landmarks are to count and cannot: see `checked_response`.

    one_launch: all steps are one CUDA graph, in which nothing can be moved.
    """
    if weight and one_launch:
        raise OptionError(
            "landmark pull",
            got="a CUDA graph of all steps",
            expected="steps that are launched one by one",
            fix="pass stepwise=True, or open the pipeline without cuda_graph",
        )
    if weight:
        checked_response(bundle)


def checked_response(bundle: Bundle) -> tuple[LandmarkResponse, LandmarkMap]:
    """Return what a pull needs of a bundle.

    Raises OptionError where it has no such thing, BundleError for a damaged file.
    """
    response, landmarks = bundle.landmark_response, bundle.landmarks
    if response is None or landmarks is None:
        raise OptionError(
            "landmark pull",
            got=f"the model {bundle.manifest.name}, which has no landmark response",
            expected="0, or a model that has one",
            fix="make it with python -m export response BUNDLE",
        )
    return response, landmarks


def left_open(spreads: Array, t: float) -> Array:
    """Return how far an estimate at time t is off, where the first, at t = 1, is off by `spreads`.

    The state (1 - t) x0 + t e tells x0 the better the smaller t is. For e ~ N(0, 1) its variance given the
    state is s^2 t^2 / ((1 - t)^2 s^2 + t^2). Without this, every step would count the landmarks anew.
    """
    return spreads * t / np.sqrt(((1 - t) * spreads) ** 2 + t**2)


def least_squares_step(
    residuals: Array, moved: Array, errors: LandmarkErrors, yaw: float, spreads: Array, weight: float
) -> Array:
    """Return the coordinates a [k] that minimise weight * (r + J a)^T C^-1 (r + J a) + sum (a / spread)^2.

    residuals: r, [468,2]. moved: J, [k,468,2], what 1 of each coordinate adds to them. C is the covariance
    that `errors` has for the yaw. All are as `upright` turns them.
    """
    columns = (moved * spreads[:, None, None]).reshape(len(moved), -1).T  # of coordinates of unit spread
    weighed = weight * errors.weighed(yaw, columns)
    system = columns.T @ weighed
    np.einsum("ii->i", system)[:] += 1
    result: Array = -spreads * np.linalg.solve(system, weighed.T @ residuals.reshape(-1))
    return result


def upright(values: np.ndarray, turn: np.ndarray, mirrored: np.ndarray) -> tuple[np.ndarray, float]:
    """Return values [...,468,2] of landmarks, turned and mirrored so that faces are alike, and the yaw >= 0.

    The head's roll is taken out, and faces that look to the left of the picture are mirrored. turn: [3,3] of
    the camera; mirrored: [468] the landmark on the other side.
    """
    yaw, _, roll = angles(turn)
    cosine, sine = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    level = values @ np.array([[cosine, -sine], [sine, cosine]])
    if yaw < 0:
        level = level[..., mirrored, :] * [-1, 1]
    return level, abs(yaw)
