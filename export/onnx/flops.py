"""`python -m export flops`: count the floating-point operations of a bundle's ONNX graphs."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx

from topos_rt.errors import BundleError, OptionError
from topos_rt.flow.settings import MAX_STEPS
from topos_rt.model.bundle import Bundle

Shape = tuple[int, ...]
# How often a graph runs for one head of so many steps, all guided. The VAE encoder does not run at all.
RUNS: Mapping[str, Callable[[int], int]] = {
    "image_encoder": lambda steps: 1,
    "dit_modulation": lambda steps: steps,
    "dit_context": lambda steps: 1,
    "dit_step_guided": lambda steps: steps,
    "vae_decoder": lambda steps: 1,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `flops`."""
    parser.add_argument("bundle", metavar="BUNDLE", help="directory of a bundle, or mini")
    parser.add_argument(
        "--steps", type=int, default=50, help="number of sampling steps of one head (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(arguments: argparse.Namespace) -> None:
    """Print the FLOPs of each graph and of one head."""
    if not 1 <= arguments.steps <= MAX_STEPS:
        raise OptionError("--steps", got=arguments.steps, expected=f"a whole number from 1 to {MAX_STEPS}")
    bundle = Bundle.open(arguments.bundle)
    result = count_bundle(bundle, arguments.steps)
    if arguments.json:
        print(json.dumps(result))
        return
    for graph, flops in result["graphs"].items():
        print(f"{graph:<16} {flops / 1e9:14.3f} GFLOP")
    print(
        f"one head, {arguments.steps} guided steps: sampling {result['sampling'] / 1e12:.4g} TFLOP,"
        f" in all {result['head'] / 1e12:.4g} TFLOP"
    )


def count_bundle(bundle: Bundle, steps: int) -> dict[str, Any]:
    """Count the FLOPs of one run of every graph, of guided sampling (the DiT's graphs), and of one head."""
    names = [*RUNS, "dit_step", "vae_encoder"]
    graphs = {name: count(bundle.graph(name)) for name in names}
    head = {name: runs(steps) * graphs[name] for name, runs in RUNS.items()}
    return {
        "model": bundle.manifest.name,
        "steps": steps,
        "graphs": graphs,
        "sampling": sum(flops for name, flops in head.items() if name.startswith("dit_")),
        "head": sum(head.values()),
    }


def count(path: Path) -> int:
    """Count the FLOPs of the matrix products, convolutions and attention in one ONNX file.

    A multiply-add counts as 2. Operators that work element by element (norms, activations, softmax) are not
    counted: they are under 1 % of the FLOPs, and their cost is memory traffic. Raises BundleError where a
    shape is not static.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False), data_prop=True)
    graph = model.graph
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
    total = 0
    for node in graph.node:
        if node.op_type in _MULTIPLY_ADDS:
            inputs = [shapes.get(name, ()) for name in node.input if name]
            output = shapes.get(node.output[0], ())
            if not all((*inputs[:2], output)) or 0 in (*inputs[0], *inputs[1], *output):
                raise BundleError(
                    f"graph {path.name}, node {node.name!r}",
                    got="a shape that is not static",
                    expected="static shapes",
                    fix="export the bundle again",
                )
            total += 2 * _MULTIPLY_ADDS[node.op_type](node, inputs, output)
    return total


def _matmul(node: onnx.NodeProto, inputs: list[Shape], output: Shape) -> int:
    return math.prod(output) * inputs[0][-1]


def _gemm(node: onnx.NodeProto, inputs: list[Shape], output: Shape) -> int:
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(output) * inputs[0][0 if transposed else 1]


def _conv(node: onnx.NodeProto, inputs: list[Shape], output: Shape) -> int:
    return math.prod(output) * math.prod(inputs[1][1:])  # weight [out, in / groups, *kernel]


def _attention(node: onnx.NodeProto, inputs: list[Shape], output: Shape) -> int:
    """Count scores and weighted sum of opset 23's Attention, with inputs [B,heads,length,head_dim]."""
    query, key = inputs[:2]
    return math.prod(query) * key[2] + math.prod(output) * key[2]


_MULTIPLY_ADDS: Mapping[str, Callable[[onnx.NodeProto, list[Shape], Shape], int]] = {
    "MatMul": _matmul, "Gemm": _gemm, "Conv": _conv, "Attention": _attention,
}  # fmt: skip
