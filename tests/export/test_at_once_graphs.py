"""The graphs of several heads: exported, run by onnxruntime at every number, and built by TensorRT-RTX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto
from safetensors import safe_open

from export.onnx.files import WEIGHTS, form_file, write_graphs
from export.onnx.graphs import DitContextGraph, OnnxGraph, build_at_once
from models import FastDiT, TOPOSDiT
from tests import needs
from topos_rt.engines import EngineOptions, builder, onnxruntime
from topos_rt.engines.contract import AT_ONCE, BATCH
from topos_rt.model.contracts import HALVED

SIZES = {
    "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_latents": 10, "cond_channels": 16,
    "num_blocks": 2, "num_heads": 2,
}  # fmt: skip
TOKENS = 7
TOLERANCE = 5e-6  # relative RMS; 4.6e-7 was seen
NARROW_TOLERANCE = 5e-3  # the same, between the forms
FLOAT16 = TensorProto.FLOAT16


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, OnnxGraph]]:
    folder = tmp_path_factory.mktemp("at_once")
    torch.manual_seed(0)
    graphs = build_at_once(FastDiT(TOPOSDiT(**SIZES)).eval(), (TOKENS, SIZES["cond_channels"]))
    write_graphs(graphs, folder, wide_sums=("dit_context",), narrow=dict.fromkeys(graphs, HALVED))
    return folder, graphs


def test_keys_and_values_are_narrow_in_the_narrow_form_alone(
    written: tuple[Path, dict[str, OnnxGraph]],
) -> None:
    folder, graphs = written
    for name in graphs:
        for file, narrow in ((f"{name}.onnx", TensorProto.FLOAT), (form_file(name, "fp16"), FLOAT16)):
            graph = onnx.load(folder / file, load_external_data=False).graph
            kinds = {end.name: end.type.tensor_type.elem_type for end in (*graph.input, *graph.output)}
            assert kinds == {end: narrow if end in HALVED else TensorProto.FLOAT for end in kinds}


def test_the_narrow_form_gives_nearly_what_the_wide_one_does(
    written: tuple[Path, dict[str, OnnxGraph]],
) -> None:
    folder, graphs = written
    for name, graph in graphs.items():
        made = []
        for file in (f"{name}.onnx", form_file(name, "fp16")):
            session = ort.InferenceSession(folder / file, providers=["CPUExecutionProvider"])
            types = {end.name: end.type for end in session.get_inputs()}
            feeds = {key: value.numpy() for key, value in graph.inputs.items()}
            halves = {key: feeds[key].astype(np.float16) for key in feeds if "float16" in types[key]}
            made.append(session.run(list(graph.outputs), feeds | halves))
        for wide, narrow in zip(*made, strict=True):
            assert 0 < np.linalg.norm(wide - narrow) / np.linalg.norm(wide) < NARROW_TOLERANCE


def test_velocity_and_difference_are_products_of_wide_numbers(
    written: tuple[Path, dict[str, OnnxGraph]],
) -> None:
    """The last layer's values are read to 0.01 mm."""
    path = written[0] / form_file("dit_step_guided", "fp16")
    graph = onnx.load(path, load_external_data=False).graph
    made = {out: node for node in graph.node for out in node.output}
    assert made["difference"].op_type == "MatMul"
    assert made["velocity"].op_type == "Add"
    assert made[made["velocity"].input[0]].op_type == "MatMul"


def test_no_weight_is_stored_twice(tmp_path: Path) -> None:
    torch.manual_seed(0)
    dit = FastDiT(TOPOSDiT(**SIZES)).eval()
    tokens = torch.randn(1, TOKENS, SIZES["cond_channels"])
    alone = OnnxGraph(DitContextGraph(dit), {"tokens": tokens}, ("keys", "values"))
    together = build_at_once(dit, tokens.shape[1:])["dit_context"]
    write_graphs({"dit_context": alone, "dit_context.at_once": together}, tmp_path)
    with safe_open(tmp_path / WEIGHTS, "np") as weights:
        assert len(list(weights.keys())) == 1


def test_only_the_number_of_heads_stays_open(written: tuple[Path, dict[str, OnnxGraph]]) -> None:
    folder, graphs = written
    for name, graph in graphs.items():
        for file in (f"{name}.onnx", form_file(name, "fp16")):
            model = onnx.load(folder / file, load_external_data=False)
            for value in (*model.graph.input, *model.graph.output):
                first, *rest = value.type.tensor_type.shape.dim
                opened = value.name in graph.batched or value.name in graph.outputs
                assert (first.dim_param == BATCH) == opened and all(dim.dim_value > 0 for dim in rest)


def test_every_number_gives_what_pytorch_gives(written: tuple[Path, dict[str, OnnxGraph]]) -> None:
    folder, graphs = written
    options = EngineOptions(threads=1)
    for name, graph in graphs.items():
        for number, engine in onnxruntime.load_at_once(folder / f"{name}.onnx", options, AT_ONCE).items():
            draw = torch.Generator().manual_seed(number)
            feeds = {
                key: torch.randn(number, *value.shape[1:], generator=draw) if key in graph.batched else value
                for key, value in graph.inputs.items()
            }
            with torch.no_grad(), engine:
                made = graph.module(*feeds.values())
                got = engine.run({key: value.numpy() for key, value in feeds.items()})
            wanted = made if isinstance(made, tuple) else (made,)
            for output, want in zip(graph.outputs, wanted, strict=True):
                error = np.linalg.norm(got[output] - want.numpy()) / np.linalg.norm(want.numpy())
                assert error < TOLERANCE


@pytest.mark.parametrize("name", ["dit_context", "dit_step", "dit_step_guided"])
def test_plans_have_a_profile_for_each_number(
    written: tuple[Path, dict[str, OnnxGraph]], name: str, tmp_path: Path
) -> None:
    needs.module("tensorrt_rtx")
    folder, graphs = written
    path = folder / form_file(name, "fp16")
    plan = builder("tensorrt-rtx").plan(path, EngineOptions(cache=tmp_path, precision="fp16"))
    inputs = graphs[name].inputs
    size = {key: 2 if key in HALVED else 4 for key in (*inputs, *graphs[name].outputs)}  # bytes
    per_head = sum(size[key] * inputs[key][0].numel() for key in graphs[name].batched)
    shared = sum(4 * value.numel() for key, value in inputs.items() if key not in graphs[name].batched)
    with torch.no_grad():
        made = graphs[name].module(*inputs.values())
    outputs = made if isinstance(made, tuple) else (made,)
    ends = zip(graphs[name].outputs, outputs, strict=True)
    per_head += sum(size[key] * value[0].numel() for key, value in ends)
    assert plan.build.memory["inputs_outputs"] == sum(AT_ONCE) * per_head + shared
    assert "fp16" in plan.build.layers
