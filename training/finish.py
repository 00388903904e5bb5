"""Finish a training run of `mini`: write what `python -m export mini` needs besides the networks' weights.

    python -m training.finish --out runs/mini

Export reads these files (`models/finished_run.py`) with `vae.pt` and `flow.pt`, and never `training/` itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from models.finished_run import FinishedRun
from training.heads import TRAIN_SEED, HeadModel, normalise
from training.rig import make_rig
from training.train_flow import SIGMA_MIN
from training.train_vae import VAEData

RADIUS_HEADS = 2000  # their mean radius is the bundle's unit
SHOWN_HEADS = 12  # the levels of detail keep their shape
BASIS_HEADS = 4000  # their latents span the latent basis


def finished(model: HeadModel, data: VAEData) -> FinishedRun:
    """Collect the parts; `data` must be what the VAE was trained on."""
    radius = round(float(normalise(model.sample(RADIUS_HEADS, TRAIN_SEED))[1].mean()), 4)
    latents = torch.cat([data.offsets(chunk) for chunk in data.positions[:BASIS_HEADS].split(500)])
    return FinishedRun(
        topology=model.topology,
        hierarchy=model.hierarchy,
        rig=make_rig(model, radius),
        shown=normalise(model.sample(SHOWN_HEADS, TRAIN_SEED))[0] * radius,
        latents=latents.flatten(1).numpy(),
        radius_m=radius,
        sigma_min=SIGMA_MIN,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="directory of the run, with its vae.pt and flow.pt"
    )
    directory = parser.parse_args().out
    if not directory.is_dir():
        parser.error(f"--out: got {directory}; expected the directory of a training run")
    model = HeadModel.load()
    finished(model, VAEData(model)).save(directory)


if __name__ == "__main__":
    main()
