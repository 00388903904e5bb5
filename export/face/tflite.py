"""Convert TFLite networks of floating-point operators to ONNX, without TensorFlow.

TFLite keeps pictures as [B,H,W,C], ONNX convolves [B,C,H,W]: a tensor is transposed only where an operator
needs the other layout, so a chain of convolutions has no transposition inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from export.face.onnx_graph import GraphBuilder
from topos_rt.errors import InputError, MissingExtraError

_TO_CHANNELS_FIRST = [0, 3, 1, 2]
_TO_CHANNELS_LAST = [0, 2, 3, 1]
_SAME, _RELU, _RELU6 = 0, 1, 3  # of TFLite's enumerations Padding and ActivationFunctionType
_DTYPES = {"FLOAT32": np.float32, "FLOAT16": np.float16, "INT32": np.int32, "INT64": np.int64}


def convert(data: bytes, inputs: list[str], outputs: list[str], name: str) -> onnx.ModelProto:
    """Return the ONNX model of a TFLite file with one subgraph.

    inputs, outputs: new names, in the file's order; outputs beyond the list are dropped, and an output is
    the tensor of the file in its own shape and layout.

    Raises InputError for an operator that is not known here, MissingExtraError without `ai-edge-litert`.
    """
    return _Conversion(data, name).run(inputs, outputs)


class _Conversion:
    def __init__(self, data: bytes, name: str) -> None:
        try:
            from ai_edge_litert import schema_py_generated as schema
        except ImportError as error:
            raise MissingExtraError.needs("reading TFLite files", "face") from error
        self._model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        self._tensors = self._model.subgraphs[0]
        names = {value: key for key, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
        types = {value: key for key, value in vars(schema.TensorType).items() if isinstance(value, int)}
        self._operators, self._name = names, name
        self._graph = GraphBuilder(name)
        self._first: dict[int, str] = {}  # tensor -> its value with channels first
        self._last: dict[int, str] = {}  # tensor -> its value in the file's own layout
        self._constants: dict[int, np.ndarray] = {}
        for index, tensor in enumerate(self._tensors.tensors):
            stored = self._model.buffers[tensor.buffer].data
            if stored is not None and len(stored):
                dtype = _DTYPES[types[tensor.type]]
                self._constants[index] = np.frombuffer(bytes(stored), dtype).reshape(self._shape(index))

    def run(self, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
        for index, name in zip(self._tensors.inputs, inputs, strict=True):
            self._last[index] = name
        for operator in self._tensors.operators:
            code = self._model.operatorCodes[operator.opcodeIndex]
            kind = self._operators[max(code.builtinCode, code.deprecatedBuiltinCode)]
            if kind not in _OPERATORS:
                known = ", ".join(sorted(_OPERATORS))
                raise InputError(f"operator of {self._name}", got=kind, expected=f"one of: {known}")
            _OPERATORS[kind](self, operator.builtinOptions, list(operator.inputs), operator.outputs[0])
        kept = dict(zip(outputs, self._tensors.outputs, strict=False))
        for name, index in kept.items():
            self._graph.node("Identity", [self.last(index)], name)
        return self._graph.model(
            {name: self._shape(i) for name, i in zip(inputs, self._tensors.inputs, strict=True)},
            {name: self._shape(i) for name, i in kept.items()},
        )

    def _shape(self, index: int) -> list[int]:
        shape = self._tensors.tensors[index].shape
        return [] if shape is None else [int(size) for size in shape]

    def first(self, index: int) -> str:
        """Return the value of a tensor with channels first."""
        if index not in self._first:
            self._first[index] = self._graph.node("Transpose", [self._last[index]], perm=_TO_CHANNELS_FIRST)
        return self._first[index]

    def last(self, index: int) -> str:
        """Return the value of a tensor in the file's layout, which has channels last."""
        if index not in self._last and index in self._constants:
            self._last[index] = self._graph.constant(self._constants[index])
        if index not in self._last:
            self._last[index] = self._graph.node("Transpose", [self._first[index]], perm=_TO_CHANNELS_LAST)
        return self._last[index]

    def _activated(self, value: str, function: int) -> str:
        if function == _RELU:
            return self._graph.node("Relu", [value])
        if function == _RELU6:
            limits = [self._graph.constant(np.array(limit, np.float32)) for limit in (0, 6)]
            return self._graph.node("Clip", [value, *limits])
        if function:
            raise InputError(f"activation of {self._name}", got=function, expected="none, ReLU or ReLU6")
        return value

    def _pads(self, options: Any, source: int, kernel: tuple[int, int], out: int) -> list[int]:
        """Return ONNX pads: TFLite's SAME puts the odd row or column last."""
        if options.padding != _SAME:
            return [0, 0, 0, 0]
        dilations = getattr(options, "dilationHFactor", 1), getattr(options, "dilationWFactor", 1)
        before, after = [], []
        for axis, stride in enumerate((options.strideH, options.strideW)):
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            total = max(0, (self._shape(out)[axis + 1] - 1) * stride + reach - self._shape(source)[axis + 1])
            before.append(total // 2)
            after.append(total - total // 2)
        return before + after

    def dequantize(self, options: Any, inputs: list[int], out: int) -> None:
        self._constants[out] = self._constants[inputs[0]]  # FP16, which `constant` casts up

    def convolution(self, options: Any, inputs: list[int], out: int, depthwise: bool = False) -> None:
        weights = self._constants[inputs[1]].transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
        values = [self.first(inputs[0]), self._graph.constant(weights)]
        if len(inputs) > 2 and inputs[2] >= 0:
            values.append(self._graph.constant(self._constants[inputs[2]]))
        made = self._graph.node(
            "Conv",
            values,
            strides=[options.strideH, options.strideW],
            dilations=[options.dilationHFactor, options.dilationWFactor],
            pads=self._pads(options, inputs[0], weights.shape[2:], out),
            group=self._shape(inputs[0])[3] if depthwise else 1,
        )
        self._first[out] = self._activated(made, options.fusedActivationFunction)

    def depthwise(self, options: Any, inputs: list[int], out: int) -> None:
        self.convolution(options, inputs, out, depthwise=True)

    def max_pool(self, options: Any, inputs: list[int], out: int) -> None:
        kernel = options.filterHeight, options.filterWidth
        self._first[out] = self._graph.node(
            "MaxPool",
            [self.first(inputs[0])],
            kernel_shape=list(kernel),
            strides=[options.strideH, options.strideW],
            pads=self._pads(options, inputs[0], kernel, out),
        )

    def prelu(self, options: Any, inputs: list[int], out: int) -> None:
        """Write the operator as `a x + (1 - a) relu(x)`.

        ONNX Runtime has no blocked PRelu: one takes longer than the convolution before it, which leaves the
        blocked layout for it. These operators keep the layout, and the network runs in half of the time.
        """
        slope = self._constants[inputs[1]].reshape(-1, 1, 1).astype(np.float32)
        value, graph = self.first(inputs[0]), self._graph
        straight = graph.node("Mul", [value, graph.constant(slope)])
        bent = graph.node("Mul", [graph.node("Relu", [value]), graph.constant(1 - slope)])
        self._first[out] = graph.node("Add", [straight, bent])

    def pad(self, options: Any, inputs: list[int], out: int) -> None:
        pads = self._constants[inputs[1]][_TO_CHANNELS_FIRST].T.reshape(-1).astype(np.int64)
        self._first[out] = self._graph.node("Pad", [self.first(inputs[0]), self._graph.constant(pads)])

    def resize(self, options: Any, inputs: list[int], out: int) -> None:
        centres = {(False, True): "half_pixel", (True, False): "align_corners", (False, False): "asymmetric"}
        batch, height, width, channels = self._shape(out)
        sizes = self._graph.constant(np.array([batch, channels, height, width], np.int64))
        self._first[out] = self._graph.node(
            "Resize",
            [self.first(inputs[0]), "", "", sizes],
            mode="linear",
            coordinate_transformation_mode=centres[options.alignCorners, options.halfPixelCenters],
        )

    def elementwise(self, kind: str, options: Any, inputs: list[int], out: int) -> None:
        pictures = all(index in self._first for index in inputs)
        values = [(self.first if pictures else self.last)(index) for index in inputs]
        made = self._activated(self._graph.node(kind, values), getattr(options, "fusedActivationFunction", 0))
        (self._first if pictures else self._last)[out] = made

    def squared_difference(self, options: Any, inputs: list[int], out: int) -> None:
        difference = self._graph.node("Sub", [self.last(index) for index in inputs])
        self._last[out] = self._graph.node("Mul", [difference, difference])

    def reciprocal_root(self, options: Any, inputs: list[int], out: int) -> None:
        root = self._graph.node("Sqrt", [self.last(inputs[0])])
        self._last[out] = self._graph.node("Reciprocal", [root])

    def reduce(self, kind: str, options: Any, inputs: list[int], out: int) -> None:
        axes = self._graph.constant(np.atleast_1d(self._constants[inputs[1]]).astype(np.int64))
        self._last[out] = self._graph.node(kind, [self.last(inputs[0]), axes], keepdims=int(options.keepDims))

    def reshape(self, options: Any, inputs: list[int], out: int) -> None:
        shape = self._graph.constant(np.array(self._shape(out), np.int64))
        self._last[out] = self._graph.node("Reshape", [self.last(inputs[0]), shape])

    def concatenate(self, options: Any, inputs: list[int], out: int) -> None:
        values = [self.last(index) for index in inputs]
        self._last[out] = self._graph.node("Concat", values, axis=int(options.axis))

    def transpose(self, options: Any, inputs: list[int], out: int) -> None:
        order = [int(axis) for axis in self._constants[inputs[1]]]
        self._last[out] = self._graph.node("Transpose", [self.last(inputs[0])], perm=order)

    def slice(self, options: Any, inputs: list[int], out: int) -> None:
        begin, end, step = (self._constants[index].astype(np.int64) for index in inputs[1:4])
        if options.newAxisMask or options.ellipsisMask:
            raise InputError(f"slice of {self._name}", got="a new axis or an ellipsis", expected="neither")
        for axis, size in enumerate(self._shape(inputs[0])):
            begin[axis] = 0 if options.beginMask >> axis & 1 else begin[axis]
            end[axis] = size if options.endMask >> axis & 1 else end[axis]
            if options.shrinkAxisMask >> axis & 1:
                end[axis] = begin[axis] + 1
        axes = np.arange(len(begin))
        values = [self._graph.constant(array) for array in (begin, end, axes, step)]
        sliced = self._graph.node("Slice", [self.last(inputs[0]), *values])
        shape = self._graph.constant(np.array(self._shape(out), np.int64))
        self._last[out] = self._graph.node("Reshape", [sliced, shape])


_Operator = Callable[[_Conversion, Any, list[int], int], None]


def _elementwise(kind: str) -> _Operator:
    return lambda conversion, options, inputs, out: conversion.elementwise(kind, options, inputs, out)


def _reduce(kind: str) -> _Operator:
    return lambda conversion, options, inputs, out: conversion.reduce(kind, options, inputs, out)


_OPERATORS: dict[str, _Operator] = {
    "ADD": _elementwise("Add"),
    "CONCATENATION": _Conversion.concatenate,
    "CONV_2D": _Conversion.convolution,
    "DEPTHWISE_CONV_2D": _Conversion.depthwise,
    "DEQUANTIZE": _Conversion.dequantize,
    "DIV": _elementwise("Div"),
    "LOGISTIC": _elementwise("Sigmoid"),
    "MAX_POOL_2D": _Conversion.max_pool,
    "MEAN": _reduce("ReduceMean"),
    "MUL": _elementwise("Mul"),
    "NEG": _elementwise("Neg"),
    "PAD": _Conversion.pad,
    "PRELU": _Conversion.prelu,
    "RELU": _elementwise("Relu"),
    "RESHAPE": _Conversion.reshape,
    "RESIZE_BILINEAR": _Conversion.resize,
    "RSQRT": _Conversion.reciprocal_root,
    "SQRT": _elementwise("Sqrt"),
    "SQUARED_DIFFERENCE": _Conversion.squared_difference,
    "STRIDED_SLICE": _Conversion.slice,
    "SUB": _elementwise("Sub"),
    "SUM": _reduce("ReduceSum"),
    "TRANSPOSE": _Conversion.transpose,
}
