"""The image encoder of `mini`: pixels and what the face stage saw become one set of condition tokens.

A picture alone tells little cranium from hair, and a network that was trained on renders reads photographs
badly. What networks see that were trained on millions of photographs carries over: where the face stage
finds landmarks, the pose, the expression, and a map of features of the aligned face by a network that
learned to tell people apart, and then the shapes of heads (as MICA's did, arXiv 2204.06607). A linear
estimate of the head from all of it comes as tokens too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.face_trunk import FEATURES, FaceTrunk
from models.image_encoder import ImageEncoder, TransformerBlock
from models.mirror import mirrored_landmarks, mirrored_scores
from topos_rt.model.evidence import EVIDENCE

NAMES = ("landmarks", "pose", "expression", "aligned")
# The shapes of what `Seen` holds, without the batch.
SHAPES = {name: EVIDENCE[name][1:] for name in NAMES[:3]} | {"features": FEATURES}


class Seen(NamedTuple):
    """What was seen of faces: float32, a batch of each of SHAPES; zero where nothing was seen."""

    landmarks: Tensor
    pose: Tensor
    expression: Tensor
    features: Tensor  # what `FaceTrunk` makes of the aligned cut

    def mirrored(self, features: Tensor) -> Seen:
        """Return what is seen in a mirror; features: [B,128,8,8] of the cut in the mirror."""
        return Seen(
            self.landmarks[:, mirrored_landmarks()] * torch.tensor([-1.0, 1.0, 1.0]),
            self.pose * torch.tensor([-1.0, 1.0]),
            self.expression[:, mirrored_scores()],
            features,
        )


class Scaled(NamedTuple):
    """Evidence at about unit variance, a batch of each."""

    landmarks: Tensor  # [B,L] coordinates on the landmarks' principal directions
    manner: Tensor  # [B,54] pose and expression
    features: Tensor  # [B,128,8,8]


class EvidenceScales(nn.Module):
    """Brings evidence to unit variance. `training.evidence.fit_scales` fits the buffers."""

    landmark_mean: Tensor  # [1434]
    landmark_basis: Tensor  # [L,1434]
    feature_mean: Tensor  # [128,1,1]
    feature_scale: Tensor  # [128,1,1]

    def __init__(self, landmark_components: int) -> None:
        super().__init__()
        self.register_buffer("landmark_mean", torch.zeros(1434))
        self.register_buffer("landmark_basis", torch.zeros(landmark_components, 1434))
        self.register_buffer("feature_mean", torch.zeros(128, 1, 1))
        self.register_buffer("feature_scale", torch.ones(128, 1, 1))

    def forward(self, landmarks: Tensor, pose: Tensor, expression: Tensor, features: Tensor) -> Scaled:
        return Scaled(
            (landmarks.flatten(1) - self.landmark_mean) @ self.landmark_basis.T,
            torch.cat([pose, expression], 1),
            (features - self.feature_mean) / self.feature_scale,
        )


class LinearEstimate(nn.Module):
    """Estimates a head [B,E] linearly. `training.evidence.fit` fits it, `training.tune_encoder` trains it."""

    bias: Tensor  # [E]
    landmark_share: Tensor  # [L], of each coordinate in the landmarks' deviation

    def __init__(self, landmark_components: int, image_channels: int, estimate: int) -> None:
        super().__init__()
        regressors = landmark_components + 5 + 52 + 8192 + 2 * image_channels
        self.weight = nn.Parameter(torch.zeros(estimate, regressors), requires_grad=False)
        self.register_buffer("bias", torch.zeros(estimate))
        self.register_buffer("landmark_share", torch.zeros(landmark_components))

    def forward(self, summary: Tensor, patches: Tensor, scaled: Scaled) -> Tensor:
        """Return the estimate from the image's first token [B,C], the mean of its patches, and evidence."""
        return self.regressors(summary, patches, scaled) @ self.weight.T + self.bias

    def regressors(self, summary: Tensor, patches: Tensor, scaled: Scaled) -> Tensor:
        """Return what the estimate is linear in, [B,R]."""
        yaw, pitch, expression = scaled.manner.tensor_split([1, 2], 1)
        # Each part counts about alike: its standard deviation, over the root of its size, is about 1.
        parts = (
            3 * scaled.landmarks * self.landmark_share,
            yaw, pitch, yaw * yaw, yaw * pitch, pitch * pitch,
            0.7 * expression,
            scaled.features.flatten(1) / 90,
            0.15 * summary,
            0.3 * patches,
        )  # fmt: skip
        return torch.cat(parts, 1)


class EvidenceEncoder(nn.Module):
    """Turns pixels [B,3,H,W] and `Seen` into condition tokens [B,T,C], normed as those of `ImageEncoder`.

    Beside them it gives an estimate of the latent [B,N,D], to which the flow adds the rest: the linear one,
    or zero, the mean head, where a part of the evidence is missing.

    The names of modules that evidence passes begin with `evidence`, which keeps their products in FP32
    (`export/onnx/forms.py`).
    """

    blocks: Any  # nn.ModuleList of TransformerBlock, which torch's own annotations cannot express
    evidence_latents: Tensor  # [E,N*D] the latent of a unit of each value of the estimate
    evidence_mirror: Tensor  # [E,E+1] turns the estimate of a head in a mirror, and 1, into that of the head

    def __init__(
        self,
        encoder: ImageEncoder,
        *,
        channels: int,
        depth: int,
        num_heads: int,
        landmark_components: int,
        estimate: int,
        tokens: Mapping[str, int],
        latent: tuple[int, int],
    ) -> None:
        """encoder: gives the image's tokens; estimate: the number of values of the linear estimate.

        latent: the shape [N,D] of the latent.
        tokens: how many tokens each of "landmarks", "manner" (pose and expression) and "estimate" get; the
        map of features has one for each of its 64 places.
        """
        super().__init__()
        self.encoder = encoder
        self.trunk = FaceTrunk()
        self.counts = dict(tokens)
        manner = SHAPES["pose"][0] + SHAPES["expression"][0]
        sizes = {"landmarks": landmark_components, "manner": manner, "estimate": estimate}
        self.evidence_scales = EvidenceScales(landmark_components)
        self.evidence_estimate = LinearEstimate(landmark_components, encoder.pos_embed.shape[-1], estimate)
        self.latent = latent
        self.register_buffer("evidence_latents", torch.zeros(estimate, latent[0] * latent[1]))
        self.register_buffer("evidence_mirror", torch.eye(estimate, estimate + 1))
        self.evidence_projections = nn.ModuleDict(
            {name: nn.Linear(size, tokens[name] * channels) for name, size in sizes.items()}
        )
        self.evidence_features = nn.Linear(128, channels)
        self.places = nn.Parameter(torch.randn(64, channels) * 0.1)
        self.kinds = nn.Parameter(torch.randn(1 + len(sizes), channels) * 0.1)
        self.missing = nn.Parameter(torch.zeros(2 + len(sizes), channels))
        self.blocks = nn.ModuleList(TransformerBlock(channels, num_heads, 4 * channels) for _ in range(depth))

    def forward(
        self, pixels: Tensor, landmarks: Tensor, pose: Tensor, expression: Tensor, aligned: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return tokens [B,T,C] and latents [B,N,D] of pixels, RGB in 0..1, and evidence.

        aligned: [B,150,150,3] RGB in 0..1. The estimate is the mean of two, of the pictures as they are and
        in a mirror, whose errors are in part independent.
        """
        cut = aligned.permute(0, 3, 1, 2)
        features = self.trunk(torch.cat([cut, cut.flip(-1)])) * _known(aligned).repeat(2)[:, None, None, None]
        own, other = features.chunk(2)
        image, turned = self.encoder(torch.cat([pixels, pixels.flip(-1)])).chunk(2)
        found = Seen(landmarks, pose, expression, own)
        estimate = self.of_both(self.estimate(image, found), self.estimate(turned, found.mirrored(other)))
        return self.fuse(image, found, estimate), self.latents(estimate)

    def of_both(self, own: Tensor, mirrored: Tensor) -> Tensor:
        """Return the mean of an estimate [B,E] and that of its picture in a mirror; zero where both are."""
        back = mirrored @ self.evidence_mirror[:, :-1].T + self.evidence_mirror[:, -1]
        return (own + back) / 2 * _known(own)[:, None]

    def estimate(self, image: Tensor, seen: Seen) -> Tensor:
        """Return the linear estimate [B,E] from the image's tokens [B,T,C] and evidence.

        It is zero where landmarks or features are.
        """
        estimate: Tensor = self.evidence_estimate(*self.pooled(image), self.evidence_scales(*seen))
        known = _known(seen.landmarks) * _known(seen.features)
        return estimate * known[:, None]

    def latents(self, estimate: Tensor) -> Tensor:
        """Return the latent [B,N,D] of an estimate [B,E]."""
        return (estimate @ self.evidence_latents).unflatten(1, self.latent)

    def regressors(self, image: Tensor, seen: Seen) -> Tensor:
        """Return what the estimate is linear in, [B,R]."""
        return self.evidence_estimate.regressors(*self.pooled(image), self.evidence_scales(*seen))

    def fuse(self, image: Tensor, seen: Seen, estimate: Tensor) -> Tensor:
        """Return the condition tokens from the image's tokens [B,T,C], evidence and an estimate [B,E].

        What is all zero counts as missing.
        """
        shown, scaled = Seen(*map(_known, seen)), self.evidence_scales(*seen)
        groups = {
            "landmarks": (scaled.landmarks, shown.landmarks),
            "manner": (scaled.manner, shown.expression),
            "estimate": (estimate, _known(estimate)),
        }
        parts = [self._or_missing(image, _known(image), -2)]
        features = self.evidence_features(scaled.features.flatten(2).transpose(1, 2)) + self.places
        parts.append(self._or_missing(features + self.kinds[-1], shown.features, -1))
        for i, (name, (values, known)) in enumerate(groups.items()):
            made = self.evidence_projections[name](values).unflatten(1, (self.counts[name], -1))
            parts.append(self._or_missing(made + self.kinds[i], known, i))
        x = torch.cat(parts, 1)
        for block in self.blocks:
            x = block(x)
        return F.layer_norm(x, x.shape[-1:])

    def pooled(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first token [B,C] of an image's tokens [B,T,C], and the mean [B,C] of its patches."""
        return image[:, 0], image[:, -(self.encoder.grid**2) :].mean(1)

    def _or_missing(self, tokens: Tensor, known: Tensor, kind: int) -> Tensor:
        there = known[:, None, None]
        return tokens * there + self.missing[kind] * (1 - there)


def _known(values: Tensor) -> Tensor:
    """Return 1 where a part of a batch was seen, 0 where it is all zero: [B]."""
    return (values.flatten(1).abs().amax(1) > 0).to(values.dtype)
