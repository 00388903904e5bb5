"""The face of a model's heads: the vertices that the measures of likeness count.

It follows from the model alone, so that two heads of a topology are always measured at the same vertices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from topos_rt.errors import BundleError
from topos_rt.head.normals import vertex_normals
from topos_rt.head.topology import Topology
from topos_rt.model.bundle import Bundle
from topos_rt.pictures.raster import rasterize
from topos_rt.scan.fit import mean_head
from topos_rt.support.similarity import sphere_frame
from topos_rt.support.strictjson import AGAIN

RADIUS_M = 0.095  # around the tip of the nose, as the NoW challenge crops its scans
_AROUND_M = 0.125  # of the surface to measure to: scans must not end at its rim
_NOSE_TIP, _SIDES = 1, (234, 454)  # landmarks; the sides lie before the ears
_WITHIN_SIDES = 0.95  # of half the distance between the sides
_YAWS, _PITCHES = (-45, 0, 45), (-15, 15)  # degrees of the views in which a vertex may be seen
_PIXELS = 400
_NEAR_M = 0.002  # behind the nearest surface in its pixel, a vertex still counts as seen
_HIDDEN = ("eyes", "tongue")  # regions that turn on their own, and say nothing of a face's shape
_FEWEST = 50  # vertices that are a face


@dataclass(frozen=True, eq=False)
class FaceRegion:
    """The face of a topology's heads."""

    topology: Topology
    vertices: np.ndarray  # [n] int64, ascending: where faces are compared
    triangles: np.ndarray  # [f,3] int32: the surface of the face and a little around it


@lru_cache(maxsize=4)
def face_region(bundle: Bundle) -> FaceRegion:
    """Return the face of a bundle's heads, by its mean head and its landmark map.

    The face is what can be seen from within 45 degrees of yaw and lies within 95 mm of the tip of the nose,
    but not beyond the sides of the face, where ears begin. Only the part of the mesh that has the nose counts
    (eyeballs, teeth and lashes are other parts), without the regions "eyes" and "tongue" of the topology.

    Raises BundleError for a bundle without a landmark map, or whose map shows no face.
    """
    landmarks, topology = bundle.landmarks, bundle.topology
    if landmarks is None:
        raise BundleError(
            f"landmark map of the model {bundle.manifest.name}",
            got="none",
            expected="one, which says where the face is",
            fix=f"python -m export landmarks {bundle.path}",
        )
    positions = mean_head(bundle).points * bundle.manifest.frame.radius_m
    points = landmarks.points(positions)
    seen = _seen(positions, topology.triangles)
    away = np.linalg.norm(positions - points[_NOSE_TIP], axis=1)
    sides = points[list(_SIDES), 0]
    own = _part_of(int(landmarks.vertices[_NOSE_TIP, 0]), topology)
    for name in _HIDDEN:
        own[topology.regions.get(name, [])] = False
    inner = np.abs(positions[:, 0] - sides.mean()) < _WITHIN_SIDES * np.ptp(sides) / 2
    face = seen & own & inner & (away < RADIUS_M)
    if np.count_nonzero(face) < _FEWEST:
        raise BundleError(
            f"landmark map of the model {bundle.manifest.name}",
            got=f"a face of {np.count_nonzero(face)} vertices",
            expected=f"{_FEWEST} or more around landmark {_NOSE_TIP}, the tip of the nose",
            fix=AGAIN,
        )
    corners = topology.triangles
    around = seen[corners].any(1) & own[corners].all(1) & (away < _AROUND_M)[corners].all(1)
    return FaceRegion(topology, np.flatnonzero(face), corners[around])


def _seen(positions: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return which vertices [V] bool are seen in any of the views, which are from far away.

    A vertex is seen if a triangle that it is a corner of is drawn in some pixel; or, since triangles may be
    smaller than pixels, if it faces the viewer and the surface in its pixel is not in front of it.
    """
    centre, radius = sphere_frame(positions)
    normals = vertex_normals(positions, triangles)
    seen = np.zeros(len(positions), bool)
    for turn in (_turned(yaw, pitch) for yaw in _YAWS for pitch in _PITCHES):
        x, y, z = turn @ (positions - centre).T / radius
        half = _PIXELS / 2
        screen = np.stack([half * (1 + x), half * (1 - y), 2 - z], 1)
        found, weights = rasterize(screen, triangles, _PIXELS, _PIXELS)
        depth = (screen[:, 2][triangles[found]] * weights).sum(2)
        pixel = np.clip(screen[:, :2].astype(int), 0, _PIXELS - 1)
        hit = found[pixel[:, 1], pixel[:, 0]] >= 0
        behind = screen[:, 2] - depth[pixel[:, 1], pixel[:, 0]]
        seen |= hit & (behind < _NEAR_M / radius) & (normals @ turn[2] > 0)
        seen[triangles[np.unique(found[found >= 0])]] = True
    return seen


def _turned(yaw: float, pitch: float) -> np.ndarray:
    """Return the rotation [3,3] to a view from `yaw` degrees to the side and `pitch` above or below."""
    a, b = np.radians([yaw, pitch])
    about_y = [[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]
    about_x = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    return np.array(about_x) @ about_y


def _part_of(vertex: int, topology: Topology) -> np.ndarray:
    """Return which vertices [V] bool are in the connected part of the mesh that has a vertex."""
    part = np.zeros(topology.num_vertices, bool)
    part[vertex] = True
    starts, ends = topology.edges.T
    front = part.copy()
    while front.any():
        reached = np.zeros_like(part)
        reached[ends[front[starts]]] = True
        front = reached & ~part
        part |= front
    return part
