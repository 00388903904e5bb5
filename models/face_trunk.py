"""The network whose map of features tells `mini` what a face looks like, from an aligned cut of it.

It is the first part of dlib's face recognition network (CC0), up to its last block with 128 filters, whose
weights `training.tune_encoder` has trained further to tell the shape of a head. Batch norms are folded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

SIDE = 150
FEATURES = (128, 8, 8)
MEAN = (122.782, 117.001, 104.298)  # of R, G and B in 0..255; dlib divides by 256
STAGES = ((32, 3, False), (64, 4, True), (128, 3, True))  # filters, blocks, whether the first one halves


class Residual(nn.Module):
    """Two convolutions beside the identity, which is pooled and gets channels of zeros where they halve."""

    def __init__(self, channels: int, filters: int, down: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, filters, 3, 2 if down else 1, 0 if down else 1)
        self.second = nn.Conv2d(filters, filters, 3, padding=1)
        self.down, self.more = down, filters - channels

    def forward(self, x: Tensor) -> Tensor:
        made = self.second(F.relu(self.first(x)))
        if self.down:
            x = F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, 0, self.more))
        return F.relu(made + x)


class FaceTrunk(nn.Module):
    """Turns aligned cuts [B,3,150,150], RGB in 0..1, into maps of features [B,128,8,8]."""

    mean: Tensor
    blocks: Any  # nn.Sequential of Residual

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) / 256, persistent=False)
        self.stem = nn.Conv2d(3, 32, 7, 2)
        channels, blocks = 32, []
        for filters, count, halves in STAGES:
            for i in range(count):
                blocks.append(Residual(channels, filters, halves and i == 0))
                channels = filters
        self.blocks = nn.Sequential(*blocks)

    def forward(self, pixels: Tensor) -> Tensor:
        x = F.relu(self.stem(pixels * (255 / 256) - self.mean))
        made: Tensor = self.blocks(F.max_pool2d(x, 3, 2))
        return made

    def convolutions(self) -> Iterator[nn.Conv2d]:
        """Yield all convolutions in the order in which they are applied."""
        yield self.stem
        for block in self.blocks:
            yield block.first
            yield block.second


def recognition_weights(graph: Path) -> dict[str, Tensor]:
    """Return the weights of dlib's network, for a trunk, from the face bundle's ONNX file of it."""
    model = onnx.load(str(graph))
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    casts = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    trunk, state = FaceTrunk(), {}
    names = {id(module): name for name, module in trunk.named_modules()}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    for own, node in zip(trunk.convolutions(), convolutions, strict=False):
        for part, name in zip(("weight", "bias"), node.input[1:], strict=True):
            values = np.array(stored[casts.get(name, name)], np.float32)
            state[f"{names[id(own)]}.{part}"] = torch.from_numpy(values)
    return state
