"""Inputs and outputs that engines have as FP16, where the graph's are FP32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from tests import needs
from tests.engines import graphs
from topos_rt.engines import EngineOptions, backend, builder
from topos_rt.engines.tensorrt.boundary import halve
from topos_rt.engines.tensorrt.build import Messages, build
from topos_rt.engines.tensorrt.layers import BuiltLayer
from topos_rt.model.bundle import Bundle
from topos_rt.model.contracts import HALVED
from topos_rt.model.sources import engine_source

trt = needs.module("tensorrt_rtx")
RTX = builder("tensorrt-rtx")


def parsed(path: Path) -> tuple[Any, Any]:
    messages = Messages(trt)
    maker = trt.Builder(messages.logger)
    network = maker.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, messages.logger).parse_from_file(str(path))
    return network, maker


def sides(network: Any) -> list[dict[str, tuple[str, tuple[int, ...]]]]:
    given = [network.get_input(index) for index in range(network.num_inputs)]
    made = [network.get_output(index) for index in range(network.num_outputs)]
    return [{t.name: (t.dtype.name, tuple(t.shape)) for t in side} for side in (given, made)]


@pytest.mark.parametrize("graph", ["dit_context", "dit_step", "dit_step_guided"])
def test_keys_and_values_of_mini(graph: str, options: EngineOptions) -> None:
    """They become FP16 and keep their names and shapes; all else is as it was."""
    path = Bundle.open("mini").graph(graph, "fp16")
    network, maker = parsed(path)
    before = sides(network)
    halve(trt, network, HALVED)
    after = sides(network)
    for old, new in zip(before, after, strict=True):
        assert set(new) == set(old)
        for name, (kind, shape) in new.items():
            assert (kind, shape) == ("HALF" if name in HALVED else "FLOAT", old[name][1])
    assert sum(kind == "HALF" for side in after for kind, _ in side.values()) == 2
    del network, maker


def test_a_plan_of_mini_reads_half_as_much(options: EngineOptions) -> None:
    path = Bundle.open("mini").graph("dit_step", "fp16")
    kernels: dict[bool, list[BuiltLayer]] = {}
    size = {}
    for halved in (False, True):
        names = HALVED if halved else ()
        report = build(trt, path, halved=names, listed=lambda found, h=halved: kernels.update({h: found}))[1]
        size[halved] = report.memory["inputs_outputs"]
    read = {
        halved: {t.name: (t.dtype, t.nbytes) for layer in found for t in layer.inputs if t.name in HALVED}
        for halved, found in kernels.items()
    }
    assert {dtype for dtype, _ in read[False].values()} == {"Float"} and set(read[False]) == HALVED
    assert {name: ("Half", nbytes // 2) for name, (_, nbytes) in read[False].items()} == read[True]
    assert size[False] - size[True] == sum(nbytes for _, nbytes in read[True].values())


def test_other_names_and_types_are_left_alone(tmp_path: Path) -> None:
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    network, maker = parsed(graphs.save(tmp_path / "g.onnx", [node], {"x": [3], "y": [3]}))
    before = sides(network)
    halve(trt, network, {"z"})
    assert sides(network) == before
    halve(trt, network, {"x", "y"})
    assert [list(side.values()) for side in sides(network)] == [[("HALF", (3,))], [("HALF", (3,))]]
    halve(trt, network, {"x", "y"})
    assert [list(side.values()) for side in sides(network)] == [[("HALF", (3,))], [("HALF", (3,))]]
    del network, maker


def test_such_plans_have_entries_of_their_own_in_the_cache(tmp_path: Path, options: EngineOptions) -> None:
    path = graphs.product(tmp_path / "g.onnx", half=True)
    plain, halved = (RTX.plan(path, replace(options, halved=frozenset(names))) for names in ("", "xy"))
    assert plain.built and halved.built and plain.key.digest != halved.key.digest
    assert halved.reason == "built before, but with nothing in FP16 at its ends"
    assert halved.build.memory["inputs_outputs"] == plain.build.memory["inputs_outputs"] // 2


def test_only_engines_of_fp16_graphs_have_them(options: EngineOptions) -> None:
    bundle = Bundle.open("mini")
    for precision, expected in (("fp16", HALVED), ("int8", HALVED), ("fp32", frozenset())):
        settled = engine_source(bundle, "dit_step", RTX, replace(options, precision=precision))[1]
        assert settled.halved == expected
    assert not engine_source(bundle, "dit_step", backend("onnxruntime"), options)[1].halved
