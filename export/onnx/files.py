"""Write PyTorch modules as ONNX graphs that share one safetensors file, in which each weight lies once."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.helper
import onnx_ir
import torch

from export.onnx.forms import EXPORTED_OPSET, narrow_ends, narrow_form, plain_form
from export.onnx.graphs import OnnxGraph
from export.onnx.weights_file import WeightsFile
from topos_rt.engines.contract import AT_ONCE, BATCH
from topos_rt.engines.onnxruntime import library
from topos_rt.errors import BackendError
from topos_rt.support.files import write_atomic

WEIGHTS = "weights.safetensors"
# Constants up to this size stay in the ONNX file: shapes and axes must be readable without the weights.
_INLINE_BYTES = 1024
# Of sums of 9,000 FP32 products in another order, 1.2e-5 was seen.
_TOLERANCE = 2e-5
# How weights may be stored -> the type that has to hold them exactly.
STORAGE = {"fp32": None, "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}


def write_graphs(
    graphs: Mapping[str, OnnxGraph],
    directory: Path,
    storage: str = "fp32",
    named: Mapping[str, np.ndarray] | None = None,
    forms: Collection[str] = ("fp16",),
    wide_sums: Collection[str] = (),
    narrow: Mapping[str, Collection[str]] | None = None,
    compared: Collection[str] | None = None,
) -> dict[str, str]:
    """Export, check and write all graphs in every form; return the file name of each graph's FP32 form.

    `form_file` names the others. Weights go to disk graph by graph, so that memory holds no more than the
    networks and one graph; a mapping that makes its networks when they are asked for needs no more than one.

    named: tensors to keep in the weights file under these names, whatever the graphs make of them. What a
    graph holds in the same form is not stored again.
    storage: one of STORAGE; large FP32 weights that it holds exactly are stored so, with a Cast behind them.
    forms: the precisions of further forms, keys of `export.onnx.forms.NARROW`.
    wide_sums: the graphs whose narrow products are to be summed in FP32.
    narrow: for some graphs, the inputs and outputs that are narrow as well in the narrow forms.
    compared: the graphs to compare with PyTorch; None is all of them.

    Raises BackendError when a graph in onnxruntime differs from PyTorch, OutputError when the disk is full or
    not writable.
    """
    with WeightsFile(directory / WEIGHTS) as weights:
        for name, array in (named or {}).items():  # before the graphs: an equal tensor keeps its first name
            weights.keep(name, _stored(array, storage))
        models = {name: _export(graph, name, weights, storage) for name, graph in graphs.items()}
        offsets = weights.finish()
    files = {}
    for name, model in models.items():
        for tensor in model.graph.initializer:
            if tensor.external_data:
                start, length = offsets[tensor.external_data[0].value]
                _point(tensor, start, length)
        files[name] = f"{name}.onnx"
        wide, ends = name in wide_sums, (narrow or {}).get(name, ())
        written = [
            (form_file(name, form), narrow_ends(narrow_form(model, form, wide_sums=wide), ends, form))
            for form in forms
        ]
        for file, form in (*written, (files[name], plain_form(model))):
            _strip(form)
            write_atomic(directory / file, form.SerializeToString(deterministic=True))
            onnx.checker.check_model(str(directory / file), full_check=True)
        if compared is None or name in compared:
            compare(graphs[name], directory / files[name])
    return files


def half_file(name: str) -> str:
    """Return the file name of a graph's FP16 form."""
    return form_file(name, "fp16")


def form_file(name: str, precision: str) -> str:
    """Return the file name of a graph's form of a precision of NARROW."""
    return f"{name}.{precision}.onnx"


def compare(graph: OnnxGraph, path: Path) -> float:
    """Return the largest relative RMS between onnxruntime and PyTorch on the example inputs.

    Raises BackendError where it is above 2e-5.
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


def _export(graph: OnnxGraph, prefix: str, weights: WeightsFile, storage: str) -> onnx.ModelProto:
    """Export a graph, and move its large constants to `weights`; their keys are left in their place."""
    graph.module.eval()
    dynamic = None
    if graph.batched:
        batch = torch.export.Dim(BATCH, min=1, max=max(AT_ONCE))
        dynamic = tuple({0: batch} if name in graph.batched else None for name in graph.inputs)
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
            dynamic_shapes=dynamic,
        )
    assert program is not None  # with dynamo=True it never is
    narrowed = _pool_weights(program.model, prefix, weights, storage)
    model = program.model_proto
    _cast_up(model, narrowed, storage)
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


def _pool_weights(model: onnx_ir.Model, prefix: str, weights: WeightsFile, storage: str) -> set[str]:
    """Move large constants into `weights`; return the names of those that are narrower there than here."""
    narrowed = set()
    for name, value in model.graph.initializers.items():
        constant = value.const_value
        if constant is None or constant.nbytes <= _INLINE_BYTES:
            continue
        array = constant.numpy()
        stored = _stored(array, storage)
        if stored is not array:
            narrowed.add(name)
        # Weights leave the model at once, since protobuf could not hold the largest graphs with them inside.
        key = weights.add(f"{prefix}.{name}", stored)
        dtype, shape = onnx_ir.DataType.from_numpy(stored.dtype), onnx_ir.Shape(stored.shape)
        value.const_value = onnx_ir.ExternalTensor(key, None, None, dtype, shape=shape, name=name)
    return narrowed


def _stored(array: np.ndarray, storage: str) -> np.ndarray:
    """Return FP32 values in the type of a storage where that holds them exactly, else the array itself."""
    kind = STORAGE[storage]
    if kind is None or array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        narrow = array.astype(kind)
    return narrow if np.array_equal(narrow.astype(np.float32), array) else array


def _cast_up(model: onnx.ModelProto, names: set[str], storage: str) -> None:
    """Put Cast nodes behind narrow weights, which onnxruntime folds away once, at load."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.name in names:
            wide, tensor.name = tensor.name, f"{tensor.name}.{storage}"
            casts.append(onnx.helper.make_node("Cast", [tensor.name], [wide], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _point(tensor: onnx.TensorProto, start: int, length: int) -> None:
    del tensor.external_data[:]
    for key, value in {"location": WEIGHTS, "offset": str(start), "length": str(length)}.items():
        tensor.external_data.add(key=key, value=value)
