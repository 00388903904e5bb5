"""Between HeadMesh's frame (metres, +Y up, facing +Z) and the networks' own (sphere-normalised, any axes)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.flow.solvers import Array
from topos_rt.head.mesh import HeadMesh, Rig, unit_vectors
from topos_rt.head.rig_fit import fit
from topos_rt.head.topology import Topology, sphere_frame
from topos_rt.model.bundle import FrameSpec

MIN_POINTS = 16
_FARTHEST = 1e5


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a head lies: metres = radius * rotation @ network units (in HeadMesh's axes) + centre."""

    radius: float
    centre: np.ndarray  # [3]
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))  # [3,3] float64; from upright, facing +Z


def place(
    vertices: Array, frame: FrameSpec, topology: Topology, placement: Placement | None = None
) -> HeadMesh:
    """The head that the decoder's vertices mean, without a rig.

    vertices: [V,6] float32 positions | normals in the networks' frame; normals are brought to unit length.
    placement: None puts the head around the origin, with the nominal radius of the manifest.
    """
    positions, normals = vertices[:, :3] @ frame.rotation.T, vertices[:, 3:] @ frame.rotation.T
    if placement is None:
        positions *= np.float32(frame.radius_m)
    else:
        positions = placement.radius * (positions @ placement.rotation.T) + placement.centre
        normals = normals @ placement.rotation.T
    return HeadMesh(positions, unit_vectors(normals), topology)


def place_rig(rig: Rig, positions: np.ndarray, frame: FrameSpec, placement: Placement | None = None) -> Rig:
    """A bundle's rig fitted to the placed positions [V,3] of a head.

    One without binding cannot be fitted: it only goes along with the placement.
    """
    if rig.binding is not None:
        return fit(rig, positions)
    if placement is None:
        return rig
    turn = placement.rotation.T * (placement.radius / frame.radius_m)
    return dataclasses.replace(
        rig, joint_positions=rig.joint_positions @ turn + placement.centre, shape_delta=rig.shape_delta @ turn
    )


def checked_points(points: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[P,3] float64 points and unit normals.

    Raises:
        MeshInputError: wrong shapes or types, fewer than 16 points, values that are not finite, points that
            all coincide or lie 100 km away, or a normal of length zero.
    """
    points, normals = _checked("points", points), _checked("normals", normals)
    if points.shape != normals.shape:
        raise MeshInputError(
            "normals", got=f"{len(normals)} rows", expected=f"{len(points)}, one for each point"
        )
    if np.abs(points).max() > _FARTHEST:
        raise MeshInputError("points", got=f"some beyond {_FARTHEST:g}", expected="a head, in metres")
    if sphere_frame(points)[1] < 1e-6:
        raise MeshInputError("points", got="the same point each time", expected="the surface of a head")
    if not normals.any(axis=1).all():
        raise MeshInputError(
            "normals", got="one of length zero", expected="directions", fix="drop those points"
        )
    return points, unit_vectors(normals).astype(np.float64)


def boxed(points: np.ndarray) -> Placement:
    """The place that an upright cloud [P,3] tells: centre of its box, distance of the farthest point."""
    centre, radius = sphere_frame(points)
    return Placement(radius, centre)


def random_subset(points: np.ndarray, normals: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` points in the order of a fixed shuffle; where there are fewer, some more than once."""
    order = np.random.Generator(np.random.Philox(0)).permutation(len(points))
    chosen = order[np.arange(count) % len(points)]
    return points[chosen], normals[chosen]


def network_cloud(points: np.ndarray, normals: np.ndarray, frame: FrameSpec) -> Array:
    """[n,3] points and normals of a head of radius 1, HeadMesh's axes -> what the encoder takes, [1,n,6]."""
    rotation = frame.rotation  # its inverse is its transpose: rows @ rotation
    return np.hstack([points @ rotation, normals @ rotation])[None].astype(np.float32)


def _checked(what: str, values: np.ndarray) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise MeshInputError(what, got="rows of different lengths", expected="numbers [P,3]") from error
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] != 3 or len(array) < MIN_POINTS:
        raise MeshInputError(
            what, got=f"{array.dtype} {list(array.shape)}", expected=f"numbers [P,3], P >= {MIN_POINTS}"
        )
    bad = np.count_nonzero(~np.isfinite(array))
    if bad:
        raise MeshInputError(what, got=f"{bad} NaN or infinite values", expected="finite values")
    return array.astype(np.float64)
