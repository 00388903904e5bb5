"""The emulation of FP16 rounds as NumPy's own FP16 does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnxruntime
import pytest
from onnx import TensorProto

from export.compare.fp16_emulation import LARGEST, Emulated, emulated_form, naive_form
from export.onnx.forms import narrow_form
from topos_rt.engines import EngineOptions
from topos_rt.engines.onnxruntime import load
from topos_rt.errors import InputError

RNG = np.random.default_rng(0)


def run(
    tmp_path: Path, nodes: list[onnx.NodeProto], feeds: dict[str, np.ndarray], out: tuple[int, ...]
) -> list[np.ndarray]:
    inputs = [onnx.helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in feeds.items()]
    outputs = [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, out)]
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    (tmp_path / "half.onnx").write_bytes(narrow_form(model).SerializeToString())
    emulated_form(tmp_path / "half.onnx", tmp_path / "emulated.onnx")
    return onnxruntime.InferenceSession(tmp_path / "emulated.onnx").run(["y", LARGEST], feeds)


@pytest.mark.parametrize("spread", [1e-3, 1.0, 100.0])
def test_a_product_of_rounded_operands_rounded_once_more(tmp_path: Path, spread: float) -> None:
    feeds = {
        "a": RNG.normal(0, spread, (5, 8)).astype(np.float32),
        "b": RNG.normal(0, 1, (8, 6)).astype(np.float32),
    }
    got, largest = run(tmp_path, [onnx.helper.make_node("MatMul", ["a", "b"], ["y"])], feeds, (5, 6))
    a, b = (value.astype(np.float16).astype(np.float32) for value in feeds.values())
    exact = a @ b
    assert np.abs(got - exact.astype(np.float16)).max() <= np.spacing(np.abs(exact).max().astype(np.float16))
    # The operands are rounded, and the result once more.
    assert np.array_equal(got, got.astype(np.float16).astype(np.float32))
    assert np.abs(got - exact).max() > 0
    assert largest == max(np.abs(value).max() for value in feeds.values())


def test_what_a_comparison_says_is_not_rounded(tmp_path: Path) -> None:
    make = onnx.helper.make_node
    feeds = {"a": np.array([[-1.0, 0.5, 2.0]], np.float32), "b": RNG.normal(0, 1, (3, 4)).astype(np.float32)}
    feeds["zero"] = np.zeros((1, 3), np.float32)
    nodes = [
        make("Greater", ["a", "zero"], ["above"]),
        make("Cast", ["above"], ["known"], to=TensorProto.FLOAT),
        make("MatMul", ["known", "b"], ["y"]),
    ]
    got, _ = run(tmp_path, nodes, feeds, (1, 4))
    assert np.allclose(got, narrow(feeds["b"])[1:].sum(0), atol=2e-3)


def narrow(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float16).astype(np.float32)


def test_naively_every_value_is_rounded(tmp_path: Path) -> None:
    """Inputs, weights in another file, constants and results are rounded; whole numbers stay as they are."""
    make = onnx.helper.make_node
    w, c = (RNG.normal(0, 0.3, shape).astype(np.float32) for shape in ((8, 8), (8,)))
    weights = onnx.helper.make_tensor("w", TensorProto.FLOAT, w.shape, w.tobytes(), raw=True)
    nodes = [
        make("Constant", [], ["c"], value=onnx.numpy_helper.from_array(c)),
        make("MatMul", ["x", "w"], ["h"]),
        make("Add", ["h", "c"], ["s"]),
        make("Shape", ["s"], ["n"]),
        make("Reshape", ["s", "n"], ["r"]),
        make("Exp", ["r"], ["y"]),
    ]
    values = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, (4, 8)) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    onnx.save(model, source / "g.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    naive_form(source / "g.onnx", target / "g.onnx")
    x = RNG.normal(0, 1, (4, 8)).astype(np.float32)
    (got,) = onnxruntime.InferenceSession(target / "g.onnx").run(None, {"x": x})
    assert np.array_equal(got, narrow(got))
    want = np.exp(narrow(narrow(narrow(x) @ narrow(w)) + narrow(c)))
    # Sums in another order may round to the next FP16 value, and the exponential enlarges that.
    assert np.abs(got / want - 1).max() < 5e-3
    assert np.median(np.abs(got / want - 1)) <= 2**-11
    exact = np.exp(x @ w + c)
    assert np.abs(got / exact - 1).max() > 2**-11


def test_an_emulated_engine_keeps_the_largest_magnitude_to_itself(tmp_path: Path) -> None:
    feeds = {"a": np.full((2, 3), 7, np.float32), "b": np.full((3, 2), -9, np.float32)}
    run(tmp_path, [onnx.helper.make_node("MatMul", ["a", "b"], ["y"])], feeds, (2, 2))
    with Emulated(load(tmp_path / "emulated.onnx", EngineOptions(1))) as engine:
        assert list(engine.outputs) == ["y"] and engine.largest == 0
        assert list(engine.run(feeds)) == ["y"] and engine.largest == 9
        engine.run({name: value / 2 for name, value in feeds.items()})
        assert engine.largest == 9
    with pytest.raises(InputError, match="after close"):
        engine.run(feeds)
