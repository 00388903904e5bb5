"""What a model gets to know of a face besides the pixels: landmarks, pose, expression and identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from topos_rt.errors import ImageError, InputError
from topos_rt.faces.bundle import CanonicalFace
from topos_rt.faces.expression import NAMES
from topos_rt.faces.face import Face
from topos_rt.faces.finder import FaceFinder, aligned_cut
from topos_rt.faces.pose import own_axes
from topos_rt.model.evidence import BIOMETRIC, EVIDENCE, no_evidence
from topos_rt.pictures.image import on_black
from topos_rt.support.arrays import Array

_POINTS = EVIDENCE["landmarks"][1:]


def evidence(
    names: Sequence[str], picture: Image.Image, face: Face | None, finder: FaceFinder | None
) -> dict[str, Array]:
    """Return name -> array, float32 and of the shape in `EVIDENCE`, for some names of that table.

    Everything is zero where there is no face with landmarks. Only what the names ask for is computed, so the
    identity network is loaded for "identity" and "features" alone. These two are biometric data.

    picture: upright, RGB or RGBA, in whose pixels the face is.

    Raises ImageError for a face whose landmarks cannot be used, InputError for a face without a finder.
    """
    if face is None or not len(face.landmarks):
        return no_evidence(names)
    if face.landmarks.shape != _POINTS or not np.isfinite(face.landmarks).all():
        got = f"an array of shape {list(face.landmarks.shape)}"
        raise ImageError("the landmarks of a face", got=got, expected=f"{list(_POINTS)} finite numbers")
    if finder is None:
        raise InputError(
            "the evidence of a face", got="a pipeline without a face finder", expected="one that `open` made"
        )
    canonical = finder.networks.bundle.canonical
    found = {name: maker(face, canonical) for name, maker in _GEOMETRY.items() if name in names}
    if not BIOMETRIC.isdisjoint(names):
        found["identity"], found["features"] = finder.identity_of(on_black(picture), face)
    if "aligned" in names:
        found["aligned"] = aligned_cut(on_black(picture), face)
    return {name: found[name].astype(np.float32).reshape(EVIDENCE[name]) for name in names}


def _landmarks(face: Face, canonical: CanonicalFace) -> Array:
    return own_axes(face.landmarks, face.placement, canonical)


def _pose(face: Face, canonical: CanonicalFace) -> Array:
    return np.radians([face.yaw, face.pitch])  # the portrait's square takes the roll out


def _expression(face: Face, canonical: CanonicalFace) -> Array:
    # How neutral a face is, the first, is not kept with a face: the network says about 1e-6 of any.
    return np.array([face.expression.get(name, 0.0) for name in NAMES])


_GEOMETRY: Mapping[str, Callable[[Face, CanonicalFace], Array]] = {
    "landmarks": _landmarks,
    "pose": _pose,
    "expression": _expression,
}
