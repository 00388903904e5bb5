"""Worlds in which a pull must find what made a face: heads that are linear in a latent, and an exact flow."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from models import landmark_response as measured
from topos_rt import HeadPipeline
from topos_rt.faces.camera import Camera
from topos_rt.faces.face import Face
from topos_rt.faces.pose import Placement, angles, rotation
from topos_rt.head.landmark_map import COUNT
from topos_rt.head.normals import vertex_normals
from topos_rt.head.topology import Topology
from topos_rt.model.bundle import Bundle
from topos_rt.model.landmark_errors import LandmarkErrors
from topos_rt.model.landmark_response import LandmarkResponse
from topos_rt.support.arrays import Array

SIZE = (640, 480)
SIGMA = 1e-5


def camera(yaw: float = 0, pitch: float = 0, roll: float = 0) -> Camera:
    return Camera(rotation(yaw, pitch, roll), np.array([0.05, -0.02, -1.2]), 1100, (320, 240))


def face_of(points: np.ndarray, seen_by: Camera, noise: np.ndarray | float = 0.0) -> Face:
    """Return the face whose landmarks are points [468,3] of a head; noise: pixels [468,2]."""
    landmarks = np.zeros((478, 3), np.float32)
    landmarks[:COUNT, :2] = seen_by.project(points) + noise
    landmarks[COUNT:, :2] = landmarks[[468 % COUNT + 33] * 10, :2]
    low, high = landmarks[:COUNT, :2].min(0), landmarks[:COUNT, :2].max(0)
    box = (float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))
    yaw, pitch, roll = angles(seen_by.turn)
    placement = Placement(seen_by.turn, 10.0, np.array([320.0, 240.0]))
    return Face(box, landmarks, yaw, pitch, roll, {}, 0.99, placement)


def exact_errors(size: float) -> LandmarkErrors:
    """Return errors that do not depend on each other: `size` outer-eye distances in each coordinate."""
    nothing = np.zeros((1, 0, COUNT, 2), np.float32)
    return LandmarkErrors(np.float32([90]), nothing, np.full((1, COUNT, 2), size, np.float32))


@dataclass(frozen=True, eq=False)
class World:
    """Heads are the mean head of `mini` and K fields, which the first K numbers of an odd basis scale."""

    bundle: Bundle
    latent: tuple[int, int]  # N, D
    fields: np.ndarray  # [K,V,3] metres for a number of 1
    spreads: np.ndarray  # [K] of these numbers

    @cached_property
    def mean(self) -> np.ndarray:
        frame = self.bundle.manifest.frame
        rest = self.bundle.hierarchy.levels[0].features[:, :3]
        return rest @ frame.rotation.T * np.float32(frame.radius_m)

    @cached_property
    def basis(self) -> np.ndarray:
        """Orthonormal rows [K,N*D], none of which lies along a coordinate."""
        draw = np.random.default_rng(4).standard_normal((self.latent[0] * self.latent[1], len(self.fields)))
        return np.linalg.qr(draw)[0].T

    def head(self, numbers: np.ndarray) -> np.ndarray:
        return self.mean + np.einsum("k,kvi->vi", numbers, self.fields)

    def decode(self, latent: Array) -> Array:
        """Return what the decoder of this world gives: positions | normals [V,6] in the networks' frame."""
        frame, topology = self.bundle.manifest.frame, self.bundle.topology
        head = self.head(self.basis @ latent.ravel().astype(np.float64)).astype(np.float32)
        normals = vertex_normals(head, topology.triangles)
        both = np.concatenate([head / frame.radius_m @ frame.rotation, normals @ frame.rotation], 1)
        return both.astype(np.float32)

    def velocity(self, x: Array, t: float) -> Array:
        """Return the exact velocity: latents are normal with the spreads along the basis, and 0 elsewhere."""
        numbers = self.basis @ x.ravel().astype(np.float64)
        share = (1 - t) * self.spreads**2 / ((1 - t) ** 2 * self.spreads**2 + t**2)
        estimate = ((share * numbers) @ self.basis).reshape(x.shape)
        return ((1 - SIGMA) * x - estimate) / (SIGMA + (1 - SIGMA) * t)

    def response(self, errors: LandmarkErrors) -> LandmarkResponse:
        landmarks = self.bundle.landmarks
        assert landmarks is not None
        return LandmarkResponse(self.basis, self.spreads, landmarks.points(self.fields), errors)


def smooth_fields(positions: np.ndarray, topology: Topology, count: int) -> np.ndarray:
    """Return smooth fields [count,V,3] of about 3 mm, symmetric and not."""
    assert len(positions) == topology.num_vertices
    rng = np.random.default_rng(6)
    waves = rng.normal(0, 30, (count, 3, 3))  # per metre
    phases = rng.uniform(0, 2 * np.pi, (count, 3))
    return 0.003 * np.sin(np.einsum("vi,kij->kvj", positions, waves) + phases[:, None])


def responding_mini(directory: Path) -> Path:
    """Write `mini` with a response along a few directions of its own heads, and return its path."""
    path = directory / "mini"
    shutil.copytree(Bundle.open("mini", verify=False).path, path)
    with HeadPipeline.open(path, "onnxruntime", threads=1) as pipe:
        bundle, networks = pipe.bundle, pipe._networks
        draw, rows = np.random.default_rng(0), bundle.hierarchy.levels[0].features
        count = bundle.manifest.points.count
        clouds = [rows[draw.integers(0, len(rows), count), :6] for _ in range(10)]
        wide = np.linspace(0.85, 1.15, len(clouds))
        latents = np.stack([
            networks.encode_points((cloud * [w, 1, 2 - w, 1, 1, 1])[None].astype(np.float32))[0].ravel()
            for cloud, w in zip(clouds, wide, strict=True)
        ]).astype(np.float64)  # fmt: skip
        directions, spreads = measured.principal(latents - latents.mean(0), 4)
        slopes = measured.moves(bundle, networks, latents.mean(0), directions, spreads)
        measured.add_to(bundle, LandmarkResponse(directions, spreads, slopes, exact_errors(0.02)))
    return path
