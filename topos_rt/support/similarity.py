"""Similarity transforms: scale, rotation and shift."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from topos_rt.errors import MeshInputError


@dataclass(frozen=True, eq=False)
class Similarity:
    """The map x -> scale * rotation @ x + shift."""

    scale: float
    rotation: np.ndarray  # [3,3] float64
    shift: np.ndarray  # [3] float64

    @classmethod
    def identity(cls) -> Similarity:
        """Return the transform that changes nothing."""
        return cls(1.0, np.eye(3), np.zeros(3))

    def points(self, points: np.ndarray) -> np.ndarray:
        """Return points [n,3], transformed."""
        return np.asarray(self.scale * (points @ self.rotation.T) + self.shift)

    def normals(self, normals: np.ndarray) -> np.ndarray:
        """Return directions [n,3], rotated."""
        return np.asarray(normals @ self.rotation.T)

    def both(self, points: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return points, transformed, and directions, rotated, [n,3] each."""
        return self.points(points), self.normals(normals)

    def after(self, first: Similarity) -> Similarity:
        """Return the transform that applies `first`, then this one."""
        rotation = self.rotation @ first.rotation
        return Similarity(self.scale * first.scale, rotation, self.points(first.shift[None])[0])

    @cached_property
    def inverse(self) -> Similarity:
        """The transform that undoes this one."""
        turn = self.rotation.T
        return Similarity(1 / self.scale, turn, -(turn @ self.shift) / self.scale)


def fit_similarity(source: np.ndarray, target: np.ndarray, rotate: bool = True) -> Similarity:
    """Return the least-squares similarity from points [n,3] to points [n,3] (Umeyama 1991, eq. 40 to 43).

    rotate: False for scale and shift alone.
    Raises MeshInputError where all points of `source`, or all of `target`, coincide.
    """
    a, b = source.mean(0), target.mean(0)
    x, y = source - a, target - b
    spread = float((x**2).sum())
    if not (spread > 0 and np.ptp(y, axis=0).any()):
        raise MeshInputError("points to fit", got="the same point each time", expected="a surface")
    if rotate:
        u, values, v = np.linalg.svd(y.T @ x)
        signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ v))])  # no mirror image
        rotation, scale = (u * signs) @ v, float((values * signs).sum()) / spread
    else:
        rotation, scale = np.eye(3), float((x * y).sum()) / spread
    scale = max(scale, 1e-9)
    return Similarity(scale, rotation, b - scale * rotation @ a)


def sphere_frame(vertices: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the centre [3] of the axis-aligned box around points [n,3], and the largest distance from it."""
    centre = (vertices.min(0) + vertices.max(0)) / 2
    return centre, float(np.linalg.norm(vertices - centre, axis=1).max())
