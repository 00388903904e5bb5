"""The `Parts` of a head: its teeth and lashes, with the rig that moves them as the head's own does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.head.normals import vertex_normals
from topos_rt.head.part_kit import PIECES, PartKit
from topos_rt.head.pose import posed_positions
from topos_rt.head.rig import Rig
from topos_rt.head.skeleton import humanoid_joints
from topos_rt.head.topology import Topology
from topos_rt.head.visemes import with_morphs
from topos_rt.support.arrays import Floats, product
from topos_rt.support.checks import frozen, require, require_finite, require_shape

_STILL_M = 1e-4  # offsets of a blendshape that are smaller are none: no picture shows them


@dataclass(frozen=True, eq=False)
class Parts:
    """Teeth and lashes of one head, beside its vertices.

    Its rig has the joints and the blendshapes of the head's, on the parts' vertices. Raises MeshInputError
    where kit, positions and rig do not fit together.
    """

    kit: PartKit
    positions: Floats  # [m,3] float32, metres, in the head's axes
    rig: Rig | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", frozen(self.positions, np.float32, "parts positions"))
        count = len(self.kit.pieces)
        require_shape(self.positions, (count, 3), "parts positions")
        require_finite(self.positions, "parts positions")
        if self.rig is not None:
            found = self.rig.num_vertices
            require(
                found == count, "the rig of the parts", f"{found} vertices", f"{count}, as the parts have"
            )

    def __repr__(self) -> str:
        return f"<Parts: {len(self.positions)} vertices, {len(self.kit.quads)} quads>"

    @cached_property
    def normals(self) -> Floats:
        """The normals [m,3] float32 of unit length."""
        found = vertex_normals(self.positions, self.kit.triangles)
        found.setflags(write=False)
        return found

    def posed(self, shapes: Mapping[str, float], degrees: Mapping[str, Sequence[float]]) -> Parts:
        """Return the parts of a posed head, without a rig. Arguments are those of `HeadMesh.posed`."""
        if self.rig is None:
            return self
        return Parts(self.kit, posed_positions(self.positions, self.rig, shapes, degrees))

    def turned(self, rotation: np.ndarray) -> Parts:
        """Return the parts of a head whose row vectors a rotation [3,3] has turned, without a rig."""
        return Parts(self.kit, self.positions @ rotation)

    def at_level(self, topology: Topology, level: int) -> Parts:
        """Return the parts of the head at a level of detail: as they are, beside fewer UVs."""
        return dataclasses.replace(self, kit=_reduced(self.kit, topology, level))

    def rig_for(self, rig: Rig, morphs: str | Sequence[str]) -> Rig | None:
        """Return the parts' rig with the skeleton of `rig` and the blendshapes that `morphs` chooses.

        rig: the head's, perhaps of fewer joints. A vertex whose joint it lacks hangs on the nearest ancestor
        that it has. None for parts without a rig.
        """
        if self.rig is None:
            return None
        own = with_morphs(self.rig, morphs)
        if own.joint_names == rig.joint_names:
            return own
        numbers = {name: number for number, name in enumerate(rig.joint_names)}
        new = np.zeros(len(own.joint_names), np.uint16)
        for joint, name in enumerate(own.joint_names):
            parent = int(own.joint_parents[joint])
            new[joint] = numbers.get(name, new[parent] if parent >= 0 else 0)
        return dataclasses.replace(
            own,
            joint_names=rig.joint_names,
            joint_parents=rig.joint_parents,
            joint_positions=rig.joint_positions,
            skin_joints=np.where(own.skin_weights > 0, new[own.skin_joints], 0).astype(np.uint16),
        )


@lru_cache(maxsize=8)
def _reduced(kit: PartKit, topology: Topology, level: int) -> PartKit:
    if len(kit.surfaces) != len(topology.uvs):
        return kit
    lod = topology.lods[level - 1]
    used = np.unique(lod.triangle_uvs)
    return dataclasses.replace(kit, surfaces=kit.surfaces[used], head_shade=kit.head_shade[lod.vertices])


def parts_of(kit: PartKit, head: np.ndarray, rig: Rig | None) -> Parts:
    """Return the parts of a head with vertices [V,3], metres, and the rig that was fitted to it."""
    placed = kit.placed(head)
    return Parts(kit, placed, None if rig is None else _part_rig(kit, placed, rig))


def _part_rig(kit: PartKit, placed: np.ndarray, rig: Rig) -> Rig:
    offsets = _offsets(kit, placed, rig)
    moved = np.abs(offsets).max(2) > _STILL_M  # [S,m]
    shape, vertex = np.nonzero(moved)
    joints, weights = _skin(kit, rig)
    return dataclasses.replace(
        rig,
        skin_joints=joints,
        skin_weights=weights,
        shape_index=vertex.astype(np.int32),
        shape_delta=offsets[shape, vertex].astype(np.float32),
        shape_offsets=np.concatenate([[0], np.cumsum(moved.sum(1))]).astype(np.int32),
        binding=None,
        source=None,
    )


def _offsets(kit: PartKit, placed: np.ndarray, rig: Rig) -> np.ndarray:
    """Return how far the blendshapes of a head move its parts, [S,m,3] float64, metres."""
    out = np.zeros((len(rig.shape_names), len(kit.pieces), 3))
    shape = np.repeat(np.arange(len(rig.shape_names)), np.diff(rig.shape_offsets))
    for number, piece in enumerate(PIECES.values()):
        part = kit.span(number)
        if not piece.follows or part.start == part.stop:
            continue
        row = np.full(rig.num_vertices, -1)
        row[kit.anchors[number]] = np.arange(len(kit.anchors[number]))
        at = row[rig.shape_index]
        entries = at >= 0
        moves = np.zeros((len(kit.anchors[number]), len(rig.shape_names), 3))
        moves[at[entries], shape[entries]] = rig.shape_delta[entries]
        sums = product(kit.weights[part].astype(np.float64), moves.reshape(len(moves), -1))
        out[:, part] = sums.reshape(-1, len(rig.shape_names), 3).transpose(1, 0, 2)
    for motion, name in enumerate(kit.motion_shapes):
        if name in rig.shape_names:
            part = kit.span(int(kit.motion_pieces[motion]))
            out[rig.shape_names.index(name), part] += kit.moved(placed, motion)
    return out


def _skin(kit: PartKit, rig: Rig) -> tuple[np.ndarray, np.ndarray]:
    """Return the joints and weights of the parts' vertices, [m,4] each."""
    joints, weights = rig.skin_joints[kit.holders].copy(), rig.skin_weights[kit.holders].copy()
    named = humanoid_joints(rig.joint_names)
    for number, piece in enumerate(PIECES.values()):
        if piece.joint is not None and piece.joint in named:
            part = kit.span(number)
            joints[part], weights[part] = 0, 0
            joints[part, 0], weights[part, 0] = rig.joint_names.index(named[piece.joint]), 1
    return joints, weights


def check_part_rig(parts: Parts | None, rig: Rig | None) -> None:
    """Raise MeshInputError unless the parts of a head have the joints and blendshapes of its rig."""
    if parts is None or rig is None:
        return
    own = parts.rig
    if own is None or (own.joint_names, own.shape_names) != (rig.joint_names, rig.shape_names):
        found = own and f"{len(own.joint_names)} joints, {len(own.shape_names)} blendshapes"
        raise MeshInputError(
            "the rig of the parts",
            got=found or "none",
            expected=f"{len(rig.joint_names)} and {len(rig.shape_names)} with the names of the head's",
            fix="use topos_rt.head.parts.parts_of with the head's rig, or parts=None",
        )
