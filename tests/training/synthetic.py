"""A head model without `anny`: an egg with eyes, lips and a tongue painted on, and a few smooth shapes."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np

from tests.meshes import ball
from training.heads import HeadModel

BONES = ("head", "eye.L", "eye.R", "tongue00", "oculi01.L")
ACTIONS = (
    "mouthSmileLeft", "mouthSmileRight", "cheekSquintLeft", "cheekSquintRight", "jawOpen", "browInnerUp",
    "browOuterUpLeft", "browOuterUpRight", "browDownLeft", "browDownRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeBlinkLeft", "eyeBlinkRight", "mouthPucker",
)  # fmt: skip


class Egg(HeadModel):
    """Its random heads are sums of the basis."""

    def sample(self, count: int, seed: int) -> np.ndarray:
        coefficients = np.random.default_rng(seed).normal(0, 1, (count, len(self.basis))).astype(np.float32)
        return self.template + (coefficients @ self.basis).reshape(count, -1, 3)

    def joints(self, count: int, seed: int) -> np.ndarray:
        """Put each joint in the middle of the vertices that it moves most."""
        heads = self.sample(count, seed)
        middle = self.skin / self.skin.sum(0)
        return np.einsum("vj,nvi->nji", middle, heads).astype(np.float32)


@cache
def egg() -> Egg:
    shape = ball(40, 60, radius=1.0)
    unit = shape.positions.astype(np.float64)
    template = (unit * [0.08, 0.12, 0.095]).astype(np.float32)
    skin = np.zeros((len(unit), len(BONES)), np.float32)
    spots = {1: (0.035, 0.015), 2: (-0.035, 0.015), 3: (0.0, -0.05), 4: (0.02, 0.03)}
    for bone, spot in spots.items():
        near = np.linalg.norm(template[:, :2] - spot, axis=1) < 0.014
        skin[near & (template[:, 2] > 0), bone] = 1
    skin[:, 0] = skin[:, 1:].max(1) == 0
    around_the_tongue = np.linalg.norm(template[:, :2] - spots[3], axis=1) < 0.02
    lips = np.flatnonzero(around_the_tongue & (template[:, 2] > 0)).astype(np.int32)
    # The shapes are wide, tall, deep, a drop, and a twist.
    fields = np.stack(
        [
            unit * [1, 0, 0],
            unit * [0, 1, 0],
            unit * [0, 0, 1],
            unit * [1, 0, 1] * unit[:, 1:2],
            np.roll(unit, 1, 1) * unit**2,
        ]
    )
    return Egg(
        topology=dataclasses.replace(shape.topology, regions={"lips": lips}),
        template=template,
        basis=(0.006 * fields).reshape(len(fields), -1).astype(np.float32),
        skin=skin,
        bones=BONES,
        bone_parents=(-1, 0, 0, 0, 0),
        bone_heads=(skin / skin.sum(0)).T @ template,
        bone_basis=np.zeros((0, len(BONES) * 3), np.float32),
        action_names=ACTIONS,
        action_deltas=np.full((len(ACTIONS), len(unit), 3), 1e-3, np.float32),
        _anny=None,
        _rows=np.arange(len(fields)),
        _bone_rows=np.zeros(0, np.int64),
    )
