"""`python -m export random`: make a bundle with random weights on a generated head, for work on speed."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from export.bundle_writer import BundleContents, round_to_half, write_bundle
from export.generated import Recipe, generate
from export.options import add_export_options, check_points, describe
from export.release.config import IMAGE_SIZE, POINTS, ReleaseConfig
from models import TOPOSVAE, FastDiT, ImageEncoder, TOPOSDiT
from models import mini as sizes
from topos_rt.errors import OptionError, choose
from topos_rt.head.hierarchy import Hierarchy
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import FlowSpec, FrameSpec, Manifest, WeightsInfo

ORIGIN = "random weights from seed {}, for timing only"
LICENCE = "none needed: nothing was trained, and the head is generated"
_BIAS = 0.02
_TOKEN = 0.5  # deviation of learned tokens and position tables
_POSITION = 0.4  # deviation of decoded coordinates, or less where vertices move alike
_SILU_SQUARE = 0.3557  # mean of silu(z)^2 for a standard normal z
_OFFSET_SCALE = 0.02  # deviation of the offset from a mean head, for networks that predict it


@dataclass(frozen=True)
class Preset:
    """Sizes of the three networks, in their own configuration names."""

    recipe: Recipe
    vae: Mapping[str, Any]
    dit: Mapping[str, Any]
    image_encoder: Mapping[str, Any] = field(default_factory=dict)  # the defaults are DINOv2 ViT-L/14
    image_size: int = IMAGE_SIZE
    points: int = POINTS
    radius_m: float = 0.2


def official() -> Preset:
    """Return the sizes of the release: 24,049 vertices, 1,513 latents, 870 M parameters."""
    config = ReleaseConfig.load(None)
    recipe = Recipe(
        (52, 78, 76), config.vae["num_latents"], len(config.vae["decoder_blocks"]), depth=8, width=0.3815
    )
    return Preset(recipe, config.vae, config.dit)


def decoder() -> Preset:
    """Return the official VAE behind networks of next to no work, to measure the decoder within a head."""
    small = {"model_channels": 192, "cond_channels": 192, "num_blocks": 2, "num_heads": 6}
    full = official()
    return dataclasses.replace(
        full, dit=dict(full.dit) | small, image_encoder=sizes.IMAGE_ENCODER, image_size=sizes.IMAGE_SIZE
    )


def mini() -> Preset:
    """Return the sizes of the packaged model, with 4,538 vertices, without evidence and a linear decoder."""
    stages = len(sizes.VAE["decoder_blocks"])
    recipe = Recipe((32, 25, 35), sizes.NUM_LATENTS, stages, depth=6, width=0.6925)
    networks = {**sizes.VAE, "linear_rank": 0}, sizes.DIT, sizes.IMAGE_ENCODER
    return Preset(recipe, *networks, sizes.IMAGE_SIZE, sizes.POINTS, sizes.RADIUS_M)


PRESETS = {"official": official, "mini": mini, "decoder": decoder}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `random`."""
    parser.add_argument(
        "--preset", required=True, choices=PRESETS, help="the model whose sizes the networks have"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (default: %(default)s)")
    add_export_options(parser, f"{POINTS}; {sizes.POINTS} for mini")


def run(arguments: argparse.Namespace) -> Manifest:
    """Draw the weights, export them, and verify the bundle."""
    preset = choose(arguments.preset, PRESETS, "preset")()
    points = preset.points if arguments.points is None else arguments.points
    check_points(points)
    if not 0 <= arguments.seed < 1 << 63:
        raise OptionError("--seed", got=arguments.seed, expected="a whole number from 0 to 2**63 - 1")
    head = generate(preset.recipe)
    vae, plain, encoder = draw(preset, head.hierarchy, arguments.seed)
    dit = FastDiT(plain)
    half = arguments.precision == "fp16"
    if half:
        round_to_half(vae, dit, encoder)
    parameters = sum(p.numel() for network in (vae, dit, encoder) for p in network.parameters())
    manifest = write_bundle(
        BundleContents(
            name=f"random-{arguments.preset}",
            description=f"Random weights. {describe(head.topology, parameters, arguments.precision)}",
            encoder=encoder,
            dit=dit,
            vae=vae,
            topology=head.topology,
            hierarchy=head.hierarchy,
            rig=None,
            weights=WeightsInfo(ORIGIN.format(arguments.seed), LICENCE, "random"),
            flow=FlowSpec(1e-5, 3.0),
            frame=FrameSpec("+y", "+z", preset.radius_m),
            image_size=preset.image_size,
            points=points,
        ),
        arguments.out,
        {},
        half_storage=half,
    )
    Bundle.open(arguments.out)
    return manifest


def draw(preset: Preset, hierarchy: Hierarchy, seed: int) -> tuple[TOPOSVAE, TOPOSDiT, ImageEncoder]:
    """Make the three networks; the same seed gives the same weights."""
    networks = TOPOSVAE(hierarchy, **preset.vae), TOPOSDiT(**preset.dit), ImageEncoder(**preset.image_encoder)
    generator = torch.Generator().manual_seed(seed)
    for network in networks:
        _randomise(network, generator)
        network.requires_grad_(False).eval()
    vae, dit, encoder = networks
    if vae.predict_offset:
        vae.output_mean.copy_(torch.from_numpy(hierarchy.levels[0].features))
        vae.output_scale.fill_(_OFFSET_SCALE / _POSITION)
    if vae.linear_rank:
        rows = torch.randn(vae.latent_basis.T.shape, generator=generator)
        vae.latent_basis.copy_(torch.linalg.qr(rows)[0].T)
        moves = torch.randn(vae.linear_vertices.shape, generator=generator)
        vae.linear_vertices.copy_(_OFFSET_SCALE / vae.linear_rank**0.5 * moves)
    return vae, dit, encoder


@torch.no_grad()
def _randomise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw weights that keep signals near unit size: norms at one, matrices N(0, 1/fan_in), small biases."""
    for name, parameter in network.named_parameters():
        kind = name.rpartition(".")[2]
        if kind == "bias":
            parameter.normal_(0, _BIAS, generator=generator)
        elif kind == "gamma" or (kind == "weight" and parameter.ndim == 1):
            parameter.fill_(1)
        elif kind == "weight":
            parameter.normal_(0, _fan_in(parameter) ** -0.5, generator=generator)
        else:
            parameter.normal_(0, _TOKEN, generator=generator)
    if isinstance(network, TOPOSVAE):
        # This layer reads the SiLU of a group norm through N(0, 1/fan_in).
        network.get_parameter("header.1.linear.weight").mul_(_POSITION / math.sqrt(_SILU_SQUARE))


def _fan_in(weight: torch.Tensor) -> int:
    """Return the fan-in of a linear [out,in], convolution [out,in,h,w] or typed linear [types,in,out]."""
    return weight.shape[1] if weight.ndim == 3 else math.prod(weight.shape[1:])
