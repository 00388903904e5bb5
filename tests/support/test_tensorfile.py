"""Tensor files: what is written can be read back, and everything else gives one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from topos_rt.errors import BundleError, OutputError
from topos_rt.support.tensorfile import read_tensors, write_tensors

TENSORS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "ids": np.array([1, 2, 3], np.int32),
    "empty": np.zeros((0, 3), np.uint8),
    "number": np.array(7, np.int64),
}
GOOD = save(TENSORS, {"name": "good"})


def raw(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_tensors(path, {**TENSORS, "turned": TENSORS["matrix"].T}, {"name": "ø"})
    tensors, metadata = read_tensors(path)
    assert metadata == {"name": "ø"}
    assert np.array_equal(tensors.pop("turned"), TENSORS["matrix"].T)
    assert tensors.keys() == TENSORS.keys()
    for name, want in TENSORS.items():
        assert np.array_equal(tensors[name], want)
        assert tensors[name].dtype == want.dtype


def test_no_metadata_is_an_empty_dictionary(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(save(TENSORS))
    assert read_tensors(tmp_path / "file")[1] == {}


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_tensors(tmp_path / name, TENSORS, {"name": "good"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_failed_write_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="directory that does not exist"):
        write_tensors(tmp_path / "missing" / "file", TENSORS, {})


def entry(dtype: str = "F32", shape: tuple[int, ...] = (1,), end: int = 4) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


BAD_FILES = {
    "empty": b"",
    "shorter than the length of a header": b"abc",
    "cut in the header": GOOD[:60],
    "cut in the data": GOOD[:-1],
    "one byte too many": GOOD + b"\0",
    "another format": b"PK\x03\x04" * 100,
    "text": b"v 0 0 0\n" * 100,
    "a huge header": (2**62).to_bytes(8, "little") + b"{}" * 50,
    "a header beyond the file": (90).to_bytes(8, "little") + b"{}",
    "no JSON": (4).to_bytes(8, "little") + b"{{{{",
    "no tensors but a list": raw([1, 2]),
    "a huge shape": raw({"a": entry(shape=(2**40, 2**40))}, bytes(4)),
    "a huge shape without elements": raw({"a": entry(shape=(0, 2**62), end=0)}),
    "a shape larger than the data": raw({"a": entry(shape=(2,))}, bytes(4)),
    "offsets beyond the file": raw({"a": entry(shape=(100,), end=400)}, bytes(4)),
    "an unknown number type": raw({"a": entry(dtype="F99")}, bytes(4)),
    "a number type NumPy lacks": raw({"a": entry(dtype="F8_E4M3", shape=(4,))}, bytes(4)),
    "metadata with numbers": raw({"__metadata__": {"a": 1}, "a": entry()}, bytes(4)),
}


@pytest.mark.parametrize("data", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(data)
    with pytest.raises(BundleError, match=r"file bad: got .*; expected a complete safetensors") as caught:
        read_tensors(tmp_path / "bad")
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", tmp_path / "nul\0"):
        with pytest.raises(BundleError, match="expected a complete safetensors file"):
            read_tensors(path)


@settings(deadline=None)
@given(st.data())
def test_any_damage_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(GOOD) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged[: data.draw(st.integers(0, len(GOOD)))])
    try:
        tensors, _ = read_tensors(path)
    except BundleError:
        return
    assert sum(tensor.nbytes for tensor in tensors.values()) <= len(GOOD)
