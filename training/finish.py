"""Finish a training run of `mini`: write what `python -m export mini` needs besides the networks' weights.

    python -m training.finish --out runs/mini --pictures runs/pictures --evidence runs/evidence

Export reads these files (`models/finished_run.py`) with `vae.pt` and `flow.pt`, and never `training/` itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor

from models import mini as config
from models.finished_run import FinishedRun
from training.heads import TRAIN_SEED, HeadModel, normalise
from training.linear_decoder import LinearDecoder
from training.loop import load_weights
from training.rig import make_rig
from training.train_flow import SIGMA_MIN, Data, FlowModel, face_of, prepare, residual_scale
from training.vae_data import VAEData
from training.variation import open_directions, open_nodes

RADIUS_HEADS = 2000  # their mean radius is the bundle's unit
SHOWN_HEADS = 12  # the levels of detail keep their shape


def finished(model: HeadModel, data: VAEData, residuals: Tensor) -> FinishedRun:
    """Collect the parts.

    residuals: [n,N,6], what the linear estimate of training heads that it had not seen was off by.
    """
    radius = round(float(normalise(model.sample(RADIUS_HEADS, TRAIN_SEED))[1].mean()), 4)
    nodes = open_nodes(model.hierarchy, config.NUM_LATENTS, face_of(data))
    return FinishedRun(
        topology=model.topology,
        hierarchy=model.hierarchy,
        rig=make_rig(model, radius),
        shown=normalise(model.sample(SHOWN_HEADS, TRAIN_SEED))[0] * radius,
        variation=open_directions(residuals, nodes).numpy(),
        radius_m=radius,
        sigma_min=SIGMA_MIN,
        residual_scale=residual_scale(residuals),
    )


def residuals_of(directory: Path, pictures: Path, evidence: Path, data: VAEData) -> Tensor:
    """Return what the linear estimates of the run's pictures are off by, [n,N,6]."""
    flow = FlowModel()
    load_weights(flow, directory, "flow")
    training = Data.open(pictures, evidence, data.offsets, flow.encoder)
    estimates = prepare(flow, training, LinearDecoder.open(directory).basis)
    return training.anchors[training.person] - flow.encoder.latents(estimates)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="directory of the run, with its vae.pt and flow.pt"
    )
    for name in ("pictures", "evidence"):
        parser.add_argument(
            f"--{name}", type=Path, required=True, metavar="DIR", help="as the flow was trained"
        )
    args = parser.parse_args()
    if not args.out.is_dir():
        parser.error(f"--out: got {args.out}; expected the directory of a training run")
    model = HeadModel.load()
    data = VAEData(model)
    residuals = residuals_of(args.out, args.pictures, args.evidence, data)
    finished(model, data, residuals).save(args.out)


if __name__ == "__main__":
    main()
