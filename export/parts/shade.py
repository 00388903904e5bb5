"""How much light reaches the inside of an open mouth, for viewers whose lights cast no shadows."""

from __future__ import annotations

import dataclasses

import numpy as np

from topos_rt.head.mesh import HeadMesh
from topos_rt.head.part_kit import PIECES, SURFACES, PartKit
from topos_rt.head.parts import parts_of
from topos_rt.pictures.shading import gaze, sky_seen

_OPEN = {"jawOpen": 0.9}
_GAIN = 1.5  # half of the sky is more than half of the light: lamps stand before a face
_RIM_M = 0.006  # how far in from the lips the shade sets in
_LEAST = 0.02
# The shade of an eye by the distance from its axis in radii: an iris, for eyes without a picture of one.
_IRIS = (0.16, 0.24, 0.42, 0.50), (0.01, 0.06, 0.10, 1.0)
# Teeth that lie this far behind the front ones get a third of the light, and so do their inner sides.
_DEEP_M, _INNER = 0.035, 0.35


def shaded(kit: PartKit, head: HeadMesh) -> PartKit:
    """Return a kit with the shades of a head's mouth, eyes and teeth.

    The mouth of a head without a rig stays shut, and gets darker than it would be open.
    """
    posed = head if head.rig is None else head.posed(_OPEN)
    own = sky_seen(posed.positions, posed.normals, head.topology)
    topology, mouth = head.topology, SURFACES.index("mouth")
    inside = kit.surfaces[topology.triangle_uvs[:, 0]] == mouth
    is_mouth, is_skin = np.zeros((2, topology.num_vertices), bool)
    is_mouth[topology.triangles[inside]] = True
    is_skin[topology.triangles[~inside]] = True
    rim = head.positions[is_mouth & is_skin]
    shade = np.ones(topology.num_vertices)
    if len(rim):
        away = np.sqrt(((head.positions[is_mouth, None] - rim[None]) ** 2).sum(2)).min(1)
        sure = 1 - np.exp(-((away / _RIM_M) ** 2))
        shade[is_mouth] = 1 + (np.clip(_GAIN * own[is_mouth], _LEAST, 1) - 1) * sure
    low, high = head.positions.min(0), head.positions.max(0)
    eyes = topology.regions.get("eyes", np.zeros(0, np.int32))
    at = gaze((head.positions - (low + high) / 2) * (2 / (high - low).max()), eyes)
    shade[eyes] = np.interp(np.hypot(*at[eyes].T), *_IRIS)
    parts = parts_of(kit, head.positions, None)
    is_tooth = np.array([piece.material == "teeth" for piece in PIECES.values()])[kit.pieces]
    behind = (parts.positions[is_tooth, 2].max() - parts.positions[:, 2]) / _DEEP_M
    lit = _LEAST + (1 - _LEAST) * np.exp(-(behind**2)) * np.where(parts.normals[:, 2] < 0, _INNER, 1)
    lit[~is_tooth] = 1
    return dataclasses.replace(kit, head_shade=_eight(shade), shade=_eight(lit))


def _eight(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 255).astype(np.uint8)
