"""Counted FLOPs are those that one adds up by hand."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from export.__main__ import main
from export.onnx.flops import count, count_bundle
from tests import tiny_bundle as tiny
from topos_rt.errors import BundleError
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import GRAPHS

Shapes = dict[str, tuple[object, ...]]


def write(path: Path, node: onnx.NodeProto, inputs: Shapes, output: tuple[object, ...]) -> Path:
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, output)
    model = helper.make_model(
        helper.make_graph([node], "one", values, [result]), opset_imports=[helper.make_opsetid("", 23)]
    )
    path.write_bytes(model.SerializeToString())
    return path


CASES = {
    "matmul": (helper.make_node("MatMul", ["a", "b"], ["y"]), {"a": (2, 3, 5), "b": (5, 7)}, (2, 3, 7),
               2 * 2 * 3 * 5 * 7),
    "gemm": (helper.make_node("Gemm", ["a", "b", "c"], ["y"], transB=1),
             {"a": (3, 5), "b": (7, 5), "c": (7,)}, (3, 7), 2 * 3 * 5 * 7),
    "gemm of a transpose": (helper.make_node("Gemm", ["a", "b"], ["y"], transA=1),
                            {"a": (5, 3), "b": (5, 7)}, (3, 7), 2 * 3 * 5 * 7),
    "conv": (helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1]),
             {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3)}, (1, 4, 4, 4), 2 * 4 * 16 * 27),
    "conv in groups": (helper.make_node("Conv", ["x", "w"], ["y"], group=2),
                       {"x": (1, 4, 5, 5), "w": (6, 2, 1, 1)}, (1, 6, 5, 5), 2 * 6 * 25 * 2),
    "attention": (helper.make_node("Attention", ["q", "k", "v"], ["y"]),
                  {"q": (2, 3, 5, 8), "k": (2, 3, 7, 8), "v": (2, 3, 7, 8)}, (2, 3, 5, 8),
                  2 * 2 * (2 * 3 * 5 * 7 * 8)),
    "element by element": (helper.make_node("Add", ["a", "b"], ["y"]), {"a": (4,), "b": (4,)}, (4,), 0),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_node(tmp_path: Path, case: str) -> None:
    node, inputs, output, flops = CASES[case]
    assert count(write(tmp_path / "one.onnx", node, inputs, output)) == flops


def test_a_shape_that_is_not_static(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    path = write(tmp_path / "one.onnx", node, {"a": ("n", 5), "b": (5, 7)}, ("n", 7))
    with pytest.raises(BundleError, match="a shape that is not static"):
        count(path)


def official_sampling(evaluations: int) -> float:
    """Guided sampling at the release's sizes is added up by hand, after all exact savings."""
    n, t, c, d, blocks = 1513, 1374, 1024, 32, 24
    attention = 4 * n * n * c  # scores and weighted sum
    own = 8 * n * c * c + attention
    cross = 4 * n * c * c + 4 * n * t * c
    mlp = 16 * n * c * c
    half = blocks * (own + mlp)
    # The unconditional half has no cross-attention, and shares its first self-attention.
    step = 2 * half - own + blocks * cross + 2 * n * d * c + 2 * 2 * n * c * d
    context = 2 * 2 * t * c * c * blocks
    modulation = 2 * (256 * c + c * c + blocks * 6 * c * c)
    return evaluations * (step + modulation) + context


def test_the_sum_done_by_hand_is_the_documented_one() -> None:
    assert official_sampling(50) / 1e12 == pytest.approx(130.8, abs=0.05)


def test_a_bundle(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = count_bundle(Bundle.open(tiny_bundle), 7)
    per_token = tiny.BLOCKS * tiny.HEADS * tiny.HEAD_DIM
    assert result["graphs"]["dit_context"] == 2 * 2 * tiny.TOKENS * tiny.CHANNELS * per_token
    graphs = result["graphs"]
    assert result["sampling"] == (
        7 * (graphs["dit_step_guided"] + graphs["dit_modulation"]) + graphs["dit_context"]
    )
    assert main(["flops", str(tiny_bundle), "--steps", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == result


@pytest.mark.parametrize("model", ["tiny", "mini"])
def test_the_manifest_has_the_same_numbers(tiny_bundle: Path, model: str) -> None:
    bundle = Bundle.open(tiny_bundle if model == "tiny" else model)
    assert {graph: count(bundle.graph(graph)) for graph in GRAPHS} == bundle.manifest.flops


@pytest.mark.parametrize("steps", ["0", "1001"])
def test_bad_steps(tiny_bundle: Path, steps: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flops", str(tiny_bundle), "--steps", steps]) == 2
    assert f"--steps: got {steps}; expected a whole number from 1 to 1000" in capsys.readouterr().err
