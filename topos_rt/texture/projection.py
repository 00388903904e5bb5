"""Lay a photograph on a head: the way from pixels to a skin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from topos_rt.gpu import ops
from topos_rt.gpu.reference import TERMS
from topos_rt.head.atlas import Atlas
from topos_rt.head.landmark_map import LandmarkMap
from topos_rt.head.mesh import HeadMesh
from topos_rt.pictures.colour import LINEAR
from topos_rt.pictures.image import on_black
from topos_rt.texture.blending import Blend, blend
from topos_rt.texture.camera import Seen, look
from topos_rt.texture.light import fit_light
from topos_rt.texture.plan import Plan, plan_of
from topos_rt.texture.rejection import judge

_ROOM = 0.35  # around the landmarks, of their larger extent, that the photograph is cut to
_PIXELS_PER_TEXEL = 1.5  # at most: a finer photograph is scaled down, or it would be sampled with gaps
_SAMPLES = 11  # every so manyth texel serves the fit of the light
_SKIN, _FACING = 0.6, 0.3  # what a texel must be and have to serve it
_LEAST = 200  # samples: with fewer the light is unknown


@dataclass(frozen=True, eq=False)
class Projection:
    """What came of a photograph."""

    blend: Blend
    tone: np.ndarray  # [3] log of the skin's colour over the base material's
    light: np.ndarray  # [9,3]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Photograph:
    """The part of a photograph around the face, linear, and how pixels of the whole lie in it."""

    pixels: np.ndarray  # [h,w,3] float32
    corner: np.ndarray  # [2] pixels
    scale: float  # its pixels for one of the whole

    @classmethod
    def of(cls, picture: Image.Image, landmarks: np.ndarray, texels_across: float) -> Photograph:
        """Cut a picture, RGB or RGBA, to the landmarks and scale it down to what that many texels show."""
        low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
        room = _ROOM * float((high - low).max())
        left, top = np.maximum(np.floor(low - room), 0).astype(int)
        right, bottom = np.minimum(np.ceil(high + room), picture.size).astype(int)
        right, bottom = max(right, left + 4), max(bottom, top + 4)
        part = on_black(picture.crop((left, top, right, bottom)))
        step = max(1, int(float((high - low)[0]) / (_PIXELS_PER_TEXEL * texels_across)))
        if step > 1:
            part = part.reduce(step)
        return cls(LINEAR[np.asarray(part)], np.array([left, top], np.float64), 1 / step)

    def places(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels [n,2] of the whole in this part."""
        return (pixels - self.corner) * self.scale


def project(
    head: HeadMesh, picture: Image.Image, landmarks: np.ndarray, points: LandmarkMap, atlas: Atlas, side: int
) -> Projection:
    """Return the skin that a photograph shows.

    head: with the camera and expression fitted to the photograph. landmarks: [478,>=2] pixels of the picture.
    """
    plan = plan_of(head.topology, atlas, side)
    seen = look(head, landmarks, points, atlas)
    across = np.ptp(atlas.landmark_uvs[:, 0]) * side
    photograph = Photograph.of(picture, landmarks, float(across))
    attributes = _attributes(seen, photograph)
    texels = _sampled(plan, attributes, photograph, np.zeros((TERMS, 3), np.float32))
    light, tone = _light(plan, attributes, texels)
    texels = _sampled(plan, attributes, photograph, light)
    texels[:, :3] -= tone
    texels[texels[:, 3] == 0, :3] = 0
    at = sum(seen.places[plan.vertices[:, k]] * plan.weights[:, k, None] for k in range(3))
    kept = judge(plan, atlas, texels, landmarks, at)
    made = blend(plan, atlas, texels, kept.feather, tone)
    facts = {"mouth_open": round(kept.mouth_open, 3)}
    return Projection(made, tone, light, facts)


def _attributes(seen: Seen, photograph: Photograph) -> np.ndarray:
    places = photograph.places(seen.places)
    return np.concatenate([places, seen.facing[:, None], seen.normals], 1).astype(np.float32)


def _sampled(plan: Plan, attributes: np.ndarray, photograph: Photograph, light: np.ndarray) -> np.ndarray:
    found: np.ndarray = ops.project_texture(
        plan.vertices, plan.weights, attributes, photograph.pixels, light, plan.log_base
    )
    return found


def _light(plan: Plan, attributes: np.ndarray, texels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the log light [9,3] and the tone [3]."""
    rows = np.flatnonzero((plan.skin > _SKIN) & (texels[:, 3] > _FACING))[::_SAMPLES]
    if len(rows) < _LEAST:
        return np.zeros((TERMS, 3), np.float32), np.zeros(3, np.float32)
    normals = sum(attributes[plan.vertices[rows, k], 3:] * plan.weights[rows, k, None] for k in range(3))
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    return fit_light(normals, texels[rows, :3].astype(np.float64), texels[rows, 3].astype(np.float64))
