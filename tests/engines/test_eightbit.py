"""Linear layers of 8-bit numbers: what TensorRT-RTX's real builder was asked for, and what it made."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests import needs
from tests.engines import graphs
from topos_rt.engines import EngineOptions, backend, builder
from topos_rt.engines.tensorrt.build import build
from topos_rt.engines.tensorrt.eightbit import (
    EIGHT_BIT,
    LEAST_SIDE,
    Quantised,
    check_built,
    column_scales,
    headroom,
    row_scale,
)
from topos_rt.engines.tensorrt.layers import BuiltLayer, built_layers, traffic
from topos_rt.errors import BackendError, BundleError, OptionError
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import GRAPHS
from topos_rt.model.sources import STEPS, engine_source

trt = needs.module("tensorrt_rtx")
BUILD = importlib.import_module("topos_rt.engines.tensorrt.build")
RTX = builder("tensorrt-rtx")
SIDE = 128
TYPES = {"int8": np.int8, "fp8": ml_dtypes.float8_e4m3fn}


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[BuiltLayer]:
    """Return a list that receives the kernels of the plans that are built."""
    found: list[BuiltLayer] = []
    check = BUILD.check_built

    def kept(layers: Sequence[BuiltLayer], *rest: Any) -> None:
        found.extend(layers)
        check(layers, *rest)

    monkeypatch.setattr(BUILD, "check_built", kept)
    return found


def linear_layers(path: Path) -> int:
    """Count the products with a constant FP16 matrix in an ONNX file, but for narrow ones."""
    graph = onnx.load(path, load_external_data=False).graph
    half = {t.name: t.dims for t in graph.initializer if t.data_type == TensorProto.FLOAT16}
    right = [node.input[1] for node in graph.node if node.op_type == "MatMul"]
    return sum(min(half[name]) >= LEAST_SIDE for name in right if name in half)


@pytest.mark.parametrize("capability", ["SM89", "SM120"])
@pytest.mark.parametrize(("graph", "kind"), [(STEPS[0], "int8"), (STEPS[1], "int8"), (STEPS[1], "fp8")])
def test_every_linear_layer_of_mini(listed: list[BuiltLayer], graph: str, kind: str, capability: str) -> None:
    path, form = Bundle.open("mini").graph(graph, "fp16"), EIGHT_BIT[kind]
    _, report = build(trt, path, form=replace(form, capabilities=(capability,)))
    expected = linear_layers(path)
    assert expected == 24 and report.layers[kind] == {"MATRIX_MULTIPLY": expected}
    assert sum(layer.multiplies(form.listed) for layer in listed) == expected
    assert not [layer.name for layer in listed if layer.multiplies("Half", LEAST_SIDE)]
    _, before = build(trt, path)
    assert report.memory["weights"] < 0.55 * before.memory["weights"]


def test_turing_has_int8_and_no_fp8(tmp_path: Path, listed: list[BuiltLayer]) -> None:
    path = graphs.product(tmp_path / "g.onnx", half=True, side=SIDE)
    build(trt, path, form=replace(EIGHT_BIT["int8"], capabilities=("SM75",)))
    assert sum(layer.multiplies("Int8") for layer in listed) == 1
    with pytest.raises(BackendError, match=r"could not build g\.onnx: .*sm75.*fp8"):
        build(trt, path, form=replace(EIGHT_BIT["fp8"], capabilities=("SM75",)))


def test_a_layer_that_stays_fp16_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As TensorRT leaves those whose scales are computed at run time, without a word."""
    path = graphs.product(tmp_path / "g.onnx", half=True, side=SIDE)
    monkeypatch.setattr(BUILD, "quantise", lambda *_: Quantised(linears=["product"]))
    with pytest.raises(BackendError, match=r"did not build g\.onnx in int8: got other kernels for product"):
        build(trt, path, form=EIGHT_BIT["int8"])
    with pytest.raises(BackendError, match="did not say which kernels"):
        check_built([], Quantised(["product"]), EIGHT_BIT["int8"], "g.onnx")


def turned(path: Path) -> Path:
    """Write y = x @ w^T, whose columns are rows of the constant."""
    w = numpy_helper.from_array(np.ones((SIDE, SIDE), np.float16), "w")
    node = helper.make_node
    nodes = [
        node("Cast", ["x"], ["x16"], to=TensorProto.FLOAT16),
        node("Transpose", ["w"], ["t"], perm=[1, 0]),
        node("MatMul", ["x16", "t"], ["y16"]),
        node("Cast", ["y16"], ["y"], to=TensorProto.FLOAT),
    ]
    return graphs.save(path, nodes, {"x": [2, SIDE], "y": [2, SIDE]}, [w])


@pytest.mark.parametrize(
    "write", [turned, lambda path: graphs.product(path, half=True), lambda path: graphs.product(path, False)]
)
def test_a_graph_without_such_layers_is_refused(tmp_path: Path, write: Any) -> None:
    with pytest.raises(BundleError, match=r"graph g\.onnx in int8: got no linear layer of FP16 operands"):
        build(trt, write(tmp_path / "g.onnx"), form=EIGHT_BIT["int8"])


def test_each_precision_has_a_plan_of_its_own(tmp_path: Path, options: EngineOptions) -> None:
    path = graphs.product(tmp_path / "g.onnx", half=True, side=SIDE)
    plans = {name: RTX.plan(path, replace(options, precision=name)) for name in ("fp16", *EIGHT_BIT)}
    assert all(plan.built for plan in plans.values())
    assert len({plan.key.digest for plan in plans.values()}) == 3
    assert plans["int8"].reason == "built before, but in fp16"
    assert plans["int8"].key.compute_capability == "portable"
    assert plans["fp8"].key.compute_capability == "SM89+SM120+SM121"
    assert [set(plans[name].build.layers) & set(EIGHT_BIT) for name in plans] == [set(), {"int8"}, {"fp8"}]
    need = RTX.requirements(path, replace(options, precision="int8"))
    assert need == plans["int8"].build.memory and not RTX.plan(path, replace(options, precision="int8")).built


def test_only_the_step_is_made_of_8_bits(options: EngineOptions) -> None:
    bundle = Bundle.open("mini")
    for graph in GRAPHS:
        path, settled = engine_source(bundle, graph, RTX, replace(options, precision="int8"))
        assert settled.precision == ("int8" if graph in STEPS else "fp16")
        assert path == bundle.graph(graph, "fp16")
    assert engine_source(bundle, STEPS[0], RTX, options)[1].precision == "fp16"
    for name, offered in (("tensorrt", "fp16 or fp32"), ("onnxruntime", "fp32")):
        with pytest.raises(OptionError, match=f"precision: got 'int8'; expected {offered}: the backend"):
            engine_source(bundle, STEPS[0], backend(name), replace(options, precision="int8"))


@pytest.mark.parametrize(("kind", "has", "needs_it"), [("fp8", (8, 6), "8.9"), ("int8", (7, 0), "7.5")])
def test_a_gpu_without_such_products(
    trt: Any, tmp_path: Path, options: EngineOptions, kind: str, has: tuple[int, int], needs_it: str
) -> None:
    path = graphs.product(tmp_path / "g.onnx", half=True, side=SIDE)
    trt.gpu.capability = has
    with pytest.raises(
        OptionError, match=f"precision: got '{kind}' on .*expected compute capability {needs_it}"
    ):
        RTX.load(path, replace(options, precision=kind))


def test_scales() -> None:
    weights = np.array([[1.0, 0.0, -6.0], [-127.0, 0.0, 3.0]], np.float16)
    assert np.array_equal(column_scales(weights, EIGHT_BIT["int8"])[[0, 2]], np.float16([1, 6 / 127]))
    assert column_scales(weights, EIGHT_BIT["int8"])[1] > 0
    for form in EIGHT_BIT.values():
        assert abs(float(row_scale(form)) * form.largest - 1) < 5e-4
        for rows in (64, 192, 1024, 4096):  # the largest sum there can be, as it is rounded to FP16
            largest = form.largest**2 * rows * float(row_scale(form)) / headroom(rows, form)
            assert largest < 65504 and float(np.float16(row_scale(form) / headroom(rows, form))) > 6e-5
    assert [headroom(rows, EIGHT_BIT["int8"]) for rows in (192, 1024, 4096)] == [1, 2, 8]


def written(name: str, shape: str, kind: str) -> str:
    return f"{{ Name: {name}, Dimensions: [{shape}], Strides: [1], Datatype: {kind}, Format: (Linear) any }}"


X, Y = written("(Unnamed Layer* 2) [Quantize]_output.1", "3,64", "Int8"), written("y", "3,96", "Half")
W, SCALE = written("w", "64,96", "Int8"), written("alpha", "1", "Float")
LIST = f"""Layers:
Name: node_a_myl0_0, LayerType: gemm, Inputs: [ {X}], Constants: [ {W}, {SCALE}], Outputs: [ {Y}], \
TacticName: t, StreamId: 0, Metadata: [ONNX Layer: node_a][ONNX Layer: cast_b]
Name: __wait_1, LayerType: wait, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 1
"""


def test_lists_of_kernels() -> None:
    product, wait = built_layers(["something else", LIST])
    assert (product.kind, wait.kind, product.nodes) == ("gemm", "wait", {"node_a", "cast_b"})
    assert [t.shape for t in (*product.inputs, *product.constants)] == [(3, 64), (64, 96), (1,)]
    assert product.multiplies("Int8") and not product.multiplies("Half")
    assert product.multiplies("Int8", 64) and not product.multiplies("Int8", 65)
    assert traffic([product, wait]) == 3 * 64 + 2 * 3 * 96


@pytest.mark.gpu
@pytest.mark.parametrize("kind", EIGHT_BIT)
def test_on_a_real_gpu(tmp_path: Path, options: EngineOptions, kind: str) -> None:
    probe = RTX.probe()
    needs.machine(probe.error is None, probe.detail)
    path, form = graphs.product(tmp_path / "g.onnx", half=True, side=SIDE), EIGHT_BIT[kind]
    x = np.random.default_rng(1).standard_normal((2, SIDE)).astype(np.float32) * [[1], [300]]
    w = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float16).astype(np.float32)
    most, scales = np.abs(x).max(1, keepdims=True), column_scales(w, form).astype(np.float32)
    unit, narrow = np.float32(row_scale(form)), TYPES[kind]
    numbers = [value if kind == "fp8" else np.rint(value) for value in (x / most / unit, w / scales)]
    a, b = (value.clip(-form.largest, form.largest).astype(narrow).astype(np.float64) for value in numbers)
    with RTX.load(path, replace(options, precision=kind)) as engine:
        y = engine.run({"x": x.astype(np.float32)})["y"]
    expected = (a @ b) * unit * scales * most
    assert np.linalg.norm(y - expected) < 2e-3 * np.linalg.norm(expected)  # three roundings to FP16
    assert np.linalg.norm(y - x @ w) > 2e-3 * np.linalg.norm(expected)  # and it is not FP16
