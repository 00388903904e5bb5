"""The graphs of several heads: exported, run by onnxruntime at every number, and built by TensorRT-RTX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.onnx.files import form_file, write_graphs
from export.onnx.graphs import OnnxGraph, build_at_once
from models import FastDiT, TOPOSDiT
from tests import needs
from topos_rt.engines import EngineOptions, builder, onnxruntime
from topos_rt.engines.contract import AT_ONCE, BATCH

SIZES = {
    "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_latents": 10, "cond_channels": 16,
    "num_blocks": 2, "num_heads": 2,
}  # fmt: skip
TOKENS = 7
TOLERANCE = 5e-6  # relative RMS; 4.6e-7 was seen


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, OnnxGraph]]:
    folder = tmp_path_factory.mktemp("at_once")
    torch.manual_seed(0)
    graphs = build_at_once(FastDiT(TOPOSDiT(**SIZES)).eval(), (TOKENS, SIZES["cond_channels"]))
    write_graphs(graphs, folder, wide_sums=("dit_context",))
    return folder, graphs


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
    per_head = sum(4 * inputs[key][0].numel() for key in graphs[name].batched)
    shared = sum(4 * value.numel() for key, value in inputs.items() if key not in graphs[name].batched)
    with torch.no_grad():
        made = graphs[name].module(*inputs.values())
    outputs = made if isinstance(made, tuple) else (made,)
    per_head += sum(4 * value[0].numel() for value in outputs)
    assert plan.build.memory["inputs_outputs"] == sum(AT_ONCE) * per_head + shared
    assert "fp16" in plan.build.layers
