"""Fit `mini`'s linear estimate anew to people whom what sees pictures was not trained on.

    python -m training.fit_estimate --pictures runs/others --evidence runs/seen_others \\
        --held-out runs/held_out --held-out-evidence runs/held_out_evidence \\
        --earlier runs/first --tuned runs/tuned --out runs/fitted

What learned from pictures sees more in them than in others, and an estimate that was fitted to the same ones
trusts it too much. The networks are those of `--tuned`, a run of `training.tune_encoder`, or without it
those of `--earlier`; they stay as they are. The fit is in closed form, to pictures and their mirror images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from training.heads import HeadModel
from training.judge import Judge, face_of
from training.linear_decoder import LinearDecoder
from training.loop import load_weights
from training.tune_encoder import Data, Lesson, TunedEncoder, judged, refit
from training.vae_data import VAEData


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("pictures", "evidence", "held-out", "held-out-evidence", "earlier", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    parser.add_argument("--tuned", type=Path, metavar="DIR")
    args = parser.parse_args()
    data, model = VAEData(HeadModel.load()), TunedEncoder()
    load_weights(model, *((args.tuned, "tuned") if args.tuned else (args.earlier, "encoder")))
    judge = Judge(LinearDecoder.open(args.earlier), torch.from_numpy(face_of(data)))
    held_out = Data.open(args.held_out, args.held_out_evidence, data.offsets)
    everyone = torch.arange(len(held_out.person))
    with torch.no_grad():
        before = judged(model.eval(), held_out, everyone, judge)
        training = Data.open(args.pictures, args.evidence, data.offsets)
        lesson = Lesson.of(model.encoder, training, data.offsets, data.mean)
        model.encoder.evidence_mirror.copy_(lesson.of_mirror())
        refit(model, training, lesson)
        after = judged(model, held_out, everyone, judge)
    for name, (whole, face) in (("before", before), ("fitted", after)):
        print(f"{name}: {whole:.3f} mm for the whole head, {face:.3f} for the face", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save({"average": model.state_dict()}, args.out / "tuned.pt")


if __name__ == "__main__":
    main()
