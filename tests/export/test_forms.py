"""The FP16 and the plain form of exported graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnxruntime
import pytest
from onnx import TensorProto

from export.onnx.files import half_file, write_graphs
from export.onnx.forms import NARROW, PLAIN_OPSET, narrow_form, plain_form
from export.onnx.graphs import OnnxGraph
from tests.export.test_onnx_files import tiny_graphs
from topos_rt.model.manifest import GRAPHS

PRODUCTS = ("MatMul", "Gemm", "Conv", "Attention")
# Half a unit in the last place of FP16 is 5e-4, and a few products follow each other.
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def graphs() -> dict[str, OnnxGraph]:
    return tiny_graphs()


@pytest.fixture(scope="module", params=["fp32", "fp16"], ids=["stored as FP32", "stored as FP16"])
def written(
    request: pytest.FixtureRequest, graphs: dict[str, OnnxGraph], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    directory = tmp_path_factory.mktemp("forms")
    if request.param == "fp16":
        for graph in graphs.values():
            for parameter in graph.module.parameters():
                parameter.data = parameter.data.half().float()
    write_graphs(graphs, directory, request.param)
    return directory


def types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    found = {tensor.name: tensor.data_type for tensor in graph.initializer}
    values = (*graph.input, *graph.output, *graph.value_info)
    return found | {v.name: v.type.tensor_type.elem_type for v in values}


@pytest.mark.parametrize("name", GRAPHS)
def test_products_are_fp16_and_the_rest_fp32(written: Path, name: str) -> None:
    files = half_file(name), f"{name}.onnx"
    half, plain = (onnx.load(written / file, load_external_data=False) for file in files)
    kinds = types(half)
    assert {kinds[v.name] for v in (*half.graph.input, *half.graph.output)} == {TensorProto.FLOAT}
    products = [node for node in half.graph.node if node.op_type in PRODUCTS]
    small = [node for node in products if kinds[node.output[0]] == TensorProto.FLOAT]
    if name == "dit_modulation":
        assert len(small) == len(products)
    else:
        assert len(small) <= 4
        assert len(small) < len(products)
    for node in half.graph.node:
        ins = {kinds[i] for i in node.input if kinds.get(i) in (TensorProto.FLOAT, TensorProto.FLOAT16)}
        if node.op_type != "Cast":
            assert len(ins) <= 1, node
        if node.op_type not in (*PRODUCTS, "Cast"):
            assert TensorProto.FLOAT16 not in ins, node
    assert {t.name for t in half.graph.initializer} == {t.name for t in plain.graph.initializer}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_plain_form_runs_everywhere(written: Path, name: str) -> None:
    plain = onnx.load(written / f"{name}.onnx", load_external_data=False)
    assert [opset.version for opset in plain.opset_import] == [PLAIN_OPSET]
    assert "Attention" not in {node.op_type for node in plain.graph.node}


@pytest.mark.parametrize("name", GRAPHS)
def test_both_forms_agree(written: Path, graphs: dict[str, OnnxGraph], name: str) -> None:
    inputs = {key: value.numpy() for key, value in graphs[name].inputs.items()}
    results = [
        onnxruntime.InferenceSession(written / file, providers=["CPUExecutionProvider"]).run(None, inputs)
        for file in (f"{name}.onnx", half_file(name))
    ]
    for plain, half in zip(*results, strict=True):
        error = np.linalg.norm(half - plain) / np.linalg.norm(plain)
        assert error <= (0 if name == "dit_modulation" else TOLERANCE)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scale", [None, 1.0, 0.3])
def test_attention_written_out(scale: float | None, masked: bool) -> None:
    given = {} if scale is None else {"scale": scale}
    nodes = [
        onnx.helper.make_node("Neg", ["q"], ["a"]),
        onnx.helper.make_node("Attention", ["a", "k", "v", *(["m"] if masked else [])], ["y"], **given),
    ]
    shapes = {"q": (2, 3, 5, 8), "k": (2, 3, 7, 8), "v": (2, 3, 7, 8)}
    shapes |= {"m": (1, 1, 1, 7)} if masked else {}
    inputs = [onnx.helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    output = onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 3, 5, 8))
    graph = onnx.helper.make_graph(nodes, "one", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10)
    plain = plain_form(onnx.shape_inference.infer_shapes(model))
    feeds = {n: np.random.default_rng(0).standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    (got,) = onnxruntime.InferenceSession(plain.SerializeToString()).run(None, feeds)
    scores = np.einsum("bhqd,bhkd->bhqk", -feeds["q"].astype(float), feeds["k"])
    scores *= 8**-0.5 if scale is None else scale
    scores += feeds.get("m", 0.0)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    want = weights / weights.sum(-1, keepdims=True) @ feeds["v"]
    assert np.allclose(got, want, atol=1e-5)


def test_products_in_bf16() -> None:
    """A weight that is stored as BF16 is used as it is, and in the FP16 form cast like any other."""
    make = onnx.helper.make_node
    nodes = [make("Cast", ["w.bf16"], ["w"], to=TensorProto.FLOAT), make("MatMul", ["x", "w"], ["y"])]
    values = [onnx.helper.make_tensor_value_info(n, TensorProto.FLOAT, (4, 4)) for n in ("x", "y")]
    stored = onnx.helper.make_tensor_value_info("w.bf16", TensorProto.BFLOAT16, (4, 4))
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "one", [values[0], stored], values[1:]))
    found = {name: [(n.op_type, *n.input) for n in narrow_form(model, name).graph.node] for name in NARROW}
    assert found["bf16"] == [("Cast", "x"), ("MatMul", "x.half", "w.bf16"), ("Cast", "y.half")]
    assert found["fp16"] == [
        ("Cast", "w.bf16"),
        ("Cast", "x"),
        ("Cast", "w"),
        ("MatMul", "x.half", "w.half"),
        ("Cast", "y.half"),
    ]


def test_products_in_a_row_need_no_casts_between() -> None:
    make = onnx.helper.make_node
    nodes = [make("MatMul", ["x", "w"], ["h"]), make("MatMul", ["h", "w"], ["y"])]
    values = [onnx.helper.make_tensor_value_info(n, TensorProto.FLOAT, (4, 4)) for n in ("x", "w", "y")]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "two", values[:2], values[2:]))
    half = narrow_form(model)
    assert [node.op_type for node in half.graph.node] == ["Cast", "Cast", "MatMul", "MatMul", "Cast"]
    assert half.graph.node[3].input[0] == half.graph.node[2].output[0]


def test_products_that_are_summed_in_fp32(graphs: dict[str, OnnxGraph], tmp_path: Path) -> None:
    """Every matrix product of rounded operands computes in FP32, and is rounded; attention is written out."""
    write_graphs(graphs, tmp_path, "fp16", wide_sums=GRAPHS)
    rounded = 0
    for name in GRAPHS:
        wide = onnx.load(tmp_path / half_file(name), load_external_data=False)
        kinds, nodes = types(wide), wide.graph.node
        assert "Attention" not in {node.op_type for node in nodes}
        made = {node.output[0]: node for node in nodes}
        for node in nodes:
            if node.op_type not in ("MatMul", "Gemm") or not node.output[0].endswith(".sum"):
                assert node.op_type != "Conv" or kinds[node.output[0]] == TensorProto.FLOAT16 or node.input
                continue
            rounded += 1
            for operand in node.input:
                before = made[operand]
                assert before.op_type == "Cast" and kinds[before.input[0]] == TensorProto.FLOAT16
                assert kinds[operand] == TensorProto.FLOAT
            (after,) = (other for other in nodes if node.output[0] in other.input)
            assert after.op_type == "Cast" and kinds[after.output[0]] == TensorProto.FLOAT16
        inputs = {key: value.numpy() for key, value in graphs[name].inputs.items()}
        results = [
            onnxruntime.InferenceSession(tmp_path / file, providers=["CPUExecutionProvider"]).run(
                None, inputs
            )
            for file in (f"{name}.onnx", half_file(name))
        ]
        for plain, half in zip(*results, strict=True):
            error = np.linalg.norm(half - plain) / np.linalg.norm(plain)
            assert error <= TOLERANCE
    assert rounded > 20
