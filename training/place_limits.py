"""Measure what the places of the head's surface in a picture tell of a head, by how exactly they are known.

    python -m training.place_limits --pictures runs/pictures --evidence runs/evidence \\
        --held-out runs/held_out --held-out-evidence runs/held_out_evidence \\
        --earlier runs/first --json benchmarks/results/place_limits.json

A ridge regression from the true places of `training.surface_points` in aligned cuts, with noise added, and
from pose and expression as the face stage finds them, is judged on people who were never seen. It bounds
what a network could tell that finds dense landmarks. Noise that is independent from point to point averages
out over the points; a network's errors do not, since what it cannot see moves whole regions alike.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.face_trunk import SIDE
from topos_rt.support.files import write_atomic
from training.evidence import codes_of, fit_directions, ridge_fit
from training.heads import HeadModel
from training.judge import Judge, face_of
from training.linear_decoder import LinearDecoder
from training.surface_points import SurfacePoints
from training.tune_encoder import Data, TunedEncoder
from training.vae_data import VAEData

PIXELS = (0.0, 0.5, 1.0, 2.0)  # of the cut: the deviation of each coordinate
REACHES_M = (0.0, 0.02)  # how far noise is alike: errors this far apart correlate by exp(-1/2)
KINDS = {"across": 2, "across and in depth": 3}
COORDINATES = 120
TURNED = 40  # coordinates whose products with the pose count


def places_of(folder: Path) -> Tensor:
    """Return the places [n,P,3] that `training.evidence` wrote, in half sides of the cut."""
    rows = []
    for path in sorted(folder.glob("shard_*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            rows.append(arrays["places"])
    middle = np.array([SIDE / 2, SIDE / 2, 0], np.float32)
    return torch.from_numpy((np.concatenate(rows) - middle) / (SIDE / 2))


def regressors(places: Tensor, data: Data, basis: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return what heads are linear in, [n,R]: coordinates of places, pose, expression and products."""
    coordinates = (places.flatten(1) - mean) @ basis / deviation
    yaw, pitch = data.evidence.pose.split(1, 1)
    turns = torch.cat([yaw, pitch, yaw * yaw, yaw * pitch, pitch * pitch], 1)
    turned = coordinates[:, :TURNED, None] * turns[:, None]
    weighed = coordinates * (deviation / deviation[0]).sqrt()
    return torch.cat([weighed, 0.5 * turned.flatten(1), turns, data.evidence.expression], 1)


def shaken(places: Tensor, pixels: float, mixing: Tensor, generator: torch.Generator) -> Tensor:
    """Return places [n,P,3] with noise of a deviation in pixels of the cut; mixing: [P,P] of `alike`."""
    return places + pixels * 2 / SIDE * mixing @ torch.randn(places.shape, generator=generator)


def alike(points: Tensor, reach_m: float) -> Tensor:
    """Return the map [P,P] that makes independent noise alike where points [P,3] are near; 0: not at all."""
    if not reach_m:
        return torch.eye(len(points))
    near = torch.exp(-0.5 * (torch.cdist(points, points) / reach_m).square())
    values, turn = torch.linalg.eigh(near)
    return turn * values.clamp_min(0).sqrt()


def measure(
    known: tuple[Tensor, Data], asked: tuple[Tensor, Data], wanted: Tensor, latents: Tensor, judge: Judge
) -> dict[str, float]:
    """Return the errors in mm on those asked, of a regression from places and the rest to codes [n,E]."""
    flat = known[0].flatten(1)
    mean = flat.mean(0)
    torch.manual_seed(0)  # the decomposition is randomised
    _, values, basis = torch.pca_lowrank(flat - mean, COORDINATES, center=False, niter=4)
    deviation = values / len(flat) ** 0.5
    x, q = (regressors(*part, basis, mean, deviation) for part in (known, asked))
    weights, bias = ridge_fit(x, wanted)
    codes = q @ weights + bias
    data = asked[1]
    made = (codes @ latents).view(len(codes), *data.anchors.shape[1:])
    whole, face = judge.millimetres(made, data.positions[data.person], data.radii[data.person])
    return {"whole_mm": round(whole, 2), "face_mm": round(face, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("pictures", "evidence", "held-out", "held-out-evidence", "earlier"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    head = HeadModel.load()
    data, linear = VAEData(head), LinearDecoder.open(args.earlier)
    known = Data.open(args.pictures, args.evidence, data.offsets)
    asked = Data.open(args.held_out, args.held_out_evidence, data.offsets)
    true, others = places_of(args.evidence), places_of(args.held_out_evidence)
    encoder = TunedEncoder().encoder
    fit_directions(encoder, known.anchors, linear.basis)
    wanted = codes_of(known.anchors, encoder.evidence_latents)[known.person]
    judge = Judge(linear, torch.from_numpy(face_of(data)))
    generator = torch.Generator().manual_seed(0)
    points = torch.from_numpy(head.template[SurfacePoints.of(head).vertices]).float()
    rows: list[dict[str, Any]] = []
    for (kind, count), reach in product(KINDS.items(), REACHES_M):
        mixing = alike(points, reach)
        for pixels in PIXELS[reach > 0 :]:
            own, asked_of = (shaken(at, pixels, mixing, generator)[..., :count] for at in (true, others))
            found = measure((own, known), (asked_of, asked), wanted, encoder.evidence_latents, judge)
            rows.append({"places": kind, "alike_within_m": reach, "pixels_off": pixels} | found)
            print(rows[-1], flush=True)
    about = {"model": None, "pictures": len(wanted), "held_out": len(others), "points": true.shape[1]}
    write_atomic(args.json, (json.dumps(about | {"limits": rows}, indent=2) + "\n").encode(), parents=True)


if __name__ == "__main__":
    main()
