"""An image encoder that looks at a portrait several times, each time moved a little.

This is multi-crop testing (Krizhevsky et al. 2012) for a network that is conditioned on tokens: the tokens of
all crops form one set. Attention over a set repeated k times is the mean over its copies, so a network that
was trained on one crop can read k of them unchanged, and a chance error in one crop counts a kth.
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
    """The place of a crop in the picture, which is 2 wide and 2 high."""

    turn: float = 0.0  # degrees
    scale: float = 1.0  # side of the crop as a share of the picture's
    right: float = 0.0
    down: float = 0.0


class CroppedEncoder(nn.Module):
    """Turns pixels [B,3,H,W], RGB in 0..1, into the tokens [B,K*T,C] of all K crops, one after the other.

    Beyond the picture a crop shows its reflection, as in training.
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
