"""Pictures of heads whose pose, expression and shape are known, with what the face stage sees in them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from export.landmarks.drawing import Model, View
from export.landmarks.paint import strokes
from topos_rt.faces.expression import NAMES
from topos_rt.faces.face import Face
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.pose import rotation
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.rig_fit import fit_rig
from topos_rt.model.bundle import Bundle
from training.heads import HeadModel
from training.pictures import shards

# Mixtures of ARKit shapes with their largest weights; "*" stands for both sides.
_EXPRESSIONS = (
    {"mouthSmile*": 0.9, "cheekSquint*": 0.5}, {"jawOpen": 0.8}, {"jawOpen": 0.4, "mouthFunnel": 0.7},
    {"browInnerUp": 0.8, "browOuterUp*": 0.8}, {"browDown*": 0.9}, {"eyeBlink*": 1.0}, {"eyeSquint*": 0.9},
    {"eyeWide*": 0.9}, {"mouthPucker": 0.9}, {"mouthFrown*": 0.8}, {"mouthLeft": 0.7}, {"mouthRight": 0.7},
    {"mouthUpperUp*": 0.7, "mouthLowerDown*": 0.7}, {"noseSneer*": 0.8}, {"mouthStretch*": 0.8},
    {"eyeLookDown*": 0.7}, {"eyeLookUp*": 0.7}, {"eyeLookInLeft": 0.7, "eyeLookOutRight": 0.7},
    {"eyeLookInRight": 0.7, "eyeLookOutLeft": 0.7}, {"jawLeft": 0.8}, {"jawRight": 0.8}, {"cheekPuff": 0.9},
)  # fmt: skip


CLEAN = ("beard", "spectacles")  # what a face may wear; all else covers a part of it


@dataclass(frozen=True, eq=False)
class Labelled:
    """Faces as the detector sees them, and the truth; n faces, S shapes named `shapes`."""

    shapes: tuple[str, ...]
    pictures: int  # that were drawn, of which n showed a face
    neutral: np.ndarray  # [n,V,3] metres
    turn: np.ndarray  # [n,3,3] from the head's axes to the line of sight's
    weights: np.ndarray  # [n,S]
    landmarks: np.ndarray  # [n,478,3] pixels
    scores: np.ndarray  # [n,51] of the expression network, in the order of NAMES[1:]

    def __len__(self) -> int:
        return len(self.turn)


def read(folder: Path, finder: FaceFinder) -> Labelled:
    """Find the faces of pictures that `training.render` drew, where nothing but CLEAN is worn or held up."""
    manifest = shards.Manifest.open(folder)
    covering = sum(1 << bit for bit, name in enumerate(manifest.worn) if name not in CLEAN)
    rows, pictures = [], 0
    for path in sorted(folder.glob("shard_*.npz")):
        shard = shards.load(path)
        heads = shard.neutral_heads()
        for i in np.flatnonzero(shard.worn & covering == 0):
            pictures += 1
            picture = Image.open(io.BytesIO(shard.picture(int(i)))).convert("RGB")
            head, turn = heads[shard.person[i]], shard.camera_of(int(i)).rotation
            for face in finder.find_in(picture, 1):
                if len(face.landmarks):
                    rest = head - (head.min(0) + head.max(0)) / 2
                    weights = shard.weights[i].astype(np.float64)
                    rows.append((rest, turn, weights, face.landmarks, scores_of(face)))
    return _labelled(manifest.actions, pictures, rows)


def draw(bundle: Bundle, count: int, seed: int, finder: FaceFinder) -> Labelled:
    """Draw painted clay heads that the bundle has never seen, as `python -m export landmarks` does."""
    model, rng = HeadModel.load(), np.random.default_rng(seed)
    assert bundle.landmarks is not None and bundle.rig is not None
    rows = []
    for neutral in model.sample(count, seed):
        rest = neutral - (neutral.min(0) + neutral.max(0)) / 2
        head = HeadMesh(
            rest, vertex_normals(rest, model.topology.triangles), bundle.topology, fit_rig(bundle.rig, rest)
        )
        weights = _weights(model.action_names, rng)
        posed = head.posed(dict(zip(model.action_names, map(float, weights), strict=True)))
        paint = strokes(bundle.landmarks.points(rest), bundle.landmarks.mirrored, False)
        view = View(float(np.clip(rng.normal(0, 18), -50, 50)), float(np.clip(rng.normal(0, 9), -25, 25)))
        drawing = Model(posed).draw(view, rest.astype(np.float64), paint)
        for face in finder.find_in(drawing.picture, 1):
            if len(face.landmarks):
                rows.append(
                    (rest, rotation(view.yaw, view.pitch, 0), weights, face.landmarks, scores_of(face))
                )
    return _labelled(model.action_names, count, rows)


def _labelled(shapes: tuple[str, ...], pictures: int, rows: list[tuple[Any, ...]]) -> Labelled:
    columns: list[Any] = [np.stack(column) for column in zip(*rows, strict=True)]
    return Labelled(shapes, pictures, *columns)


def scores_of(face: Face) -> np.ndarray:
    """Return a face's scores [51] in the order of NAMES[1:]."""
    return np.array([face.expression[name] for name in NAMES[1:]])


def _weights(names: tuple[str, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw weights [S] of one to three expressions."""
    weights = np.zeros(len(names))
    for kind in rng.choice(len(_EXPRESSIONS), rng.integers(1, 4), replace=False):
        amount = rng.uniform(0.2, 1.0)
        for pattern, most in _EXPRESSIONS[kind].items():
            for name in [pattern.replace("*", side) for side in ("Left", "Right")]:
                weights[names.index(name)] = most * amount * rng.uniform(0.8, 1.0)
    return weights
