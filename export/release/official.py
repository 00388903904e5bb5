"""`python -m export official`: make a bundle from the released TOPOS checkpoints."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from export.bundle_writer import BundleContents, round_to_half, write_bundle
from export.options import add_export_options, check_points, describe
from export.release import checkpoints
from export.release.checkpoints import read_state
from export.release.config import IMAGE_SIZE, POINTS, ReleaseConfig
from export.release.topology import read_topology
from export.state_files import load_into
from models import TOPOSVAE, FastDiT, ImageEncoder, TOPOSDiT
from topos_rt import __version__
from topos_rt.errors import InputError
from topos_rt.head.hierarchy import Hierarchy
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import FlowSpec, FrameSpec, Manifest, WeightsInfo
from topos_rt.support.machine import sha256_of

DINO_URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_reg4_pretrain.pth"
ORIGIN = (
    "TOPOS-VAE and TOPOS-DiT as released by their authors (Xiong et al. 2026, arXiv 2605.14594) and Meta's"
    " DINOv2, imported from the user's own copies"
)
LICENCE = (
    "TOPOS checkpoints and MetaHuman topology: MIT, (c) 2026 HUJING Digital Media & Entertainment Group;"
    " DINOv2 weights: Apache-2.0, (c) Meta Platforms"
)
LICENCE_FILE = Path(__file__).with_name("LICENSE-TOPOS.txt")
_HEAD_DIM = 64  # channels of an attention head in every DINOv2
_MATCHING = "pass the --config this checkpoint was trained with"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `official`."""
    parser.add_argument("--vae", type=Path, required=True, metavar="F", help="TOPOS-VAE.model.pth")
    parser.add_argument("--dit", type=Path, required=True, metavar="F", help="TOPOS-DiT.model.pth")
    parser.add_argument(
        "--image-encoder",
        type=Path,
        metavar="F",
        help="dinov2_vitl14_reg4_pretrain.pth from Meta (default: that name beside --dit)",
    )
    parser.add_argument(
        "--topology", type=Path, required=True, metavar="DIR", help="the release's data folder"
    )
    parser.add_argument(
        "--config", type=Path, metavar="YAML", help="configs/dit.yaml, if yours is not the released one"
    )
    add_export_options(parser, f"{POINTS}")


def run(arguments: argparse.Namespace) -> Manifest:
    """Read and check everything, export it, and verify the bundle."""
    points = POINTS if arguments.points is None else arguments.points
    check_points(points)
    config = ReleaseConfig.load(arguments.config)
    encoder_path = _image_encoder_path(arguments, config)
    stages = len(config.vae["decoder_blocks"])
    head = read_topology(arguments.topology, config.files, stages, _note)
    vae = _load_vae(arguments.vae, config, head.hierarchy)
    dit = FastDiT(_load_dit(arguments.dit, config))
    encoder = load_image_encoder(encoder_path, config.model["cond_channels"])
    _tell(config)
    networks = (vae, dit, encoder)
    parameters = sum(p.numel() for network in networks for p in network.parameters())
    if arguments.precision == "fp16":
        round_to_half(*networks)
    inputs = {"vae": arguments.vae, "dit": arguments.dit, "image_encoder": encoder_path} | {
        f"topology/{path.name}": path for path in head.files
    }
    texts = {
        "provenance.json": _provenance(inputs, config, arguments.precision),
        "LICENSE-TOPOS.txt": LICENCE_FILE.read_text(encoding="utf-8"),
    }
    manifest = write_bundle(
        BundleContents(
            name="official",
            description=describe(head.topology, parameters, arguments.precision),
            encoder=encoder,
            dit=dit,
            vae=vae,
            topology=head.topology,
            hierarchy=head.hierarchy,
            rig=None,
            weights=WeightsInfo(ORIGIN, LICENCE, "official"),
            flow=FlowSpec(config.model["sigma_min"], config.model["cfg_strength"]),
            frame=FrameSpec("+y", "+z", head.radius_m),
            image_size=IMAGE_SIZE,
            points=points,
        ),
        arguments.out,
        texts,
        half_storage=arguments.precision == "fp16",
    )
    Bundle.open(arguments.out)
    return manifest


def load_image_encoder(path: Path, channels: int) -> ImageEncoder:
    """Load Meta's DINOv2 with registers, of any size whose checkpoint has the same keys.

    Raises InputError for another file, a network without registers, or one whose tokens do not fit the DiT.
    """
    state = read_state(path, checkpoints.IMAGE_ENCODER)
    what = f"{checkpoints.IMAGE_ENCODER.flag} {path}"
    fix = f"download {DINO_URL}"
    try:
        shape = _encoder_shape(state)
    except (KeyError, IndexError) as error:
        raise InputError(
            what, got=f"a DINOv2 without {error}", expected="ViT-L/14 with registers", fix=fix
        ) from error
    if shape["embed_dim"] != channels:
        raise InputError(
            what,
            got=f"tokens of {shape['embed_dim']} channels",
            expected=f"{channels}, MODEL.cond_channels",
            fix=fix,
        )
    if shape["img_size"] != IMAGE_SIZE or shape["embed_dim"] % shape["num_heads"]:
        raise InputError(
            what, got=f"a network for images of {shape['img_size']} pixels", expected=IMAGE_SIZE, fix=fix
        )
    encoder = ImageEncoder(**shape)
    load_into(encoder, state, what, fix)
    return encoder


def _encoder_shape(state: Mapping[str, Tensor]) -> dict[str, Any]:
    width = state["cls_token"].shape[-1]
    patch = state["patch_embed.proj.weight"].shape[-1]
    blocks = {key.split(".")[1] for key in state if key.startswith("blocks.")}
    return {
        "embed_dim": width,
        "depth": len(blocks),
        "num_heads": max(1, width // _HEAD_DIM),
        "patch_size": patch,
        "img_size": math.isqrt(state["pos_embed"].shape[1] - 1) * patch,
        "num_register_tokens": state["register_tokens"].shape[1],
        "mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] / width,
    }


def _load_vae(path: Path, config: ReleaseConfig, hierarchy: Hierarchy) -> TOPOSVAE:
    stages = len(config.vae["decoder_blocks"])
    nodes = len(hierarchy.levels[stages].features)
    if config.vae["num_latents"] != nodes:
        raise InputError(
            "MODEL.num_latents",
            got=config.vae["num_latents"],
            expected=f"{nodes}, the nodes of level {stages} in {config.files.clusters}",
            fix="use the configuration and the cluster file of one model",
        )
    state = read_state(path, checkpoints.VAE)
    vae = TOPOSVAE(hierarchy, **config.vae)
    load_into(vae, state, f"{checkpoints.VAE.flag} {path}", _MATCHING)
    return vae


def _load_dit(path: Path, config: ReleaseConfig) -> TOPOSDiT:
    state = read_state(path, checkpoints.DIT)
    dit = TOPOSDiT(**config.dit)
    load_into(dit, state, f"{checkpoints.DIT.flag} {path}", _MATCHING)
    return dit


def _image_encoder_path(arguments: argparse.Namespace, config: ReleaseConfig) -> Path:
    if arguments.image_encoder is not None:
        return Path(arguments.image_encoder)
    beside = Path(arguments.dit).with_name(Path(config.model["image_cond_model_path"]).name)
    if not beside.is_file():
        raise InputError(
            "the image encoder",
            got=f"no --image-encoder, and no {beside.name} beside {arguments.dit}",
            expected="Meta's DINOv2 ViT-L/14 with registers",
            fix=f"download {DINO_URL}",
        )
    return beside


def _tell(config: ReleaseConfig) -> None:
    if config.model["sample_steps"] != 50:
        _note(
            f"the configuration takes {config.model['sample_steps']} steps: pass --steps to topos-rt generate"
        )
    if config.model["use_fp16"]:
        _note("use_fp16 is not followed here: graphs compute in FP32")


def _provenance(inputs: Mapping[str, Path], config: ReleaseConfig, precision: str) -> str:
    files = {}
    for role, path in inputs.items():
        files[role] = {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    made_with = {"topos_rt": __version__, "torch": torch.__version__, "onnx": onnx.__version__}
    tree = {
        "inputs": files,
        "configuration": dict(config.model),
        "precision": precision,
        "made_with": made_with,
    }
    return json.dumps(tree, indent=2) + "\n"


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)
