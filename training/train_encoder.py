"""Train `mini`'s image encoder on rendered portraits: it learns to see (`training/lessons.py`).

    python -m training.train_encoder --out runs/first [--minutes 110] [--resume]

Its pictures are those of `training.portraits`, plain renders by the hundred thousand. What it has learned
there serves `training.train_flow`, which leaves it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models import ImageEncoder
from models import mini as config
from training.augment import moved, random_maps
from training.heads import HeadModel, normalise
from training.latents import NodeOffsets
from training.lessons import Lessons
from training.loop import Budget, Metrics, add_compile, arguments, bfloat16, join, load_weights, rank, train
from training.portraits import HELD_OUT_PORTRAITS, Portraits, open_set
from training.train_vae import vertex_error_mm
from training.vae_data import VAEData

MOVED_SHARE = 0.85  # share of the time budget with moved pictures; afterwards they are as in use, unmoved
FITTED_HEADS = 4000  # heads to which evaluation fits its linear map from anchors
ENDS = ("encoder.patch_embed", "lessons")


class Batch(NamedTuple):
    """The data that one step learns from."""

    pixels: Tensor  # [B,3,H,W] 0..1
    anchors: Tensor  # [B,N,6]
    seen: Tensor  # [B,patches,SEEN_CHANNELS], see `what_is_seen`
    landmarks: Tensor  # [B,LANDMARKS,2] places in the picture, -1..1


@dataclass(frozen=True)
class Data:
    """Portraits and the anchors of their heads."""

    portraits: Portraits
    heads: np.ndarray  # [m,V,3] metres
    anchors: Tensor  # [m,N,6]

    @classmethod
    def open(cls, directory: Path, name: str, offsets: NodeOffsets) -> Data:
        """Open the set that `training.portraits` drew, and compute the anchors of its heads."""
        portraits, heads = open_set(directory, name)
        chunks = (heads[i : i + 256] for i in range(0, len(heads), 256))
        return cls(portraits, heads, torch.cat([offsets(torch.from_numpy(normalise(c)[0])) for c in chunks]))

    @property
    def views(self) -> int:
        """The number of portraits of one head, which follow each other."""
        return len(self.portraits.pixels) // len(self.heads)

    def normalised(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the first heads [count,V,3] in the networks' frame, and their radii [count] in metres."""
        positions, radii = normalise(self.heads[:count])
        return torch.from_numpy(positions), torch.from_numpy(radii)

    def batch(self, ids: np.ndarray, lights: np.ndarray) -> Batch:
        """Return the portraits `ids`, each in the light that `lights` gives."""
        pixels, seen, landmarks = self.portraits
        return Batch(
            torch.from_numpy(pixels[ids, lights]).float() / 255,
            self.anchors[ids // self.views],
            torch.from_numpy(seen[ids]).float() / 127,
            torch.from_numpy(landmarks[ids]).float(),
        )

    def random(self, count: int, rng: np.random.Generator, moving: bool) -> Batch:
        """Draw a training batch with random brightness and colour, and with moves and noise if `moving`."""
        total, lights = self.portraits.pixels.shape[:2]
        batch = self.batch(np.sort(rng.integers(0, total, count)), rng.integers(0, lights, count))
        gain = rng.uniform(0.8, 1.2, (count, 1, 1, 1)) * rng.uniform(0.94, 1.06, (count, 3, 1, 1))
        batch = batch._replace(pixels=(batch.pixels * torch.from_numpy(gain.astype(np.float32))).clamp(0, 1))
        return _moved(batch, rng) if moving else batch


def _moved(batch: Batch, rng: np.random.Generator) -> Batch:
    noise = rng.standard_normal(batch.pixels.shape, np.float32) * np.float32(0.02)
    maps = random_maps(len(noise), torch.Generator().manual_seed(int(rng.integers(1 << 31))))
    pixels = (batch.pixels + torch.from_numpy(noise)).clamp(0, 1)
    pixels, seen, landmarks = moved(maps, pixels, batch.seen, batch.landmarks)
    return Batch(pixels, batch.anchors, seen, landmarks)


class EncoderModel(nn.Module):
    """The encoder, and the lessons, which no bundle holds."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImageEncoder(**config.IMAGE_ENCODER)
        latent_size = config.NUM_LATENTS * config.DIT["in_channels"]
        self.lessons = Lessons(config.IMAGE_ENCODER["embed_dim"], latent_size)
        start_weights(self)


def start_weights(model: EncoderModel) -> None:
    """Start residuals at zero, and positions as waves."""
    with torch.no_grad():
        model.encoder.pos_embed[:, 1:] = plane_waves(model.encoder.grid, model.encoder.pos_embed.shape[-1])
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    for name, parameter in model.encoder.patch_embed.blocks.named_parameters():
        if "conv2" in name:
            nn.init.zeros_(parameter)


def plane_waves(grid: int, channels: int) -> Tensor:
    """Return sines and cosines of row and column, [grid*grid, channels], as loud as the patches' embedding.

    Meta's encoder starts its position embedding at 0.02 and has weeks to learn it; ours has minutes.
    """
    quarter = channels // 4
    angle = torch.arange(grid)[:, None] * torch.pi / grid * 2 ** torch.linspace(0, 3, quarter)
    waves = torch.cat([angle.sin(), angle.cos()], -1) * 0.5
    rows, columns = waves[:, None].expand(-1, grid, -1), waves[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)


def evaluate(model: EncoderModel, held_out: Data, training: Data, mean: Tensor) -> Metrics:
    """Return held-out vertex errors of the lessons, by a linear map fitted to `training`."""
    lessons = model.lessons
    known, _ = training.normalised(FITTED_HEADS)
    truth, radii = held_out.normalised(len(held_out.heads))
    codes = training.anchors[: len(known)].flatten(1) @ lessons.components.T
    fit = torch.linalg.lstsq(codes, (known - mean).flatten(1)).solution
    batch = held_out.batch(np.arange(HELD_OUT_PORTRAITS), np.zeros(HELD_OUT_PORTRAITS, np.int64))
    with torch.autocast("cpu", torch.bfloat16):
        tokens = torch.cat([model.encoder(p) for p in batch.pixels.split(50)]).float()

    def millimetres(codes: Tensor) -> float:
        count = len(codes)
        got = (codes.flatten(1) @ lessons.components.T @ fit).view(count, -1, 3) + mean
        return vertex_error_mm(got, truth[:count], radii[:count])

    off = (lessons.places(tokens) - batch.landmarks).norm(dim=-1).mean()
    metrics = {
        "landmarks_px": float(off) * config.IMAGE_SIZE / 2,
        "mm_linear_floor": millimetres(batch.anchors),
        "mm_mean_head": millimetres(torch.zeros_like(batch.anchors)),
        "mm_lesson": millimetres((lessons.read(tokens) * lessons.deviation) @ lessons.components),
    }
    return metrics


def main() -> None:
    parser = arguments(__doc__, minutes=110, batch=48, learning_rate=1e-3, matrix_rate=5e-3)
    parser.add_argument("--weights", type=Path, metavar="DIR", help="weights of an earlier run to begin with")
    add_compile(parser)
    args = parser.parse_args()
    join()
    torch.manual_seed(0)
    model = HeadModel.load()
    data = VAEData(model)
    training = Data.open(args.out, "train", data.offsets)
    held_out = Data.open(args.out, "held_out", data.offsets)
    net = EncoderModel()
    net.lessons.fit(training.anchors)
    if args.weights:
        load_weights(net, args.weights, "encoder")
    if args.compile:
        net.encoder.compile()
    rng = np.random.default_rng([3, rank()])

    def step(done: float) -> tuple[Tensor, Metrics]:
        batch = training.random(args.batch, rng, moving=done < MOVED_SHARE)
        with bfloat16(batch.pixels):
            tokens = net.encoder(batch.pixels)
        losses = net.lessons.losses(tokens.float(), batch.anchors, batch.seen, batch.landmarks)
        total = sum(losses.values(), torch.zeros(()))
        return total, {k: float(v.detach()) for k, v in losses.items()}

    def watch(module: EncoderModel) -> Metrics:
        with torch.compiler.set_stance("force_eager"):  # other batch sizes would be compiled anew
            return evaluate(module, held_out, training, data.mean)

    budget = Budget(args.minutes, args.learning_rate, args.matrix_rate)
    print(train("encoder", net, step, watch, budget, args.out, args.resume, ENDS))


if __name__ == "__main__":
    main()
