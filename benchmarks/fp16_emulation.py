"""The FP16 form of a graph, computed in FP32 with every operand and product rounded as FP16 rounds.

onnxruntime cannot show what FP16 costs on a CPU: it has no such kernels there, computes in FP32, and drops
the casts in between. So every cast to FP16 becomes Veltkamp's splitting, three FP32 operations that keep the
leading 11 bits. The range of FP16 is not emulated; `largest` reports how far it is from being left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from onnx import TensorProto

_SPLIT = np.array(2**13 + 1, np.float32)  # FP32 has 24 bits, FP16 has 11
LARGEST = "largest"  # the added output: the largest magnitude that was cast to FP16


def emulated_form(half: Path, target: Path) -> None:
    """Write the graph at `target`, beside a copy of the weights of `half`."""
    model = onnx.load(half, load_external_data=False)
    graph = model.graph
    narrow = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    nodes = [_make("Constant", [], ["split"], value=onnx.numpy_helper.from_array(_SPLIT, "split"))]
    nodes += [_make("Cast", [name], [f"{name}.wide"], to=TensorProto.FLOAT) for name in narrow]
    magnitudes: list[str] = []
    for node in graph.node:
        to = next((a.i for a in node.attribute if a.name == "to"), None)
        if node.op_type == "Cast" and to == TensorProto.FLOAT16:
            nodes += _rounded(node.input[0], node.output[0])
            size, most = f"{node.output[0]}.abs", f"{node.output[0]}.max"
            nodes += [_make("Abs", [node.input[0]], [size]), _make("ReduceMax", [size], [most], keepdims=0)]
            magnitudes.append(most)
            continue
        for i, name in enumerate(node.input):
            if name in narrow and node.op_type != "Cast":
                node.input[i] = f"{name}.wide"
        if node.op_type == "Cast" and to == TensorProto.FLOAT and node.input[0] not in narrow:
            nodes += _rounded(node.input[0], node.output[0])
        else:
            nodes.append(node)
    if magnitudes:
        nodes.append(_make("Max", magnitudes, [LARGEST]))
        graph.output.append(onnx.helper.make_tensor_value_info(LARGEST, TensorProto.FLOAT, []))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    target.write_bytes(model.SerializeToString())


def _rounded(source: str, target: str) -> list[onnx.NodeProto]:
    """target = source to 11 bits: with c = (2^13 + 1) x, that is c - (c - x)."""
    big, rest = f"{target}.big", f"{target}.rest"
    return [_make("Mul", [source, "split"], [big]), _make("Sub", [big, source], [rest]),
            _make("Sub", [big, rest], [target])]  # fmt: skip


def _make(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(kind, inputs, outputs, **attributes)
