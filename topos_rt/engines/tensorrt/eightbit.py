"""Turns the linear layers of a parsed FP16 network into products of 8-bit numbers.

A linear layer is a product of a tensor x [...,N,K] and constant weights W [K,M], both FP16; one with a side
below LEAST_SIDE stays as it is. Each token, a row of x, and each channel, a column of W, has its own scale:

    x W ~ r * (Q(x / r) Q(W / s)) s,   r = max |x| of the row,   s = max |W| of the column,

where Q rounds to the 8-bit numbers that fill -1..1. TensorRT finds 8-bit products only where the scales of
both operands are constants; with scales computed at run time it falls back to FP16 and says nothing. So
the maximum of each row is taken out before, in FP32, and multiplied in after. `check_built` reads in the
builder's own list of kernels that every layer became what was asked for.

This is a function of the FP16 graph alone: bundles need no further files, and all of them can be built so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from topos_rt.engines.tensorrt.layers import BuiltLayer
from topos_rt.errors import BackendError, BundleError
from topos_rt.support.arrays import Array

# Weights that are narrower than this are a first or last layer: little work, and its errors count.
LEAST_SIDE = 64
LEAST_ROW = 1e-12  # a row of zeros is divided by this
_LARGEST_HALF = 65504.0
_PASSING = {"CAST", "SHUFFLE", "IDENTITY"}  # between weights and the product
_NAMED = 3


@dataclass(frozen=True)
class EightBit:
    """A format of 8 bits."""

    name: str  # of the data type in TensorRT's modules
    listed: str  # the same in its lists of kernels
    largest: float
    least_capability: tuple[int, int]  # of the GPUs that multiply such numbers
    # What plans are built for; none: every GPU that plans are built for by default.
    capabilities: tuple[str, ...] = ()


EIGHT_BIT: Mapping[str, EightBit] = {
    "int8": EightBit("int8", "Int8", 127.0, (7, 5)),
    "fp8": EightBit("fp8", "FP8", 448.0, (8, 9), ("SM89", "SM120", "SM121")),  # E4M3
}


@dataclass
class Quantised:
    """What was changed in a network. It must live until the plan is built, since it holds its constants."""

    linears: list[str] = field(default_factory=list)  # their names
    constants: list[Array] = field(default_factory=list)


def column_scales(weights: Array, form: EightBit) -> Array:
    """Return the scale [M] of each column of weights [K,M], FP16: largest magnitude / largest number."""
    most = np.abs(weights.astype(np.float32)).max(axis=0)
    # FP16 has no number between 0 and this one; a column below it is as good as zero.
    return np.maximum(most / np.float32(form.largest), np.finfo(np.float16).tiny).astype(np.float16)


def row_scale(form: EightBit) -> np.float16:
    """Return the constant scale of rows whose largest magnitude is 1."""
    return np.float16(1 / form.largest)


def headroom(rows: int, form: EightBit) -> int:
    """Return the power of two by which a product over K = `rows` is made smaller, and larger again after.

    The builder multiplies the sum of products of 8-bit numbers by the scale of x, rounds it to FP16, and only
    then multiplies by the scales of W. What is in between must not leave FP16's range.
    """
    worst = float(form.largest * rows)
    return 1 << max(0, math.ceil(math.log2(worst / _LARGEST_HALF)))


def quantise(trt: Any, network: Any, form: EightBit, graph: str) -> Quantised:
    """Let every linear layer of FP16 operands multiply 8-bit numbers; return what was changed.

    Raises BundleError where the network has no such layer.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    writer = _Writer(trt, network, form, layers)
    for layer in layers:
        if layer.type.name == "MATRIX_MULTIPLY" and layer.get_input(0).dtype == trt.float16:
            weights = writer.weights(layer)
            if weights is not None and min(weights.shape) >= LEAST_SIDE:
                writer.replace(layer, weights)
    if not writer.made.linears:
        raise BundleError(
            f"graph {graph} in {form.name}",
            got="no linear layer of FP16 operands",
            fix="export the bundle again, or use another precision",
        )
    return writer.made


def check_built(layers: Sequence[BuiltLayer], made: Quantised, form: EightBit, graph: str) -> None:
    """Raise BackendError unless each linear layer became a product of 8-bit numbers, and none stayed FP16."""
    if not layers:
        raise _not_built(graph, form, "the builder did not say which kernels it made")
    ours = {node for layer in layers if layer.multiplies(form.listed) for node in layer.nodes}
    lost = [name for name in made.linears if name not in ours]
    lost += [layer.name for layer in layers if layer.multiplies("Half", LEAST_SIDE)]
    if lost:
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        raise _not_built(graph, form, f"other kernels for {', '.join(lost[:_NAMED])}{more}")


def _not_built(graph: str, form: EightBit, got: str) -> BackendError:
    return BackendError(
        f"TensorRT did not build {graph} in {form.name}",
        got=got,
        expected=f"an {form.listed} product for every linear layer",
        fix="use the precision fp16, and report this with the versions that topos-rt doctor shows",
    )


class _Writer:
    """Changes one network."""

    def __init__(self, trt: Any, network: Any, form: EightBit, layers: Sequence[Any]) -> None:
        self.made = Quantised()
        self._trt, self._network, self._form = trt, network, form
        self._type = getattr(trt, form.name)
        self._maker = {tensor.name: layer for layer in layers for tensor in _outputs(layer)}
        self._readers: dict[str, list[tuple[Any, int]]] = {}
        for layer in layers:
            for index in range(layer.num_inputs):
                tensor = layer.get_input(index)
                if tensor is not None:
                    self._readers.setdefault(tensor.name, []).append((layer, index))
        self._narrowed: dict[str, tuple[Any, Any]] = {}  # name of x -> 8-bit numbers, r

    def weights(self, layer: Any) -> Array | None:
        """Return the constant weights [K,M] of a product, or None where it has none."""
        tensor = layer.get_input(1)
        shape = tuple(tensor.shape)
        found = self._maker.get(tensor.name)
        while found is not None and found.type.name in _PASSING:
            found = self._maker.get(found.get_input(0).name)
        if found is None or found.type.name != "CONSTANT" or len(shape) < 2 or math.prod(shape[:-2]) != 1:
            return None
        # Layers come as their base class, and show what they have once told what they are.
        found.__class__, layer.__class__ = self._trt.IConstantLayer, self._trt.IMatrixMultiplyLayer
        values = np.asarray(found.weights)
        # A transposed or otherwise moved matrix would have other columns; `check_built` tells of it then.
        plain = layer.op1 == self._trt.MatrixOperation.NONE and tuple(found.shape)[-2:] == shape[-2:]
        return values.reshape(shape[-2:]) if plain and not self._turned(tensor) else None

    def _turned(self, tensor: Any) -> bool:
        """Tell whether a layer between weights and product moves axes."""
        layer = self._maker[tensor.name]
        while layer.type.name in _PASSING:
            if layer.type.name == "SHUFFLE":
                layer.__class__ = self._trt.IShuffleLayer
                rank = len(layer.get_input(0).shape)
                for moved, axes in ((layer.first_transpose, rank), (layer.second_transpose, rank)):
                    if [moved[axis] for axis in range(axes)] != list(range(axes)):
                        return True
            layer = self._maker[layer.get_input(0).name]
        return False

    def replace(self, layer: Any, weights: Array) -> None:
        """Let one product multiply 8-bit numbers, and multiply its result by the rows' maxima."""
        trt, network = self._trt, self._network
        size = headroom(len(weights), self._form)
        tensor, operand = layer.get_input(0), layer.get_input(1)
        numbers, most = self._rows(tensor)
        scale = self._constant(np.float16(row_scale(self._form) / size))
        layer.set_input(0, self._widened(numbers, scale, None))
        scales, axis = self._constant(column_scales(weights, self._form)), len(operand.shape) - 1
        quantiser = network.add_quantize(operand, scales, self._type)
        quantiser.axis = axis
        layer.set_input(1, self._widened(quantiser.get_output(0), scales, axis))
        result = layer.get_output(0)
        readers = self._readers.get(result.name, [])
        if size > 1:
            most = self._product(most, self._filled(most, size))
        wide = network.add_cast(result, trt.float32).get_output(0)
        wide = self._product(wide, most)
        for reader, index in readers:
            if reader.type.name == "CAST" and reader.get_output(0).dtype == trt.float32:
                old = reader.get_output(0)
                for after, slot in self._readers.get(old.name, []):
                    after.set_input(slot, wide)
                self._hand_over(old, wide)
            else:
                reader.set_input(index, network.add_cast(wide, trt.float16).get_output(0))
        self.made.linears.append(layer.name)

    def _hand_over(self, old: Any, new: Any) -> None:
        """Let `new` be the output of the network that `old` was, if it was one."""
        if old.is_network_output:
            name = old.name
            self._network.unmark_output(old)
            old.name = f"{name}.narrow"
            self._network.mark_output(new)
            new.name = name

    def _rows(self, tensor: Any) -> tuple[Any, Any]:
        """Return x as 8-bit numbers, and the largest magnitude of each of its rows in FP32."""
        if tensor.name in self._narrowed:
            return self._narrowed[tensor.name]
        trt, network = self._trt, self._network
        maker = self._maker.get(tensor.name)
        wide = maker.get_input(0) if maker is not None and maker.type.name == "CAST" else None
        if wide is None or wide.dtype != trt.float32:
            wide = network.add_cast(tensor, trt.float32).get_output(0)
        size = network.add_unary(wide, trt.UnaryOperation.ABS).get_output(0)
        axes = 1 << (len(wide.shape) - 1)
        most = network.add_reduce(size, trt.ReduceOperation.MAX, axes, True).get_output(0)
        least = self._filled(most, LEAST_ROW)
        most = network.add_elementwise(most, least, trt.ElementWiseOperation.MAX).get_output(0)
        unit = network.add_elementwise(wide, most, trt.ElementWiseOperation.DIV).get_output(0)
        scale = self._constant(np.float32(row_scale(self._form)))
        found = network.add_quantize(unit, scale, self._type).get_output(0), most
        self._narrowed[tensor.name] = found
        return found

    def _widened(self, numbers: Any, scale: Any, axis: int | None) -> Any:
        layer = self._network.add_dequantize(numbers, scale, self._trt.float16)
        if axis is not None:
            layer.axis = axis
        return layer.get_output(0)

    def _product(self, a: Any, b: Any) -> Any:
        return self._network.add_elementwise(a, b, self._trt.ElementWiseOperation.PROD).get_output(0)

    def _filled(self, like: Any, value: float) -> Any:
        return self._constant(np.full((1,) * len(like.shape), value, np.float32))

    def _constant(self, value: Any) -> Any:
        array = np.ascontiguousarray(value)
        self.made.constants.append(array)
        shape = np.shape(value)  # NumPy makes a contiguous scalar one of one dimension
        return self._network.add_constant(shape, self._trt.Weights(array)).get_output(0)


def _outputs(layer: Any) -> Iterator[Any]:
    found = (layer.get_output(index) for index in range(layer.num_outputs))
    return (tensor for tensor in found if tensor is not None)
