"""What of a photograph is not the person's skin: hair, hats, hands, spectacles, teeth, background.

The judge is the skin that the fitted light and the base material predict. Detectors of faces do not help:
they find covered faces, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from topos_rt.head.atlas import MASK_SIDE, Atlas
from topos_rt.texture.grids import blurred, largest_piece, mean_of_channels
from topos_rt.texture.hair import GREEN_BLUE, RED_GREEN
from topos_rt.texture.plan import Plan
from topos_rt.texture.spectacles import LIKELY, probability, zone
from topos_rt.texture.spectacles import features as spectacle_features

_INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
_CORNERS, _MIDDLES, _NOSE_BASE = (61, 291), (13, 14), 2
_OPEN = 0.06  # of the mouth's width: a wider gap between the lips shows teeth
# How far off skin is allowed to be, in robust deviations: at the rim of the face, more for every share of the
# atlas further in, and more on features.
_AT_RIM, _PER_DEPTH, _ON_FEATURES, _SOFT = 1.15, 9.0, 5.0, 0.5
_CHROMA_UNITS, _LUMINANCE_UNITS = 2.6, 3.4
_LEAST_SIGMA, _LEAST_CHROMA_SIGMA = 0.05, 0.035
_SEEN = 0.03
_COVERED = 0.5  # of the skin around the lips
_BEARD, _NEAR = -0.25, 0.15  # log units: darker than the skin by so much; beyond the colours of hair
_BROW_KEPT, _BROW_WORSE = 0.85, 0.92  # of a brow; of the better one's share
_FEATHER = 7.0  # cells


@dataclass(frozen=True, eq=False)
class Kept:
    """What is taken from the photograph, in cells of the window [h,w]."""

    feather: np.ndarray  # 0 to 1
    rejected: np.ndarray  # 0 to 1, of what was seen
    mouth_open: float  # the gap between the lips, in widths of the mouth
    spectacles: bool


def judge(
    plan: Plan,
    atlas: Atlas,
    cells: tuple[np.ndarray, np.ndarray],
    landmarks: np.ndarray,
    places: np.ndarray,
    skin: np.ndarray,
) -> Kept:
    """Return what to keep of a projection.

    cells: log ratios to the base [h,w,3], without the tone, and weights [h,w] in cells of the window.
    landmarks: [478,>=2] pixels. places: [h,w,2] pixels of the cells. skin: [3] log colour of the skin in the
    photograph.
    """
    rows, columns = plan.cells
    ratio, count = cells
    plain = atlas.mask("detail")[rows, columns]
    distance = _distance(ratio, count, plain)
    distance[_beard(atlas)[rows, columns] & _like_hair(ratio, skin)] = 0
    distance_map = blurred(count * distance, 1.2) / (blurred(count, 1.2) + 1e-4)
    seen = blurred(count, 1.0) > _SEEN
    lips = atlas.mask("lips")[rows, columns]
    features = 1.3 * atlas.mask("eyes") + 0.9 * atlas.mask("brows") + atlas.mask("nose")
    depth = np.maximum(plan.depth[rows, columns] - 0.03, 0)
    limit = _AT_RIM + _PER_DEPTH * depth + _ON_FEATURES * np.clip(features[rows, columns], 0, 1)
    rejected = np.clip((distance_map - limit) / _SOFT, 0, 1) * seen
    rejected = _lips_like_their_surroundings(rejected, lips, seen)
    gap = _gap(landmarks)
    if gap > _OPEN:
        near = np.clip(2.5 * blurred(lips, 3.2), 0, 1)
        inside = blurred(count * _in_mouth(landmarks, places.reshape(-1, 2)).reshape(count.shape), 0.8)
        share = inside / (count + 1e-3) * near
        rejected = np.maximum(rejected, np.clip(2.5 * blurred(share, 0.7) - 0.3, 0, 1))
    accepted = seen & (rejected < 0.35)
    middle = np.zeros_like(accepted)
    inner = plan.depth[rows, columns] > 0.5 * plan.depth.max()
    middle[inner & (atlas.mask("detail")[rows, columns] > 0.9)] = True
    accepted = largest_piece(accepted, middle)
    wide = np.clip((blurred(accepted.astype(np.float32), _FEATHER / 2) - 0.55) / 0.42, 0, 1)
    narrow = np.clip((blurred(accepted.astype(np.float32), 1.0) - 0.5) / 0.45, 0, 1)
    feather = np.where(np.clip(lips * 5, 0, 1) > 0.5, narrow, wide)
    feather = feather * feather * (3 - 2 * feather)
    feather *= 1 - _poor_brows(plan, atlas.mask("brows")[rows, columns], feather * np.clip(2 * count, 0, 1))
    worn = probability(spectacle_features(plan, atlas, ratio, count)) > LIKELY
    if worn:
        feather *= 1 - zone(atlas)[rows, columns]
    return Kept(feather.astype(np.float32), rejected.astype(np.float32), gap, worn)


def _lips_like_their_surroundings(rejected: np.ndarray, lips: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return what is rejected, with the lips only where the skin around them is: lipstick has any colour."""
    around = np.clip(2.5 * blurred(lips, 5.0), 0, 1) * (1 - lips) * seen
    covered = float((rejected * around).sum()) > _COVERED * float(around.sum())
    return np.maximum(rejected, lips * seen) if covered else rejected * (1 - np.clip(2 * lips, 0, 1))


def _poor_brows(plan: Plan, brows: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return where a brow is to be left out, 0 to 1: the one of which less was kept, or both of little.

    Half a brow beside half of the base material's looks worse than the other one mirrored.
    """
    zone = np.clip(3 * blurred(brows, 2.0), 0, 1)
    middle = brows.shape[1] // 2
    sides = [np.zeros_like(brows), np.zeros_like(brows)]
    sides[0][:, :middle], sides[1][:, middle:] = 1, 1
    shares = [float((kept * brows * side).sum() / max((brows * side).sum(), 1e-6)) for side in sides]
    best = max(shares)
    poor = np.zeros_like(brows)
    for share, side in zip(shares, sides, strict=True):
        if share < _BROW_KEPT and (share < _BROW_WORSE * best or not plan.mirrors or best < _BROW_KEPT):
            poor += zone * side
    return poor


def _distance(ratio: np.ndarray, weight: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Return how far from the face's own skin each cell is, in robust deviations."""
    core = ratio[(plain > 0.9) & (weight > 0.5)]
    if len(core) < 64:
        return np.zeros(weight.shape, np.float32)
    sigma = np.maximum(1.4826 * np.median(np.abs(core - np.median(core, 0)), 0), _LEAST_SIGMA)
    chroma, own = _chroma(ratio), _chroma(core)
    unit = np.maximum(1.4826 * np.median(np.abs(own - np.median(own, 0)), 0), _LEAST_CHROMA_SIGMA)
    colour = np.clip(chroma / (unit * _CHROMA_UNITS), -6, 6)
    bright = np.clip(mean_of_channels(ratio) / (sigma.mean() * _LUMINANCE_UNITS), -6, 6)
    distance: np.ndarray = np.sqrt((colour * colour).sum(-1) + bright * bright)
    return distance


@lru_cache(maxsize=4)
def _beard(atlas: Atlas) -> np.ndarray:
    """Return where beards grow, [MASK_SIDE,MASK_SIDE] bool: below the nose and up to the sideburns."""
    nose, corner = atlas.landmark_uvs[_NOSE_BASE], atlas.landmark_uvs[_CORNERS[0]]
    v, u = np.meshgrid(*2 * [(np.arange(MASK_SIDE) + 0.5) / MASK_SIDE], indexing="ij")
    across = np.abs(u - nose[0]) / max(abs(corner[0] - nose[0]), 1e-3)
    height = max(float(nose[1] - corner[1]), 1e-3)
    found: np.ndarray = v - (1 - nose[1]) > -height * np.clip(across - 1.6, 0, 2.5)
    return found


def _like_hair(ratio: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Return which cells are darker than the skin and coloured like hair."""
    colour = ratio + skin.astype(np.float32)
    bounds = np.array([RED_GREEN, GREEN_BLUE], np.float32)
    ratios = _chroma(colour)
    inside = (ratios > bounds[:, 0] - _NEAR) & (ratios < bounds[:, 1] + _NEAR)
    found: np.ndarray = (mean_of_channels(ratio) < _BEARD) & inside.all(-1)
    return found


def _chroma(ratio: np.ndarray) -> np.ndarray:
    return np.stack([ratio[..., 0] - ratio[..., 1], ratio[..., 1] - ratio[..., 2]], -1)


def _gap(landmarks: np.ndarray) -> float:
    width, gap = (
        float(np.linalg.norm(np.subtract(*landmarks[list(pair), :2]))) for pair in (_CORNERS, _MIDDLES)
    )
    return gap / max(width, 1e-6)


def _in_mouth(landmarks: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return which places [n,2] lie between the lips, 0 or 1, by the even-odd rule."""
    around = landmarks[list(_INNER_LIPS), :2].astype(np.float64)
    x, y = places.astype(np.float64).T
    inside = np.zeros(len(places), bool)
    for (ax, ay), (bx, by) in zip(around, np.roll(around, -1, 0), strict=True):
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * ((bx - ax) / (by - ay)))
    return inside.astype(np.float32)
