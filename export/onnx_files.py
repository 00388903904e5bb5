"""Write PyTorch modules as ONNX graphs whose weights lie once, in one safetensors file beside them."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from safetensors.numpy import save

from export.graphs import Graph
from topos_rt.files import write_atomic

OPSET = 20
WEIGHTS = "weights.safetensors"
# Smaller constants stay in the graph: shapes and axes must be readable without the weights.
_INLINE_BYTES = 1024
_TOLERANCE = 1e-5


def write_graphs(graphs: Mapping[str, Graph], directory: Path, half_storage: bool = False) -> dict[str, str]:
    """Export, check and write all graphs. Returns graph name -> file name.

    half_storage: large FP32 weights that FP16 holds exactly are kept as FP16, with a Cast behind them.

    Raises ValueError when onnx's checker or a comparison with PyTorch through onnxruntime fails.
    """
    models = {name: _export(graph) for name, graph in graphs.items()}
    pool: dict[str, np.ndarray] = {}
    for name, model in models.items():
        if half_storage:
            _halve(model)
        _pool_weights(model, name, pool)
    data = save({key: np.ascontiguousarray(value) for key, value in pool.items()})
    offsets = _offsets(data)
    write_atomic(directory / WEIGHTS, data)
    files = {}
    for name, model in models.items():
        for tensor in model.graph.initializer:
            if tensor.external_data:
                start, length = offsets[tensor.external_data[0].value]
                _point(tensor, start, length)
        files[name] = f"{name}.onnx"
        write_atomic(directory / files[name], model.SerializeToString(deterministic=True))
        onnx.checker.check_model(str(directory / files[name]), full_check=True)
        compare(graphs[name], directory / files[name])
    return files


def compare(graph: Graph, path: Path) -> float:
    """Largest relative RMS between onnxruntime and PyTorch on the example inputs. Raises ValueError above 1e-5."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = session.run(list(graph.outputs), {name: value.numpy() for name, value in graph.inputs.items()})
    with torch.no_grad():
        out = graph.module(*graph.inputs.values())
    want = [value.numpy() for value in (out if isinstance(out, tuple) else (out,))]
    error = max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(got, want, strict=True))
    if not error <= _TOLERANCE:
        raise ValueError(f"{path.name}: got a relative RMS of {error:.2g} against PyTorch; expected at most {_TOLERANCE:g}")
    return error


def _export(graph: Graph) -> onnx.ModelProto:
    graph.module.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporter
        program = torch.onnx.export(
            graph.module, tuple(graph.inputs.values()), dynamo=True, opset_version=OPSET, optimize=True, verbose=False,
            input_names=list(graph.inputs), output_names=list(graph.outputs))
    model = program.model_proto
    _strip(model)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Drop what names this machine or bloats the file: stack traces, doc strings, exporter metadata."""
    del model.metadata_props[:]
    model.producer_name, model.producer_version, model.doc_string = "topos_rt", "", ""
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]


def _halve(model: onnx.ModelProto) -> None:
    """Store weights as FP16 behind Cast nodes, which onnxruntime folds away once, at load."""
    casts = []
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.nbytes <= _INLINE_BYTES:
            continue
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), array):
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.fp16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _pool_weights(model: onnx.ModelProto, prefix: str, pool: dict[str, np.ndarray]) -> None:
    """Move large constants into `pool` (equal ones once) and leave the pool's key in their place."""
    known = {_digest(value): key for key, value in pool.items()}
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.nbytes <= _INLINE_BYTES:
            continue
        key = known.setdefault(_digest(array), f"{prefix}.{tensor.name}")
        pool[key] = array
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=key)


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(repr((array.dtype.str, array.shape)).encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def _offsets(data: bytes) -> dict[str, tuple[int, int]]:
    """Tensor name -> (offset in the file, bytes), read from the safetensors header."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    spans = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: (8 + size + start, end - start) for name, (start, end) in spans.items()}


def _point(tensor: onnx.TensorProto, start: int, length: int) -> None:
    del tensor.external_data[:]
    for key, value in {"location": WEIGHTS, "offset": str(start), "length": str(length)}.items():
        tensor.external_data.add(key=key, value=value)
