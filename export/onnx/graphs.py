"""The ONNX graphs of a bundle: their inputs and outputs, and the PyTorch module behind each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models import TOPOSVAE, FastDiT, TOPOSDiT
from models.dit import TIME_SCALE
from topos_rt.model.evidence import EVIDENCE

# How far the numbers of each kind of evidence are spread on photographs, roughly.
_SPREADS = {"landmarks": 3.0, "pose": 0.3, "expression": 0.15, "identity": 0.13, "features": 0.9}


@dataclass(frozen=True)
class OnnxGraph:
    """A module to export, example inputs by name, which fix the shapes, and the names of its outputs.

    batched: inputs whose first size stays open, as BATCH; so does that of every output.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    batched: tuple[str, ...] = ()


class ImageEncoderGraph(nn.Module):
    """Turns pixels [1,3,H,W] in 0..1, and evidence as in `EVIDENCE`, into tokens [1,T,C] and a latent."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.image_encoder = encoder

    def forward(self, pixels: Tensor, *evidence: Tensor) -> Any:
        return self.image_encoder(pixels, *evidence)


class _DitGraph(nn.Module):
    """A part of the folded DiT, `dit`; the parts share its weights."""

    def __init__(self, dit: FastDiT) -> None:
        super().__init__()
        self.dit = dit


class DitModulationGraph(_DitGraph):
    """Turns time [1], from 1 (noise) to 0 (data), into modulation [L,6,C]."""

    def forward(self, time: Tensor) -> Tensor:
        return self.dit.modulation(time * TIME_SCALE)[0]


class DitContextGraph(_DitGraph):
    """Turns tokens [1,T,C] into keys and values [L,heads,T,head_dim]."""

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.dit.context(tokens[0])


class DitContextsGraph(_DitGraph):
    """Turns tokens [B,T,C] into keys and values [B,L,heads,T,head_dim]."""

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.dit.contexts(tokens)


class DitStepGraph(_DitGraph):
    """Computes the velocity [1,N,D] of a latent [1,N,D] from modulation, keys and values."""

    def forward(self, latent: Tensor, modulation: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return self.dit.step(latent, modulation, keys, values)


class GuidedDitStepGraph(_DitGraph):
    """Computes velocity and difference of `FastDiT.guided_step`, with the further input guidance [1]."""

    def forward(
        self, latent: Tensor, modulation: Tensor, keys: Tensor, values: Tensor, guidance: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.dit.guided_step(latent, modulation, keys, values, guidance)


class PlainDitStepGraph(nn.Module):
    """Computes the velocity [1,N,D] of latent [1,N,D], time [1] and tokens [1,T,C] by the DiT as released.

    No bundle holds this graph. The graphs of `FastDiT` are checked and timed against it.
    """

    def __init__(self, dit: TOPOSDiT) -> None:
        super().__init__()
        self.dit = dit

    def forward(self, latent: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
        return self.dit(latent, time * TIME_SCALE, tokens)


class VaeDecoderGraph(nn.Module):
    """Turns a latent [1,N,D] into vertices [1,V,6]."""

    def __init__(self, vae: TOPOSVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent: Tensor) -> Tensor:
        return self.vae.decode(latent)


class VaeEncoderGraph(nn.Module):
    """Turns points [1,P,6] into the posterior's mean and log-variance [1,N,D]."""

    def __init__(self, vae: TOPOSVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return self.vae.encode(points)


def build_graphs(
    encoder: nn.Module,
    dit: FastDiT,
    vae: TOPOSVAE,
    image_size: int,
    points: int,
    evidence: Sequence[str] = (),
    estimates: bool = False,
) -> dict[str, OnnxGraph]:
    """Return all graphs by their names in the manifest, with random example inputs of the right sizes.

    encoder: a module whose forward takes the pixels and each of `evidence`, names of `EVIDENCE` in its order.
    It returns the tokens, or the tokens and an estimate of the latent where it `estimates` one.
    """
    generator = torch.Generator().manual_seed(0)

    def example(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def picture(side: int) -> Tensor:
        """Return a smooth picture [1,3,S,S], as real ones are."""
        coarse = torch.rand(1, 3, 9, 9, generator=generator)
        return nn.functional.interpolate(coarse, (side, side), mode="bilinear", align_corners=True)

    seen = {"pixels": picture(image_size)}
    for name in evidence:
        shape = EVIDENCE[name]
        seen[name] = (
            picture(shape[1]).permute(0, 2, 3, 1).contiguous()
            if name == "aligned"
            else _SPREADS[name] * example(*shape)
        )
    time = torch.tensor([0.7])
    with torch.no_grad():
        encoded = encoder(*seen.values())
        tokens = encoded[0] if estimates else encoded
        keys, values = DitContextGraph(dit)(tokens)
        modulation = DitModulationGraph(dit)(time)
    latent = example(1, *dit.latent_shape)
    cloud = torch.cat([example(1, points, 3) / 3, nn.functional.normalize(example(1, points, 3), dim=-1)], -1)
    step = {"latent": latent, "modulation": modulation, "keys": keys, "values": values}
    guided = step | {"guidance": torch.tensor([3.0])}
    return {
        "image_encoder": OnnxGraph(
            ImageEncoderGraph(encoder), seen, ("tokens", "estimate") if estimates else ("tokens",)
        ),
        "dit_modulation": OnnxGraph(DitModulationGraph(dit), {"time": time}, ("modulation",)),
        "dit_context": OnnxGraph(DitContextGraph(dit), {"tokens": tokens}, ("keys", "values")),
        "dit_step": OnnxGraph(DitStepGraph(dit), step, ("velocity",)),
        "dit_step_guided": OnnxGraph(GuidedDitStepGraph(dit), guided, ("velocity", "difference")),
        "vae_decoder": OnnxGraph(VaeDecoderGraph(vae), {"latent": latent}, ("vertices",)),
        "vae_encoder": OnnxGraph(VaeEncoderGraph(vae), {"points": cloud}, ("mean", "logvar")),
    }


def build_at_once(dit: FastDiT, tokens: tuple[int, int], batch: int = 3) -> dict[str, OnnxGraph]:
    """Return the graphs that take several heads at once, by their names in the manifest.

    They share all weights with those of `build_graphs`. The image encoder and the decoder have no such form:
    at the released size they are little of a head's work, and our own decoder takes one latent.

    tokens: T and C of the condition. batch: the number of the examples, which the graphs leave open.
    """
    generator = torch.Generator().manual_seed(1)
    seen = torch.randn(batch, *tokens, generator=generator)
    latents = torch.randn(batch, *dit.latent_shape, generator=generator)
    with torch.no_grad():
        keys, values = DitContextsGraph(dit)(seen)
        modulation = DitModulationGraph(dit)(torch.tensor([0.7]))
    step = {"latent": latents, "modulation": modulation, "keys": keys, "values": values}
    guided = step | {"guidance": torch.tensor([3.0])}
    own = ("latent", "keys", "values")
    return {
        "dit_context": OnnxGraph(DitContextsGraph(dit), {"tokens": seen}, ("keys", "values"), ("tokens",)),
        "dit_step": OnnxGraph(DitStepGraph(dit), step, ("velocity",), own),
        "dit_step_guided": OnnxGraph(GuidedDitStepGraph(dit), guided, ("velocity", "difference"), own),
    }
