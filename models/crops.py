"""An image encoder that looks at a portrait several times, each time moved a little.

Multi-crop testing (Krizhevsky et al. 2012), for a network that is conditioned on tokens: those of all crops
are one set. Attention over a set repeated k times is the mean over its copies, so a network trained on one
crop reads k of them as it is, and what the encoder gets wrong by chance in one of them counts a kth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.image_encoder import ImageEncoder


class Crop(NamedTuple):
    """Where a crop lies in the picture, which is 2 wide and 2 high."""

    turn: float = 0.0  # degrees
    scale: float = 1.0  # of its side to the picture's
    right: float = 0.0
    down: float = 0.0


class CroppedEncoder(nn.Module):
    """pixels [B,3,H,W] RGB in 0..1 -> tokens of all crops [B,K*T,C], crop after crop.

    What a crop shows beyond the picture is its reflection, as in training.
    """

    grids: Tensor

    def __init__(self, encoder: ImageEncoder, crops: Sequence[Crop]) -> None:
        super().__init__()
        self.encoder = encoder
        side = encoder.grid * encoder.patch_size
        maps = torch.stack([_map(crop) for crop in crops])
        grids = F.affine_grid(maps, [len(crops), 1, side, side], align_corners=False)
        self.register_buffer("grids", grids, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        crops = len(self.grids)
        views = F.grid_sample(
            pixels.repeat_interleave(crops, 0),
            self.grids.repeat(len(pixels), 1, 1, 1),
            padding_mode="reflection",
            align_corners=False,
        )
        return self.encoder(views).unflatten(0, (len(pixels), crops)).flatten(1, 2)


AnyImageEncoder: TypeAlias = ImageEncoder | CroppedEncoder


def _map(crop: Crop) -> Tensor:
    angle = math.radians(crop.turn)
    along, across = math.cos(angle) * crop.scale, math.sin(angle) * crop.scale
    return torch.tensor([[along, -across, crop.right], [across, along, crop.down]])
