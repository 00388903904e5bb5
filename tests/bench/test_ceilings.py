"""The ceilings: the product is a product, the rates are what the times say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from topos_rt.bench import ceilings
from topos_rt.engines import EngineOptions
from topos_rt.engines.onnxruntime import load


@pytest.mark.parametrize(("element", "dtype"), [(1, np.float32), (10, np.float16)])
@pytest.mark.parametrize("side", [2, 200])  # a size of one byte in protobuf, and of two
def test_the_model_is_sound_and_multiplies(tmp_path: Path, element: int, dtype: type, side: int) -> None:
    path = tmp_path / "gemm.onnx"
    path.write_bytes(ceilings.matmul_model(side, element))
    onnx.checker.check_model(onnx.load(path), full_check=True)
    a, b = np.random.default_rng(0).standard_normal((2, side, side), np.float32).astype(dtype)
    with load(path, EngineOptions(threads=1)) as engine:
        found = engine.run({"a": a, "b": b})["y"]
    assert found.dtype == dtype
    expected = a.astype(np.float64) @ b.astype(np.float64)
    assert np.abs(found - expected).max() <= 50 * np.finfo(dtype).eps * np.abs(expected).max()


def test_the_rates_are_those_of_the_times() -> None:
    found = ceilings.measure("onnxruntime", EngineOptions(threads=1, precision="fp32"), (64, 1 << 16))
    gemm, copy = found["gemm"], found["copy"]
    assert (gemm["side"], gemm["precision"], copy["bytes"]) == (64, "fp32", 1 << 16)
    assert gemm["flops_per_s"] == pytest.approx(2 * 64**3 / (1e-3 * gemm["ms"]["p50"]))
    assert copy["bytes_per_s"] == pytest.approx(2 * (1 << 16) / (1e-3 * copy["ms"]["p50"]))
    assert gemm["ms"]["n"] >= 5 <= copy["ms"]["n"]
