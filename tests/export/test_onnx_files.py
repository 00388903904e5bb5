"""The ONNX graphs of tiny random networks are valid, static, lean, and equal to PyTorch."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from export.onnx.files import WEIGHTS, compare, half_file, write_graphs
from export.onnx.graphs import OnnxGraph, build_graphs
from models import TOPOSVAE, FastDiT, ImageEncoder, TOPOSDiT
from tests.meshes import ball
from topos_rt.errors import BackendError, OutputError
from topos_rt.head.hierarchy import Hierarchy
from topos_rt.model.manifest import GRAPHS
from topos_rt.support.tensorfile import read_tensors

INLINE_LIMIT = 1024  # bytes
CHANNELS = 32
NAMES = GRAPHS


def tiny_graphs() -> dict[str, OnnxGraph]:
    _, dit, vae = tiny_networks()
    encoder = ImageEncoder(embed_dim=CHANNELS, depth=1, num_heads=2, img_size=28)
    return build_graphs(encoder, dit, vae, image_size=28, points=50)


def tiny_networks() -> tuple[Hierarchy, FastDiT, TOPOSVAE]:
    """Return a decoder of the ball's vertices with its hierarchy, and a flow that fits it."""
    torch.manual_seed(0)
    head = ball(6, 8, radius=0.9)
    hierarchy = Hierarchy.build(head.positions, head.normals, head.topology.edges, depth=4, num_levels=4)
    vae = TOPOSVAE(
        hierarchy,
        code_channels=4,
        width=CHANNELS,
        num_encoder_layers=1,
        decoder_blocks=(1, 1, 1),
        decoder_channel=(CHANNELS, CHANNELS, 16, 16),
        perceiver_heads=2,
        perceiver_dim_head=16,
        predict_offset=True,
    )
    nodes = len(hierarchy.levels[3].features)
    dit = TOPOSDiT(
        in_channels=4,
        out_channels=4,
        model_channels=CHANNELS,
        num_latents=nodes,
        cond_channels=CHANNELS,
        num_blocks=2,
        num_heads=2,
    )
    return hierarchy, FastDiT(dit), vae


@dataclass(frozen=True)
class Written:
    directory: Path
    graphs: dict[str, OnnxGraph]
    files: dict[str, str]

    def model(self, name: str) -> onnx.ModelProto:
        return onnx.load(self.directory / self.files[name], load_external_data=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    directory, graphs = tmp_path_factory.mktemp("graphs"), tiny_graphs()
    return Written(directory, graphs, write_graphs(graphs, directory))


def external(model: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, str, int, int]]:
    """Return file, offset and length of every initializer outside of the graph."""
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            entry = {item.key: item.value for item in tensor.external_data}
            yield tensor, entry["location"], int(entry["offset"]), int(entry["length"])


def test_what_is_written(written: Written) -> None:
    assert written.files == {name: f"{name}.onnx" for name in NAMES}
    expected = {*written.files.values(), *map(half_file, NAMES), WEIGHTS}
    assert {path.name for path in written.directory.iterdir()} == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_checker_and_the_contract(written: Written, name: str) -> None:
    onnx.checker.check_model(str(written.directory / written.files[name]), full_check=True)
    model, graph = written.model(name), written.graphs[name]
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    with torch.no_grad():
        outputs = graph.module(*graph.inputs.values())
    results = outputs if isinstance(outputs, tuple) else (outputs,)
    expected = {**graph.inputs, **dict(zip(graph.outputs, results, strict=True))}
    assert shapes == {key: list(value.shape) for key, value in expected.items()}
    assert [value.name for value in model.graph.input] == list(graph.inputs)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("name", NAMES)
def test_the_files_equal_pytorch_on_other_inputs(written: Written, name: str) -> None:
    torch.manual_seed(9)
    graph = written.graphs[name]
    inputs = {key: torch.rand_like(value) for key, value in graph.inputs.items()}
    again = OnnxGraph(graph.module, inputs, graph.outputs)
    assert compare(again, written.directory / written.files[name]) < 3e-6


def test_large_constants_are_in_the_weights_file_alone(written: Written) -> None:
    tensors, _ = read_tensors(written.directory / WEIGHTS)
    spans = set()
    size = (written.directory / WEIGHTS).stat().st_size
    for name in NAMES:
        model = written.model(name)
        for tensor in model.graph.initializer:
            assert len(tensor.raw_data) + 8 * len(tensor.int64_data) <= INLINE_LIMIT
        for node in model.graph.node:
            assert all(item.t.ByteSize() <= 2 * INLINE_LIMIT for item in node.attribute)
        for _, location, offset, length in external(model):
            assert location == WEIGHTS
            assert offset + length <= size
            assert length > INLINE_LIMIT
            spans.add((offset, length))
    assert len(spans) == len(tensors)  # and nothing is there that no graph reads
    assert sum(length for _, length in spans) == sum(tensor.nbytes for tensor in tensors.values())


def test_no_weight_is_there_twice(written: Written) -> None:
    tensors, _ = read_tensors(written.directory / WEIGHTS)
    contents = [(tensor.dtype.str, tensor.shape, tensor.tobytes()) for tensor in tensors.values()]
    assert len(set(contents)) == len(contents)


def test_nothing_names_this_machine(written: Written) -> None:
    header = (written.directory / WEIGHTS).read_bytes()[8:][: 1 << 16]
    for data in [header, *((written.directory / file).read_bytes() for file in written.files.values())]:
        for place in (Path.cwd(), Path.home(), written.directory, Path(torch.__file__).parent):
            assert str(place).encode() not in data or str(place) == "/"
        assert b"site-packages" not in data
        assert not re.search(rb"/(usr|opt|home|work|tmp|root|Users)/", data)
        assert not re.search(rb"\w\.py\b", data)


@pytest.mark.parametrize("name", NAMES)
def test_there_are_no_notes_in_the_graphs(written: Written, name: str) -> None:
    model = written.model(name)
    assert (model.producer_name, model.doc_string) == ("topos_rt", "")
    assert len(model.functions) == 0
    graph = model.graph
    parts = (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer)
    assert not any(part.doc_string or len(part.metadata_props) for part in (model, *parts))


def test_the_same_networks_give_the_same_bytes(written: Written, tmp_path: Path) -> None:
    names = ("dit_context", "vae_encoder")
    some = {name: written.graphs[name] for name in names}
    for directory in (tmp_path / "one", tmp_path / "two"):
        directory.mkdir()
        write_graphs(some, directory)
    for file in (WEIGHTS, *(f"{name}.onnx" for name in names)):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_one_changed_byte_of_a_weight_is_noticed(written: Written, name: str, tmp_path: Path) -> None:
    for path in written.directory.iterdir():
        shutil.copy(path, tmp_path)
    offset, length = next(
        (offset, length)
        for tensor, _, offset, length in external(written.model(name))
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2
    )
    data = bytearray((tmp_path / WEIGHTS).read_bytes())
    largest = np.abs(np.frombuffer(data[offset : offset + length], np.float32)).argmax()
    data[offset + 4 * int(largest) + 3] ^= 0x80  # its sign
    (tmp_path / WEIGHTS).write_bytes(data)
    with pytest.raises(BackendError, match=rf"{name}.onnx: got a relative RMS .*; expected at most 2e-05"):
        compare(written.graphs[name], tmp_path / written.files[name])


# ---- small graphs of our own ----


def linear(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(CHANNELS, CHANNELS)


def graph_of(module: nn.Module) -> OnnxGraph:
    return OnnxGraph(module, {"x": torch.ones(1, CHANNELS)}, ("y",))


def test_a_weight_that_two_graphs_share_is_stored_once(tmp_path: Path) -> None:
    shared = linear()
    graphs = {
        "one": graph_of(shared),
        "same": graph_of(nn.Sequential(shared, nn.ReLU())),
        "copy": graph_of(nn.Sequential(copy.deepcopy(shared), nn.SiLU())),
        "other": graph_of(linear(1)),
    }
    write_graphs(graphs, tmp_path)
    tensors, _ = read_tensors(tmp_path / WEIGHTS)
    assert len(tensors) == 2
    spans = {
        name: [span[2:] for span in external(onnx.load(tmp_path / f"{name}.onnx", load_external_data=False))]
        for name in graphs
    }
    assert spans["one"] == spans["same"] == spans["copy"] != spans["other"]


def test_bf16_storage_keeps_every_value(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    exact, inexact = linear(0), linear(1)
    with torch.no_grad():
        exact.weight.copy_(exact.weight.bfloat16().float())
    # What the mapping makes is compared with onnxruntime; "inexact" is left out.
    graphs = {"exact": graph_of(exact), "inexact": graph_of(inexact)}
    write_graphs(graphs, tmp_path, "bf16", forms=("bf16", "fp16"), compared=["exact"])
    stored = load_file(tmp_path / WEIGHTS)
    assert {name: str(tensor.dtype) for name, tensor in stored.items()} == {
        name: "torch.bfloat16" if name.startswith("exact") else "torch.float32" for name in stored
    }
    kept = next(tensor for name, tensor in stored.items() if name.startswith("exact")).float()
    assert any(torch.equal(kept, form) for form in (exact.weight, exact.weight.T))
    names = {path.name for path in tmp_path.glob("*.onnx")}
    assert names == {f"{name}{form}.onnx" for name in graphs for form in ("", ".bf16", ".fp16")}


def test_half_storage_keeps_every_value(tmp_path: Path) -> None:
    exact, inexact = linear(0), linear(1)
    with torch.no_grad():
        exact.weight.copy_(exact.weight.half().float())
    graphs = {"exact": graph_of(exact), "inexact": graph_of(inexact)}
    write_graphs(graphs, tmp_path, "fp16")
    tensors, _ = read_tensors(tmp_path / WEIGHTS)
    assert sorted(tensor.dtype.name for tensor in tensors.values()) == ["float16", "float32"]
    for tensor in tensors.values():
        stored = torch.from_numpy(tensor.astype(np.float32))
        kept = [module.weight for module in (exact, inexact)]
        assert any(torch.equal(stored, form) for weight in kept for form in (weight, weight.T))
    for name, graph in graphs.items():
        assert compare(graph, tmp_path / f"{name}.onnx") < 1e-6


def test_values_that_are_not_finite_are_no_match(tmp_path: Path) -> None:
    broken = linear()
    with torch.no_grad():
        broken.bias[3] = torch.nan
    with pytest.raises(BackendError, match="got a relative RMS of nan"):
        write_graphs({"broken": graph_of(broken)}, tmp_path)


def test_a_directory_that_is_missing_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_graphs({"one": graph_of(linear())}, tmp_path / "missing")
