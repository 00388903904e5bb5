"""Train `mini`'s encoder of evidence and its flow transformer on training pictures and their neutral heads.

    python -m training.train_flow --pictures runs/pictures --evidence runs/evidence \\
        --held-out runs/held_out --held-out-evidence runs/held_out_evidence \\
        --earlier runs/first --tuned runs/tuned --out runs/mini [--resume]

What sees pictures, and the linear estimate, are those of `training.tune_encoder`, and stay as they are.
Where the earlier run has a `dit.pt`, the transformer goes on from it. `--out` must hold the linear decoder
that `training.train_vae` or `training.earlier` writes, and gets what the linear estimate is off by, which
`training.finish` reads. First the encoder of evidence alone learns to estimate the head
(`training/lessons.py`), then both learn the flow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models import EvidenceEncoder, ImageEncoder, TOPOSDiT
from models import mini as config
from models.evidence import SHAPES, Seen
from training.evidence import Evidence, image_tokens, rows_of, seen_by
from training.heads import HeadModel
from training.judge import Judge, face_of
from training.latents import NodeOffsets
from training.lessons import ShapeLesson
from training.linear_decoder import LinearDecoder
from training.loop import (
    Budget,
    Metrics,
    add_compile,
    arguments,
    batch_seed,
    bfloat16,
    join,
    load_weights,
    rank,
    train,
)
from training.vae_data import VAEData
from training.variation import EstimateErrors, open_nodes

SIGMA_MIN = 1e-5
LESSON_ONLY_SHARE = 0.05  # share of the time budget before the flow is learned
DROP_CONDITION = 0.1
# How often training pictures lose a part of what was seen. The image goes most often, since pixels are what
# renders and photographs differ in most.
DROPPED = {
    "image": 0.35, "landmarks": 0.1, "pose": 0.05, "expression": 0.1, "features": 0.2, "estimate": 0.1,
}  # fmt: skip
ESTIMATE_NOISE = 0.1  # deviations
LANDMARK_NOISE_CM = 0.05
# Heads vary in some twenty directions and latents have a thousand values, so a head can be made out under all
# but the strongest noise. The network learns to read it from the evidence only near t = 1.
TIME_SHIFT = 1.2
PURE_NOISE_SHARE = 0.25
WATCHED = ((4, 0.15), (8, 0.7))  # steps and noise of the samples that watch training
WATCHED_PICTURES = 100  # of the held-out ones, for samples take time
MIXED_SHARE = 0.5  # of the pictures, each mixed with another one, in evidence and head (arXiv 1710.09412)
ENDS = (
    "lesson",
    "dit.input_layer",
    "dit.out_layer",
    "encoder.evidence_projections",
    "encoder.evidence_features",
)


class Batch(NamedTuple):
    """The data that one step learns from."""

    image: Tensor  # [B,T,C] the image's tokens
    seen: Seen
    estimate: Tensor  # [B,E] as the encoder sees it
    known: Tensor  # [B,E] the same, without damage: what the flow adds to
    anchors: Tensor  # [B,N,6]


@dataclass(frozen=True)
class Data:
    """Pictures' evidence and the anchors of their people's heads."""

    seen: Seen  # [n,…]
    person: Tensor  # [n] rows of the heads
    image: Tensor  # [n,T,C] float16
    anchors: Tensor  # [m,N,6]
    positions: Tensor  # [m,V,3] the heads in the networks' frame
    radii: Tensor  # [m] metres

    @classmethod
    def open(cls, pictures: Path, folder: Path, offsets: NodeOffsets, encoder: EvidenceEncoder) -> Data:
        """Read pictures and their evidence, and compute image tokens and anchors."""
        evidence = Evidence.open(pictures, folder)
        positions, radii = evidence.normalised()
        anchors = offsets.of_many(positions)
        person = torch.from_numpy(evidence.person).long()
        image, seen = image_tokens(encoder, evidence.crops), seen_by(encoder.trunk, evidence)
        return cls(seen, person, image, anchors, positions, radii)

    def rows(self, ids: Tensor, estimate: Tensor) -> Batch:
        """Return pictures as they are; estimate: [n,E] of all pictures."""
        seen = rows_of(self.seen, ids)
        known = estimate[ids]
        return Batch(self.image[ids].float(), seen, known, known, self.anchors[self.person[ids]])


def mixed(batch: Batch, generator: torch.Generator) -> Batch:
    """Return a batch in which some pictures are mixed with others, evidence and heads alike."""
    count = len(batch.anchors)
    other = torch.randperm(count, generator=generator)
    share = torch.rand(count, generator=generator)
    share[torch.rand(count, generator=generator) >= MIXED_SHARE] = 0

    def mix(values: Tensor) -> Tensor:
        return values.lerp(values[other], share.view(-1, *[1] * (values.dim() - 1)))

    known = mix(batch.known)
    return Batch(mix(batch.image), Seen(*map(mix, batch.seen)), known, known, mix(batch.anchors))


def damaged(batch: Batch, generator: torch.Generator) -> Batch:
    """Return a batch with noise on its evidence, and with parts of it dropped."""

    def noise(values: Tensor, size: float) -> Tensor:
        return values + size * torch.randn(values.shape, generator=generator)

    def kept(values: Tensor, name: str) -> Tensor:
        stays = torch.rand(len(values), generator=generator) >= DROPPED[name]
        return values * stays.view(-1, *[1] * (values.dim() - 1)).to(values.dtype)

    seen = batch.seen._replace(landmarks=noise(batch.seen.landmarks, LANDMARK_NOISE_CM))
    seen = Seen(*(kept(part, name) for part, name in zip(seen, SHAPES, strict=True)))
    estimate = kept(noise(batch.estimate, ESTIMATE_NOISE), "estimate")
    return Batch(kept(batch.image, "image"), seen, estimate, batch.known, batch.anchors)


class FlowModel(nn.Module):
    """The two networks that a bundle holds, and the lesson, which it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = EvidenceEncoder(ImageEncoder(**config.IMAGE_ENCODER), **config.EVIDENCE)
        self.dit = TOPOSDiT(**config.DIT)
        latent_size = config.NUM_LATENTS * config.DIT["in_channels"]
        self.lesson = ShapeLesson(config.EVIDENCE["channels"], config.EVIDENCE["estimate"], latent_size)
        start_weights(self)

    def train(self, mode: bool = True) -> FlowModel:
        """Set the mode; what sees pictures never trains here, and neither does the estimate."""
        super().train(mode)
        for part in (self.encoder.encoder, self.encoder.trunk, self.encoder.evidence_estimate):
            part.requires_grad_(False)
        return self


def start_weights(model: FlowModel) -> None:
    """Start blocks as identities, with modulation, residuals and output at zero.

    So the image's tokens pass through at first, as a transformer that goes on from an earlier run knows them.
    """
    for module in (
        model.dit,
        model.encoder.evidence_projections,
        model.encoder.evidence_features,
        model.encoder.blocks,
    ):
        for part in module.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)
    for block in model.encoder.blocks:
        nn.init.zeros_(block.attn.proj.weight)
        nn.init.zeros_(block.mlp.fc2.weight)
    for block in model.dit.blocks:
        nn.init.zeros_(block.adaLN_modulation[1].weight)
    nn.init.zeros_(model.dit.out_layer.weight)


def draw_times(count: int, generator: torch.Generator) -> Tensor:
    """Draw logit-normal times [count], of which some are replaced by 1."""
    times = torch.sigmoid(torch.randn(count, generator=generator) + TIME_SHIFT)
    pure = torch.rand(count, generator=generator) < PURE_NOISE_SHARE
    return torch.where(pure, torch.ones_like(times), times)


def flow_loss(
    model: FlowModel, tokens: Tensor, residuals: Tensor, lengths: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return the rectified-flow loss by itself, and as the vertices see it; some pictures lose their tokens.

    residuals: [B,N,6] what the flow is to make, at unit variance. lengths: as `Judge.metric` returns it.
    """
    count = len(residuals)
    t = draw_times(count, generator)[:, None, None]
    noise = torch.randn(residuals.shape, generator=generator)
    x = (1 - t) * residuals + (SIGMA_MIN + (1 - SIGMA_MIN) * t) * noise
    kept = (torch.rand(count, 1, 1, generator=generator) >= DROP_CONDITION).float()
    with bfloat16(x):
        velocity = model.dit(x, 1000 * t[:, 0, 0], tokens * kept)
    error = velocity.float() - ((1 - SIGMA_MIN) * noise - residuals)
    return {"flow": error.square().mean(), "vertices": (error.flatten(1) @ lengths).square().mean()}


@torch.no_grad()
def sample_flow(model: FlowModel, tokens: Tensor, steps: int, temperature: float, seed: int = 0) -> Tensor:
    """Sample residuals [B,N,6] by Euler steps. It watches training; users run the runtime's sampler."""
    x = torch.randn(len(tokens), config.NUM_LATENTS, 6, generator=torch.Generator().manual_seed(seed))
    x = x * temperature
    for i in range(steps):
        x = x - model.dit(x, torch.full((len(x),), 1000 * (1 - i / steps)), tokens) / steps
    return x


def evaluate(model: FlowModel, held_out: Data, judge: Judge, scale: float) -> Metrics:
    """Return held-out errors in mm of the whole head and the face: of estimates, the lesson and samples.

    scale: of the residuals that the flow makes.
    """
    lesson, ids = model.lesson, torch.arange(len(held_out.person))
    person = held_out.person
    truth, radii = held_out.positions[person], held_out.radii[person]
    tokens, estimates = [], []
    for chunk in ids.split(50):
        image, seen = held_out.image[chunk].float(), rows_of(held_out.seen, chunk)
        estimates.append(model.encoder.estimate(image, seen))
        tokens.append(model.encoder.fuse(image, seen, estimates[-1]))
    fused = torch.cat(tokens)
    known = model.encoder.latents(torch.cat(estimates))
    heads = {
        "mean_head": torch.zeros_like(known),
        "linear_floor": held_out.anchors[person],
        "estimate": known,
        "lesson": model.encoder.latents(lesson.read(fused)),
    }
    few = slice(WATCHED_PICTURES)
    heads["estimate_of_few"] = known[few]
    for steps, temperature in WATCHED:
        made = sample_flow(model, fused[few], steps, temperature)
        heads[f"flow_of_few_{steps}_t{temperature:g}"] = known[few] + scale * made
    metrics = {}
    for name, latents in heads.items():
        n = len(latents)
        metrics[f"mm_{name}"], metrics[f"mm_face_{name}"] = judge.millimetres(latents, truth[:n], radii[:n])
    return metrics


@torch.no_grad()
def estimates_of(flow: FlowModel, data: Data) -> Tensor:
    """Return the linear estimates [n,E] of pictures, and set the lesson's directions to theirs."""
    encoder, lesson = flow.encoder, flow.lesson
    lesson.deviation.copy_(encoder.evidence_latents.norm(dim=1))
    lesson.components.copy_(encoder.evidence_latents / lesson.deviation[:, None])
    parts = torch.arange(len(data.person)).split(256)
    return torch.cat([encoder.estimate(data.image[ids].float(), rows_of(data.seen, ids)) for ids in parts])


def main() -> None:
    parser = arguments(__doc__, minutes=55, batch=48, learning_rate=1e-3, matrix_rate=5e-3)
    for name in ("pictures", "evidence", "held-out", "held-out-evidence", "earlier", "tuned"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    add_compile(parser)
    args = parser.parse_args()
    join()
    torch.manual_seed(0)
    model = HeadModel.load()
    data = VAEData(model)
    flow = FlowModel()
    load_weights(flow.encoder, args.tuned, "tuned", "encoder.")
    if (args.earlier / "dit.pt").exists():
        load_weights(flow.dit, args.earlier, "dit")
    training = Data.open(args.pictures, args.evidence, data.offsets, flow.encoder)
    held_out = Data.open(args.held_out, args.held_out_evidence, data.offsets, flow.encoder)
    linear = LinearDecoder.open(args.out)
    estimates = estimates_of(flow, training)
    face = face_of(data)
    judge = Judge(linear, torch.from_numpy(face))
    residuals = training.anchors[training.person] - flow.encoder.latents(estimates)
    errors = EstimateErrors.of(residuals, open_nodes(model.hierarchy, config.NUM_LATENTS, face))
    if rank() == 0:
        errors.save(args.out)
    scale = errors.residual_scale
    lengths = judge.metric(residuals / scale)
    print(evaluate(flow, held_out, judge, scale), flush=True)
    if args.compile:
        flow.encoder.compile()
        flow.dit.compile()
    generator = batch_seed(args.resume)

    def step(done: float) -> tuple[Tensor, Metrics]:
        ids = torch.randint(len(training.image), (args.batch,), generator=generator)
        batch = damaged(mixed(training.rows(ids, estimates), generator), generator)
        with bfloat16(batch.image):
            tokens = flow.encoder.fuse(batch.image, batch.seen, batch.estimate)
        tokens = tokens.float()
        losses = {"shape": flow.lesson.loss(tokens, batch.anchors)}
        if done >= LESSON_ONLY_SHARE:
            wanted = (batch.anchors - flow.encoder.latents(batch.known)) / scale
            losses |= flow_loss(flow, tokens, wanted, lengths, generator)
        total = sum(losses.values(), torch.zeros(()))
        return total, {k: float(v.detach()) for k, v in losses.items()}

    def watch(module: FlowModel) -> Metrics:
        with torch.compiler.set_stance("force_eager"):  # other batch sizes would be compiled anew
            return evaluate(module, held_out, judge, scale)

    budget = Budget(args.minutes, args.learning_rate, args.matrix_rate, evaluate_every_s=600)
    print(train("flow", flow, step, watch, budget, args.out, args.resume, ENDS))


if __name__ == "__main__":
    main()
