"""Evidence of people who differ in a few directions, for tests without pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from models.evidence import SHAPES, EvidenceEncoder, Seen
from training.evidence import codes_of, fit_directions, fit_estimate, fit_scales, regressors


def some_evidence(codes: Tensor, noise: float = 0.0, seed: int = 7) -> Seen:
    """Return evidence that is linear in codes [n,k], with noise."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for shape in SHAPES.values():
        size = torch.Size(shape).numel()
        map_ = torch.randn(codes.shape[1], size, generator=torch.Generator().manual_seed(size)) * 0.1
        values = codes @ map_ + 0.3
        parts.append((values + noise * torch.randn(values.shape, generator=generator)).view(-1, *shape))
    return Seen(*parts)


def fit(
    encoder: EvidenceEncoder, image: Tensor, seen: Seen, person: Tensor, anchors: Tensor, basis: Tensor
) -> Tensor:
    """Fit all that is fitted of an encoder, in two parts; return the people's codes [m,E]."""
    fit_directions(encoder, anchors, basis)
    fit_scales(encoder, seen.landmarks, seen.features)
    codes, x = codes_of(anchors, encoder.evidence_latents), regressors(encoder, image, seen)
    fit_estimate(encoder, zip(x.split(len(x) // 2 + 1), codes[person].split(len(x) // 2 + 1), strict=True))
    return codes
