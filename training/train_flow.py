"""Train `mini`'s image encoder and flow transformer: rendered portraits -> anchors of their neutral heads.

    python -m training.train_flow --out runs/mini [--minutes 45] [--resume]

First the encoder alone learns to read a head's shape (a linear probe on its tokens), then both learn the
flow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from export.models import ImageEncoder, TOPOSDiT
from training import config
from training.gbuffers import LANDMARKS, GBuffer, Material
from training.heads import HeadModel, normalise
from training.latents import NodeOffsets
from training.loop import Budget, Metrics, arguments, train
from training.portraits import HELD_OUT_PORTRAITS, open_buffers
from training.seeds import HELD_OUT_SEED, TRAIN_SEED
from training.shading import shade
from training.train_vae import VAEData, vertex_error_mm

SIGMA_MIN = 1e-5
PROBE_ONLY_SHARE = 0.35  # of the time budget
DROP_CONDITION = 0.1
PROBE_COMPONENTS = 64
DENSE_WEIGHT = 3.0
PLACES_WEIGHT = 20.0
FIRST_PATCH = 5  # after the class and register tokens


class Batch(NamedTuple):
    """What one step learns from."""

    pixels: Tensor  # [B,3,H,W] 0..1, freshly lit
    anchors: Tensor  # [B,N,6]
    seen: Tensor  # [B,patches,len(SEEN)*cells], see `what_is_seen`
    landmarks: Tensor  # [B,LANDMARKS*2] places in the picture


@dataclass(frozen=True)
class Portraits:
    """G-buffers and the anchors of their heads."""

    buffers: GBuffer
    views: int
    anchors: Tensor  # [heads,N,6]
    positions: Tensor  # [heads,V,3] network frame
    radii: Tensor  # [heads] metres

    @classmethod
    def open(cls, directory: Path, name: str, model: HeadModel, offsets: NodeOffsets, seed: int) -> Portraits:
        buffers, views = open_buffers(directory, name)
        positions, radii = normalise(model.sample(len(buffers.normals) // views, seed))
        heads = torch.from_numpy(positions)
        anchors = torch.cat([offsets(chunk) for chunk in heads.split(256)])
        return cls(buffers, views, anchors, heads, torch.from_numpy(radii))

    def batch(self, ids: np.ndarray, generator: torch.Generator) -> Batch:
        """The portraits `ids` in a new light."""
        normals, materials, landmarks = (torch.from_numpy(rows[ids]) for rows in self.buffers)
        pixels = shade(normals, materials, config.IMAGE_SIZE, generator)
        return Batch(pixels, self.anchors[ids // self.views], what_is_seen(normals, materials),
                     landmarks.flatten(1).float())  # fmt: skip


# Mean normal and shares of these materials in every cell of every patch, and the places of landmarks: easy
# lessons that teach the encoder where things are. Without them it learns no shape for thousands of steps.
SEEN: tuple[tuple[Material, ...], ...] = (
    (), (), (), (Material.SKIN, Material.BEARD), (Material.LIPS,), (Material.BROWS,),
    (Material.SCLERA, Material.IRIS, Material.PUPIL), (Material.HAIR,), (Material.CLOTHES,))  # fmt: skip
CELLS_PER_PATCH = 2


def what_is_seen(normals: Tensor, materials: Tensor) -> Tensor:
    """G-buffers -> [B, patches, len(SEEN) * cells] targets of the dense probe, in -1..1."""
    groups = torch.tensor([[float(kind in kinds) for kinds in SEEN[3:]] for kind in Material])
    maps = torch.cat([normals / 127, groups[materials.long()]], -1).permute(0, 3, 1, 2)
    side = config.IMAGE_SIZE // config.IMAGE_ENCODER["patch_size"]
    cells = F.adaptive_avg_pool2d(maps, side * CELLS_PER_PATCH)
    return F.pixel_unshuffle(cells, CELLS_PER_PATCH).flatten(2).transpose(1, 2)


class FlowModel(nn.Module):
    """The two networks that are kept, and the probes that are not."""

    components: Tensor  # [PROBE_COMPONENTS, N*6]
    deviation: Tensor  # [PROBE_COMPONENTS]

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImageEncoder(**config.IMAGE_ENCODER)
        self.dit = TOPOSDiT(**config.DIT)
        self.probe = nn.Linear(2 * config.IMAGE_ENCODER["embed_dim"], PROBE_COMPONENTS)
        self.dense_probe = nn.Linear(config.IMAGE_ENCODER["embed_dim"], len(SEEN) * CELLS_PER_PATCH**2)
        self.landmark_probe = nn.Linear(2 * config.IMAGE_ENCODER["embed_dim"], LANDMARKS * 2)
        self.register_buffer("components", torch.zeros(PROBE_COMPONENTS, config.NUM_LATENTS * 6))
        self.register_buffer("deviation", torch.ones(PROBE_COMPONENTS))
        start_weights(self)

    def read(self, tokens: Tensor) -> Tensor:
        """[B,T,C] -> principal components of the anchors [B,PROBE_COMPONENTS], at unit variance."""
        return self.probe(_pooled(tokens))


def start_weights(model: FlowModel) -> None:
    """Modulation and output at zero: every block starts as the identity. Positions that can be told apart."""
    with torch.no_grad():
        model.encoder.pos_embed[:, 1:] = plane_waves(model.encoder.grid, model.encoder.pos_embed.shape[-1])
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for block in model.dit.blocks:
        nn.init.zeros_(block.adaLN_modulation[1].weight)
    nn.init.zeros_(model.dit.out_layer.weight)


def plane_waves(grid: int, channels: int) -> Tensor:
    """[grid*grid, channels] sines and cosines of row and column, as loud as the patches' own embedding.

    Meta's encoder starts its position embedding at 0.02 and has weeks to learn it; ours has minutes.
    """
    quarter = channels // 4
    angle = torch.arange(grid)[:, None] * torch.pi / grid * 2 ** torch.linspace(0, 3, quarter)
    waves = torch.cat([angle.sin(), angle.cos()], -1) * 0.5
    rows, columns = waves[:, None].expand(-1, grid, -1), waves[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)


def fit_components(model: FlowModel, anchors: Tensor) -> None:
    """Principal directions of the training anchors."""
    _, values, directions = torch.pca_lowrank(anchors.flatten(1), PROBE_COMPONENTS, niter=4)
    model.components.copy_(directions.T)
    model.deviation.copy_(values / len(anchors) ** 0.5)


def probe_losses(model: FlowModel, tokens: Tensor, batch: Batch) -> dict[str, Tensor]:
    """What the tokens must tell: the head's shape, where its landmarks are, what every patch shows."""
    wanted = (batch.anchors.flatten(1) @ model.components.T) / model.deviation
    # by deviation, not variance: else fine shape vanishes beside the first few components
    weights = model.deviation / model.deviation.sum()
    shape = ((model.read(tokens) - wanted).square() * weights).sum(1).mean()
    places = (model.landmark_probe(_pooled(tokens)) - batch.landmarks).square().mean()
    dense = (model.dense_probe(tokens[:, FIRST_PATCH:]) - batch.seen).square().mean()
    return {"shape": shape, "places": PLACES_WEIGHT * places, "dense": DENSE_WEIGHT * dense}


def _pooled(tokens: Tensor) -> Tensor:
    return torch.cat([tokens[:, 0], tokens[:, FIRST_PATCH:].mean(1)], -1)


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


def evaluate(model: FlowModel, held_out: Portraits, training: Portraits, mean: Tensor) -> Metrics:
    """Held-out vertex errors of the probe and of sampled anchors, by a linear map fitted to `training`."""
    codes = training.anchors.flatten(1) @ model.components.T
    fit = torch.linalg.lstsq(codes, (training.positions - mean).flatten(1)).solution
    generator = torch.Generator().manual_seed(7)
    pixels, anchors, *_ = held_out.batch(np.arange(HELD_OUT_PORTRAITS), generator)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = torch.cat([model.encoder(p) for p in pixels.split(50)]).float()

    def millimetres(codes: Tensor) -> float:
        count = len(codes)
        got = (codes.flatten(1) @ model.components.T @ fit).view(count, -1, 3) + mean
        return vertex_error_mm(got, held_out.positions[:count], held_out.radii[:count])

    read = (model.read(tokens) * model.deviation) @ model.components
    metrics = {
        "mm_linear_floor": millimetres(anchors),
        "mm_mean_head": millimetres(torch.zeros_like(anchors)),
        "mm_probe": millimetres(read),
    }
    for w in (0.0, 3.0):
        metrics[f"mm_flow_w{w:g}"] = millimetres(sample_flow(model, tokens[:40], 8, w))
    return metrics


def main() -> None:
    args = arguments(__doc__, minutes=45, batch=48, learning_rate=4e-4).parse_args()
    torch.manual_seed(0)
    model = HeadModel.load()
    data = VAEData(model)
    training = Portraits.open(args.out, "train", model, data.offsets, TRAIN_SEED)
    held_out = Portraits.open(args.out, "held_out", model, data.offsets, HELD_OUT_SEED)
    flow = FlowModel()
    fit_components(flow, training.anchors)
    generator, rng = torch.Generator().manual_seed(3), np.random.default_rng(3)

    def step(done: float) -> tuple[Tensor, Metrics]:
        batch = training.batch(np.sort(rng.integers(0, len(training.buffers.normals), args.batch)), generator)
        with sdpa_kernel(SDPBackend.MATH), torch.autocast(batch.pixels.device.type, torch.bfloat16):
            tokens = flow.encoder(batch.pixels)
        tokens = tokens.float()
        losses = probe_losses(flow, tokens, batch)
        if done >= PROBE_ONLY_SHARE:
            losses["flow"] = flow_loss(flow, tokens, batch.anchors, generator)
        total = sum(losses.values(), torch.zeros(()))
        return total, {k: float(v.detach()) for k, v in losses.items()}

    def watch(module: FlowModel) -> Metrics:
        return evaluate(module, held_out, training, data.mean)

    budget = Budget(args.minutes, args.learning_rate, evaluate_every_s=600)
    print(train("flow", flow, step, watch, budget, args.out, args.resume))


if __name__ == "__main__":
    main()
