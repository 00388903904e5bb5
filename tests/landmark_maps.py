"""Landmark maps for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from topos_rt.head.landmark_map import COUNT, LandmarkMap
from topos_rt.head.topology import Topology


def map_parts(topology: Topology) -> dict[str, Any]:
    """Return the arguments of a valid map of a topology: landmarks in the middle of its triangles."""
    triangles = topology.triangles[np.arange(COUNT) % len(topology.triangles)]
    pairs = np.arange(COUNT)
    pairs[[10, 20]] = [20, 10]
    return {
        "num_vertices": topology.num_vertices,
        "vertices": triangles,
        "weights": np.full((COUNT, 3), 1 / 3, np.float32),
        "noise": np.full(COUNT, 0.02, np.float32),
        "mirrored": pairs,
        "irises": np.zeros(0, np.int32),
    }


def landmark_map(topology: Topology) -> LandmarkMap:
    """Return a valid map of a topology."""
    return LandmarkMap(**map_parts(topology))
