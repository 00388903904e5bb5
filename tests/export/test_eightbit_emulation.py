"""The emulation of 8-bit linear layers really rounds, and to the numbers that NumPy's own types hold."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from export.compare.eightbit_emulation import eight_bit_form, rounded
from export.onnx.forms import PLAIN_OPSET
from tests.engines import graphs
from topos_rt.engines.tensorrt.eightbit import EIGHT_BIT, column_scales, row_scale
from topos_rt.errors import BundleError
from topos_rt.model.bundle import Bundle

SIDE = 128
TYPES = {"int8": np.int8, "fp8": ml_dtypes.float8_e4m3fn}


@pytest.mark.parametrize("kind", EIGHT_BIT)
def test_a_layer_multiplies_the_numbers_of_the_format(tmp_path: Path, kind: str) -> None:
    source, target, form = tmp_path / "g.onnx", tmp_path / "e.onnx", EIGHT_BIT[kind]
    model = onnx.load(graphs.product(source, half=True, side=SIDE))
    model.opset_import[0].version = PLAIN_OPSET  # no graph of a bundle has an older one
    onnx.save(model, source)
    assert eight_bit_form(source, target, kind) == 1
    x = np.random.default_rng(1).standard_normal((2, SIDE)).astype(np.float32) * np.float32([[1], [300]])
    x[0, :40] *= 1e-3  # of FP8 some are below its least normal number
    w = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float16).astype(np.float32)
    (got,) = onnxruntime.InferenceSession(target).run(["y"], {"x": x})
    scales, most = column_scales(w, form).astype(np.float32), np.abs(x).max(1, keepdims=True)
    unit = np.float32(row_scale(form))
    scaled = [(x / most / unit).clip(-form.largest, form.largest), w / scales]
    if kind == "int8":
        scaled = [np.rint(value) for value in scaled]
    a, b = (value.astype(TYPES[kind]).astype(np.float64) for value in scaled)
    expected = (a @ b) * unit * scales * most
    assert np.abs(got - expected).max() <= 2**-9 * np.abs(expected).max()  # it is rounded to FP16 twice
    halves = got / most
    assert np.abs(halves.astype(np.float16) / halves - 1).max() < 1e-6
    error = np.linalg.norm(got - x @ w) / np.linalg.norm(x @ w)
    assert {"int8": 3e-3, "fp8": 1e-2}[kind] < error < {"int8": 2e-2, "fp8": 6e-2}[kind]


def test_rounding_in_numpy() -> None:
    assert rounded(np.float32([0.5, 1.5, -200, 3.4]), EIGHT_BIT["int8"]).tolist() == [0, 2, -127, 3]
    assert rounded(np.float32([500, 17, 0.0009, 2**-9]), EIGHT_BIT["fp8"]).tolist() == [448, 16, 0, 2**-9]


@pytest.mark.parametrize("kind", EIGHT_BIT)
def test_all_layers_of_a_step_of_mini(tmp_path: Path, kind: str) -> None:
    bundle = Bundle.open("mini")
    target = tmp_path / "e.onnx"
    assert eight_bit_form(bundle.graph("dit_step", "fp16"), target, kind) == 24
    plain, narrow = (onnxruntime.InferenceSession(path) for path in (bundle.graph("dit_step"), target))
    rng = np.random.default_rng(0)
    feeds = {i.name: rng.standard_normal(i.shape).astype(np.float32) for i in plain.get_inputs()}
    a, b = (session.run(["velocity"], feeds)[0] for session in (plain, narrow))
    error = np.linalg.norm(a - b) / np.linalg.norm(a)
    assert {"int8": 1e-3, "fp8": 5e-3}[kind] < error < {"int8": 5e-2, "fp8": 2e-1}[kind]


def test_a_graph_without_such_layers(tmp_path: Path) -> None:
    path = graphs.save(tmp_path / "g.onnx", [helper.make_node("Neg", ["x"], ["y"])], {"x": [1], "y": [1]})
    with pytest.raises(BundleError, match="no linear layer"):
        eight_bit_form(path, tmp_path / "e.onnx", "int8")
