"""Train what sees pictures in `mini` further on textured ones, and its linear estimate of heads.

    python -m training.tune_encoder --pictures runs/pictures --evidence runs/evidence \\
        --held-out runs/held_out --held-out-evidence runs/held_out_evidence \\
        --earlier runs/first --out runs/tuned [--resume]

It begins with the image encoder and the trunk of `--earlier`, and with a ridge regression from all evidence
to heads. Then all three learn together what head a picture shows. Errors count by the vertices that the
linear decoder of `--earlier` makes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models import EvidenceEncoder, ImageEncoder
from models import mini as config
from models.evidence import Seen
from training.augment import random_maps, varied
from training.evidence import Evidence, codes_of, fit_directions, fit_estimate, fit_scales, pixels_of
from training.heads import HeadModel
from training.judge import Judge, face_of
from training.latents import NodeOffsets
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
    processes,
    rank,
    shared,
    train,
)
from training.mirror import mirrored_heads
from training.vae_data import VAEData

MOVED_SHARE = 0.85  # share of the time budget with moved crops; afterwards they are as in use, unmoved
ALIGNED_MOVES = 0.6  # how far aligned cuts are moved, beside crops: as landmarks lie beside where they should
LANDMARK_NOISE_CM = 0.05
TRAINED_SHARE = 0.25  # of the estimate's weights, beside those that are fitted at last
SCALED_BY = 2000  # pictures
KNOWN_EVERY = 40  # of the training pictures, those that are judged beside the held-out ones
ENDS = ("encoder.encoder.patch_embed", "encoder.trunk", "encoder.evidence_estimate")


@dataclass(frozen=True)
class Data:
    """The evidence of pictures, and the heads of their people."""

    evidence: Evidence
    person: Tensor  # [n] rows of the heads
    anchors: Tensor  # [m,N,6]
    positions: Tensor  # [m,V,3]
    radii: Tensor  # [m] metres

    @classmethod
    def open(cls, pictures: Path, folder: Path, offsets: NodeOffsets) -> Data:
        """Read what `training.evidence` wrote."""
        evidence = Evidence.open(pictures, folder)
        positions, radii = evidence.normalised()
        person = torch.from_numpy(evidence.person).long()
        return cls(evidence, person, offsets.of_many(positions), positions, radii)

    def pictures(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return crops [B,3,128,128] and aligned cuts [B,3,150,150], in 0..1."""
        crops, aligned = self.evidence.crops, self.evidence.aligned
        return pixels_of(torch.from_numpy(crops[ids])), pixels_of(torch.from_numpy(aligned[ids]))

    def seen(self, ids: Tensor, features: Tensor, turned: bool = False) -> Seen:
        """Return the evidence of some pictures, as it is or in a mirror, with these features."""
        found = self.evidence
        seen = Seen(found.landmarks[ids], found.pose[ids], found.expression[ids], features)
        return seen.mirrored(features) if turned else seen


class TunedEncoder(nn.Module):
    """The encoder of evidence, of which the parts learn that see pictures, and the linear estimate."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = EvidenceEncoder(ImageEncoder(**config.IMAGE_ENCODER), **config.EVIDENCE)

    def train(self, mode: bool = True) -> TunedEncoder:
        """Set the mode."""
        super().train(mode)
        self.encoder.requires_grad_(False)
        for part in (self.encoder.encoder, self.encoder.trunk, self.encoder.evidence_estimate):
            part.requires_grad_(True)
        return self

    def features(self, pictures: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the image's tokens [B,T,C] and the map of features [B,128,8,8] of crops and aligned cuts."""
        crops, aligned = pictures
        with bfloat16(crops) if self.training else contextlib.nullcontext():
            image = self.encoder.encoder(crops)
            features = self.encoder.trunk(aligned.contiguous(memory_format=torch.channels_last))
        return image.float(), features.float()

    def look(self, data: Data, ids: Tensor, turned: bool) -> tuple[Tensor, Seen]:
        """Return the image's tokens [B,T,C] and the evidence of some pictures, as they are or in a mirror."""
        crops, aligned = (part.flip(-1) if turned else part for part in data.pictures(ids))
        image, features = self.features((crops, aligned))
        return image, data.seen(ids, features, turned)


@dataclass(frozen=True)
class Lesson:
    """What pictures should say, as they are and in a mirror."""

    codes: tuple[Tensor, Tensor]  # [m,E] of the people's heads

    @classmethod
    def of(cls, encoder: EvidenceEncoder, data: Data, offsets: NodeOffsets, mean: Tensor) -> Lesson:
        """Collect it for a symmetric mean head [V,3]."""
        anchors = (data.anchors, offsets.of_many(mirrored_heads(data.positions, mean)))
        own, other = (codes_of(some, encoder.evidence_latents) for some in anchors)
        return cls((own, other))

    def of_mirror(self) -> Tensor:
        """Return the map [E,E+1] from codes in a mirror, and 1, to the codes, by least squares."""
        own, other = self.codes
        inputs = torch.cat([other, torch.ones(len(other), 1)], 1)
        solution: Tensor = torch.linalg.lstsq(inputs, own).solution
        return solution.T.contiguous()


@torch.no_grad()
def begin(encoder: EvidenceEncoder, data: Data, linear: LinearDecoder) -> None:
    """Set what evidence is scaled by, and what the estimate's values are."""
    fit_directions(encoder, data.anchors, linear.basis)
    some = torch.arange(0, len(data.person), max(1, len(data.person) // SCALED_BY))
    features = torch.cat([encoder.trunk(data.pictures(ids)[1]) for ids in some.split(50)])
    fit_scales(encoder, data.evidence.landmarks, features)


@torch.no_grad()
def refit(model: TunedEncoder, data: Data, lesson: Lesson) -> None:
    """Fit the linear estimate to what is seen in all pictures, as they are and in a mirror."""
    model.eval()

    def parts() -> Iterator[tuple[Tensor, Tensor]]:
        for ids in torch.arange(len(data.person)).tensor_split(processes())[rank()].split(512):
            for turned in (False, True):
                x = model.encoder.regressors(*model.look(data, ids, turned))
                yield x, lesson.codes[turned][data.person[ids]]

    fit_estimate(model.encoder, parts())


def judged(model: TunedEncoder, data: Data, ids: Tensor, judge: Judge) -> tuple[float, float]:
    """Return the errors in mm, of whole heads and of faces, of some pictures."""
    made = []
    for some in ids.split(50):
        own, other = (model.encoder.estimate(*model.look(data, some, turned)) for turned in (False, True))
        made.append(model.encoder.of_both(own, other))
    person = data.person[ids]
    return judge.millimetres(
        model.encoder.latents(torch.cat(made)), data.positions[person], data.radii[person]
    )


def main() -> None:
    parser = arguments(__doc__, minutes=40, batch=32, learning_rate=1e-4, matrix_rate=4e-4)
    for name in ("pictures", "evidence", "held-out", "held-out-evidence", "earlier"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    add_compile(parser)
    args = parser.parse_args()
    join()
    torch.manual_seed(0)
    data, model = VAEData(HeadModel.load()), TunedEncoder()
    load_weights(model, args.earlier, "encoder")
    training = Data.open(args.pictures, args.evidence, data.offsets)
    held_out = Data.open(args.held_out, args.held_out_evidence, data.offsets)
    linear = LinearDecoder.open(args.earlier)
    judge = Judge(linear, torch.from_numpy(face_of(data)))
    if args.resume:
        load_weights(model, args.out, "encoder")  # for what is fitted and not trained
    else:
        begin(model.encoder, training, linear)
    latents = model.encoder.evidence_latents
    lesson = Lesson.of(model.encoder, training, data.offsets, data.mean)
    lengths = latents @ judge.metric(training.anchors - training.anchors.mean(0))
    model.encoder.evidence_mirror.copy_(lesson.of_mirror())
    if not args.resume:
        refit(model, training, lesson)
    everyone, known = torch.arange(len(held_out.person)), torch.arange(0, len(training.person), KNOWN_EVERY)

    def watch(module: TunedEncoder) -> Metrics:
        with torch.compiler.set_stance("force_eager"):  # other batch sizes would be compiled anew
            unseen, seen = judged(module, held_out, everyone, judge), judged(module, training, known, judge)
        return dict(zip(("mm", "mm_face", "mm_known", "mm_face_known"), (*unseen, *seen), strict=True))

    if rank() == 0:
        with torch.no_grad():
            print(watch(model.eval()), flush=True)
    if args.compile:
        model.encoder.encoder.compile()
        model.encoder.trunk.compile()
    generator = batch_seed(args.resume)

    def step(done: float) -> tuple[Tensor, Metrics]:
        ids = torch.randint(len(training.person), (args.batch,), generator=generator)
        turned = bool(torch.rand((), generator=generator) < 0.5)  # the whole batch is seen in a mirror
        crops, aligned = (part.flip(-1) if turned else part for part in training.pictures(ids))
        how_far = (1.0, ALIGNED_MOVES) if done < MOVED_SHARE else (0.0, ALIGNED_MOVES)
        moved = [random_maps(len(ids), generator, far) for far in how_far]
        pictures = varied(crops, moved[0], generator), varied(aligned, moved[1], generator)
        image, features = model.features(pictures)
        seen = training.seen(ids, features, turned)
        noise = LANDMARK_NOISE_CM * torch.randn(seen.landmarks.shape, generator=generator)
        made = model.encoder.estimate(image, seen._replace(landmarks=seen.landmarks + noise))
        wanted = lesson.codes[turned][training.person[ids]]
        loss = ((made - wanted) @ lengths).square().mean()
        return loss, {"vertices": float(loss.detach())}

    budget = Budget(args.minutes, args.learning_rate, args.matrix_rate, evaluate_every_s=300)
    train("encoder", model, step, watch, budget, args.out, args.resume, ENDS)
    shared(torch.zeros(1))  # until the first process has saved them
    load_weights(model, args.out, "encoder")
    linear_estimate = model.encoder.evidence_estimate
    trained = [linear_estimate.weight.detach().clone(), linear_estimate.bias.clone()]
    refit(model, training, lesson)  # to pictures as they are, which training seldom shows
    with torch.no_grad():
        for values, before in zip((linear_estimate.weight, linear_estimate.bias), trained, strict=True):
            values.lerp_(before, TRAINED_SHARE)
        if rank() == 0:
            print(watch(model), flush=True)
            torch.save({"average": model.state_dict()}, args.out / "tuned.pt")


if __name__ == "__main__":
    main()
