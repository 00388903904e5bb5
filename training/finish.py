"""Finish a training run of `mini`: write what `python -m export mini` needs besides the networks' weights.

    python -m training.finish --out runs/mini

Export reads these files (`models/finished_run.py`) with `vae.pt` and `flow.pt`, and never `training/` itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models.finished_run import FinishedRun
from training.heads import TRAIN_SEED, HeadModel, normalise
from training.rig import make_rig
from training.train_flow import SIGMA_MIN
from training.variation import EstimateErrors

RADIUS_HEADS = 2000  # their mean radius is the bundle's unit
SHOWN_HEADS = 12  # the levels of detail keep their shape


def finished(model: HeadModel, errors: EstimateErrors) -> FinishedRun:
    """Collect the parts."""
    radius = round(float(normalise(model.sample(RADIUS_HEADS, TRAIN_SEED))[1].mean()), 4)
    return FinishedRun(
        topology=model.topology,
        hierarchy=model.hierarchy,
        rig=make_rig(model, radius),
        shown=normalise(model.sample(SHOWN_HEADS, TRAIN_SEED))[0] * radius,
        variation=errors.directions.numpy(),
        radius_m=radius,
        sigma_min=SIGMA_MIN,
        residual_scale=errors.residual_scale,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="directory of the run, with its vae.pt and flow.pt"
    )
    args = parser.parse_args()
    if not args.out.is_dir():
        parser.error(f"--out: got {args.out}; expected the directory of a training run")
    finished(HeadModel.load(), EstimateErrors.open(args.out)).save(args.out)


if __name__ == "__main__":
    main()
