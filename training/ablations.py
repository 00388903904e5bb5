"""Measure what each part of the evidence tells of a head, by linear estimates from some parts alone.

    python -m training.ablations --pictures runs/pictures --evidence runs/evidence \\
        --held-out runs/held_out --held-out-evidence runs/held_out_evidence \\
        --bundle topos_rt/bundles/mini --json benchmarks/results/mini_evidence_now.json

All are ridge regressions to the same directions, on the same pictures as they are, not in a mirror, judged on
people who were never seen. The networks are those of a bundle, which should not have seen them either.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models import EvidenceEncoder
from topos_rt.bench.work import model_facts
from topos_rt.model.bundle import Bundle
from topos_rt.support.files import write_atomic
from training import earlier
from training.evidence import codes_of, regressors, ridge_fit
from training.heads import HeadModel
from training.judge import Judge, face_of
from training.train_flow import Data
from training.tune_encoder import TunedEncoder
from training.vae_data import VAEData

# What is known -> the parts of `EvidenceEncoder.regressors` that tell it.
SETS: dict[str, tuple[str, ...]] = {
    "image": ("image",),
    "landmarks, pose": ("landmarks", "pose"),
    "landmarks, pose, expression": ("landmarks", "pose", "expression"),
    "features": ("features",),
    "all but the image": ("landmarks", "pose", "expression", "features"),
    "all but the features": ("landmarks", "pose", "expression", "image"),
    "all": ("landmarks", "pose", "expression", "features", "image"),
}
SHARES = (0.125, 0.25, 0.5, 1.0)  # of the training pictures, for the curve of all that is known


def columns(encoder: EvidenceEncoder) -> dict[str, Tensor]:
    """Return the columns of each part in the order of `EvidenceEncoder.regressors`."""
    sizes = {
        "landmarks": len(encoder.evidence_scales.landmark_basis), "pose": 5, "expression": 52,
        "features": 8192, "image": 2 * encoder.encoder.pos_embed.shape[-1],
    }  # fmt: skip
    ends = torch.tensor(list(sizes.values())).cumsum(0).tolist()
    return {n: torch.arange(end - size, end) for (n, size), end in zip(sizes.items(), ends, strict=True)}


def measure(encoder: EvidenceEncoder, training: Data, held_out: Data, judge: Judge) -> dict[str, Any]:
    """Return the errors of every set, and of all by the number of pictures."""
    x = regressors(encoder, training.image, training.seen)
    y = codes_of(training.anchors, encoder.evidence_latents)[training.person]
    asked = regressors(encoder, held_out.image, held_out.seen)
    person, parts = held_out.person, columns(encoder)
    truth, radii = held_out.positions[person], held_out.radii[person]

    def row(codes: Tensor) -> dict[str, float]:
        whole, face = judge.millimetres(encoder.latents(codes), truth, radii)
        return {"whole_mm": round(whole, 3), "face_mm": round(face, 3)}

    def solved(ids: Tensor, inputs: Tensor) -> dict[str, float]:
        weights, bias = ridge_fit(x[ids][:, inputs], y[ids])
        return row(asked[:, inputs] @ weights + bias)

    everyone, every = torch.arange(len(x)), torch.cat(list(parts.values()))
    known = {name: solved(everyone, torch.cat([parts[p] for p in names])) for name, names in SETS.items()}
    # Pictures of one person follow each other, so the first of them are of the first people.
    curve = {int(s * len(x)): solved(everyone[: int(s * len(x))], every) for s in SHARES}
    return {
        "pictures": len(x),
        "held_out": {"pictures": len(asked), "people": len(held_out.positions)},
        "directions": y.shape[1],
        "mean_head": row(y.mean(0).expand(len(asked), -1)),
        "components": row(codes_of(held_out.anchors[person], encoder.evidence_latents)),
        "known": known,
        "all_by_pictures": curve,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("pictures", "evidence", "held-out", "held-out-evidence", "bundle"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    data, encoder = VAEData(HeadModel.load()), TunedEncoder().encoder
    encoder.load_state_dict(earlier.encoder(args.bundle))
    training = Data.open(args.pictures, args.evidence, data.offsets, encoder)
    held_out = Data.open(args.held_out, args.held_out_evidence, data.offsets, encoder)
    judge = Judge(earlier.linear_decoder(earlier.vae(args.bundle)), torch.from_numpy(face_of(data)))
    result = measure(encoder, training, held_out, judge)
    text = json.dumps({"model": model_facts(Bundle.open(args.bundle))} | result, indent=2) + "\n"
    print(text)
    write_atomic(args.json, text.encode(), parents=True)


if __name__ == "__main__":
    main()
