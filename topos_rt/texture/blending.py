"""From what a photograph showed to a whole skin: the other side mirrored, the rest made up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topos_rt.gpu.texture_reference import WEIGHT_GAIN
from topos_rt.head.atlas import MASK_SIDE, PARTS, Atlas
from topos_rt.texture.grids import blurred, filled, mean_of_channels
from topos_rt.texture.plan import Plan

_EVEN = 1 / 36  # of the areas' side: what is smoother than this is made symmetric
_EVEN_LUMINANCE, _EVEN_CHROMA, _MOST_EVEN = 0.7, 0.7, 0.8
_PULL, _PULL_OUTSIDE = 0.012, 0.25  # towards the toned base material, within the face and without
_MOUTH, _TONGUE, _MOST_MOUTH = (
    0.7,
    0.4,
    0.7,
)  # shares of the lips' change that the inside of the mouth follows
_LIPS_ENOUGH = 30.0  # cells


MIRRORED = 0.5  # confidence


@dataclass(frozen=True, eq=False)
class Blend:
    """What `texture_ops.finish_texture` needs to make a skin, and how far it was seen."""

    cells: np.ndarray  # [MASK_SIDE,MASK_SIDE,3] float32 log colour over the base material
    window: np.ndarray  # [h,w,5] float32 in cells of the window: share kept, face, unevenness
    confidence: np.ndarray  # [MASK_SIDE,MASK_SIDE] float32


def blend(
    plan: Plan, atlas: Atlas, cells: tuple[np.ndarray, np.ndarray], feather: np.ndarray, tone: np.ndarray
) -> Blend:
    """Return how to make a skin from a projection.

    cells: log ratios to the base [h,w,3], without the tone, and weights [h,w] in cells of the window.
    feather: [h,w] what to keep. tone: [3], log of the person's skin over the base material's.
    """
    rows, columns = plan.cells
    ratio, weight = cells[0], np.clip(WEIGHT_GAIN * cells[1], 0, 1) * feather
    face = atlas.mask("face")[rows, columns]
    uneven = np.zeros_like(ratio)
    if plan.mirrors:
        uneven = _uneven(plan, atlas, weight, ratio * weight[..., None])
    field, seen = _field(plan, weight, (ratio - uneven) * weight[..., None], face)
    whole = _with_mouth(field, plan, atlas) + tone.astype(np.float32) * plan.toned
    confidence = np.zeros((MASK_SIDE, MASK_SIDE), np.float32)
    confidence[rows, columns] = np.maximum(seen[0], MIRRORED * seen[1])
    window = np.concatenate([feather[..., None], face[..., None], uneven], 2)
    return Blend(whole, np.ascontiguousarray(window, np.float32), confidence)


def _with_mouth(field: np.ndarray, plan: Plan, atlas: Atlas) -> np.ndarray:
    """Return the field with the mouth and the tongue following the lips, and the eyes as they are."""
    lips = atlas.mask("lips")
    change = np.zeros(3, np.float32)
    area = float(lips.sum(dtype=np.float64))
    if area > _LIPS_ENOUGH:
        mean = (field * lips[..., None]).sum((0, 1), dtype=np.float64) / area
        change = np.clip(mean, -_MOST_MOUTH, _MOST_MOUTH).astype(np.float32)
    out = field.copy()
    for name, share in (("eyes", 0.0), ("mouth", _MOUTH), ("tongue", _TONGUE)):
        out[plan.parts == PARTS.index(name)] = share * change
    return out


def _uneven(plan: Plan, atlas: Atlas, weight: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Return the smooth difference between the sides of the face, [h,w,3]: light that the fit has left.

    weight [h,w], and ratio [h,w,3] times weight, in cells of the window.
    """
    rows, columns = plan.cells
    skin = atlas.mask("detail")[rows, columns]
    sigma = MASK_SIDE * _EVEN
    sums = blurred(np.concatenate([ratio * skin[..., None], (weight * skin)[..., None]], 2), sigma)
    share = sums[..., 3] + 2e-3
    smooth = sums[..., :3] / share[..., None]
    both = np.clip(6 * np.minimum(share, plan.mirrored(share)), 0, 1)[..., None]
    half = (smooth - plan.mirrored(smooth)) / 2 * both
    # What is common to both sides and differs from the middle stays, less its colour cast.
    rest = smooth - half
    mean = mean_of_channels(rest)[..., None]
    uneven = half + _EVEN_LUMINANCE * mean + _EVEN_CHROMA * (rest - mean)
    bounded: np.ndarray = np.clip(uneven, -_MOST_EVEN, _MOST_EVEN).astype(np.float32)
    return bounded


def _field(
    plan: Plan, weight: np.ndarray, ratio: np.ndarray, face: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return smooth log ratios for the whole atlas [MASK_SIDE,MASK_SIDE,3], and shares seen and mirrored."""
    total, values = weight, ratio
    other = np.zeros_like(weight)
    if plan.mirrors:
        other = plan.mirrored(weight) * (1 - np.clip(2.5 * weight, 0, 1))
        half = 0.5 * other
        total = weight + half
        known = plan.mirrored(ratio) / np.maximum(plan.mirrored(weight), 1e-5)[..., None]
        values = ratio + known * half[..., None]
    values = values / np.maximum(total, 1e-5)[..., None]
    trust = total * np.sqrt(total)
    pull = _PULL + _PULL_OUTSIDE * np.clip(1 - 1.5 * face, 0, 1) * (1 - np.clip(3 * total, 0, 1))
    everywhere = np.full((MASK_SIDE, MASK_SIDE), _PULL + _PULL_OUTSIDE, np.float32)
    whole = np.zeros((MASK_SIDE, MASK_SIDE, 3), np.float32)
    cells = plan.cells
    everywhere[cells] = np.clip(trust + pull, 0, 1)
    whole[cells] = values * (trust / (trust + pull))[..., None]
    return filled(whole, everywhere), (weight, other)
