"""Poses of a head: blendshapes first, then linear-blend skinning, as in glTF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from topos_rt.errors import MeshInputError, did_you_mean
from topos_rt.head.rig import Rig


def posed_positions(
    rest: np.ndarray, rig: Rig, shapes: Mapping[str, float], degrees: Mapping[str, Sequence[float]]
) -> np.ndarray:
    """Return the vertices of a posed head, [V,3] float64, metres.

    rest: [V,3] the vertices of the head that the rig was fitted to. Other arguments and errors are those of
    `HeadMesh.posed`.
    """
    positions = rest.astype(np.float64)
    for name, weight in shapes.items():
        if not np.isfinite(weight):
            raise MeshInputError(f"the weight of {name}", got=weight, expected="a finite number")
        positions += rig.shape(name) * float(weight)
    if degrees:
        matrices = _joint_matrices(rig, degrees)[rig.skin_joints]  # [V,4,3,4]
        matrix = np.einsum("vk,vkij->vij", rig.skin_weights.astype(np.float64), matrices)
        positions = np.einsum("vij,vj->vi", matrix[:, :, :3], positions) + matrix[:, :, 3]
    return positions


def _joint_matrices(rig: Rig, degrees: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Return the transforms of the joints from rest to pose, [J,3,4], in the head's axes."""
    unknown = set(degrees) - set(rig.joint_names)
    if unknown:
        name = min(unknown, key=str)
        raise MeshInputError(
            "unknown joint",
            got=repr(name),
            expected=f"one of: {', '.join(rig.joint_names)}",
            fix=did_you_mean(name, rig.joint_names),
        )
    matrices = np.zeros((len(rig.joint_names), 4, 4))
    for joint, (name, parent) in enumerate(zip(rig.joint_names, rig.joint_parents, strict=True)):
        own = np.eye(4)
        turn = np.asarray(degrees.get(name, (0, 0, 0)), np.float64)
        if turn.shape != (3,) or not np.isfinite(turn).all():
            raise MeshInputError("the turn of a joint", got=turn.tolist(), expected="three finite degrees")
        own[:3, :3] = rotation_of(np.radians(turn))
        pivot = rig.joint_positions[joint].astype(np.float64)
        own[:3, 3] = pivot - own[:3, :3] @ pivot
        matrices[joint] = own if parent < 0 else matrices[parent] @ own
    return matrices[:, :3]


def rotation_of(vector: np.ndarray) -> np.ndarray:
    """Return the matrix [3,3] of a rotation vector [3], radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / angle if angle else vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
