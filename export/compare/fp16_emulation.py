"""Emulate FP16 on a CPU, by ONNX graphs that compute in FP32 and round values as FP16 does.

onnxruntime cannot show what FP16 costs on a CPU: it has no FP16 kernels there, computes in FP32, and drops
the casts in between. So every cast to FP16 becomes Veltkamp's splitting, three FP32 operations that keep the
leading 11 bits. The range of FP16 is not emulated; the output `LARGEST` says how near its end values come.

`emulated_form` rounds what a graph's FP16 form rounds and nothing else, as an engine should.
`naive_form` rounds every value of the FP32 form, as a graph in FP16 throughout would.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from onnx import TensorProto

from export.onnx.wrapped_engine import WrappedEngine
from topos_rt.engines import Engine
from topos_rt.engines.contract import Value
from topos_rt.support.arrays import Array

_SPLIT = np.array(2**13 + 1, np.float32)  # FP32 has 24 bits, FP16 has 11
LARGEST = "largest"  # name of the added output, the largest magnitude that was cast to FP16
LARGEST_FP16 = 65504.0


class Emulated(WrappedEngine):
    """An engine of an emulated form, which keeps the output `LARGEST` to itself as `largest`."""

    def __init__(self, inner: Engine) -> None:
        super().__init__(inner)
        self.outputs = {name: spec for name, spec in inner.outputs.items() if name != LARGEST}
        self.largest = 0.0  # over all runs

    def run(
        self, feeds: Mapping[str, Value], out: Mapping[str, Array] | None = None, keep: Collection[str] = ()
    ) -> dict[str, Any]:
        """See `Engine.run`."""
        results = self.inner.run(feeds, out, keep)
        self.largest = max(self.largest, float(results.pop(LARGEST, 0.0)))
        return results


def emulated_form(half: Path, target: Path) -> None:
    """Write to `target` the graph of an FP16 form, rounding in FP32, with its weights beside it."""
    write_emulated(onnx.load(half, load_external_data=False), half, target)


def write_emulated(model: onnx.ModelProto, half: Path, target: Path) -> None:
    """Do so for a model, which is changed, whose weights lie beside the file `half`."""
    graph = model.graph
    narrow = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    # What a comparison says is cast to numbers, too, and has nothing to round.
    exact = {v.name for v in inferred if v.type.tensor_type.elem_type == TensorProto.BOOL}
    nodes = [_split(), *(_widened(name) for name in narrow)]
    magnitudes: list[str] = []
    for node in graph.node:
        to = next((a.i for a in node.attribute if a.name == "to"), None)
        if node.op_type == "Cast" and node.input[0] in exact:
            nodes.append(_make("Cast", [*node.input], [*node.output], to=TensorProto.FLOAT))
            continue
        if node.op_type == "Cast" and to == TensorProto.FLOAT16:
            nodes += _rounded(node.input[0], node.output[0])
            size, most = f"{node.output[0]}.abs", f"{node.output[0]}.max"
            nodes += [_make("Abs", [node.input[0]], [size]), _make("ReduceMax", [size], [most], keepdims=0)]
            magnitudes.append(most)
            continue
        for i, name in enumerate(node.input):
            if name in narrow and node.op_type != "Cast":
                node.input[i] = f"{name}.wide"
        if node.op_type == "Cast" and to == TensorProto.FLOAT and node.input[0] not in narrow:
            nodes += _rounded(node.input[0], node.output[0])
        else:
            nodes.append(node)
    if magnitudes:
        nodes.append(_make("Max", magnitudes, [LARGEST]))
        graph.output.append(onnx.helper.make_tensor_value_info(LARGEST, TensorProto.FLOAT, []))
    _write(model, nodes, half, target)


def naive_form(plain: Path, target: Path) -> None:
    """Write to `target` the graph of an FP32 form with every value rounded, and with its weights beside it.

    Inputs, weights, constants and the result of each operator are rounded, as if all of it ran in FP16.
    """
    model = onnx.load(plain, load_external_data=False)
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph
    wide = {
        v.name
        for v in (*inferred.value_info, *inferred.input, *inferred.output)
        if v.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    given = [tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT]
    given += [value.name for value in graph.input if value.name in wide]
    nodes = [_split()]
    for name in given:
        nodes += _rounded(name, f"{name}.rounded")
    known = {name: f"{name}.rounded" for name in given}
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = known.get(name, name)
        made = [name for name in node.output if name in wide]
        for i, name in enumerate(node.output):
            node.output[i] = f"{name}.exact" if name in made else name
        nodes.append(node)
        for name in made:
            nodes += _rounded(f"{name}.exact", name)
    _write(model, nodes, plain, target)


def _write(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], source: Path, target: Path) -> None:
    graph = model.graph
    nodes = list(nodes)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    target.write_bytes(model.SerializeToString())
    entries = (entry for tensor in graph.initializer for entry in tensor.external_data)
    for location in {entry.value for entry in entries if entry.key == "location"}:
        _bring(source.parent / location, target.parent / location)


def _bring(source: Path, target: Path) -> None:
    """Link the file, which has gigabytes at the released size, or copy it where the disk has no links."""
    if target.exists():
        return
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy(source, target)


def _split() -> onnx.NodeProto:
    return _make("Constant", [], ["split"], value=onnx.numpy_helper.from_array(_SPLIT, "split"))


def _widened(name: str) -> onnx.NodeProto:
    return _make("Cast", [name], [f"{name}.wide"], to=TensorProto.FLOAT)


def _rounded(source: str, target: str) -> list[onnx.NodeProto]:
    """Round x to 11 bits: c - (c - x) with c = (2^13 + 1) x."""
    big, rest = f"{target}.big", f"{target}.rest"
    return [
        _make("Mul", [source, "split"], [big]),
        _make("Sub", [big, source], [rest]),
        _make("Sub", [big, rest], [target]),
    ]


def _make(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(kind, inputs, outputs, **attributes)
