"""What the face stage sees of training pictures, and what is fitted to it before training.

    python -m training.evidence --pictures runs/pictures --out runs/evidence [--workers 2]

writes a file beside each shard of `training.render`, with a row for each picture in which a face was found:

    picture     [n] int32, the picture's row in its shard
    person      [n] int32, the person's row in the shard's heads
    crop        [n,128,128,3] uint8, what the image encoder takes
    landmarks … [n,…] as in `topos_rt.faces.evidence`; the map of features float16, the others float32
"""

from __future__ import annotations

import argparse
import io
import time
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
from topos_rt.faces.evidence import evidence
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.portrait import FaceChoice, portraits
from topos_rt.support.files import write_atomic
from training.heads import normalise
from training.loop import gathered, processes, rank
from training.pictures import shards

FOLDS = 5
RIDGE = 2.0
_finder: FaceFinder | None = None  # one per worker process


@dataclass(frozen=True)
class Evidence:
    """The evidence of all pictures of a folder, and the heads of their people."""

    seen: Seen  # [n,…]
    crops: np.ndarray  # [n,128,128,3] uint8
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
        parts = [torch.from_numpy(np.concatenate(rows[name])) for name in NAMES]
        return cls(
            Seen(*parts),
            np.concatenate(rows["crop"]),
            np.concatenate(rows["person"]),
            np.concatenate(heads),
            missed,
        )

    def normalised(self) -> tuple[Tensor, Tensor]:
        """Return the heads [m,V,3] in the networks' frame, and their radii [m] in metres."""
        positions, radii = normalise(self.heads)
        return torch.from_numpy(positions), torch.from_numpy(radii)


def rows_of(seen: Seen, ids: Tensor | slice) -> Seen:
    """Return some pictures' evidence, in float32."""
    return Seen(*(part[ids].float() for part in seen))


@torch.no_grad()
def image_tokens(encoder: EvidenceEncoder, crops: np.ndarray) -> Tensor:
    """Return the image's tokens [n,T,C] float16 of crops [n,H,W,3] uint8.

    Processes that train together compute a part each.
    """
    parts = torch.from_numpy(crops).tensor_split(processes())
    made = [
        encoder.encoder(chunk.permute(0, 3, 1, 2).float() / 255).half() for chunk in parts[rank()].split(64)
    ]
    return gathered(torch.cat(made), [len(part) for part in parts])


@torch.no_grad()
def fit_scales(encoder: EvidenceEncoder, seen: Seen) -> None:
    """Set the buffers that bring evidence to unit variance."""
    flat, scales = seen.landmarks.flatten(1), encoder.evidence_scales
    scales.landmark_mean.copy_(flat.mean(0))
    torch.manual_seed(0)  # the decomposition is randomised
    _, values, basis = torch.pca_lowrank(flat, len(scales.landmark_basis), niter=4)
    deviation = values / len(flat) ** 0.5
    scales.landmark_basis.copy_((basis / deviation).T)
    encoder.evidence_estimate.landmark_share.copy_(deviation / deviation.norm())
    scales.identity_mean.copy_(seen.identity.mean(0))
    some = seen.features[:: max(1, len(flat) // 2000)].float()
    scales.feature_mean.copy_(some.mean((0, 2, 3))[:, None, None])
    scales.feature_scale.copy_(some.std((0, 2, 3))[:, None, None] + 1e-6)


@torch.no_grad()
def regressors(encoder: EvidenceEncoder, tokens: Tensor, seen: Seen) -> Tensor:
    """Return what estimates are linear in, [n,R], for image tokens [n,T,C] and evidence."""
    rows = (slice(i, i + 512) for i in range(0, len(tokens), 512))
    return torch.cat([encoder.regressors(tokens[some].float(), rows_of(seen, some)) for some in rows])


def ridge(gram: Tensor, cross: Tensor) -> Tensor:
    """Return the weights [R,E] of ridge regression from x^T x [R,R] and x^T y [R,E], both centred."""
    gram = gram.clone()
    gram.diagonal().add_(RIDGE)
    return torch.cholesky_solve(cross, torch.linalg.cholesky(gram))


@torch.no_grad()
def fit_estimate(
    encoder: EvidenceEncoder, tokens: Tensor, seen: Seen, person: Tensor, targets: Tensor
) -> Tensor:
    """Fit the linear estimate by ridge regression to targets [n,E].

    Returns the estimates [n,E] of the training pictures themselves, each by a regression that has not seen
    its person: a network that learned from estimates of known people would trust them too much.
    """
    x = regressors(encoder, tokens, seen)
    x_mean, y_mean = x.mean(0), targets.mean(0)
    x, y = x - x_mean, targets - y_mean
    fold = person % FOLDS
    parts = [(x[fold == f].T @ x[fold == f], x[fold == f].T @ y[fold == f]) for f in range(FOLDS)]
    gram, cross = (torch.stack(sums).sum(0) for sums in zip(*parts, strict=True))

    estimates = torch.empty_like(y)
    for f in range(FOLDS):
        weights = ridge(gram - parts[f][0], cross - parts[f][1])
        estimates[fold == f] = x[fold == f] @ weights
    weights = ridge(gram, cross)
    encoder.evidence_estimate.weight.data.copy_(weights.T)
    encoder.evidence_estimate.bias.copy_(y_mean - x_mean @ weights)
    return estimates + y_mean


def see(path: Path) -> dict[str, np.ndarray]:
    """Run the face stage on every picture of a shard."""
    assert _finder is not None
    shard = shards.load(path)
    rows: dict[str, list[Any]] = {name: [] for name in ("picture", "person", "crop", *NAMES)}
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
        for name in NAMES:
            rows[name].append(found[name][0])
    out = {name: np.stack(values) for name, values in rows.items()}
    return out | {"features": out["features"].astype(np.float16)}


def _start() -> None:
    global _finder
    torch.set_num_threads(1)
    _finder = FaceFinder.open(threads=1)


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
    started = time.monotonic()
    with Pool(args.workers, initializer=_start) as pool:
        for done, name in enumerate(pool.imap_unordered(_see, left), 1):
            print(f"{name}, {done} of {len(left)}, {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
