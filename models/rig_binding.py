"""Bind a rig to the head it was made on, so that the runtime can fit it to other heads.

A binding holds three things: joints as sums of vertices, the pairs of vertices that a shape brings into
contact, and the parts of the mesh that move as one piece.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.head.rig import Binding, Rig
from topos_rt.head.topology import Topology
from topos_rt.support.similarity import sphere_frame

# Distances as shares of the template's radius; on `mini` they are 1.8 mm and 4.2 mm.
_TOGETHER = 0.013
_APART = 0.03
_CLOSING = 0.35  # a contact leaves at most this share of the distance at rest
_CLOSING_NAMES = re.compile("blink|wink|eyes?_?clos", re.IGNORECASE)
_FEWEST_CONTACTS = 6  # fewer are chance
_ROWS = 512
_NEAR = (16, 32, 64, 256)  # numbers of vertices that are tried in turn to hold a joint
_INFLUENCES = 4  # joints that move a vertex


@dataclass(frozen=True, eq=False)
class RigSource:
    """A head with a skeleton and blendshapes, all dense and in the head's own units, before it is bound."""

    template: np.ndarray  # [V,3]
    joint_names: tuple[str, ...]
    joint_parents: np.ndarray  # [J], -1 for a root
    held_by: Sequence[tuple[np.ndarray, np.ndarray]]  # vertex ids [n] and weights [n] that give each joint
    skin: np.ndarray  # [V,J]
    shape_names: tuple[str, ...]
    shapes: np.ndarray  # [S,V,3] offsets from the template

    def bind(self, topology: Topology, shortest: float) -> Rig:
        """Return the rig with its binding.

        Each vertex keeps its four largest skin weights. Offsets of `shortest` or less are dropped.
        """
        order = np.argsort(-self.skin, axis=1, kind="stable")[:, :_INFLUENCES]
        weights = np.take_along_axis(self.skin, order, 1)
        pad = _INFLUENCES - order.shape[1]  # a skeleton may have fewer joints
        order, weights = (np.pad(array, ((0, 0), (0, pad))) for array in (order, weights))
        weights /= weights.sum(1, keepdims=True)
        parts = rigid_parts(topology)
        moved = [_moved_vertices(shape, parts, shortest) for shape in self.shapes]
        index, offsets = _joined(moved)
        pairs, contact_offsets = _joined(contacts(self.template, self.shapes, self.shape_names, parts))
        joint_index, joint_offsets = _joined([ids for ids, _ in self.held_by])
        binding = Binding(
            template=self.template,
            joint_index=joint_index,
            joint_weight=np.concatenate([weights for _, weights in self.held_by]),
            joint_offsets=joint_offsets,
            contact_pairs=pairs,
            contact_offsets=contact_offsets,
            parts=parts,
        )
        return Rig(
            joint_names=self.joint_names,
            joint_parents=self.joint_parents,
            joint_positions=binding.joints(binding.template),
            skin_joints=order,
            skin_weights=weights,
            shape_names=self.shape_names,
            shape_index=index,
            shape_delta=np.concatenate([shape[ids] for shape, ids in zip(self.shapes, moved, strict=True)]),
            shape_offsets=offsets,
            binding=binding,
        )


def rigid_parts(topology: Topology) -> np.ndarray:
    """Number the connected parts of a mesh: [V] uint8, 0 for the largest part and for loose vertices.

    The separate pieces inside a head are eyeballs, teeth and tongues. Raises MeshInputError for more than 255
    of them.
    """
    labels = np.arange(topology.num_vertices)
    source, target = topology.edges.T
    while True:  # every vertex takes the lowest label around it, then that label's own
        lowest = labels.copy()
        np.minimum.at(lowest, source, labels[target])
        lowest = lowest[lowest]
        if np.array_equal(lowest, labels):
            break
        labels = lowest
    names, part, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    number = np.zeros(len(names), np.int64)
    others = [i for i in range(len(names)) if i != sizes.argmax() and sizes[i] > 1]
    if len(others) > 255:
        raise MeshInputError("parts of the mesh", got=len(others) + 1, expected="at most 256 separate ones")
    number[others] = np.arange(len(others)) + 1
    return number[part.reshape(-1)].astype(np.uint8)


def contacts(
    template: np.ndarray, shapes: np.ndarray, names: Sequence[str], parts: np.ndarray
) -> list[np.ndarray]:
    """Find, for each shape [S,V,3], the pairs [c,2] of skin vertices, apart at rest, that it brings together.

    Only shapes that are named for closing something by themselves have contacts: others bring vertices
    together by chance or, like mouthClose, are meant to be added to another shape. Each vertex is paired with
    the nearest of those it came near to, and a pair is listed once.
    """
    radius, none = sphere_frame(template)[1], np.zeros((0, 2), np.int64)
    return [
        _meeting(template, shape, parts == 0, radius) if _CLOSING_NAMES.search(name) else none
        for name, shape in zip(names, shapes, strict=True)
    ]


def _meeting(template: np.ndarray, shape: np.ndarray, skin: np.ndarray, radius: float) -> np.ndarray:
    ids = np.flatnonzero(skin & (np.linalg.norm(shape, axis=1) > 1e-4 * radius))
    rest, posed = template[ids].astype(np.float32), (template + shape)[ids].astype(np.float32)
    pairs = []
    for start in range(0, len(ids), _ROWS):
        part = slice(start, start + _ROWS)
        after, before = (
            np.sqrt(((points[part, None] - points[None]) ** 2).sum(2)) for points in (posed, rest)
        )
        after[(before < _APART * radius) | (after > _CLOSING * before)] = np.inf
        nearest = after.argmin(1)
        met = np.flatnonzero(after[np.arange(len(nearest)), nearest] < _TOGETHER * radius)
        pairs.append(np.sort(np.stack([ids[start + met], ids[nearest[met]]], 1), axis=1))
    found = np.unique(np.concatenate(pairs), axis=0) if pairs else np.zeros((0, 2), np.int64)
    return found if len(found) >= _FEWEST_CONTACTS else found[:0]


def _moved_vertices(shape: np.ndarray, parts: np.ndarray, shortest: float) -> np.ndarray:
    """List the vertices that a shape [V,3] moves by more than `shortest`, and all of every part it moves.

    A part that turns on one head may turn about another point on the next, so none of it may be left out.
    """
    moved = np.linalg.norm(shape, axis=1) > shortest
    touched = np.unique(parts[moved & (parts > 0)])
    return np.flatnonzero(moved | np.isin(parts, touched))


def near_regressor(
    joint: np.ndarray, template: np.ndarray, preferred: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return vertex ids and weights that give a joint [3] on this one head: affine weights of least norm.

    preferred: vertex ids to choose from first, those that the joint moves. A single head does not say more;
    weights of least norm move the joint with the middle of the vertices around it.
    Raises MeshInputError where even 256 vertices lie in a plane that the joint is not in.
    """
    everyone = np.arange(len(template))
    for count in _NEAR:
        for candidates in (preferred, everyone):
            order = np.argsort(np.linalg.norm(template[candidates] - joint, axis=1), kind="stable")
            ids = candidates[order[:count]]
            if len(ids) < 4:
                continue
            offsets = (template[ids] - joint).astype(np.float64)
            scale = np.abs(offsets).max()
            if not 0 < scale < np.inf:  # a joint that is nowhere, or vertices that are all where it is
                continue
            system = np.vstack([np.ones(len(ids)), offsets.T / scale])
            try:
                weights = np.linalg.pinv(system, rcond=1e-6) @ [1.0, 0, 0, 0]
            except np.linalg.LinAlgError:  # coordinates too far apart for any answer
                continue
            missed = np.linalg.norm(weights @ offsets) / scale
            if missed < 1e-5 and abs(weights.sum() - 1) < 1e-5 and np.abs(weights).sum() < 20:
                return ids, weights / weights.sum()
    raise MeshInputError(
        "a joint",
        got=f"one at {joint.round(4).tolist()}",
        expected="one near the mesh",
        fix="check the units of the skeleton and the mesh",
    )


def _joined(lists: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate the arrays, and return the offsets [n+1] int32 at which each begins."""
    return np.concatenate(lists), np.cumsum([0, *map(len, lists)]).astype(np.int32)
