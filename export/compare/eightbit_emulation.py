"""Emulate engines of 8-bit linear layers on a CPU, by ONNX graphs that compute in FP32 and round as they do.

onnxruntime could run QuantizeLinear and DequantizeLinear itself, but it fuses and moves such pairs as it
likes. So rounding is written out in operators that it takes for nothing else: Round for INT8, and Veltkamp's
splitting for the leading 4 bits of FP8. Weights are rounded here, by NumPy. The scales are those of
`topos_rt.engines.tensorrt.eightbit`, which makes the engines; all that FP16 rounds is rounded as in
`export.compare.fp16_emulation`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from onnx import TensorProto

from export.compare.fp16_emulation import write_emulated
from export.onnx.forms import needed
from topos_rt.engines.tensorrt.eightbit import (
    EIGHT_BIT,
    LEAST_ROW,
    LEAST_SIDE,
    EightBit,
    column_scales,
    headroom,
    row_scale,
)
from topos_rt.errors import BundleError

_LEAST_NORMAL, _STEP = 2.0**-6, 2.0**-9  # of FP8 (E4M3): below the first, numbers are multiples of the second
_SPLIT = 2.0**20 + 1  # FP32 has 24 bits, FP8 has 4


def eight_bit_form(half: Path, target: Path, precision: str) -> int:
    """Write to `target` the emulation of the engine of an FP16 form; return how many layers have 8 bits.

    Raises BundleError where there is no linear layer.
    """
    model = onnx.load(half, load_external_data=False)
    layers = _rewrite(model.graph, half.parent, EIGHT_BIT[precision])
    if not layers:
        raise BundleError(f"graph {half.name} in {precision}", got="no linear layer of FP16 operands")
    write_emulated(model, half, target)
    return layers


def rounded(values: np.ndarray, form: EightBit) -> np.ndarray:
    """Round values to the numbers of a format, FP32."""
    clipped = np.clip(values, -form.largest, form.largest)
    if form.name == "fp8":
        return clipped.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    return np.rint(clipped).astype(np.float32)


def _rewrite(graph: onnx.GraphProto, folder: Path, form: EightBit) -> int:
    """Let linear layers with FP16 operands round as those of an engine; return their number."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    wide = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    nodes = _constants(form)
    narrowed: set[str] = set()
    ends: dict[str, str] = {}  # FP32 result that a Cast made -> the FP16 result that it was made from
    layers = 0
    for node in graph.node:
        stored = weights.get(_source(node, made_by)) if node.op_type == "MatMul" else None
        if stored is None or min(stored.dims) < LEAST_SIDE or not _is_half(node.input[0], made_by):
            nodes.append(node)
            continue
        matrix = _values(stored, folder)
        x, y = wide[node.input[0]], node.output[0]
        if x not in narrowed:
            nodes += _rows(x, form)
            narrowed.add(x)
        nodes += _product(graph, x, y, matrix, form)
        ends[next(name for name, source in wide.items() if source == y)] = y
        layers += 1
    for node in nodes:
        if node.op_type == "Cast" and node.output[0] in ends:
            node.op_type, node.input[0] = "Identity", f"{ends[node.output[0]]}.whole"
            del node.attribute[:]
    nodes = needed(nodes, {output.name for output in graph.output})
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:], graph.node[:], graph.value_info[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    return layers


def _values(tensor: onnx.TensorProto, folder: Path) -> np.ndarray:
    """Return the numbers of a tensor that is in the graph, or in a file beside it.

    onnx would refuse files that have a second name, as `write_emulated` gives them.
    """
    if not tensor.external_data:
        return onnx.numpy_helper.to_array(tensor)
    where = {entry.key: entry.value for entry in tensor.external_data}
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    count, offset = math.prod(tensor.dims), int(where.get("offset", 0))
    return np.fromfile(folder / where["location"], dtype, count, offset=offset).reshape(tensor.dims)


def _source(node: onnx.NodeProto, made_by: dict[str, onnx.NodeProto]) -> str:
    """Return the name of what the second operand is cast from, or its own."""
    name = node.input[1]
    while name in made_by and made_by[name].op_type == "Cast":
        name = made_by[name].input[0]
    return name


def _is_half(name: str, made_by: dict[str, onnx.NodeProto]) -> bool:
    node = made_by.get(name)
    kinds = [] if node is None or node.op_type != "Cast" else [a.i for a in node.attribute if a.name == "to"]
    return kinds == [TensorProto.FLOAT16]


def _constants(form: EightBit) -> list[onnx.NodeProto]:
    values = {
        "e.last": np.array([-1], np.int64),
        "e.least": np.float32(LEAST_ROW),
        "e.scale": np.float32(row_scale(form)),
        "e.low": np.float32(-form.largest),
        "e.high": np.float32(form.largest),
        "e.split": np.float32(_SPLIT),
        "e.normal": np.float32(_LEAST_NORMAL),
        "e.step": np.float32(_STEP),
    }
    return [
        _make("Constant", [], [name], value=onnx.numpy_helper.from_array(np.asarray(value), name))
        for name, value in values.items()
    ]


def _rows(x: str, form: EightBit) -> list[onnx.NodeProto]:
    """Make `x.most`, the largest magnitude of each row, and `x.numbers`, the rows as 8-bit numbers."""
    unit = [
        _make("Abs", [x], [f"{x}.size"]),
        _make("ReduceMax", [f"{x}.size", "e.last"], [f"{x}.peak"], keepdims=1),
        _make("Max", [f"{x}.peak", "e.least"], [f"{x}.most"]),
        _make("Div", [x, f"{x}.most"], [f"{x}.unit"]),
        _make("Div", [f"{x}.unit", "e.scale"], [f"{x}.scaled"]),
        _make("Clip", [f"{x}.scaled", "e.low", "e.high"], [f"{x}.clipped"]),
    ]
    if form.name != "fp8":
        return [*unit, _make("Round", [f"{x}.clipped"], [f"{x}.numbers"])]
    return [
        *unit,
        _make("Mul", [f"{x}.clipped", "e.split"], [f"{x}.big"]),
        _make("Sub", [f"{x}.big", f"{x}.clipped"], [f"{x}.rest"]),
        _make("Sub", [f"{x}.big", f"{x}.rest"], [f"{x}.leading"]),
        _make("Div", [f"{x}.clipped", "e.step"], [f"{x}.steps"]),
        _make("Round", [f"{x}.steps"], [f"{x}.whole_steps"]),
        _make("Mul", [f"{x}.whole_steps", "e.step"], [f"{x}.small"]),
        _make("Abs", [f"{x}.clipped"], [f"{x}.magnitude"]),
        _make("Less", [f"{x}.magnitude", "e.normal"], [f"{x}.is_small"]),
        _make("Where", [f"{x}.is_small", f"{x}.small", f"{x}.leading"], [f"{x}.numbers"]),
    ]


def _product(
    graph: onnx.GraphProto, x: str, y: str, matrix: np.ndarray, form: EightBit
) -> list[onnx.NodeProto]:
    """Make `y.whole`, the product in FP32; it was rounded to FP16 before and after the columns' scales."""
    scales, size = column_scales(matrix, form), headroom(len(matrix), form)
    stored = {
        f"{y}.matrix": rounded(matrix.astype(np.float32) / scales.astype(np.float32), form),
        f"{y}.scales": scales.astype(np.float32),
        f"{y}.unit": np.float32(np.float16(row_scale(form) / size)),
        f"{y}.room": np.float32(size),
    }
    for name, value in stored.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    return [
        _make("MatMul", [f"{x}.numbers", f"{y}.matrix"], [f"{y}.sum"]),
        _make("Mul", [f"{y}.sum", f"{y}.unit"], [f"{y}.exact"]),
        _make("Cast", [f"{y}.exact"], [f"{y}.first"], to=TensorProto.FLOAT16),
        _make("Cast", [f"{y}.first"], [f"{y}.raised"], to=TensorProto.FLOAT),
        _make("Mul", [f"{y}.raised", f"{y}.scales"], [f"{y}.scaled"]),
        _make("Cast", [f"{y}.scaled"], [f"{y}.second"], to=TensorProto.FLOAT16),
        _make("Cast", [f"{y}.second"], [f"{y}.lifted"], to=TensorProto.FLOAT),
        _make("Mul", [f"{x}.most", f"{y}.room"], [f"{y}.rows"]),
        _make("Mul", [f"{y}.lifted", f"{y}.rows"], [f"{y}.whole"]),
    ]


def _make(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(kind, inputs, outputs, **attributes)
