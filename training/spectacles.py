"""Train the detector of spectacles (`topos_rt/texture/spectacles.py`) on rendered people.

    python -m training.spectacles --shards runs/pictures --count 24

Spectacles that a picture of `training.render` shows are known. The head that is laid on each picture is the
bundle's mean head, fitted to the landmarks that the detector of faces finds.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from topos_rt.errors import InputError
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.fit import HeadFitter
from topos_rt.head.atlas import MASK_SIDE
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.rig_fit import fit_rig
from topos_rt.model.bundle import Bundle
from topos_rt.support.tensorfile import write_tensors
from topos_rt.texture.plan import plan_of
from topos_rt.texture.projection import cells_of, measure
from topos_rt.texture.spectacles import FILE, features
from training.pictures import shards

_WORN = ("spectacles", "sunglasses")
_RIDGE, _ROUNDS = 10.0, 25
_EVERY = 2  # pictures of a person


def main() -> None:
    """Read the shards, train, and write the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24, help="shards to read (default: 24)")
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    rows = list(samples(arguments.shards, range(arguments.count), _EVERY))
    found, worn = np.stack([row[0] for row in rows]), np.array([row[1] for row in rows])
    weights, bias = train(found, worn)
    tensors = {"weights": weights.astype(np.float32), "bias": np.array([bias], np.float32)}
    write_tensors(arguments.out, tensors, {"pictures": str(len(worn)), "spectacles": str(int(worn.sum()))})
    print(f"{arguments.out}: {len(worn)} faces, {int(worn.sum())} with spectacles")


def samples(folder: Path, numbers: range, every: int = 1) -> Iterator[tuple[np.ndarray, bool]]:
    """Yield the features of the faces of shards, and whether they wear spectacles."""
    bundle, manifest = Bundle.open("mini"), shards.Manifest.open(folder)
    atlas, points = bundle.atlas, bundle.landmarks
    assert atlas is not None and points is not None
    positions = bundle.hierarchy.levels[0].features[:, :3] @ bundle.manifest.frame.rotation.T
    positions = positions * np.float32(bundle.manifest.frame.radius_m)
    rig = None if bundle.rig is None else fit_rig(bundle.rig, positions)
    head = HeadMesh(positions, vertex_normals(positions, bundle.topology.triangles), bundle.topology, rig)
    fitter, plan = HeadFitter(positions, rig, points), plan_of(bundle.topology, atlas, MASK_SIDE)
    with FaceFinder.open() as finder:
        for number in numbers:
            shard = shards.load(shards.path_of(folder, number))
            for row in range(0, len(shard.worn), every):
                with Image.open(io.BytesIO(shard.picture(row))) as opened:
                    picture = opened.convert("RGB")
                faces = [face for face in finder.find_in(picture, 1) if not face.hidden]
                if not faces:
                    continue
                try:
                    fit = fitter.fit(faces[0].landmarks, picture.size, scores=faces[0].expression)
                except InputError:
                    continue  # an occluder made the landmarks nonsense
                worn = any(shard.worn[row] >> manifest.worn.index(name) & 1 for name in _WORN)
                shown = dataclasses.replace(head, pose=fit.pose, expression=fit.expression)
                found = measure(plan, shown, picture, faces[0].landmarks, points, atlas)
                yield features(plan, atlas, *cells_of(plan, found)), bool(worn)


def train(found: np.ndarray, worn: np.ndarray) -> tuple[np.ndarray, float]:
    """Return weights and bias of a logistic regression with a ridge, by Newton's method."""
    mean, spread = found.mean(0), found.std(0) + 1e-3
    rows = np.concatenate([(found - mean) / spread, np.ones((len(found), 1))], 1)
    ridge = np.full(rows.shape[1], _RIDGE)
    ridge[-1] = 1e-3
    state = np.zeros(rows.shape[1])
    for _ in range(_ROUNDS):
        likely = 1 / (1 + np.exp(-rows @ state))
        gradient = rows.T @ (likely - worn) + ridge * state
        hessian = (rows * (likely * (1 - likely))[:, None]).T @ rows + np.diag(ridge)
        state = state - np.linalg.solve(hessian, gradient)
    weights = state[:-1] / spread
    return weights, float(state[-1] - weights @ mean)


if __name__ == "__main__":
    main()
