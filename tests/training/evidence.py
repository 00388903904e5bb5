"""Evidence of people who differ in a few directions, for tests without pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from models.evidence import SHAPES, Seen


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
