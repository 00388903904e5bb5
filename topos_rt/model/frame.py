"""Conversions between HeadMesh's frame (metres, +Y up, facing +Z) and the networks' (unit size, any axes)."""

from __future__ import annotations

import dataclasses

import numpy as np

from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import unit_vectors
from topos_rt.head.rig import Rig
from topos_rt.head.rig_fit import fit_rig
from topos_rt.head.topology import Topology
from topos_rt.model.manifest import FrameSpec
from topos_rt.support.arrays import Array
from topos_rt.support.similarity import Similarity


def place(
    vertices: Array, frame: FrameSpec, topology: Topology, placement: Similarity | None = None
) -> HeadMesh:
    """Return the head, without a rig, that has the decoder's vertices.

    vertices: [V,6] float32 positions | normals in the networks' frame; normals are brought to unit length.
    placement: takes a head of radius 1 around the origin, upright and facing +Z, to its place in metres; None
    leaves it around the origin, with the nominal radius of the manifest.
    """
    positions, normals = vertices[:, :3] @ frame.rotation.T, vertices[:, 3:] @ frame.rotation.T
    if placement is None:
        positions *= np.float32(frame.radius_m)
    else:
        positions, normals = placement.both(positions, normals)
    return HeadMesh(positions, unit_vectors(normals), topology)


def place_rig(rig: Rig, positions: np.ndarray, frame: FrameSpec, placement: Similarity | None = None) -> Rig:
    """Return a bundle's rig, fitted to the placed positions [V,3] of a head.

    A rig without a binding cannot be fitted; it is only placed with the head.
    """
    if rig.binding is not None:
        return fit_rig(rig, positions)
    if placement is None:
        return rig
    turn = placement.rotation.T * (placement.scale / frame.radius_m)
    joints, delta = rig.joint_positions @ turn + placement.shift, rig.shape_delta @ turn
    return dataclasses.replace(
        rig, joint_positions=joints.astype(np.float32), shape_delta=delta.astype(np.float32)
    )


def network_cloud(points: np.ndarray, normals: np.ndarray, frame: FrameSpec) -> Array:
    """Return the encoder's input [1,n,6] from points and normals [n,3] of an upright head of radius 1."""
    rotation = frame.rotation  # rows @ rotation applies its transpose, which is its inverse
    return np.hstack([points @ rotation, normals @ rotation])[None].astype(np.float32)
