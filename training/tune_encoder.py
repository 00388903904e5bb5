"""Train `mini`'s image encoder further, on the cuts of textured training pictures.

    python -m training.tune_encoder --pictures runs/pictures --evidence runs/evidence \\
        --held-out runs/held_out --held-out-evidence runs/held_out_evidence \\
        --earlier runs/first --decoder runs/mini --out runs/tuned [--resume]

The encoder of `training.train_encoder` has seen plain renders only. Here its tokens learn to say what head a
textured picture shows, by a linear probe that is dropped afterwards. `--decoder` holds the linear decoder,
by whose vertices errors are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import ImageEncoder
from models import mini as config
from training.augment import random_maps
from training.evidence import Evidence
from training.heads import HeadModel
from training.latents import NodeOffsets
from training.lessons import ShapeLesson
from training.linear_decoder import LinearDecoder
from training.loop import Budget, Metrics, add_compile, arguments, bfloat16, join, rank, train
from training.train_flow import Judge, face_of, load_image_encoder
from training.vae_data import VAEData

MOVED_SHARE = 0.85  # share of the time budget with moved pictures; afterwards they are as in use, unmoved
GREY_SHARE = 0.1  # of the pictures
NOISE = 0.02
ENDS = ("encoder.patch_embed", "lesson")


@dataclass(frozen=True)
class Data:
    """The cuts of pictures, and the heads of their people."""

    crops: Tensor  # [n,H,W,3] uint8
    person: Tensor  # [n]
    anchors: Tensor  # [m,N,6]
    positions: Tensor  # [m,V,3]
    radii: Tensor  # [m] metres

    @classmethod
    def open(cls, pictures: Path, folder: Path, offsets: NodeOffsets) -> Data:
        """Read the cuts that `training.evidence` made."""
        evidence = Evidence.open(pictures, folder)
        positions, radii = evidence.normalised()
        anchors = offsets.of_many(positions)
        person = torch.from_numpy(evidence.person).long()
        return cls(torch.from_numpy(evidence.crops), person, anchors, positions, radii)

    def pixels(self, ids: Tensor) -> Tensor:
        """Return pictures [B,3,H,W] in 0..1."""
        return self.crops[ids].permute(0, 3, 1, 2).float() / 255


class TunedEncoder(nn.Module):
    """The encoder, and the probe, which no bundle holds."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImageEncoder(**config.IMAGE_ENCODER)
        channels, components = config.IMAGE_ENCODER["embed_dim"], config.EVIDENCE["estimate"]
        self.lesson = ShapeLesson(channels, components, config.NUM_LATENTS * config.DIT["in_channels"])
        nn.init.zeros_(self.lesson.shape.weight)
        nn.init.zeros_(self.lesson.shape.bias)

    def latents(self, pixels: Tensor) -> Tensor:
        """Return what the probe says of pictures [B,3,H,W]: latents [B,N*6]."""
        with bfloat16(pixels):
            tokens = self.encoder(pixels)
        read = self.lesson.read(tokens.float())
        return (read * self.lesson.deviation) @ self.lesson.components


def varied(pixels: Tensor, moving: bool, generator: torch.Generator) -> Tensor:
    """Return pictures [B,3,H,W] with other brightness and colours, some of them grey; moved, with noise."""
    count = len(pixels)

    def drawn(*shape: int) -> Tensor:
        return torch.rand(count, *shape, 1, 1, generator=generator)

    gain = (0.75 + 0.5 * drawn(1)) * (0.94 + 0.12 * drawn(3))
    pixels = pixels * gain
    grey = drawn(1) < GREY_SHARE
    pixels = torch.where(grey, pixels.mean(1, keepdim=True), pixels)
    if moving:
        grid = F.affine_grid(random_maps(count, generator), list(pixels.shape), align_corners=False)
        pixels = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
        pixels = pixels + NOISE * torch.randn(pixels.shape, generator=generator)
    return pixels.clamp(0, 1)


def evaluate(model: TunedEncoder, held_out: Data, judge: Judge) -> Metrics:
    """Return held-out errors in mm of the probe, which sees pixels alone."""
    ids = torch.arange(len(held_out.person))
    latents = torch.cat([model.latents(held_out.pixels(some)) for some in ids.split(50)])
    person = held_out.person
    found = latents.view(len(ids), -1, 6), held_out.positions[person], held_out.radii[person]
    whole, face = judge.millimetres(*found)
    return {"mm_lesson": whole, "mm_face_lesson": face}


def main() -> None:
    parser = arguments(__doc__, minutes=60, batch=48, learning_rate=5e-4, matrix_rate=2e-3)
    for name in ("pictures", "evidence", "held-out", "held-out-evidence", "earlier", "decoder"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    add_compile(parser)
    args = parser.parse_args()
    join()
    torch.manual_seed(0)
    data, model = VAEData(HeadModel.load()), TunedEncoder()
    load_image_encoder(model.encoder, args.earlier)
    training = Data.open(args.pictures, args.evidence, data.offsets)
    held_out = Data.open(args.held_out, args.held_out_evidence, data.offsets)
    linear = LinearDecoder.open(args.decoder)
    model.lesson.fit(training.anchors, linear.basis)
    judge = Judge(linear, torch.from_numpy(face_of(data)))
    middle = training.anchors.mean(0)
    lengths = judge.metric(training.anchors - middle)
    if args.compile:
        model.encoder.compile()
    generator = torch.Generator().manual_seed(3 + rank())

    def step(done: float) -> tuple[Tensor, Metrics]:
        ids = torch.randint(len(training.person), (args.batch,), generator=generator)
        pixels = varied(training.pixels(ids), done < MOVED_SHARE, generator)
        wanted = training.anchors[training.person[ids]].flatten(1)
        loss = ((model.latents(pixels) - wanted) @ lengths).square().mean()
        return loss, {"vertices": float(loss.detach())}

    def watch(module: TunedEncoder) -> Metrics:
        with torch.compiler.set_stance("force_eager"):  # other batch sizes would be compiled anew
            return evaluate(module, held_out, judge)

    budget = Budget(args.minutes, args.learning_rate, args.matrix_rate)
    print(train("encoder", model, step, watch, budget, args.out, args.resume, ENDS))


if __name__ == "__main__":
    main()
