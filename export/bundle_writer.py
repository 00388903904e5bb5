"""Write networks, a topology and some facts as a bundle, the directory that the runtime reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from export.onnx.decoder_tensors import decoder_tensors
from export.onnx.files import form_file, half_file, write_graphs
from export.onnx.flops import count
from export.onnx.graphs import build_at_once, build_graphs
from models import TOPOSVAE, FastDiT
from topos_rt.errors import OutputError
from topos_rt.flow.variation import Variation
from topos_rt.head.hierarchy import Hierarchy
from topos_rt.head.rig import Rig
from topos_rt.head.topology import Topology
from topos_rt.model.bundle import write_manifest
from topos_rt.model.contracts import HALVED
from topos_rt.model.decoder_steps import PREFIX as DECODER_PREFIX
from topos_rt.model.evidence import check_evidence
from topos_rt.model.manifest import (
    MANIFEST_NAME,
    AtOnceFiles,
    FlowSpec,
    FrameSpec,
    GraphFiles,
    ImageSpec,
    LatentSpec,
    Manifest,
    PointSpec,
    WeightsInfo,
)
from topos_rt.support.directories import replacing
from topos_rt.support.files import write_atomic

AT_ONCE = "at_once"  # in the names of graphs that take several heads at once
# Graphs that run once for a head, whose matrix products are summed in FP32. A step of the DiT is most of the
# work, and game-class GPUs sum FP16 products in FP16 at twice the rate.
WIDE_SUMS = ("image_encoder", "dit_context", "vae_decoder", "vae_encoder")


@dataclass(frozen=True)
class BundleContents:
    """Everything that a bundle is made of."""

    name: str
    description: str
    encoder: nn.Module  # forward(pixels, *evidence) -> tokens, or tokens and an estimate of the latent
    dit: FastDiT
    vae: TOPOSVAE
    topology: Topology
    hierarchy: Hierarchy
    rig: Rig | None
    weights: WeightsInfo
    flow: FlowSpec
    frame: FrameSpec
    image_size: int
    points: int
    evidence: Sequence[str] = ()  # what the encoder takes after the pixels: names of `EVIDENCE`, in its order
    residual_scale: float | None = None  # of what the flow adds to the encoder's estimate, where it has one
    variation: Variation | None = None  # the directions in which seeds vary

    def __post_init__(self) -> None:
        """Raise BundleError for evidence or a variation that no bundle can have."""
        if self.evidence:
            check_evidence(self.evidence)
        if self.variation is not None:
            self.variation.check_size(math.prod(self.dit.latent_shape))


def write_bundle(
    contents: BundleContents, out: Path, texts: Mapping[str, str], half_storage: bool = False
) -> Manifest:
    """Export, compare with PyTorch, and write `out`, which is replaced whole or not at all.

    texts: the contents of more files by name, such as a model card.
    half_storage: keep large weights as FP16 on disk and cast them back to FP32 when a graph is loaded. The
    networks must have been rounded likewise (`round_to_half`), else the comparison fails.

    Raises OutputError when `out` holds anything but a bundle, BackendError when a graph differs from PyTorch.
    """
    with staged(out) as directory:
        return _write(contents, directory, texts, half_storage)


@contextmanager
def staged(out: Path, manifest_name: str = MANIFEST_NAME) -> Iterator[Path]:
    """Give a new directory, which takes the place of the bundle `out` once the work inside has succeeded.

    Raises OutputError when `out` holds anything but a bundle with that manifest.
    """
    if out.is_file():
        raise OutputError(f"cannot write the bundle to {out}", got="a file", expected="a directory")
    if out.exists() and not (out / manifest_name).exists() and any(out.iterdir()):
        raise OutputError(
            f"cannot write the bundle to {out}",
            got="a directory with other files",
            expected="a new directory or an old bundle",
            fix="choose another place",
        )
    with replacing(out) as staging:
        yield staging


def round_to_half(*networks: torch.nn.Module) -> None:
    """Round matrices to the nearest FP16 numbers, in place; vectors and buffers are small and stay."""
    for network in networks:
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.data = parameter.data.half().float()


def _write(
    contents: BundleContents, directory: Path, texts: Mapping[str, str], half_storage: bool
) -> Manifest:
    networks = contents.encoder, contents.dit, contents.vae
    sizes = contents.image_size, contents.points
    graphs = build_graphs(*networks, *sizes, contents.evidence, contents.residual_scale is not None)
    tensors = decoder_tensors(contents.vae).items()
    named = {f"{DECODER_PREFIX}{name}": array for name, array in tensors}
    tokens = graphs["dit_context"].inputs["tokens"].shape
    together = build_at_once(contents.dit, (tokens[1], tokens[2]))
    files = write_graphs(
        graphs | {f"{graph}.{AT_ONCE}": made for graph, made in together.items()},
        directory,
        "fp16" if half_storage else "fp32",
        named,
        wide_sums=(*WIDE_SUMS, *(f"{graph}.{AT_ONCE}" for graph in WIDE_SUMS)),
        narrow={f"{graph}.{AT_ONCE}": HALVED for graph in together},
    )
    at_once = {
        "fp32": AtOnceFiles(**{graph: files.pop(f"{graph}.{AT_ONCE}") for graph in together}),
        "fp16": AtOnceFiles(**{graph: form_file(f"{graph}.{AT_ONCE}", "fp16") for graph in together}),
    }
    contents.topology.save(directory / "topology.safetensors")
    contents.hierarchy.save(directory / "hierarchy.safetensors")
    if contents.rig is not None:
        contents.rig.save(directory / "rig.safetensors")
    if contents.variation is not None:
        contents.variation.save(directory / "variation.safetensors")
    for name, text in texts.items():
        write_atomic(directory / name, text.encode())
    return write_manifest(
        directory,
        Manifest(
            name=contents.name,
            description=contents.description,
            weights=contents.weights,
            graphs=GraphFiles(**files),
            graphs_fp16=GraphFiles(**{graph: half_file(graph) for graph in files}),
            graphs_at_once=at_once,
            topology="topology.safetensors",
            hierarchy="hierarchy.safetensors",
            rig=None if contents.rig is None else "rig.safetensors",
            landmarks=None,  # `python -m export landmarks` adds them, for it draws the finished model
            atlas=None,  # and `python -m export atlas` adds this, which needs the landmarks
            evidence=tuple(contents.evidence) or None,
            residual_scale=contents.residual_scale,
            landmark_response=None,  # `python -m export response` adds it, which needs the landmarks
            variation=None if contents.variation is None else "variation.safetensors",
            parts=None,  # and `python -m export parts` this
            image=ImageSpec(contents.image_size, contents.image_size, tokens[1], tokens[2]),
            latent=LatentSpec(*contents.dit.latent_shape),
            points=PointSpec(contents.points),
            flow=contents.flow,
            frame=contents.frame,
            flops={graph: count(directory / file) for graph, file in files.items()},
        ),
    )
