"""Skeletons as other programs want them: names without dots, the names of standards, and fewer joints."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from topos_rt.errors import choose
from topos_rt.head.rig import Rig

SKELETONS = {"full": "every joint of the rig", "compact": "the joints that hold vertices, below one root"}


@dataclass(frozen=True)
class HumanoidJoint:
    """What standards call a joint, and the names by which it is recognized in a rig."""

    vrm: str  # glTF humanoids: VRMC_vrm (VRM 1.0); node `extras.humanoid` of our files
    unity: str  # UnityEngine.HumanBodyBones
    arkit: str  # a joint of ARKit's body skeleton, ARSkeletonDefinition.defaultBody3D
    known: tuple[str, ...]  # in lower case, without prefix, spaces and punctuation


HUMANOID = {
    joint.vrm: joint
    for joint in (
        HumanoidJoint("neck", "Neck", "neck_1_joint", ("neck", "neck01", "neck1", "neck1joint")),
        HumanoidJoint("head", "Head", "head_joint", ("head", "headjoint")),
        HumanoidJoint("jaw", "Jaw", "jaw_joint", ("jaw", "jawjoint", "jawroot")),
        HumanoidJoint(
            "leftEye", "LeftEye", "left_eye_joint", ("eyel", "lefteye", "eyeleft", "leye", "lefteyejoint")
        ),
        HumanoidJoint(
            "rightEye",
            "RightEye",
            "right_eye_joint",
            ("eyer", "righteye", "eyeright", "reye", "righteyejoint"),
        ),
    )
}
_PREFIX = re.compile(r"^(mixamorig\d*|bip001|bip01|cc_base|def|j_bip_c|j_adj_[lrc])[\s_:.\-]+", re.IGNORECASE)


def humanoid_joints(names: Iterable[str]) -> dict[str, str]:
    """Return which joints are those of a humanoid: key of HUMANOID -> name of the joint, where there is one.

    names: those of a rig's joints, parents first; the first that is recognized counts.
    """
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(re.sub(r"[\W_]", "", _PREFIX.sub("", name)).lower(), name)
    found = {
        key: next((plain[known] for known in joint.known if known in plain), None)
        for key, joint in HUMANOID.items()
    }
    return {key: name for key, name in found.items() if name is not None}


def with_skeleton(rig: Rig, skeleton: str) -> Rig:
    """Return a fitted rig with the skeleton that a key of SKELETONS names. Raises OptionError for another."""
    choose(skeleton, SKELETONS, "skeleton")
    return rig if skeleton == "full" else _compact(rig)


def _compact(rig: Rig) -> Rig:
    """Return a rig of the joints that hold vertices, which hang on their nearest kept ancestor, and one root.

    Several roots that are left hang on the nearest ancestor that they share; where there is none, on a new
    joint at the origin. Joints have no rotation at rest, so whatever can still be turned moves as before.
    """
    parents = rig.joint_parents.tolist()
    kept = np.zeros(len(parents), bool)
    kept[rig.skin_joints[rig.skin_weights > 0]] = True

    def above(joint: int) -> list[int]:
        found = []
        while (joint := parents[joint]) >= 0:
            found.append(joint)
        return found

    roots = [joint for joint in np.flatnonzero(kept).tolist() if not any(kept[up] for up in above(joint))]
    added = 0
    if len(roots) > 1:
        shared = set.intersection(*(set(above(root)) for root in roots))
        if shared:
            kept[max(shared)] = True  # parents come first: the last one is the nearest
        else:
            added = 1
    joints = np.flatnonzero(kept).tolist()
    new = np.full(len(parents), -1)
    new[joints] = np.arange(added, added + len(joints))
    hung = [next((new[up] for up in above(joint) if kept[up]), added - 1) for joint in joints]
    return dataclasses.replace(
        rig,
        joint_names=(*[_new_name(rig)] * added, *(rig.joint_names[joint] for joint in joints)),
        joint_parents=np.array([*[-1] * added, *hung]),
        joint_positions=np.concatenate([np.zeros((added, 3), np.float32), rig.joint_positions[joints]]),
        skin_joints=np.where(rig.skin_weights > 0, new[rig.skin_joints], 0),
        binding=None,
        source=None,
    )


def _new_name(rig: Rig) -> str:
    names = itertools.chain(["root"], (f"root_{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in rig.joint_names)
