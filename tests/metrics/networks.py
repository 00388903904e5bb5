"""Small random feature networks, as PyTorch modules and as ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

CHANNELS = (6, 10)


class Random(torch.nn.Module):
    """Two convolutions; gives their maps, or the means over the places of the second."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        shapes = [(CHANNELS[0], 3, 3, 3), (CHANNELS[1], CHANNELS[0], 3, 3)]
        self.kernels = [torch.randn(shape, generator=draw) * 0.3 for shape in shapes]

    def maps(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for kernel in self.kernels:
            pixels = torch.relu(torch.nn.functional.conv2d(pixels, kernel, stride=2, padding=1))
            found.append(pixels)
        return found

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.maps(pixels)[-1].mean((2, 3))


def write(
    path: Path,
    network: Random | None = None,
    shape: Sequence[int | str] = (1, 3, "height", "width"),
    outputs: Sequence[str] = ("one", "two", "features"),
    kind: int = TensorProto.FLOAT,
) -> Path:
    """Write such a network, with its maps "one" and "two" and its "features"."""
    network = network or Random()
    nodes, weights, last = [], [], "pixels"
    for name, kernel in zip(("one", "two"), network.kernels, strict=True):
        weights.append(numpy_helper.from_array(kernel.numpy(), f"kernel {name}"))
        convolution = helper.make_node(
            "Conv", [last, f"kernel {name}"], [f"{name} raw"], strides=[2, 2], pads=[1, 1, 1, 1]
        )
        nodes += [convolution, helper.make_node("Relu", [f"{name} raw"], [name])]
        last = name
    nodes.append(helper.make_node("GlobalAveragePool", ["two"], ["features"]))
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def pictures(count: int, side: int = 32, seed: int = 1) -> np.ndarray:
    """Return smooth random pictures [count,side,side,3] uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3)).astype(np.float64)
    fine = coarse.repeat(side // 4, 1).repeat(side // 4, 2) + rng.normal(0, 12, (count, side, side, 3))
    return fine.clip(0, 255).astype(np.uint8)


def tensor(images: np.ndarray) -> torch.Tensor:
    """Return pictures [N,H,W,3] uint8 as the networks take them."""
    return torch.from_numpy(images.astype(np.float32) / 255).permute(0, 3, 1, 2).contiguous()
