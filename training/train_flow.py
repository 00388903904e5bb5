"""Train `mini`'s image encoder and flow transformer: rendered portraits -> anchors of their neutral heads.

    python -m training.train_flow --out runs/mini [--minutes 45] [--resume]

First the encoder alone learns to read a head's shape (a linear probe on its tokens), then both learn the flow.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from export.models import ImageEncoder, TOPOSDiT
from training import config
from training.heads import HeadModel, normalise
from training.latents import NodeOffsets
from training.loop import Budget, Metrics, train
from training.portraits import HELD_OUT_PORTRAITS, open_buffers
from training.seeds import HELD_OUT_SEED, TRAIN_SEED
from training.shading import shade
from training.train_vae import VAEData

SIGMA_MIN = 1e-5
PROBE_ONLY_SHARE = 0.3  # of the time budget
DROP_CONDITION = 0.1
PROBE_COMPONENTS = 64
PROBE_WEIGHT = 1.0


@dataclass(frozen=True)
class Portraits:
    """G-buffers and the anchors of their heads."""

    normals: np.ndarray
    materials: np.ndarray
    views: int
    anchors: Tensor  # [heads,N,6]
    positions: Tensor  # [heads,V,3] network frame
    radii: Tensor  # [heads] metres

    @classmethod
    def open(cls, directory: Path, name: str, model: HeadModel, offsets: NodeOffsets, seed: int) -> Portraits:
        normals, materials, views = open_buffers(directory, name)
        positions, radii = (torch.from_numpy(a) for a in normalise(model.sample(len(normals) // views, seed)))
        anchors = torch.cat([offsets(chunk) for chunk in positions.split(256)])
        return cls(normals, materials, views, anchors, positions, torch.from_numpy(np.asarray(radii)))

    def batch(self, ids: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Portraits [B,3,H,W], freshly lit, and anchors [B,N,6]."""
        normals, materials = torch.from_numpy(self.normals[ids]), torch.from_numpy(self.materials[ids])
        return shade(normals, materials, config.IMAGE_SIZE, generator), self.anchors[ids // self.views]


class FlowModel(nn.Module):
    """The two networks that are kept, and the probe that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImageEncoder(**config.IMAGE_ENCODER)
        self.dit = TOPOSDiT(**config.DIT)
        self.probe = nn.Linear(2 * config.IMAGE_ENCODER["embed_dim"], PROBE_COMPONENTS)
        self.register_buffer("components", torch.zeros(PROBE_COMPONENTS, config.NUM_LATENTS * 6))
        self.register_buffer("deviation", torch.ones(PROBE_COMPONENTS))
        start_weights(self)

    def read(self, tokens: Tensor) -> Tensor:
        """[B,T,C] -> principal components of the anchors [B,PROBE_COMPONENTS], at unit variance."""
        return self.probe(torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], -1))


def start_weights(model: FlowModel) -> None:
    """Small linear weights; modulation and output at zero, so that every block starts as the identity."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for block in model.dit.blocks:
        nn.init.zeros_(block.adaLN_modulation[1].weight)
    nn.init.zeros_(model.dit.out_layer.weight)
    for block in model.encoder.blocks:
        nn.init.constant_(block.ls1.gamma, 0.2)
        nn.init.constant_(block.ls2.gamma, 0.2)


def fit_components(model: FlowModel, anchors: Tensor) -> None:
    """Principal directions of the training anchors."""
    _, values, directions = torch.pca_lowrank(anchors.flatten(1), PROBE_COMPONENTS, niter=4)
    model.components.copy_(directions.T)
    model.deviation.copy_(values / len(anchors) ** 0.5)


def probe_loss(model: FlowModel, tokens: Tensor, anchors: Tensor) -> Tensor:
    """Squared error of the anchors as the probe sees them, per unit of their variance."""
    wanted = (anchors.flatten(1) @ model.components.T) / model.deviation
    weights = model.deviation.square() / model.deviation.square().sum()
    # the root keeps fine shape from vanishing beside the first few components
    weights = weights.sqrt() / weights.sqrt().sum()
    return ((model.read(tokens).float() - wanted).square() * weights).sum(1).mean()


def flow_loss(model: FlowModel, tokens: Tensor, anchors: Tensor, generator: torch.Generator) -> Tensor:
    """Rectified-flow loss with a logit-normal time and dropped conditions."""
    batch = len(anchors)
    t = torch.sigmoid(torch.randn(batch, generator=generator) + 0.7)[:, None, None]
    noise = torch.randn(anchors.shape, generator=generator)
    x = (1 - t) * anchors + (SIGMA_MIN + (1 - SIGMA_MIN) * t) * noise
    kept = (torch.rand(batch, 1, 1, generator=generator) >= DROP_CONDITION).float()
    with sdpa_kernel(SDPBackend.MATH), torch.autocast(x.device.type, torch.bfloat16):
        velocity = model.dit(x, 1000 * t[:, 0, 0], tokens * kept)
    return (velocity.float() - ((1 - SIGMA_MIN) * noise - anchors)).square().mean()


@torch.no_grad()
def sample_flow(model: FlowModel, tokens: Tensor, steps: int, guidance: float, seed: int = 0) -> Tensor:
    """Euler with guidance, batched; the runtime's sampler is the judge, this one only watches training."""
    x = torch.randn(len(tokens), config.NUM_LATENTS, 6, generator=torch.Generator().manual_seed(seed))
    none = torch.zeros_like(tokens)
    for i in range(steps):
        t = torch.full((len(x),), 1000 * (1 - i / steps))
        velocity = model.dit(x, t, tokens)
        if guidance:
            velocity = (1 + guidance) * velocity - guidance * model.dit(x, t, none)
        x = x - velocity / steps
    return x


def evaluate(model: FlowModel, held_out: Portraits, fit: Tensor, mean: Tensor) -> Metrics:
    """Held-out portraits: vertex error of the probe and of sampled anchors, through a linear map to vertices."""
    generator = torch.Generator().manual_seed(7)
    pixels, anchors = held_out.batch(np.arange(HELD_OUT_PORTRAITS), generator)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = torch.cat([model.encoder(p) for p in pixels.split(50)]).float()

    def millimetres(codes: Tensor) -> float:
        got = (codes.flatten(1) @ model.components.T @ fit).view(len(codes), -1, 3) + mean
        return float(((got - held_out.positions[: len(codes)]).norm(dim=-1).mean(1) * held_out.radii[: len(codes)]).mean() * 1000)

    read = (model.read(tokens) * model.deviation) @ model.components
    metrics = {"mm_linear_floor": millimetres(anchors), "mm_mean_head": millimetres(torch.zeros_like(anchors)),
               "mm_probe": millimetres(read)}
    for w in (0.0, 3.0):
        metrics[f"mm_flow_w{w:g}"] = millimetres(sample_flow(model, tokens[:40], 8, w))
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = HeadModel.load()
    data = VAEData(model)
    training = Portraits.open(args.out, "train", model, data.offsets, TRAIN_SEED)
    held_out = Portraits.open(args.out, "held_out", model, data.offsets, HELD_OUT_SEED)
    flow = FlowModel()
    fit_components(flow, training.anchors)
    codes = training.anchors.flatten(1) @ flow.components.T
    fit = torch.linalg.lstsq(codes, (training.positions - data.mean).flatten(1)).solution
    generator, rng = torch.Generator().manual_seed(3), np.random.default_rng(3)

    def step(done: float) -> tuple[Tensor, Metrics]:
        ids = np.sort(rng.integers(0, len(training.normals), args.batch))
        pixels, anchors = training.batch(ids, generator)
        with sdpa_kernel(SDPBackend.MATH), torch.autocast(pixels.device.type, torch.bfloat16):
            tokens = flow.encoder(pixels)
        losses = {"probe": PROBE_WEIGHT * probe_loss(flow, tokens, anchors)}
        if done >= PROBE_ONLY_SHARE:
            losses["flow"] = flow_loss(flow, tokens.float(), anchors, generator)
        return sum(losses.values()), {k: float(v.detach()) for k, v in losses.items()}

    budget = Budget(args.minutes, args.learning_rate, evaluate_every_s=300)
    print(train("flow", flow, step, lambda m: evaluate(m, held_out, fit, data.mean), budget, args.out, args.resume))


if __name__ == "__main__":
    main()
