"""The emulation of FP16 against NumPy's own FP16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnxruntime
import pytest
from onnx import TensorProto

from export.forms import half_form
from export.fp16_emulation import LARGEST, emulated_form

RNG = np.random.default_rng(0)


def run(
    tmp_path: Path, nodes: list[onnx.NodeProto], feeds: dict[str, np.ndarray], out: tuple[int, ...]
) -> list[np.ndarray]:
    inputs = [onnx.helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in feeds.items()]
    outputs = [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, out)]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    (tmp_path / "half.onnx").write_bytes(half_form(model).SerializeToString())
    emulated_form(tmp_path / "half.onnx", tmp_path / "emulated.onnx")
    return onnxruntime.InferenceSession(tmp_path / "emulated.onnx").run(["y", LARGEST], feeds)


@pytest.mark.parametrize("spread", [1e-3, 1.0, 100.0])
def test_a_product_of_rounded_operands_rounded_once_more(tmp_path: Path, spread: float) -> None:
    feeds = {"a": RNG.normal(0, spread, (5, 8)).astype(np.float32),
             "b": RNG.normal(0, 1, (8, 6)).astype(np.float32)}  # fmt: skip
    got, largest = run(tmp_path, [onnx.helper.make_node("MatMul", ["a", "b"], ["y"])], feeds, (5, 6))
    a, b = (value.astype(np.float16).astype(np.float32) for value in feeds.values())
    exact = a @ b
    assert np.abs(got - exact.astype(np.float16)).max() <= np.spacing(np.abs(exact).max().astype(np.float16))
    # one rounding of the result, on operands that are rounded
    assert np.array_equal(got, got.astype(np.float16).astype(np.float32))
    assert np.abs(got - exact).max() > 0
    assert largest == max(np.abs(value).max() for value in feeds.values())
