"""Where ONNX files keep their weights: every reference is found, or the file is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from topos_rt.engines.locations import locations
from topos_rt.errors import BundleError
from topos_rt.model.bundle import Bundle

OUTSIDE = "../w.st"


def varint(value: int, width: int = 1) -> bytes:
    """Encode a number, in at least `width` bytes, which readers accept as well."""
    data = bytearray()
    while value >= 0x80 or len(data) < width - 1:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(data) + bytes([value])


def field(number: int, content: bytes, width: int = 1) -> bytes:
    return varint(number << 3 | 2, width) + varint(len(content), width) + content


def pair(key: bytes, value: bytes, width: int = 1) -> bytes:
    return field(1, key, width) + field(2, value, width)


def tensor(entry: bytes) -> bytes:
    """Encode a tensor [3] of float32, named w, whose data is in another file."""
    return b"\x08\x03\x10\x01" + field(8, b"w") + field(13, entry) + b"\x70\x01"


NAME, KEY = OUTSIDE.encode(), b"location"
PLAIN = pair(KEY, NAME)
# In which forms a tensor may say where it is: the entry of its external data.
ENTRIES = {
    "plain": PLAIN,
    "value first": field(2, NAME) + field(1, KEY),
    "long numbers": pair(KEY, NAME, 3),
    "a long name": pair(KEY, b"../" + b"x" * 200),
    "not UTF-8": pair(KEY, b"../\xff"),
}
REFUSED = {
    "two values": pair(KEY, b"weights.safetensors") + field(2, NAME),
    "two values, value first": field(2, b"weights.safetensors") + field(2, NAME) + field(1, KEY),
    "two keys": field(1, b"offset") + field(1, KEY) + field(2, NAME),
    "a second key without the word": pair(KEY, NAME) + field(1, b"offset"),
    "a decoy in an unknown field": field(15, b"j\x1d") + pair(KEY, b"weights.safetensors") + field(2, NAME),
    "an unknown field": field(15, b"") + PLAIN,
    "no value": field(1, KEY),
    "cut off": PLAIN[:-1],
    "a group": b"\x7b" + PLAIN,
    "field 0": b"\x02\x00" + PLAIN,
}
NAMELESS = {  # what names no file, and is not looked into
    "no key": field(2, NAME),
    "another key": pair(b"offset", NAME),
    "another key in a field that is cut off": pair(b"offset", NAME)[:-1],
}
T = tensor(PLAIN)
# Everything in a model that may hold a tensor.
PLACES = {
    "an initializer": field(7, field(5, T)),
    "a sparse initializer": field(7, field(15, field(1, T))),
    "indices of a sparse initializer": field(7, field(15, field(2, T))),
    "a constant": field(7, field(1, field(5, field(5, T)))),
    "a list of tensors": field(7, field(1, field(5, field(10, T)))),
    "a sparse constant": field(7, field(1, field(5, field(22, field(1, T))))),
    "a list of sparse constants": field(7, field(1, field(5, field(23, field(1, T))))),
    "a branch": field(7, field(1, field(5, field(6, field(5, T))))),
    "a list of branches": field(7, field(1, field(5, field(11, field(1, field(5, field(5, T))))))),
    "a function": field(25, field(7, field(5, field(5, T)))),
    "a default of a function": field(25, field(11, field(5, T))),
    "a first step of training": field(20, field(1, field(5, T))),
    "training": field(20, field(2, field(5, T))),
    "a graph that is there twice": field(7, b"") + field(7, field(5, T)),
}


@pytest.mark.parametrize("form", ENTRIES)
def test_every_form_of_a_reference_is_found(form: str) -> None:
    data = field(7, field(5, tensor(ENTRIES[form])))
    (found,) = locations(data)
    assert found.startswith("../")


@pytest.mark.parametrize("place", PLACES)
def test_a_reference_is_found_in_every_place(place: str) -> None:
    assert locations(PLACES[place]) == {OUTSIDE}


@pytest.mark.parametrize("form", REFUSED)
def test_a_reference_that_could_be_read_in_two_ways_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match=r"references in another form|no ONNX file"):
        locations(field(7, field(5, tensor(REFUSED[form]))))


@pytest.mark.parametrize("form", NAMELESS)
def test_what_names_no_file_is_not_looked_into(form: str) -> None:
    beside = field(5, tensor(NAMELESS[form])) + field(5, T)
    assert locations(field(7, beside)) == {OUTSIDE}


def test_the_places_are_those_of_the_format() -> None:
    """onnx, which knows the format, reads what the cases above encode: none of them is an empty claim."""
    for place, data in PLACES.items():
        model = onnx.ModelProto.FromString(data)
        assert OUTSIDE in str(model), place
    merged = onnx.ModelProto.FromString(field(7, field(5, tensor(REFUSED["two values"]))))
    assert merged.graph.initializer[0].external_data[0].value == OUTSIDE  # the last one wins there


def test_a_graph_nested_too_deep_is_refused() -> None:
    data = field(5, T)
    for _ in range(60):
        data = field(1, field(5, field(6, data)))
    with pytest.raises(ValueError, match="nested too deep"):
        locations(field(7, data))


def test_weights_inside_need_no_file() -> None:
    value = helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    graph = helper.make_graph([], "g", [], [], [value])
    assert locations(helper.make_model(graph).SerializeToString()) == set()


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = locations(field(7, field(5, field(13, data))))
    except ValueError:
        return
    assert found or b"location" not in data


def added(entry: bytes) -> Callable[[bytes], bytes]:
    """Return what adds a tensor with this entry to a graph. Merging adds to the graph that is there."""
    return lambda data: data + field(7, field(5, tensor(entry)))


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("entry", [*ENTRIES.values(), *REFUSED.values()], ids=[*ENTRIES, *REFUSED])
def test_no_bundle_opens_with_weights_outside(own_bundle: Path, entry: bytes, verify: bool) -> None:
    (own_bundle.parent / "w.st").write_bytes(bytes(100))
    file = own_bundle / "dit_step.onnx"
    file.write_bytes(added(entry)(file.read_bytes()))
    tree = json.loads((own_bundle / "manifest.json").read_text())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    tree["files"][file.name] = {"bytes": file.stat().st_size, "sha256": digest}
    (own_bundle / "manifest.json").write_text(json.dumps(tree))
    with pytest.raises(BundleError, match=r"weights of graph dit_step\.onnx"):
        Bundle.open(own_bundle, verify)


def test_a_file_of_another_format_is_refused() -> None:
    """ONNX Runtime also reads a format of its own, whose references nothing here would find."""
    with pytest.raises(ValueError, match="no ONNX file"):
        locations(b"\x18\x00\x00\x00ORTM" + bytes(64))
