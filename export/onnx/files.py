"""Write PyTorch modules as ONNX graphs that share one safetensors file, in which each weight lies once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx_ir
import torch

from export.onnx.forms import EXPORTED_OPSET, half_form, plain_form
from export.onnx.graphs import OnnxGraph
from export.onnx.weights_file import WeightsFile
from topos_rt.engines.onnxruntime import library
from topos_rt.errors import BackendError
from topos_rt.support.files import write_atomic

WEIGHTS = "weights.safetensors"
# Constants up to this size stay in the ONNX file: shapes and axes must be readable without the weights.
_INLINE_BYTES = 1024
_TOLERANCE = 1e-5


def write_graphs(
    graphs: Mapping[str, OnnxGraph],
    directory: Path,
    half_storage: bool = False,
    named: Mapping[str, np.ndarray] | None = None,
) -> dict[str, str]:
    """Export, check and write all graphs in both forms; return the file name of each graph's FP32 form.

    `half_file` names the FP16 forms. Weights go to disk graph by graph, so that memory holds no more than the
    networks and one graph.

    named: tensors to keep in the weights file under these names, whatever the graphs make of them. What a
    graph holds in the same form is not stored again.
    half_storage: keep large FP32 weights that FP16 holds exactly as FP16, with a Cast behind them.

    Raises BackendError when a graph in onnxruntime differs from PyTorch, OutputError when the disk is full or
    not writable.
    """
    with WeightsFile(directory / WEIGHTS) as weights:
        for name, array in (named or {}).items():  # before the graphs: an equal tensor keeps its first name
            half = _exact_half(array) if half_storage else None
            weights.keep(name, array if half is None else half)
        models = {name: _export(graph, name, weights, half_storage) for name, graph in graphs.items()}
        offsets = weights.finish()
    files = {}
    for name, model in models.items():
        for tensor in model.graph.initializer:
            if tensor.external_data:
                start, length = offsets[tensor.external_data[0].value]
                _point(tensor, start, length)
        files[name] = f"{name}.onnx"
        for file, form in ((half_file(name), half_form(model)), (files[name], plain_form(model))):
            _strip(form)
            write_atomic(directory / file, form.SerializeToString(deterministic=True))
            onnx.checker.check_model(str(directory / file), full_check=True)
        compare(graphs[name], directory / files[name])
    return files


def half_file(name: str) -> str:
    """Return the file name of a graph's FP16 form."""
    return f"{name}.fp16.onnx"


def compare(graph: OnnxGraph, path: Path) -> float:
    """Return the largest relative RMS between onnxruntime and PyTorch on the example inputs.

    Raises BackendError where it is above 1e-5.
    """
    onnxruntime = library()

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = session.run(list(graph.outputs), {name: value.numpy() for name, value in graph.inputs.items()})
    with torch.no_grad():
        out = graph.module(*graph.inputs.values())
    want = [value.numpy() for value in (out if isinstance(out, tuple) else (out,))]
    error = max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(got, want, strict=True))
    if not error <= _TOLERANCE:
        what = f"{path.name}: got a relative RMS of {error:.2g} to PyTorch"
        raise BackendError(f"{what}; expected at most {_TOLERANCE:g}")
    return error


def _export(graph: OnnxGraph, prefix: str, weights: WeightsFile, half_storage: bool) -> onnx.ModelProto:
    """Export a graph, and move its large constants to `weights`; their keys are left in their place."""
    graph.module.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporter
        program = torch.onnx.export(
            graph.module,
            tuple(graph.inputs.values()),
            dynamo=True,
            opset_version=EXPORTED_OPSET,
            optimize=True,
            verbose=False,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
        )
    assert program is not None  # with dynamo=True it never is
    halved = _pool_weights(program.model, prefix, weights, half_storage)
    model = program.model_proto
    _cast_up(model, halved)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Drop what names the machine or bloats the file: stack traces, doc strings, exporter metadata."""
    del model.metadata_props[:]
    model.producer_name, model.producer_version, model.doc_string = "topos_rt", "", ""
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]


def _pool_weights(model: onnx_ir.Model, prefix: str, weights: WeightsFile, half_storage: bool) -> set[str]:
    """Move large constants into `weights`; return the names of those that are FP16 there and FP32 here."""
    halved = set()
    for name, value in model.graph.initializers.items():
        constant = value.const_value
        if constant is None or constant.nbytes <= _INLINE_BYTES:
            continue
        array = constant.numpy()
        half = _exact_half(array) if half_storage else None
        if half is not None:
            halved.add(name)
        stored = array if half is None else half
        # Weights leave the model at once, since protobuf could not hold the largest graphs with them inside.
        key = weights.add(f"{prefix}.{name}", stored)
        dtype, shape = onnx_ir.DataType.from_numpy(stored.dtype), onnx_ir.Shape(stored.shape)
        value.const_value = onnx_ir.ExternalTensor(key, None, None, dtype, shape=shape, name=name)
    return halved


def _exact_half(array: np.ndarray) -> np.ndarray | None:
    """Return FP32 values as FP16 where FP16 holds them exactly, else None."""
    if array.dtype != np.float32:
        return None
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half, array) else None


def _cast_up(model: onnx.ModelProto, names: set[str]) -> None:
    """Put Cast nodes behind FP16 weights, which onnxruntime folds away once, at load."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.name in names:
            wide, tensor.name = tensor.name, f"{tensor.name}.fp16"
            casts.append(onnx.helper.make_node("Cast", [tensor.name], [wide], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _point(tensor: onnx.TensorProto, start: int, length: int) -> None:
    del tensor.external_data[:]
    for key, value in {"location": WEIGHTS, "offset": str(start), "length": str(length)}.items():
        tensor.external_data.add(key=key, value=value)
