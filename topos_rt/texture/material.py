"""How skin, lips, eyes and hair reflect light, and the relief of the skin."""

from __future__ import annotations

import numpy as np

from topos_rt.head.atlas import Atlas
from topos_rt.pictures.colour import LINEAR
from topos_rt.texture.grids import blurred, grown, logs, shrunk
from topos_rt.texture.plan import Plan

SIDE = 512  # of the pictures, at most
_ROUGHNESS = {"skin": 0.56, "mouth": 0.32, "eyes": 0.12, "tongue": 0.38, "socket": 0.5, "neck": 0.6}
_AREAS = {"lips": 0.38, "nose": 0.48, "scalp": 0.82, "brows": 0.75, "ears": 0.6}
_MOUTH_LIGHT = 0.55  # occlusion inside the mouth
_RELIEF = 0.9  # slope for one log unit of luminance from texel to texel
_STEEPEST = 0.5
FLAT = (128, 128, 255)
_LOG = logs(np.maximum(LINEAR, 1e-3))


def orm(plan: Plan, atlas: Atlas) -> np.ndarray:
    """Return occlusion, roughness and metalness, [256,256,3] uint8."""
    roughness = np.array([_ROUGHNESS.get(name, 0.56) for name in _ROUGHNESS], np.float32)[plan.parts]
    skin = plan.parts == 0
    for name, value in _AREAS.items():
        area = atlas.mask(name) * skin
        roughness = roughness + (value - roughness) * area
    occlusion = np.where(plan.parts == 1, _MOUTH_LIGHT, 1.0)
    made = np.stack([occlusion, roughness, np.zeros_like(roughness)], -1)
    eight: np.ndarray = (made * 255 + 0.5).astype(np.uint8)
    return eight


def flat_normals() -> np.ndarray:
    """Return a normal map without relief, [4,4,3] uint8."""
    return np.tile(np.array(FLAT, np.uint8), (4, 4, 1))


def normals(albedo: np.ndarray, atlas: Atlas, strength: np.ndarray) -> np.ndarray:
    """Return a normal map of the skin's fine relief, [N,N,3] uint8, from an albedo [S,S,3] uint8.

    Pores and wrinkles are darker than what is around them, so the logarithm of green serves as height.
    strength: [MASK_SIDE,MASK_SIDE], 0 to 1.
    """
    luminance = _LOG[albedo[..., 1]]
    luminance = shrunk(luminance, max(1, len(albedo) // SIDE))
    height = blurred(luminance, 0.8) - blurred(luminance, 4.0)
    area = atlas.mask("detail") * strength
    height = height * grown(area, len(height) // len(area))
    across = (np.roll(height, -1, 1) - np.roll(height, 1, 1)) / 2
    down = (np.roll(height, -1, 0) - np.roll(height, 1, 0)) / 2
    # +X of tangent space is +u; +Y is +v, which is up in the picture.
    x, y = (np.clip(slope * _RELIEF, -_STEEPEST, _STEEPEST) for slope in (-across, down))
    unit = np.stack([x, y, np.ones_like(x)], -1)
    unit /= np.linalg.norm(unit, axis=2, keepdims=True)
    eight: np.ndarray = (unit * 127 + 128.5).astype(np.uint8)
    return eight
