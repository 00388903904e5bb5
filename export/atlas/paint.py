"""The base material: colours of skin, lips, lids, brows, eyes and mouth, painted on an atlas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.atlas.layout import Layout
from export.atlas.regions import Texels, makehuman_masks
from topos_rt.head.atlas import PARTS
from topos_rt.head.landmark_map import LandmarkMap
from topos_rt.head.topology import Topology
from topos_rt.texture.white import SKIN

# Landmarks, radius in metres, and what the colour around them is multiplied with.
_TINTS = (
    ((50, 205, 280, 425), 0.016, (1.08, 0.90, 0.88)),  # cheeks
    ((4, 1, 5), 0.010, (1.06, 0.88, 0.86)),  # tip of the nose
    ((151, 9, 108, 337), 0.022, (1.03, 1.04, 1.05)),  # forehead
    ((152, 175, 199), 0.012, (0.98, 0.95, 0.95)),  # chin
    ((119, 120, 348, 349), 0.009, (0.97, 0.93, 0.95)),  # below the eyes
)
_LIPS, _LIDS, _EARS, _BROWS = (0.80, 0.56, 0.58), (0.93, 0.86, 0.87), (1.03, 0.86, 0.82), (0.42, 0.38, 0.36)
_MOUTH, _TONGUE, _WHITE = (0.26, 0.085, 0.07), (0.38, 0.12, 0.10), (0.60, 0.56, 0.51)
_MOTTLING = ((1 / 400, 0.05), (1 / 100, 0.07), (1 / 30, 0.10))  # share of the side, strength
# The eye by the distance from its axis, in radii of the eyeball: pupil, iris, dark edge, white.
_IRIS_RADII = (0.15, 0.18, 0.28, 0.38, 0.42, 0.47)
_IRIS = (
    (0.010, 0.060, 0.130, 0.085, 0.030, 0.60),
    (0.008, 0.036, 0.075, 0.055, 0.022, 0.56),
    (0.007, 0.020, 0.042, 0.036, 0.018, 0.51),
)


@dataclass(frozen=True, eq=False)
class Head:
    """A mean head on its atlas."""

    topology: Topology
    layout: Layout
    positions: np.ndarray  # [V,3]
    landmarks: LandmarkMap


def paint(head: Head, texels: Texels, areas: dict[str, np.ndarray]) -> np.ndarray:
    """Return the base albedo [S,S,3] float32, linear. The same head gives the same colours."""
    from scipy import ndimage

    side, rng = texels.side, np.random.default_rng(0)
    colour = np.tile(np.array(SKIN, np.float32), (side, side, 1))
    points = texels.image(texels.at(head.positions.astype(np.float32), head.topology.triangles))
    face = head.landmarks.points(head.positions)

    def tint(area: np.ndarray, factors: tuple[float, ...]) -> None:
        nonlocal colour
        colour = colour * (1 + area[..., None] * (np.array(factors, np.float32) - 1))

    for ids, radius, factors in _TINTS:
        away = np.min([((points - face[i]) ** 2).sum(-1) for i in ids], axis=0)
        tint(np.exp(-away / (2 * radius**2)).astype(np.float32), factors)
    known = makehuman_masks(head.topology, texels)
    even = _even(side, head.layout.mirror)
    tint(0.8 * known.get("eyelids", areas["eyes"] * 0.6), _LIDS)
    tint(0.8 * areas["ears"], _EARS)
    tint(_lip_shade(areas["lips"], points, face), _LIPS)
    brows = ndimage.gaussian_filter(areas["brows"], side / 250)
    tint(np.clip(brows * _strands(side, rng)[:, even], 0, 1), _BROWS)
    noise = sum(
        ndimage.gaussian_filter(rng.standard_normal((side, side)), share * side, mode="wrap")
        * share
        * side
        * a
        for share, a in _MOTTLING
    )
    colour = colour * np.exp(np.asarray(noise)[:, even, None] * np.array([0.35, 0.55, 0.6]) * 0.6)
    part = head.layout.parts[head.topology.triangle_uvs[texels.triangle, 0]]
    flat = colour[texels.covered]
    for name, tone in (("mouth", _MOUTH), ("tongue", _TONGUE)):
        flat[part == PARTS.index(name)] = tone
    eyes = part == PARTS.index("eyes")
    flat[eyes] = _eyes(head, texels, eyes)
    colour[texels.covered] = flat
    _blend_lips_into_mouth(colour, texels, part, points, face)
    index = ndimage.distance_transform_edt(~texels.covered, return_distances=False, return_indices=True)
    return np.asarray(colour[index[0], index[1]], np.float32)


def _even(side: int, mirror: float) -> np.ndarray:
    """Return the columns of a texture with those of its right half replaced by their mirror images."""
    columns = np.arange(side)
    if not mirror:
        return columns
    other = np.clip(round(mirror * side) - 1 - columns, 0, side - 1)
    return np.minimum(columns, other)


def _lip_shade(lips: np.ndarray, points: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Return the lips, darker towards where they meet."""
    line = np.abs(points[..., 1] - face[13, 1]) / 0.004
    return np.clip(lips * (1 + 0.35 * np.exp(-line * line)), 0, 1.3)


def _blend_lips_into_mouth(
    colour: np.ndarray, texels: Texels, part: np.ndarray, points: np.ndarray, face: np.ndarray
) -> None:
    """Give the inside of the mouth the lips' colour near their seam, and less light further in."""
    inside = np.zeros(texels.covered.shape, bool)
    inside[texels.covered] = part == PARTS.index("mouth")
    if not inside.any():
        return
    depth = np.clip((face[13, 2] - points[inside][:, 2]) / 0.03, 0, 1)[:, None]
    lip = np.array(SKIN) * np.array(_LIPS)
    colour[inside] = lip * (1 - depth) ** 2 + colour[inside] * (1 - (1 - depth) ** 2)


def _strands(side: int, rng: np.random.Generator) -> np.ndarray:
    from scipy import ndimage

    noise = ndimage.gaussian_filter(rng.standard_normal((side, side)), (side / 220, side / 1000), mode="wrap")
    return np.asarray(np.clip(0.78 + 0.2 * noise / noise.std(), 0.3, 1.1), np.float32)


def _eyes(head: Head, texels: Texels, chosen: np.ndarray) -> np.ndarray:
    """Return the colours of the eyes' texels [n,3]: iris and pupil around the axis of each eyeball."""
    from topos_rt.pictures.shading import gaze

    low, high = head.positions.min(0), head.positions.max(0)
    centred = (head.positions - (low + high) / 2) * (2 / (high - low).max())
    away = gaze(centred, head.topology.regions["eyes"])
    corners = head.topology.triangles[texels.triangle[chosen]]
    offset = np.einsum("nk,nkc->nc", texels.weights[chosen], away[corners])
    radius, angle = np.hypot(offset[:, 0], offset[:, 1]), np.arctan2(offset[:, 1], offset[:, 0])
    red = np.clip((radius - 0.6) / 0.5, 0, 1)[:, None] * np.array([0.05, 0.25, 0.25])
    colour = np.tile(np.array(_WHITE), (len(radius), 1)) * (1 - red)
    near = radius < _IRIS_RADII[-1]
    iris = np.array([np.interp(radius[near], _IRIS_RADII, channel) for channel in _IRIS]).T
    ring = np.clip((radius[near] - 0.17) / 0.06, 0, 1) * np.clip((0.42 - radius[near]) / 0.05, 0, 1)
    spokes = 1 + 0.22 * np.sin(angle[near] * 23 + 2 * np.sin(angle[near] * 7)) * ring
    colour[near] = iris * spokes[:, None]
    return colour
