"""Drawings of a head that the landmark network takes for a face, and what of the head is at each pixel."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from export.landmarks.paint import Stroke
from topos_rt.faces.pose import rotation
from topos_rt.head.mesh import HeadMesh
from topos_rt.pictures.raster import rasterize
from topos_rt.pictures.shading import Sitter, TurnedSitter

SIDE = 448  # pixels of a drawing
_SAMPLES = 2  # for each pixel, along each axis
_DISTANCE_M = 1.2  # of the camera, as for a portrait
_FILL = 0.9  # of the drawing's height that a head of the largest extent fills
_BACKDROP = 0.28  # linear
_GAIN = 1.25


@dataclass(frozen=True)
class View:
    """How a head is turned, in degrees, as `topos_rt.faces.pose.angles` tells it."""

    yaw: float
    pitch: float


@dataclass(frozen=True, eq=False)
class Drawing:
    """A drawing, and what of the head is seen at each pixel."""

    picture: Image.Image  # RGB, SIDE x SIDE
    triangles: np.ndarray  # [SIDE,SIDE] int32 triangle of the head's topology; -1 where there is none
    weights: np.ndarray  # [SIDE,SIDE,3] float64 barycentric weights in it, on the surface


class Model:
    """A head that is drawn from several views."""

    def __init__(self, head: HeadMesh) -> None:
        """Prepare a head, which is in metres."""
        low, high = head.bounds
        self._scale = 2 / float((high - low).max())
        self._positions = (head.positions - (low + high) / 2) * self._scale
        self._triangles = head.triangles
        self._sitter = Sitter.of(dataclasses.replace(head, rig=None))

    def draw(self, view: View, rest: np.ndarray, paint: Sequence[Stroke]) -> Drawing:
        """Draw a view. rest: [V,3], the head without expression, on which the strokes lie."""
        turn = rotation(view.yaw, view.pitch, 0).T.astype(np.float32)
        distance = _DISTANCE_M * self._scale
        seen, at = self._surface(turn, distance, SIDE * _SAMPLES)
        fine = _screen(self._sitter.positions @ turn, SIDE * _SAMPLES, distance)
        triangle, weights = rasterize(fine, self._sitter.triangles, *seen.shape)
        hit = triangle >= 0
        linear = np.full((3, *seen.shape), _BACKDROP, np.float32)
        surface = TurnedSitter(self._sitter, turn, np.array([0, 0, distance]))
        linear[:, hit] = surface.shade(triangle[hit], weights[hit]) * _GAIN
        both = hit & (seen >= 0)  # rounding the mesh has moved the outline a little
        points = np.einsum("nij,ni->nj", rest[self._triangles[seen[both]]], at[both])
        for stroke in paint:
            linear[:, both] *= stroke.factors(points).T
        shown = linear.reshape(3, SIDE, _SAMPLES, SIDE, _SAMPLES).mean((2, 4)).clip(0, 1)
        pixels = (shown ** (1 / 2.2) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
        return Drawing(Image.fromarray(np.ascontiguousarray(pixels)), *self._surface(turn, distance, SIDE))

    def _surface(self, turn: np.ndarray, distance: float, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the triangle at each pixel, and the weights there, which are linear on the surface."""
        screen = _screen(self._positions @ turn, side, distance)
        seen, at = rasterize(screen, self._triangles, side, side)
        weights = at / screen[self._triangles[seen], 2]
        return seen, weights / weights.sum(2, keepdims=True).clip(1e-9)


def _screen(turned: np.ndarray, side: int, distance: float) -> np.ndarray:
    """Return where points [n,3] in the camera's axes are in a picture, and their depths: [n,3]."""
    x, y, z = turned.T
    zoom = _FILL * side / 2 * distance / (distance - z)
    return np.stack([side / 2 + x * zoom, side / 2 - y * zoom, distance - z], 1)
