"""Where the vertices of a head are in its photograph, and how well each is seen there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topos_rt.errors import InputError
from topos_rt.faces.camera import Camera
from topos_rt.head.atlas import Atlas
from topos_rt.head.landmark_map import COUNT, LandmarkMap
from topos_rt.head.mesh import HeadMesh
from topos_rt.pictures.raster import rasterize
from topos_rt.support.arrays import product

_MAP_SIDE = 256  # pixels of the depth map
_BIAS = 0.012  # of the head's size: nearer surfaces hide what lies behind them by more
_GRAZING, _FULL = 0.15, 0.70  # cosines from which on a surface counts, and counts fully
_ROUNDS = 2  # of smoothing over the mesh
# A landmark that is farther from the camera's own projection than this, in outer-eye distances, is wrong.
_FARTHEST = 0.25
_OUTER_EYES = (33, 263)


@dataclass(frozen=True, eq=False)
class Seen:
    """A head as its photograph shows it."""

    places: np.ndarray  # [V,2] float32 pixels of the upright picture
    facing: np.ndarray  # [V] float32: 0 hidden or edge-on to 1 facing the camera
    normals: np.ndarray  # [V,3] float32 in the camera's axes
    pixels_per_metre: float


def look(head: HeadMesh, landmarks: np.ndarray, points: LandmarkMap, atlas: Atlas) -> Seen:
    """Return where a head's vertices are, by its camera and by the landmarks that were found.

    head: with the pose and expression of the photograph. landmarks: [478,>=2] pixels. Between the landmarks
    the shifts from where the camera shows them are spread over the face, so that lids, lips and brows fall
    on the head's own whatever its shape.
    """
    if not isinstance(head.pose, Camera):
        raise InputError("the head", got="no camera", expected="a head that was fitted to the photograph")
    shown = head
    if head.rig is not None and any(head.expression.values()):
        shown = head.posed(head.expression)
    camera, positions = head.pose, shown.positions.astype(np.float64)
    places = camera.project(positions)
    turned = positions @ camera.turn.T + camera.shift
    normals = (shown.normals.astype(np.float64) @ camera.turn.T).astype(np.float32)
    away = camera.project(points.points(positions))
    shifts = landmarks[:COUNT, :2] - away
    left, right = landmarks[list(_OUTER_EYES), :2].astype(np.float64)
    unit = float(np.linalg.norm(left - right))
    reach = np.linalg.norm(shifts, axis=1, keepdims=True)
    shifts *= np.minimum(1, _FARTHEST * max(unit, 1) / np.maximum(reach, 1e-9))
    moved = places.copy()
    moved[atlas.warp_vertices] += product(atlas.spread, shifts[atlas.warp_landmarks])
    towards = -turned / np.linalg.norm(turned, axis=1, keepdims=True)
    cosine = (normals * towards).sum(1)
    facing = np.clip((cosine - _GRAZING) / (_FULL - _GRAZING), 0, 1) ** 1.5
    facing *= _unhidden(moved, -turned[:, 2], head.triangles)
    return Seen(
        moved.astype(np.float32),
        _eroded(facing, head).astype(np.float32),
        normals.astype(np.float32),
        camera.focal / float(np.median(-turned[:, 2])),
    )


def _unhidden(places: np.ndarray, depth: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return which vertices [V] nothing hides, by a depth map; depth: [V] metres from the camera."""
    low, high = places.min(0), places.max(0)
    scale = (_MAP_SIDE - 4) / float((high - low).max())
    screen = np.concatenate([(places - low) * scale + 2, depth[:, None]], 1)
    drawn, weights = rasterize(screen, triangles, _MAP_SIDE, _MAP_SIDE)
    nearest = np.full(drawn.shape, np.inf)
    found = drawn >= 0
    nearest[found] = np.einsum("nk,nk->n", depth[triangles][drawn[found]], weights[found])
    around = np.pad(nearest, 1, constant_values=-np.inf)
    rows = np.maximum(np.maximum(around[:-2], around[1:-1]), around[2:])
    nearest = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    x, y = np.clip(screen[:, :2].astype(int), 0, _MAP_SIDE - 1).T
    seen: np.ndarray = depth <= nearest[y, x] + _BIAS * np.ptp(depth)
    return seen.astype(np.float64)


def _eroded(facing: np.ndarray, head: HeadMesh) -> np.ndarray:
    """Return the weights, less where neighbours are hidden."""
    source, target = head.topology.edges.T
    degree = np.maximum(np.bincount(target, minlength=len(facing)), 1)
    for _ in range(_ROUNDS):
        mean = np.bincount(target, facing[source], len(facing)) / degree
        facing = 0.5 * facing + 0.5 * np.minimum(facing, mean)
    return facing
