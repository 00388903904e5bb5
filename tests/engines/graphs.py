"""Small ONNX files for the tests of engines."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save(path: Path, nodes: list[onnx.NodeProto], ends: dict[str, Any], stored: Any = ()) -> Path:
    """Write a graph of float tensors; `ends` are the shapes of "x" and "y"."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ends[name]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], list(stored))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def negation(path: Path, size: int = 4) -> Path:
    """Write the graph y = -x."""
    return save(path, [helper.make_node("Neg", ["x"], ["y"])], {"x": [size], "y": [size]})


def negation_bytes(size: int) -> bytes:
    """Return the content of that file."""
    with tempfile.TemporaryDirectory() as directory:
        return negation(Path(directory) / "g.onnx", size).read_bytes()


def product(path: Path, half: bool, weights: str | None = None, side: int = 8) -> Path:
    """Write the graph y = x @ w, in FP16 if `half`, with w in a second file if `weights` names one."""
    w = np.random.default_rng(0).standard_normal((side, side)).astype(np.float16 if half else np.float32)
    tensor = numpy_helper.from_array(w, "w")
    if weights is not None:
        (path.parent / weights).write_bytes(w.tobytes())
        kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        tensor = external("w", weights, list(w.shape), kind)
    node, ends = helper.make_node, {"x": [2, side], "y": [2, side]}
    nodes = [node("MatMul", ["x", "w"], ["y"], name="plain")]
    if half:
        nodes = [
            node("Cast", ["x"], ["x16"], to=TensorProto.FLOAT16),
            node("MatMul", ["x16", "w"], ["y16"], name="product"),
            node("Cast", ["y16"], ["y"], to=TensorProto.FLOAT),
        ]
    return save(path, nodes, ends, [tensor])


# ONNX operator that multiplies -> TensorRT's kind of layer.
_KINDS = {"MatMul": "MATRIX_MULTIPLY", "Gemm": "MATRIX_MULTIPLY", "Conv": "CONVOLUTION",
          "Attention": "ATTENTION_INPUT"}  # fmt: skip


def products(path: Path) -> tuple[Counter[str], Counter[str]]:
    """Count the products of FP16 and of FP32 numbers in an ONNX file by TensorRT's kind of layer."""
    graph = onnx.load(path, load_external_data=False).graph
    half = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    raised: set[str] = set()  # FP16 numbers that were cast to FP32, so that products of them are summed so
    counts: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    for made in graph.node:
        to = next((a.i for a in made.attribute if a.name == "to"), None)
        narrow = bool(made.input) and made.input[0] in half
        if made.op_type == "Cast":
            if made.input[0] in half:
                raised.update(made.output)
            narrow = to == TensorProto.FLOAT16
        if made.op_type in ("Transpose", "Reshape") and made.input[0] in raised:
            raised.update(made.output)
        if made.op_type in _KINDS:
            counts[0 if narrow or made.input[0] in raised else 1][_KINDS[made.op_type]] += 1
        if narrow:
            half.update(made.output)
    return counts


def external(name: str, location: str, shape: list[int], kind: int = TensorProto.FLOAT) -> onnx.TensorProto:
    """Return a tensor whose data are in another file."""
    tensor = onnx.TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


UNREADABLE: dict[str, Any] = {
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"garbage " * 20),
    "cut short": lambda path: path.write_bytes(negation(path).read_bytes()[:-9]),
    "directory": lambda path: path.mkdir(),
    "missing": lambda path: None,
}
