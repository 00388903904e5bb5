"""Train the network that finds points of the head's surface in aligned cuts, and tells the head by them.

    python -m training.train_surface --pictures runs/pictures --evidence runs/evidence \\
        --held-out runs/held_out --held-out-evidence runs/held_out_evidence \\
        --earlier runs/first --out runs/surface [--resume]

It begins with the trunk of `--earlier`, and with ridge regressions from all its evidence to the places of
`training.surface_points` and to heads. The image encoder stays as it is. The last pictures are kept for a
ridge regression to heads in the end, from all of that and what the network says of people it never saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models import mini as config
from models.evidence import EvidenceEncoder, Seen
from models.face_trunk import FEATURES, SIDE
from models.image_encoder import ImageEncoder
from models.surface_reader import TURNED, Read, SurfaceReader
from training.augment import moved_places, random_maps, varied
from training.evidence import pixels_of, ridge_of_parts
from training.heads import HeadModel
from training.judge import Judge, face_of
from training.linear_decoder import LinearDecoder
from training.loop import (
    Budget,
    Metrics,
    arguments,
    batch_seed,
    gathered,
    join,
    load_weights,
    processes,
    rank,
    shared,
    train,
)
from training.place_limits import places_of
from training.surface_points import SurfacePoints
from training.tune_encoder import Data, Lesson, begin
from training.vae_data import VAEData

ALIGNED_MOVES = 0.4  # how far cuts are moved in training
LANDMARK_NOISE_CM = 0.05
COORDINATES = 160
KEPT_FOR_LAST = 3000  # pictures
STAGE_WEIGHTS = (0.2, 0.4, 1.0)  # of the places found at first and after each look
PLACES_WEIGHT = 0.1  # of a pixel, beside the vertices' error at unit variance
NEAR_PIXELS = 0.5  # errors below it count by their squares
ENDS = ("encoder", "surface.about")
NEW = ("surface.pyramid", "surface.looks", "from_seen", "from_surface")


@dataclass(frozen=True)
class Pictures:
    """The evidence of pictures, where the surface is in their cuts, and the heads of their people."""

    data: Data
    places: Tensor  # [n,P,3]
    mirrored: Tensor  # [P] the point on the other side
    image: Tensor  # [n,2,2,C] the image's first token and the mean of its patches, as it is and in a mirror

    @classmethod
    def open(cls, data: Data, folder: Path, mirrored: Tensor, encoder: EvidenceEncoder) -> Pictures:
        """Read the places that `training.evidence` wrote, and look at all crops."""
        return cls(data, places_of(folder), mirrored, image_of(data, encoder))

    def where(self, ids: Tensor, turned: bool) -> Tensor:
        """Return the places [B,P,3] of the points in some cuts, as they are or in a mirror."""
        places = self.places[ids]
        return places[:, self.mirrored] * torch.tensor([-1.0, 1.0, 1.0]) if turned else places

    def cuts(self, ids: Tensor, turned: bool) -> Tensor:
        """Return cuts [B,3,150,150] in 0..1."""
        cuts = pixels_of(torch.from_numpy(self.data.evidence.aligned[ids]))
        return cuts.flip(-1) if turned else cuts


@torch.no_grad()
def image_of(data: Data, encoder: EvidenceEncoder) -> Tensor:
    """Return what the image encoder says of all crops, [n,2,2,C].

    Processes that train together compute a part each.
    """
    parts = torch.arange(len(data.person)).tensor_split(processes())
    rows = []
    for ids in parts[rank()].split(64):
        crops = pixels_of(torch.from_numpy(data.evidence.crops[ids]))
        looks = (encoder.pooled(encoder.encoder(x)) for x in (crops, crops.flip(-1)))
        rows.append(torch.stack([torch.stack(look, 1) for look in looks], 1))
    return gathered(torch.cat(rows), [len(part) for part in parts])


class Reading(nn.Module):
    """Tells heads by evidence, and by the points that it finds in the cut."""

    def __init__(self, points: int) -> None:
        super().__init__()
        self.encoder = EvidenceEncoder(ImageEncoder(**config.IMAGE_ENCODER), **config.EVIDENCE)
        values, regressors = self.encoder.evidence_estimate.weight.shape
        self.surface = SurfaceReader(regressors, points, COORDINATES)
        self.from_surface = nn.Linear(COORDINATES + 5 * TURNED, values, bias=False)
        self.from_seen = nn.Linear(self.surface.looks[-1].out.in_features, values, bias=False)
        nn.init.zeros_(self.from_surface.weight)
        nn.init.zeros_(self.from_seen.weight)

    def train(self, mode: bool = True) -> Reading:
        """Set the mode. Of the encoder of evidence, the trunk and the estimate learn."""
        super().train(mode)
        self.encoder.requires_grad_(False)
        for part in (self.encoder.trunk, self.encoder.evidence_estimate):
            part.requires_grad_(True)
        return self

    def regressors(self, maps: list[Tensor], image: Tensor, seen: Seen) -> Tensor:
        """Return what estimates of evidence are linear in, [B,R]; image: [B,2,C] as of `Pictures`."""
        scaled = self.encoder.evidence_scales(*seen._replace(features=maps[-1].float()))
        return self.encoder.evidence_estimate.regressors(image[:, 0], image[:, 1], scaled)

    def forward(self, cuts: Tensor, image: Tensor, seen: Seen) -> tuple[Read, Tensor, Tensor]:
        """Return what was read, the codes [B,E] of heads, and what else these could be linear in."""
        maps = self.encoder.trunk.maps(cuts.contiguous(memory_format=torch.channels_last))
        about = self.regressors(maps, image, seen)
        read = self.surface(maps, about)
        by_surface = self.surface.regressors(read.coordinates[-1], seen.pose)
        linear = self.encoder.evidence_estimate
        codes = about @ linear.weight.T + linear.bias
        codes = codes + self.from_surface(by_surface) + self.from_seen(read.seen)
        return read, codes, torch.cat([about, by_surface], 1)


def seen_of(pictures: Pictures, ids: Tensor, turned: bool) -> tuple[Tensor, Seen]:
    """Return the image's tokens [B,2,C] and the evidence of some pictures, without features."""
    nothing = torch.zeros(len(ids), *FEATURES)
    return pictures.image[ids, int(turned)], pictures.data.seen(ids, nothing, turned)


@torch.no_grad()
def look(model: Reading, pictures: Pictures, ids: Tensor, turned: bool) -> tuple[Read, Tensor, Tensor]:
    """Look at some pictures as they are, or in a mirror."""
    found: tuple[Read, Tensor, Tensor] = model(pictures.cuts(ids, turned), *seen_of(pictures, ids, turned))
    return found


@torch.no_grad()
def start(model: Reading, pictures: Pictures, lesson: Lesson, ids: Tensor) -> None:
    """Fit the directions of places, and the regressions to places and heads that training begins with."""
    surface, linear = model.surface, model.encoder.evidence_estimate
    surface.fit(torch.cat([pictures.where(ids, turned) for turned in (False, True)]))

    def parts() -> Iterator[tuple[Tensor, Tensor]]:
        for some in ids.tensor_split(processes())[rank()].split(256):
            for turned in (False, True):
                maps = model.encoder.trunk.maps(pictures.cuts(some, turned))
                codes = lesson.codes[turned][pictures.data.person[some]]
                at = surface.coordinates_of(pictures.where(some, turned))
                yield model.regressors(maps, *seen_of(pictures, some, turned)), torch.cat([codes, at], 1)

    values, size = linear.weight.shape
    weights, bias = ridge_of_parts(parts(), size, values + COORDINATES)
    linear.weight.data.copy_(weights[:, :values].T)
    linear.bias.copy_(bias[:values])
    surface.about.weight.data.copy_(weights[:, values:].T)
    surface.about.bias.data.copy_(bias[values:])


def pixels_off(found: Tensor, places: Tensor) -> Tensor:
    """Return how far places [B,P,3] are off, [B,P] pixels of the cut, where depth counts for half."""
    off = (found - places) * (SIDE / 2)
    return (off[..., :2].square().sum(-1) + 0.25 * off[..., 2].square() + NEAR_PIXELS**2).sqrt()


def judged(model: Reading, pictures: Pictures, judge: Judge) -> Metrics:
    """Return the errors of all heads in mm, of both looks, and of places in pixels."""
    made, off = [], []
    for ids in torch.arange(len(pictures.image)).split(50):
        (read, own, _), (_, other, _) = (look(model, pictures, ids, turned) for turned in (False, True))
        made.append(model.encoder.of_both(own, other))
        error = (model.surface.places(read.coordinates[-1]) - pictures.where(ids, False)) * (SIDE / 2)
        off.append(torch.stack([error[..., :2].norm(dim=-1), error[..., 2].abs()], -1).mean(1))
    data = pictures.data
    latents = model.encoder.latents(torch.cat(made))
    whole, face = judge.millimetres(latents, data.positions[data.person], data.radii[data.person])
    across, deep = torch.cat(off).mean(0).tolist()
    return {"mm": whole, "mm_face": face, "pixels": across, "pixels_deep": deep}


def main() -> None:
    parser = arguments(__doc__, minutes=90, batch=32, learning_rate=1e-4, matrix_rate=4e-4)
    for name in ("pictures", "evidence", "held-out", "held-out-evidence", "earlier"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    join()
    torch.manual_seed(0)
    head = HeadModel.load()
    points = SurfacePoints.of(head)
    data, model, linear = VAEData(head), Reading(len(points.vertices)), LinearDecoder.open(args.earlier)
    load_weights(model.encoder, args.earlier, "encoder", "encoder.")
    mirrored = torch.from_numpy(points.mirrored)
    ends = []
    for pictures, evidence in ((args.pictures, args.evidence), (args.held_out, args.held_out_evidence)):
        some = Data.open(pictures, evidence, data.offsets)
        ends.append(Pictures.open(some, evidence, mirrored, model.encoder))
    training, held_out = ends
    judge = Judge(linear, torch.from_numpy(face_of(data)))
    learned = torch.arange(len(training.image) - KEPT_FOR_LAST)
    begin(model.encoder, training.data, linear)
    latents = model.encoder.evidence_latents
    anchors = training.data.anchors
    lesson = Lesson.of(model.encoder, training.data, data.offsets, data.mean)
    lengths = latents @ judge.metric(anchors - anchors.mean(0))
    model.encoder.evidence_mirror.copy_(lesson.of_mirror())
    if args.resume:
        load_weights(model, args.out, "surface")
    else:
        start(model, training, lesson, learned)

    def watch(module: Reading) -> Metrics:
        return judged(module, held_out, judge)

    if rank() == 0:
        print(watch(model.eval()), flush=True)
    generator = batch_seed(args.resume)

    def step(done: float) -> tuple[Tensor, Metrics]:
        ids = learned[torch.randint(len(learned), (args.batch,), generator=generator)]
        turned = bool(torch.rand((), generator=generator) < 0.5)  # the whole batch is seen in a mirror
        maps = random_maps(len(ids), generator, ALIGNED_MOVES)
        cuts = varied(training.cuts(ids, turned), maps, generator)
        image, seen = seen_of(training, ids, turned)
        noise = LANDMARK_NOISE_CM * torch.randn(seen.landmarks.shape, generator=generator)
        read, codes, _ = model(cuts, image, seen._replace(landmarks=seen.landmarks + noise))
        places = training.where(ids, turned)
        larger = torch.linalg.det(maps[:, :, :2]).rsqrt()[:, None, None]
        places = torch.cat([moved_places(maps, places[..., :2]), places[..., 2:] * larger], 2)
        off = [pixels_off(model.surface.places(at), places).mean() for at in read.coordinates]
        wanted = lesson.codes[turned][training.data.person[ids]]
        vertices = ((codes - wanted) @ lengths).square().mean()
        by_places = sum(weight * one for weight, one in zip(STAGE_WEIGHTS, off, strict=True))
        about = {"vertices": vertices, "first": off[0], "pixels": off[-1]}
        return vertices + PLACES_WEIGHT * by_places, {k: float(v.detach()) for k, v in about.items()}

    budget = Budget(args.minutes, args.learning_rate, args.matrix_rate, evaluate_every_s=300, new=NEW)
    train("surface", model, step, watch, budget, args.out, args.resume, ENDS)
    shared(torch.zeros(1))  # until the first process has saved them


if __name__ == "__main__":
    main()
