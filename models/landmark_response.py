"""Measure the landmark response of a bundle: what `export` and `training` share. It needs no torch."""

from __future__ import annotations

import dataclasses

import numpy as np

from topos_rt.errors import InputError, MeshInputError
from topos_rt.faces.face import Face
from topos_rt.faces.fit import HeadFitter
from topos_rt.faces.pull import upright
from topos_rt.head.landmark_map import LandmarkMap
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.model.frame import place, place_rig
from topos_rt.model.landmark_errors import LandmarkErrors
from topos_rt.model.landmark_response import LandmarkResponse
from topos_rt.model.networks import Networks

FILE = "landmark_response.safetensors"
DIRECTIONS = 64


def landmark_map(bundle: Bundle) -> LandmarkMap:
    """Return a bundle's landmark map. Raises InputError where it has none."""
    if bundle.landmarks is None:
        raise InputError(
            f"the bundle {bundle.path}",
            got="no landmark map",
            expected="one",
            fix=f"python -m export landmarks {bundle.path}",
        )
    return bundle.landmarks


def positions(bundle: Bundle, networks: Networks, latent: np.ndarray) -> np.ndarray:
    """Return the head [V,3] of a latent [N*D], metres."""
    spec = bundle.manifest.latent
    shaped = latent.reshape(1, spec.tokens, spec.channels).astype(np.float32)
    return place(networks.decode(shaped), bundle.manifest.frame, bundle.topology).positions


def principal(errors: np.ndarray, most: int = DIRECTIONS) -> tuple[np.ndarray, np.ndarray]:
    """Return directions [k,N*D] of unit length and spreads [k] of errors [n,N*D], which are not centred.

    Of n errors no more than n/2 directions can be told.
    """
    _, values, rows = np.linalg.svd(errors / np.sqrt(len(errors)), full_matrices=False)
    known = int((values > 1e-6 * values[0]).sum())
    count = min(most, max(1, len(errors) // 2), known)
    return rows[:count], values[:count]


def moves(
    bundle: Bundle, networks: Networks, base: np.ndarray, directions: np.ndarray, spreads: np.ndarray
) -> np.ndarray:
    """Return how landmarks move [k,468,3] with directions, by central differences of the decoder at `base`.

    Each step is as long as the direction's spread, so that the slope is that over the range which matters.
    """
    places = landmark_map(bundle)

    def at(latent: np.ndarray) -> np.ndarray:
        return places.points(positions(bundle, networks, latent).astype(np.float64))

    rest = at(base)
    rows = [
        (at(base + spread * direction) - at(base - spread * direction)) / (2 * spread)
        for direction, spread in zip(directions, spreads, strict=True)
    ]
    return without_similarity(np.stack(rows), rest)


def without_similarity(rows: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Return moves [k,n,3] of points [n,3] without what a shift, a turn and a change of size explain."""
    around = rest - rest.mean(0)
    shifts = [np.broadcast_to(axis, rest.shape) for axis in np.eye(3)]
    turns = [np.cross(axis, around) for axis in np.eye(3)]
    basis = np.stack([part.ravel() for part in (*shifts, *turns, around)], 1)
    orthonormal = np.linalg.qr(basis)[0]
    flat = rows.reshape(len(rows), -1)
    return np.asarray((flat - (flat @ orthonormal) @ orthonormal.T).reshape(rows.shape))


def residuals(
    bundle: Bundle, head: np.ndarray, face: Face, size: tuple[int, int]
) -> tuple[np.ndarray, float] | None:
    """Return how far found landmarks are from those of the true head [V,3], and the yaw.

    Camera and expression are fitted; the residuals [468,2] are as `upright` turns them. The result is None
    where no pose brings them near each other.
    """
    places = landmark_map(bundle)
    rig = None if bundle.rig is None else place_rig(bundle.rig, head, bundle.manifest.frame)
    nothing = np.zeros((0, *places.weights.shape[:1], 3))
    try:
        fit = HeadFitter(head, rig, places).linearised(face.landmarks, nothing, size, face.expression)
    except InputError:
        return None
    return upright(fit.residuals, fit.turn, places.mirrored)


def respond(
    bundle: Bundle,
    networks: Networks,
    base: np.ndarray,
    errors: np.ndarray,
    seen: list[tuple[np.ndarray, float]],
) -> LandmarkResponse:
    """Return the response of a bundle.

    base: [N*D] the latent around which heads are varied. errors: [n,N*D] of estimates. seen: `residuals` of
    heads whose shape is known. Raises InputError where there are too few of these.
    """
    directions, spreads = principal(errors)
    slopes = moves(bundle, networks, base, directions, spreads)
    rows, yaws = (
        (np.array(column) for column in zip(*seen, strict=True)) if seen else (np.zeros((0, 468, 2)),) * 2
    )
    try:
        found = LandmarkErrors.measured(rows, yaws)
    except MeshInputError as error:
        raise InputError(error.what, got=error.got, expected=error.expected, fix="give more heads") from error
    return LandmarkResponse(directions, spreads, slopes, found)


def add_to(bundle: Bundle, response: LandmarkResponse) -> str:
    """Write the response into the bundle, renew its manifest, and return a line that says so."""
    path = bundle.path / (bundle.manifest.landmark_response or FILE)
    response.save(path)
    write_manifest(bundle.path, dataclasses.replace(bundle.manifest, landmark_response=path.name))
    errors = response.errors
    share = 100 * float(np.sqrt((errors.noise**2).mean()))
    return (
        f"{path}: {len(response.directions)} directions; landmarks err in {errors.modes.shape[1]} modes"
        f" in each of {len(errors.yaws)} ranges of yaw, and by {share:.1f} % of the outer-eye distance beside"
    )
