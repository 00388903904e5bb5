"""What the face stage sees of training pictures, and what is fitted to it before training.

    python -m training.evidence --pictures runs/pictures --out runs/evidence [--workers 2]

writes a file beside each shard of `training.render`, with a row for each picture in which a face was found:

    picture     [n] int32, the picture's row in its shard
    person      [n] int32, the person's row in the shard's heads
    crop        [n,128,128,3] uint8, what the image encoder takes
    aligned     [n,150,150,3] uint8, what `models.face_trunk` takes
    landmarks … [n,…] float32, as in `topos_rt.faces.evidence`, and the pose and expression
    places      [n,P,3] float32, where `training.surface_points` are in the aligned cut
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models import mini as config
from models.evidence import NAMES, EvidenceEncoder, Seen
from models.face_trunk import FaceTrunk
from topos_rt.faces.evidence import evidence
from topos_rt.faces.finder import FaceFinder, aligned_square
from topos_rt.faces.networks import IDENTITY_CUT
from topos_rt.faces.portrait import FaceChoice, portraits
from topos_rt.support.files import write_atomic
from training.heads import HeadModel, normalise
from training.lessons import ShapeLesson
from training.loop import add_up, gathered, processes, rank, shared
from training.pictures import shards
from training.surface_points import SurfacePoints

RIDGE = 2.0
_finder: FaceFinder | None = None  # one per worker process
_points: SurfacePoints | None = None


@dataclass(frozen=True)
class Evidence:
    """The evidence of all pictures of a folder, and the heads of their people."""

    landmarks: Tensor  # [n,478,3]
    pose: Tensor  # [n,2]
    expression: Tensor  # [n,52]
    crops: np.ndarray  # [n,128,128,3] uint8
    aligned: np.ndarray  # [n,150,150,3] uint8
    person: np.ndarray  # [n] rows of `heads`
    heads: np.ndarray  # [m,V,3] float32, metres
    missed: int  # pictures in which no face was found

    @classmethod
    def open(cls, pictures: Path, folder: Path) -> Evidence:
        """Read every shard that is in both folders."""
        rows: dict[str, list[np.ndarray]] = {name: [] for name in (*NAMES, "crop", "person")}
        heads: list[np.ndarray] = []
        people = missed = 0
        for path in sorted(folder.glob("shard_*.npz")):
            shard = shards.load(pictures / path.name)
            with np.load(path, allow_pickle=False) as arrays:
                for name in rows:
                    rows[name].append(arrays[name])
            rows["person"][-1] = rows["person"][-1] + people
            missed += len(shard.person) - len(rows["person"][-1])
            heads.append(shard.neutral_heads())
            people += len(heads[-1])

        def whole(name: str) -> np.ndarray:
            return np.concatenate(rows.pop(name))

        return cls(
            landmarks=torch.from_numpy(whole("landmarks")),
            pose=torch.from_numpy(whole("pose")),
            expression=torch.from_numpy(whole("expression")),
            crops=whole("crop"),
            aligned=whole("aligned"),
            person=whole("person"),
            heads=np.concatenate(heads),
            missed=missed,
        )

    def normalised(self) -> tuple[Tensor, Tensor]:
        """Return the heads [m,V,3] in the networks' frame, and their radii [m] in metres."""
        positions, radii = normalise(self.heads)
        return torch.from_numpy(positions), torch.from_numpy(radii)


@torch.no_grad()
def seen_by(trunk: FaceTrunk, evidence: Evidence) -> Seen:
    """Return what is seen of all pictures, the features [n,128,8,8] float16 by a trunk."""
    parts = torch.from_numpy(evidence.aligned).tensor_split(processes())
    made = [trunk(pixels_of(chunk)).half() for chunk in parts[rank()].split(64)]
    features = gathered(torch.cat(made), [len(part) for part in parts])
    return Seen(evidence.landmarks, evidence.pose, evidence.expression, features)


def pixels_of(pictures: Tensor) -> Tensor:
    """Return pictures [B,H,W,3] uint8 as [B,3,H,W] in 0..1."""
    return pictures.permute(0, 3, 1, 2).float() / 255


def rows_of(seen: Seen, ids: Tensor | slice) -> Seen:
    """Return some pictures' evidence, in float32."""
    return Seen(*(part[ids].float() for part in seen))


@torch.no_grad()
def image_tokens(encoder: EvidenceEncoder, crops: np.ndarray) -> Tensor:
    """Return the image's tokens [n,T,C] float16 of crops [n,H,W,3] uint8.

    Processes that train together compute a part each.
    """
    parts = torch.from_numpy(crops).tensor_split(processes())
    made = [encoder.encoder(pixels_of(chunk)).half() for chunk in parts[rank()].split(64)]
    return gathered(torch.cat(made), [len(part) for part in parts])


@torch.no_grad()
def fit_scales(encoder: EvidenceEncoder, landmarks: Tensor, features: Tensor) -> None:
    """Set what brings evidence to unit variance, by landmarks [n,478,3] and features [k,128,8,8]."""
    flat, scales = landmarks.flatten(1), encoder.evidence_scales
    scales.landmark_mean.copy_(flat.mean(0))
    torch.manual_seed(0)  # the decomposition is randomised
    _, values, basis = torch.pca_lowrank(flat, len(scales.landmark_basis), niter=4)
    deviation = values / len(flat) ** 0.5
    scales.landmark_basis.copy_((basis / deviation).T)
    encoder.evidence_estimate.landmark_share.copy_(deviation / deviation.norm())
    scales.feature_mean.copy_(features.mean((0, 2, 3))[:, None, None])
    scales.feature_scale.copy_(features.std((0, 2, 3))[:, None, None] + 1e-6)


@torch.no_grad()
def fit_directions(encoder: EvidenceEncoder, anchors: Tensor, basis: Tensor) -> None:
    """Set what the values of an estimate are: principal directions of anchors [m,N,6] in the span of a basis.

    basis: [K,N*6] of the linear decoder.
    """
    lesson = ShapeLesson(1, *encoder.evidence_latents.shape)
    lesson.fit(anchors, basis)
    encoder.evidence_latents.copy_(lesson.deviation[:, None] * lesson.components)


@torch.no_grad()
def regressors(encoder: EvidenceEncoder, tokens: Tensor, seen: Seen) -> Tensor:
    """Return what estimates are linear in, [n,R], for image tokens [n,T,C] and evidence."""
    weights = encoder.evidence_estimate.weight
    made = torch.empty(len(tokens), weights.shape[1])
    for some in (slice(i, i + 512) for i in range(0, len(tokens), 512)):
        made[some] = encoder.regressors(tokens[some].float(), rows_of(seen, some))
    return made


def ridge(gram: Tensor, cross: Tensor) -> Tensor:
    """Return the weights [R,E] of ridge regression from x^T x [R,R] and x^T y [R,E], both centred."""
    gram = gram.clone()
    gram.diagonal().add_(RIDGE)
    return torch.cholesky_solve(cross, torch.linalg.cholesky(gram))


def ridge_fit(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights [R,E] and the bias [E] of ridge regression from x [n,R] to y [n,E]."""
    x_mean, y_mean = x.mean(0), y.mean(0)
    x = x - x_mean
    weights = ridge(x.T @ x, x.T @ (y - y_mean))
    return weights, y_mean - x_mean @ weights


@torch.no_grad()
def fit_estimate(encoder: EvidenceEncoder, parts: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Fit the linear estimate by ridge regression.

    parts: what it is linear in, [n,R], and what it should be, [n,E], of some pictures after others.
    Processes that train together have a part of the pictures each.
    """
    linear = encoder.evidence_estimate
    values, size = linear.weight.shape
    gram, sums = torch.zeros(size, size), torch.zeros(size + values + 1)
    cross, middle = torch.zeros(size, values), torch.zeros(size)
    for x, y in parts:
        if not gram.any():
            middle = shared(x.mean(0))  # all that is summed is small beside it
        x = x - middle
        gram += x.T @ x
        cross += x.T @ y
        sums += torch.cat([x.sum(0), y.sum(0), torch.full((1,), float(len(x)))])
    for part in (gram, cross, sums):
        add_up(part)
    count = sums[-1]
    x_mean, y_mean = sums[:size] / count, sums[size:-1] / count
    weights = ridge(gram - count * torch.outer(x_mean, x_mean), cross - count * torch.outer(x_mean, y_mean))
    linear.weight.data.copy_(weights.T)
    linear.bias.copy_(y_mean - (x_mean + middle) @ weights)


@torch.no_grad()
def codes_of(anchors: Tensor, latents: Tensor) -> Tensor:
    """Return what estimates should be, [m,E], for anchors [m,N,6]; latents: [E,N*6], of the encoder."""
    return anchors.flatten(1) @ latents.T / latents.square().sum(1)


def see(path: Path) -> dict[str, np.ndarray]:
    """Run the face stage on every picture of a shard."""
    assert _finder is not None and _points is not None
    shard = shards.load(path)
    heads = shard.neutral_heads()
    rows: dict[str, list[Any]] = {name: [] for name in ("picture", "person", "crop", "places", *NAMES)}
    for i in range(len(shard.person)):
        picture = Image.open(io.BytesIO(shard.picture(i))).convert("RGB")
        (portrait,) = portraits(picture, "", _finder, FaceChoice(check=False))
        face = portrait.face
        if face is None or face.hidden or not len(face.landmarks):
            continue
        found = evidence(NAMES, portrait.picture, face, _finder)
        rows["picture"].append(np.int32(i))
        rows["person"].append(shard.person[i])
        rows["crop"].append(np.asarray(portrait.shown(config.IMAGE_SIZE)))
        to_cut = _inverse(aligned_square(face).matrix(IDENTITY_CUT))
        rows["places"].append(_points.places(shard, heads, i, to_cut))
        for name in NAMES:
            rows[name].append(found[name][0])
    out = {name: np.stack(values) for name, values in rows.items()}
    return out | {"aligned": np.rint(255 * out["aligned"]).astype(np.uint8)}


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse [2,3] of an affine map [2,3] of the plane."""
    back = np.linalg.inv(matrix[:, :2])
    return np.column_stack([back, -back @ matrix[:, 2]])


def _start(points: SurfacePoints) -> None:
    global _finder, _points
    torch.set_num_threads(1)
    _finder, _points = FaceFinder.open(threads=1), points


def _see(task: tuple[Path, Path]) -> str:
    source, target = task
    buffer = io.BytesIO()
    np.savez(buffer, **cast("dict[str, Any]", see(source)))
    write_atomic(target, buffer.getvalue(), parents=True)
    return target.name


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=Path, required=True, help="the folder of training.render")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    tasks = [(path, args.out / path.name) for path in sorted(args.pictures.glob("shard_*.npz"))]
    left = [task for task in tasks if not task[1].exists()]
    points = SurfacePoints.of(HeadModel.load())
    started = time.monotonic()
    with Pool(args.workers, initializer=_start, initargs=(points,)) as pool:
        for done, name in enumerate(pool.imap_unordered(_see, left), 1):
            print(f"{name}, {done} of {len(left)}, {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
