"""The ceilings: the products are products, and the rates follow from the times.

`python -m tests.bench.test_ceilings` rewrites the models of the products.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from topos_rt.bench import ceilings
from topos_rt.bench.ceilings import CPU_SIZES, DEVICE_SIZES, MODELS
from topos_rt.engines import EngineOptions
from topos_rt.engines.onnxruntime import load

ELEMENTS = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}
PRODUCTS = [("fp32", CPU_SIZES[0]), ("fp32", DEVICE_SIZES[0]), ("fp16", DEVICE_SIZES[0])]


def product(precision: str, side: int) -> bytes:
    """Return an ONNX model y = a b of square matrices."""
    a, b, y = (helper.make_tensor_value_info(name, ELEMENTS[precision], [side, side]) for name in "aby")
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["y"])], "gemm", [a, b], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(deterministic=True)


@pytest.mark.parametrize(("precision", "side"), PRODUCTS)
def test_the_models_are_those_that_onnx_makes(precision: str, side: int) -> None:
    path = MODELS / f"{precision}_{side}.onnx"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert path.read_bytes() == product(precision, side)


def test_no_other_models_are_packaged() -> None:
    assert {path.name for path in MODELS.iterdir()} == {f"{kind}_{side}.onnx" for kind, side in PRODUCTS}


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", np.float32), ("fp16", np.float16)])
def test_a_product_multiplies(tmp_path: Path, precision: str, dtype: type) -> None:
    path = tmp_path / "gemm.onnx"
    path.write_bytes(product(precision, 200))
    a, b = np.random.default_rng(0).standard_normal((2, 200, 200), np.float32).astype(dtype)
    with load(path, EngineOptions(threads=1)) as engine:
        found = engine.run({"a": a, "b": b})["y"]
    assert found.dtype == dtype
    expected = a.astype(np.float64) @ b.astype(np.float64)
    assert np.abs(found - expected).max() <= 50 * np.finfo(dtype).eps * np.abs(expected).max()


def test_the_rates_are_those_of_the_times() -> None:
    side = CPU_SIZES[0]
    found = ceilings.measure("onnxruntime", EngineOptions(threads=1, precision="fp32"), (side, 1 << 16))
    gemm, copy = found["gemm"], found["copy"]
    assert (gemm["side"], gemm["precision"], copy["bytes"]) == (side, "fp32", 1 << 16)
    assert gemm["flops_per_s"] == pytest.approx(2 * side**3 / (1e-3 * gemm["ms"]["p50"]))
    assert copy["bytes_per_s"] == pytest.approx(2 * (1 << 16) / (1e-3 * copy["ms"]["p50"]))
    assert gemm["ms"]["n"] >= 5 <= copy["ms"]["n"]


if __name__ == "__main__":
    MODELS.mkdir(exist_ok=True)
    for kind, size in PRODUCTS:
        (MODELS / f"{kind}_{size}.onnx").write_bytes(product(kind, size))
