"""The image encoder of `mini`: pixels and what the face stage saw become one set of condition tokens.

A picture alone tells little cranium from hair, and a network that was trained on renders reads photographs
badly. What the face stage's networks saw, which were trained on millions of photographs, carries over: where
landmarks lie, the pose, the expression, an embedding of the person (MICA, arXiv 2204.06607) and the map from
which that is made. A linear estimate of the head, by ridge regression on all of it, comes as tokens too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.image_encoder import ImageEncoder, TransformerBlock
from topos_rt.model.evidence import EVIDENCE

NAMES = tuple(EVIDENCE)
SHAPES = {name: shape[1:] for name, shape in EVIDENCE.items()}  # without the batch


class Seen(NamedTuple):
    """What the face stage saw in pictures: float32, a batch of each of NAMES; zero where nothing was seen."""

    landmarks: Tensor
    pose: Tensor
    expression: Tensor
    identity: Tensor
    features: Tensor


class EvidenceEncoder(nn.Module):
    """Turns pixels [B,3,H,W] and `Seen` into condition tokens [B,T,C], normed as those of `ImageEncoder`.

    The buffers are fitted once, before training: `training.evidence` has the ways.
    """

    landmark_mean: Tensor  # [1434]
    landmark_basis: Tensor  # [landmark_components,1434]; coordinates have unit variance
    landmark_share: Tensor  # [landmark_components], of each coordinate in the landmarks' deviation
    identity_mean: Tensor  # [128]
    feature_mean: Tensor  # [128,1,1]
    feature_scale: Tensor  # [128,1,1]
    estimate_weight: Tensor  # [estimate,R]
    estimate_bias: Tensor  # [estimate]
    blocks: Any  # nn.ModuleList of TransformerBlock, which torch's own annotations cannot express

    def __init__(
        self,
        image: ImageEncoder,
        *,
        channels: int,
        depth: int,
        num_heads: int,
        landmark_components: int,
        estimate: int,
        tokens: Mapping[str, int],
    ) -> None:
        """image: gives the image's tokens; estimate: the number of values of the linear estimate.

        tokens: how many tokens each of "landmarks", "manner" (pose and expression), "identity" and "estimate"
        get; the map of features has one for each of its 64 places.
        """
        super().__init__()
        self.image = image
        self.counts = dict(tokens)
        manner = SHAPES["pose"][0] + SHAPES["expression"][0]
        sizes = {"landmarks": landmark_components, "manner": manner, "identity": 128, "estimate": estimate}
        self.projections = nn.ModuleDict({n: nn.Linear(sizes[n], tokens[n] * channels) for n in sizes})
        self.feature_projection = nn.Linear(128, channels)
        self.places = nn.Parameter(torch.randn(64, channels) * 0.1)
        self.kinds = nn.Parameter(torch.randn(1 + len(sizes), channels) * 0.1)
        self.missing = nn.Parameter(torch.zeros(2 + len(sizes), channels))
        self.blocks = nn.ModuleList(TransformerBlock(channels, num_heads, 4 * channels) for _ in range(depth))
        pooled = 2 * image.pos_embed.shape[-1]
        regressors = landmark_components + 2 + 3 + 52 + 128 + 8192 + pooled
        self.register_buffer("landmark_mean", torch.zeros(1434))
        self.register_buffer("landmark_basis", torch.zeros(landmark_components, 1434))
        self.register_buffer("landmark_share", torch.zeros(landmark_components))
        self.register_buffer("identity_mean", torch.zeros(128))
        self.register_buffer("feature_mean", torch.zeros(128, 1, 1))
        self.register_buffer("feature_scale", torch.ones(128, 1, 1))
        self.register_buffer("estimate_weight", torch.zeros(estimate, regressors))
        self.register_buffer("estimate_bias", torch.zeros(estimate))

    def forward(self, pixels: Tensor, *seen: Tensor) -> Tensor:
        """Return the tokens [B,T,C] of pixels, RGB in 0..1, and evidence in the order of NAMES."""
        image, found = self.image(pixels), Seen(*seen)
        return self.fuse(image, found, self.estimate(image, found))

    def estimate(self, image: Tensor, seen: Seen) -> Tensor:
        """Return the linear estimate [B,E] from the image's tokens [B,T,C] and evidence."""
        return self.regressors(image, seen) @ self.estimate_weight.T + self.estimate_bias

    def regressors(self, image: Tensor, seen: Seen) -> Tensor:
        """Return what the estimate is linear in, [B,R]."""
        yaw, pitch = seen.pose[:, :1], seen.pose[:, 1:]
        # Each part counts about alike: its standard deviation, over the root of its size, is about 1.
        parts = (
            3 * self._landmarks(seen) * self.landmark_share,
            yaw, pitch, yaw * yaw, yaw * pitch, pitch * pitch,
            0.7 * seen.expression,
            2.2 * (seen.identity - self.identity_mean),
            self._features(seen).flatten(1) / 90,
            0.15 * image[:, 0],
            0.3 * image[:, -self.image.grid**2 :].mean(1),
        )  # fmt: skip
        return torch.cat(parts, 1)

    def fuse(self, image: Tensor, seen: Seen, estimate: Tensor) -> Tensor:
        """Return the condition tokens from the image's tokens [B,T,C], evidence and an estimate [B,E].

        Image tokens that are all zero count as missing, as does evidence.
        """
        shown = [_known(part) for part in seen]
        groups = {
            "landmarks": (self._landmarks(seen), shown[0]),
            "manner": (torch.cat([seen.pose, seen.expression], 1), shown[2]),
            "identity": (10 * (seen.identity - self.identity_mean), shown[3]),
            "estimate": (estimate, shown[0] * shown[3] * shown[4] * _known(image)),
        }
        parts = [self._or_missing(image, _known(image), -2)]
        features = self.feature_projection(self._features(seen).flatten(2).transpose(1, 2)) + self.places
        parts.append(self._or_missing(features + self.kinds[-1], shown[4], -1))
        for i, (name, (values, known)) in enumerate(groups.items()):
            tokens = self.projections[name](values).unflatten(1, (self.counts[name], -1)) + self.kinds[i]
            parts.append(self._or_missing(tokens, known, i))
        x = torch.cat(parts, 1)
        for block in self.blocks:
            x = block(x)
        return F.layer_norm(x, x.shape[-1:])

    def _landmarks(self, seen: Seen) -> Tensor:
        return (seen.landmarks.flatten(1) - self.landmark_mean) @ self.landmark_basis.T

    def _features(self, seen: Seen) -> Tensor:
        return (seen.features - self.feature_mean) / self.feature_scale

    def _or_missing(self, tokens: Tensor, known: Tensor, kind: int) -> Tensor:
        there = known[:, None, None]
        return tokens * there + self.missing[kind] * (1 - there)


def _known(values: Tensor) -> Tensor:
    """Return 1 where a part of a batch was seen, 0 where it is all zero: [B]."""
    return (values.flatten(1).abs().amax(1) > 0).to(values.dtype)
