"""Measure how much of a head's shape landmarks in the picture tell, by how exact they are: it bounds `mini`.

    python -m training.limits --portraits runs/mini --json benchmarks/results/landmark_limits.json

A ridge regression from the true landmarks of the training portraits, with noise added, to shape is measured
on the held-out ones. It says how well an encoder must see before a certain error can be reached.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models import mini as config
from topos_rt.support.files import write_atomic
from training.gbuffers import Painter, centred
from training.heads import HeadModel
from training.lessons import PROBE_COMPONENTS
from training.train_encoder import Data
from training.train_vae import vertex_error_mm
from training.vae_data import VAEData

PIXELS = (0.0, 0.5, 1.0, 1.5)
HEADS = 10_000  # most heads to fit to
_RIDGE = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    model = HeadModel.load()
    offsets = VAEData(model).offsets
    train = Data.open(args.portraits, "train", offsets)
    held_out = Data.open(args.portraits, "held_out", offsets)
    at = centred(model.template)[Painter(model).landmarks]
    face = torch.from_numpy((at[:, 2] > 0.05) & (np.abs(at[:, 0]) < 0.06))  # these fix place and size
    sets = {"all": at[:, 2] > -1, "front and sides": at[:, 2] > -0.02, "face and forehead": at[:, 2] > 0.02}
    rows: list[dict[str, Any]] = []
    for name, inside in sets.items():
        chosen = torch.from_numpy(inside)
        errors = {f"{px:g}": round(_error(train, held_out, chosen, face, px), 2) for px in PIXELS}
        rows.append({"landmarks": name, "count": int(inside.sum()), "mm_by_pixels_off": errors})
        print(rows[-1], flush=True)
    about = {"model": None, "image_size": config.IMAGE_SIZE, "components": PROBE_COMPONENTS}
    write_atomic(args.json, (json.dumps(about | {"limits": rows}, indent=2) + "\n").encode(), parents=True)


def _error(train: Data, held_out: Data, chosen: Tensor, face: Tensor, pixels_off: float) -> float:
    """Return the mean vertex error in mm on the held-out heads."""
    generator = torch.Generator().manual_seed(0)
    known, asked = (
        _normalised(data, face, pixels_off, generator)[: HEADS * data.views, chosen].flatten(1)
        for data in (train, held_out)
    )
    mean, deviation = known.mean(0), known.std(0) + 1e-6
    known, asked = (F.pad((x - mean) / deviation, (0, 1), value=1.0) for x in (known, asked))
    heads = min(HEADS, len(train.heads))
    positions, _ = train.normalised(heads)
    average = positions.mean(0)
    shapes = (positions - average).flatten(1)
    _, _, directions = torch.pca_lowrank(shapes, PROBE_COMPONENTS, center=False, niter=4)
    codes = (shapes @ directions).repeat_interleave(train.views, 0)
    gram = known.T @ known + _RIDGE * torch.eye(known.shape[1])
    told = asked @ torch.linalg.solve(gram, known.T @ codes)
    got = (told @ directions.T).unflatten(1, (-1, 3)) + average
    return vertex_error_mm(got, *held_out.normalised(len(held_out.heads)))


def _normalised(data: Data, face: Tensor, pixels_off: float, generator: torch.Generator) -> Tensor:
    """Return noisy landmarks [n,L,2], moved and scaled to mean 0 and deviation 1 of those on the face."""
    places = torch.from_numpy(data.portraits.landmarks[:].astype(np.float32))
    places = places + pixels_off * 2 / config.IMAGE_SIZE * torch.randn(places.shape, generator=generator)
    centre = places[:, face].mean(1, keepdim=True)
    size = (places[:, face] - centre).square().mean((1, 2), keepdim=True).sqrt()
    return (places - centre) / size


if __name__ == "__main__":
    main()
