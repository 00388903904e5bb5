"""Lay a photograph on a head: the way from pixels to a skin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from topos_rt.gpu import texture_ops
from topos_rt.gpu.texture_reference import TERMS, FinishTexture
from topos_rt.head.atlas import MASK_SIDE, Atlas
from topos_rt.head.landmark_map import LandmarkMap
from topos_rt.head.mesh import HeadMesh
from topos_rt.pictures.colour import LINEAR, SRGB
from topos_rt.pictures.image import on_black
from topos_rt.texture.blending import Blend, blend
from topos_rt.texture.camera import Seen, look
from topos_rt.texture.eyes import iris_colour, paint_irises
from topos_rt.texture.grids import mean_of_channels, shrunk
from topos_rt.texture.hair import cover, grain, hair_colour, seen_colour
from topos_rt.texture.light import fit_light
from topos_rt.texture.plan import Plan, plan_of
from topos_rt.texture.rejection import judge
from topos_rt.texture.white import SKIN, WEIGHTS, balanced, is_grey

_ROOM = 0.35  # around the landmarks, of their larger extent, that the photograph is cut to
_PIXELS_PER_TEXEL = 1.5  # at most: a finer photograph is scaled down, or it would be sampled with gaps
_FACING = 0.3  # weight that a texel must have to serve the fit of the light
_DARKEST_SKIN, _LIGHTEST_SKIN = 0.035, 0.60  # luminance of albedo: beyond is the exposure's doing
_LEAST = 200  # samples: with fewer the light is unknown


@dataclass(frozen=True, eq=False)
class Projection:
    """What came of a photograph."""

    albedo: np.ndarray  # [S,S,3] uint8 sRGB
    confidence: np.ndarray  # [MASK_SIDE,MASK_SIDE] float32
    tone: np.ndarray  # [3] log of the skin's colour over the base material's
    light: np.ndarray  # [9,3]
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what the user should know


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
    head: HeadMesh,
    picture: Image.Image,
    landmarks: np.ndarray,
    points: LandmarkMap,
    atlas: Atlas,
    side: int,
    tone_only: bool = False,
) -> Projection:
    """Return the skin that a photograph shows.

    head: with the camera and expression fitted to the photograph. landmarks: [478,>=2] pixels of the picture.
    tone_only: take the colours of skin and hair alone, as from a face too small for more.
    """
    plan = plan_of(head.topology, atlas, side)
    found = measure(plan, head, picture, landmarks, points, atlas)
    seen, photograph, tone = found.seen, found.photograph, found.tone
    skin = np.log(np.asarray(SKIN))
    cells = cells_of(plan, found)
    kept = judge(plan, atlas, cells, landmarks, _cell_places(plan, seen), skin + tone)
    exposure, chroma = _exposure(skin + tone, photograph.pixels)
    image = plan.image(found.texels)
    if chroma < 1:
        for values in (image[..., :3], cells[0]):
            mean = mean_of_channels(values)[..., None]
            values[...] = mean + np.float32(chroma) * (values - mean)
    tone = tone - exposure
    feather, notes = kept.feather, []
    if kept.spectacles:
        notes.append("the person seems to wear spectacles; the base material is shown in their place")
    if tone_only or not found.lit:
        why = "the face is too small" if tone_only else "too little of the face is lit and free"
        notes.append(f"the texture takes only the tone of the photograph: {why}")
        feather = np.zeros_like(feather)
    made = blend(plan, atlas, cells, feather, tone)
    covering = seen_colour(plan.scalp, seen, photograph.pixels, photograph.places(seen.places))
    hair = hair_colour(covering, exposure, skin + tone)
    albedo = finished(plan, atlas, made, image, hair, tone)
    iris = iris_colour(photograph.pixels, photograph.places(landmarks[:, :2]), exposure)
    if iris is not None:
        paint_irises(albedo, plan, iris)
    facts = {"mouth_open": round(kept.mouth_open, 3), "spectacles": kept.spectacles}
    bare = 1 if hair is None else 1 - atlas.mask("scalp")
    return Projection(albedo, made.confidence * bare, tone, found.light, facts, tuple(notes))


def finished(
    plan: Plan, atlas: Atlas, made: Blend, image: np.ndarray, hair: np.ndarray | None, tone: np.ndarray
) -> np.ndarray:
    """Return the albedo [S,S,3] uint8 of a blend; image: [h,w,4] texels of the window; hair: None is bald."""
    covered = np.zeros((MASK_SIDE, MASK_SIDE), np.float32) if hair is None else cover(atlas)
    colour = np.zeros(3, np.float32) if hair is None else hair.astype(np.float32)
    given = FinishTexture(
        plan.base,
        np.concatenate([made.cells, covered[..., None]], 2),
        image,
        made.window,
        plan.skin,
        grain(plan.side),
        colour,
        tone.astype(np.float32),
        SRGB,
        (plan.window[0].start, plan.window[1].start),
        plan.mirrors,
    )
    whole: np.ndarray = texture_ops.finish_texture(given)
    return whole


def _cell_places(plan: Plan, seen: Seen) -> np.ndarray:
    """Return where the middles of the window's cells are in the photograph, [h,w,2]; far off without skin."""
    middle = plan.step // 2
    at = slice(middle, None, plan.step), slice(middle, None, plan.step)
    vertices, weights = plan.image(plan.vertices)[at], plan.image(plan.weights)[at]
    found = sum(seen.places[vertices[..., k]] * weights[..., k, None] for k in range(3))
    return np.where(plan.covered[at][..., None], found, -1e6)


@dataclass(frozen=True, eq=False)
class Measured:
    """What a photograph shows at the texels of the window, and its light."""

    seen: Seen
    photograph: Photograph
    texels: np.ndarray  # [n,4] log ratios to the base, without light and tone, and weights
    tone: np.ndarray  # [3]
    light: np.ndarray  # [9,3]
    lit: bool  # whether enough was seen to know tone and light


def measure(
    plan: Plan, head: HeadMesh, picture: Image.Image, landmarks: np.ndarray, points: LandmarkMap, atlas: Atlas
) -> Measured:
    """Sample a photograph, fit its light and take that away. Arguments are those of `project`."""
    seen = look(head, landmarks, points, atlas)
    across = np.ptp(atlas.landmark_uvs[:, 0]) * plan.side
    photograph = Photograph.of(picture, landmarks, float(across))
    attributes = _attributes(seen, photograph)
    light, tone, lit = _light(plan, attributes, photograph)
    texels = _sampled(plan, attributes, photograph, light, tone=tone)
    return Measured(seen, photograph, texels, tone, light, lit)


def cells_of(plan: Plan, found: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Return mean log ratios [h,w,3] and weights [h,w] in cells of the window."""
    image = plan.image(found.texels)
    share = shrunk((image[..., 3:] > 0).astype(np.float32), plan.step)
    mean = shrunk(image, plan.step)
    return mean[..., :3] / np.maximum(share, 1e-3), mean[..., 3]


def _exposure(skin: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Return what a log colour of the photograph is over the albedo's, [3], and the scale of chroma.

    skin: [3] log colour of the skin in the photograph.
    """
    if is_grey(pixels):
        own = np.log(np.asarray(SKIN))
        luminance = float(np.log(WEIGHTS @ np.exp(skin)) - np.log(WEIGHTS @ np.exp(own)))
        shift, chroma = own + luminance - skin, 0.0
    else:
        shift, chroma = balanced(skin)
    luminance = float(WEIGHTS @ np.exp(skin + shift))
    wanted = np.clip(luminance, _DARKEST_SKIN, _LIGHTEST_SKIN)
    return -(shift + np.log(wanted / luminance)), chroma


def _attributes(seen: Seen, photograph: Photograph) -> np.ndarray:
    places = photograph.places(seen.places)
    return np.concatenate([places, seen.facing[:, None], seen.normals], 1).astype(np.float32)


def _sampled(
    plan: Plan,
    attributes: np.ndarray,
    photograph: Photograph,
    light: np.ndarray,
    rows: np.ndarray | slice = slice(None),
    tone: np.ndarray | None = None,
) -> np.ndarray:
    vertices, weights, base = plan.vertices[rows], plan.weights[rows], plan.log_base[rows]
    if tone is not None:
        wide = len(plan.covered[0])  # a long row, because NumPy is slow to repeat three numbers
        base = (base.reshape(-1, 3 * wide) + np.tile(tone, wide)).reshape(-1, 3)
    found: np.ndarray = texture_ops.project_texture(
        vertices, weights, attributes, photograph.pixels, light, base
    )
    return found


def _light(plan: Plan, attributes: np.ndarray, photograph: Photograph) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return the log light [9,3], the tone [3], and whether enough was seen for either."""
    texels = _sampled(plan, attributes, photograph, np.zeros((TERMS, 3), np.float32), plan.samples)
    free = texels[:, 3] > _FACING
    rows, texels = plan.samples[free], texels[free]
    if len(rows) < _LEAST:
        return np.zeros((TERMS, 3), np.float32), np.zeros(3, np.float32), False
    normals = sum(attributes[plan.vertices[rows, k], 3:] * plan.weights[rows, k, None] for k in range(3))
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    found = fit_light(normals, texels[:, :3].astype(np.float64), texels[:, 3].astype(np.float64))
    return *found, True
