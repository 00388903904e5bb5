"""What an engine is built from, found without the onnx package, held against onnx itself."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.engines import graphs
from topos_rt.engines.onnx_weights import digests
from topos_rt.errors import BundleError


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_bundles_graphs(tiny_bundle: Path) -> None:
    for path in tiny_bundle.glob("*.onnx"):
        weights = sha256(tiny_bundle / "weights.safetensors")
        assert digests(path, {}) == (sha256(path), {"weights.safetensors": weights})


def test_a_graph_with_its_weights_inside(tmp_path: Path) -> None:
    path = graphs.product(tmp_path / "g.onnx", half=True)
    assert digests(path, {}) == (sha256(path), {})


def test_known_digests_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = graphs.product(tmp_path / "g.onnx", half=False, weights="w.bin")
    monkeypatch.chdir(tmp_path)
    assert digests(path, {Path("g.onnx"): "a", tmp_path / "w.bin": "b"}) == ("a", {"w.bin": "b"})


def test_every_place_that_can_hold_weights(tmp_path: Path) -> None:
    """Initializers, constants, sparse ones, branches of nodes, functions."""

    def stored(name: str) -> onnx.TensorProto:
        (tmp_path / name).write_bytes(name.encode())
        return graphs.external(name, name, [1])

    sparse = onnx.SparseTensorProto(values=stored("values"), indices=stored("indices"), dims=[9])
    branch = helper.make_graph([], "branch", [], [], [stored("branch")])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=stored("constant")),
        helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [stored("initializer")], sparse_initializer=[sparse])
    inner = helper.make_node("Constant", [], ["e"], value=stored("function"))
    function = helper.make_function("f", "f", [], ["e"], [inner], [helper.make_opsetid("", 17)])
    model = helper.make_model(graph, functions=[function])
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    names = ["branch", "constant", "function", "indices", "initializer", "values"]
    assert digests(tmp_path / "g.onnx", {})[1] == {name: sha256(tmp_path / name) for name in names}


@pytest.mark.parametrize("location", ["../w.bin", "{absolute}", "link.bin", "none.bin", "", "."])
def test_weights_elsewhere_are_refused(tmp_path: Path, location: str) -> None:
    outside, inside = tmp_path / "w.bin", tmp_path / "bundle"
    outside.write_bytes(b"\0" * 12)
    inside.mkdir()
    (inside / "link.bin").symlink_to(outside)
    tensor = graphs.external("w", location.format(absolute=outside), [3])
    model = helper.make_model(helper.make_graph([], "g", [], [], [tensor]))
    (inside / "g.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"graph g\.onnx: got weights"):
        digests(inside / "g.onnx", {outside: "known"})


@pytest.mark.parametrize("case", [name for name in graphs.UNREADABLE if name != "empty"])
def test_what_is_no_graph(tmp_path: Path, case: str) -> None:
    graphs.UNREADABLE[case](tmp_path / "g.onnx")
    with pytest.raises(BundleError, match=r"graph g\.onnx"):
        digests(tmp_path / "g.onnx", {})


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(data)
    try:
        assert digests(path, {})[0] == hashlib.sha256(data).hexdigest()
    except BundleError as error:
        assert "any.onnx" in str(error)


def test_graphs_within_graphs_end_somewhere(tmp_path: Path) -> None:
    content = b""
    for number in [6, 5, 1] * 50 + [7]:  # graph in attribute in node in graph …, in a model
        size = len(content)
        content = bytes([number << 3 | 2, size & 0x7F | 0x80, size >> 7]) + content
    (tmp_path / "g.onnx").write_bytes(content)
    with pytest.raises(BundleError, match="nested too deep"):
        digests(tmp_path / "g.onnx", {})


def test_the_numbers_are_those_of_onnx() -> None:
    """The few field numbers that the module knows, against the definition."""
    messages = {
        "model": onnx.ModelProto,
        "graph": onnx.GraphProto,
        "node": onnx.NodeProto,
        "function": onnx.FunctionProto,
        "attribute": onnx.AttributeProto,
        "tensor": onnx.TensorProto,
        "sparse": onnx.SparseTensorProto,
        "entry": onnx.StringStringEntryProto,
    }
    from topos_rt.engines.onnx_weights import _INSIDE

    kinds = {message.DESCRIPTOR.name: name for name, message in messages.items()}
    for name, inside in _INSIDE.items():
        fields = messages[name].DESCRIPTOR.fields_by_number
        holding = {
            number: kinds[field.message_type.name]
            for number, field in fields.items()
            if field.message_type is not None and field.message_type.name in kinds
            if field.name not in ("metadata_props", "quantization_annotation")
        }
        assert inside == holding
    assert onnx.StringStringEntryProto.DESCRIPTOR.fields_by_name["key"].number == 1
    assert onnx.StringStringEntryProto.DESCRIPTOR.fields_by_name["value"].number == 2
    assert TensorProto.DESCRIPTOR.fields_by_name["external_data"].number == 13
