"""Convert dlib's face recognition network (dlib_face_recognition_resnet_model_v1.dat, CC0) to ONNX.

The architecture is that of dlib's example dnn_face_recognition_ex: a ResNet of 29 convolutions whose batch
norms have become affine layers. The file holds every layer's parameters from the input to the output, each as
a tensor in dlib's own serialisation, between settings that this reader passes over.
"""

from __future__ import annotations

import numpy as np
import onnx

from export.face.onnx_graph import GraphBuilder
from topos_rt.errors import InputError

SIDE, NUMBERS = 150, 128
_MEAN = np.array([122.782, 117.001, 104.298], np.float32)  # of R, G and B in 0..255; dlib divides by 256
# Stage -> its filters and residual blocks, and whether the first block halves the picture.
_STAGES = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))
_FEATURES, _FEATURES_SIDE = 128, 8  # the filters of the stage whose last block is an output, and its side


def convert(data: bytes, input_name: str, outputs: tuple[str, str], name: str) -> onnx.ModelProto:
    """Return the ONNX model of the network. Matrices are rounded to FP16.

    It takes RGB [1,150,150,3] in 0..1 and gives two outputs: an embedding [1,128], not normalised, as in
    dlib, and the feature map [1,128,8,8] behind the last block with 128 filters, after its ReLU.

    Raises InputError where the file is not that network.
    """
    return _Conversion(data, name).run(input_name, *outputs)


class _Conversion:
    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._at = data, 0
        self._graph, self._name = GraphBuilder(name), name

    def run(self, input_name: str, embedding: str, features: str) -> onnx.ModelProto:
        graph = self._graph
        pixels = graph.node("Transpose", [input_name], perm=[0, 3, 1, 2])
        scale = np.array(255 / 256, np.float32)
        pixels = graph.node("Mul", [pixels, graph.constant(scale)])
        value = graph.node("Sub", [pixels, graph.constant((_MEAN / 256).reshape(1, 3, 1, 1))])
        value = graph.node("Relu", [self._convolution(value, 3, 32, 7, 2)])
        value = graph.node("MaxPool", [value], kernel_shape=[3, 3], strides=[2, 2])
        channels, side = 32, (SIDE - 7) // 2 // 2  # without padding, as below
        for filters, blocks, halved in _STAGES:
            for block in range(blocks):
                down = halved and block == 0
                shown = features if filters == _FEATURES and block == blocks - 1 else None
                value, side = self._residual(value, (channels, filters), side, down, shown)
                channels = filters
        value = graph.node("ReduceMean", [value, graph.constant(np.array([2, 3]))], keepdims=0)
        weights = self._tensor(channels, NUMBERS)
        graph.node("MatMul", [value, graph.constant(weights.astype(np.float16))], embedding)
        outputs = {embedding: [1, NUMBERS], features: [1, _FEATURES, _FEATURES_SIDE, _FEATURES_SIDE]}
        return graph.model({input_name: [1, SIDE, SIDE, 3]}, outputs)

    def _residual(
        self, value: str, sizes: tuple[int, int], side: int, down: bool, name: str | None
    ) -> tuple[str, int]:
        """Add one block: two convolutions beside the identity, which is pooled where the block halves.

        sizes: the channels of the input and of the output; name: what the output is called, or None.

        dlib adds tensors of different sizes as if the smaller were padded with zeros at its end.
        """
        graph, short, (channels, filters) = self._graph, value, sizes
        made = graph.node("Relu", [self._convolution(value, channels, filters, 3, 2 if down else 1)])
        made = self._convolution(made, filters, filters, 3, 1)
        inner = outer = side
        if down:
            short = graph.node("AveragePool", [short], kernel_shape=[2, 2], strides=[2, 2])
            inner, outer = (side - 3) // 2 + 1, side // 2
        made = self._padded(made, 0, max(0, outer - inner))
        short = self._padded(short, max(0, filters - channels), max(0, inner - outer))
        if channels > filters:
            made = self._padded(made, channels - filters, 0)
        return graph.node("Relu", [graph.node("Add", [made, short])], name), max(inner, outer)

    def _padded(self, value: str, channels: int, rows: int) -> str:
        if not channels and not rows:
            return value
        pads = self._graph.constant(np.array([0, 0, 0, 0, 0, channels, rows, rows]))
        return self._graph.node("Pad", [value, pads])

    def _convolution(self, value: str, channels: int, filters: int, kernel: int, stride: int) -> str:
        """Add a convolution with the affine layer behind it folded into its weights."""
        size = filters * channels * kernel * kernel
        stored = self._tensor(size + filters)
        gamma, beta = self._tensor(2 * filters).reshape(2, filters)
        weights = stored[:size].reshape(filters, channels, kernel, kernel) * gamma.reshape(-1, 1, 1, 1)
        bias = stored[size:] * gamma + beta
        return self._graph.node(
            "Conv",
            [value, self._graph.constant(weights.astype(np.float16)), self._graph.constant(bias)],
            strides=[stride] * 2,
            pads=[kernel // 2 if stride == 1 else 0] * 4,
        )

    def _tensor(self, rows: int, columns: int = 1) -> np.ndarray:
        """Return the next tensor [rows, columns] of the file, found by its header."""
        header = b"".join(map(_varint, (2, rows, columns, 1, 1)))  # the version, then four sizes
        start, size = self._data.find(header, self._at), 4 * rows * columns
        if start < 0 or start + len(header) + size > len(self._data):
            raise InputError(
                f"network {self._name}",
                got=f"no tensor [{rows}, {columns}] after byte {self._at}",
                expected="dlib_face_recognition_resnet_model_v1.dat",
            )
        self._at = start + len(header) + size
        values = np.frombuffer(self._data, "<f4", rows * columns, start + len(header))
        return values.reshape(rows, columns).squeeze()


def _varint(number: int) -> bytes:
    """Return a positive integer as dlib writes it: the number of its bytes, then they, the lowest first."""
    size = (number.bit_length() + 7) // 8
    return bytes([size]) + number.to_bytes(size, "little")
