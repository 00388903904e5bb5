"""Build an ONNX model node by node; large weights that FP16 holds exactly are stored as FP16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# 18 is the first with the axes of reductions as an input; onnxruntime has it since 1.14, TensorRT since 8.6.
OPSET, IR_VERSION = 18, 8


class GraphBuilder:
    """The nodes and constants of one model. Values are named by their producers, in order."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: Sequence[str], out: str | None = None, **attributes: Any) -> str:
        """Add a node with one output, called `out`; return the output's name."""
        out = out or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def constant(self, array: np.ndarray) -> str:
        """Add a constant; an FP16 array becomes an FP32 value by a Cast, which is folded at load."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        if array.dtype == np.float16:
            return self.node("Cast", [name], to=TensorProto.FLOAT)
        return name

    def model(self, inputs: Mapping[str, list[int]], outputs: Mapping[str, list[int]]) -> onnx.ModelProto:
        """Return the checked model; inputs and outputs are FP32, name -> shape."""
        graph = helper.make_graph(self._nodes, self._name, _values(inputs), _values(outputs), self._constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="topos_rt")
        onnx.checker.check_model(model, full_check=True)
        return model


def _values(shapes: Mapping[str, list[int]]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
