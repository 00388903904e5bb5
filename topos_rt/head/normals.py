"""Vertex normals of a mesh, and vectors of unit length."""

from __future__ import annotations

import numpy as np

_UP = np.array([0.0, 1.0, 0.0], np.float32)


def vertex_normals(positions: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return area-weighted vertex normals: the normalised sums of the cross products of adjacent triangles.

    positions: [V,3]; triangles: [F,3] int, counter-clockwise. Returns [V,3] float32 of unit length; vertices
    without triangles, and those whose triangles cancel out or have no area, get +Y.
    """
    corners = np.asarray(positions, np.float64)[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    ids = np.asarray(triangles).ravel()
    sums = [np.bincount(ids, np.repeat(faces[:, axis], 3), len(positions)) for axis in range(3)]
    return unit_vectors(np.stack(sums, 1))


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return rows [n,3] scaled to unit length, float32; rows that are zero or not finite become +Y."""
    vectors = np.asarray(vectors, np.float64)
    # Rows are first divided by their largest entry, because the squares of tiny vectors would underflow.
    largest = np.abs(vectors).max(1, keepdims=True, initial=0.0)
    usable = np.isfinite(largest) & (largest > 0)
    scaled = np.where(usable, vectors, _UP) / np.where(usable, largest, 1.0)
    return (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)
