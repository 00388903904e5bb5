"""Weights are streamed into one safetensors file."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from export.onnx.weights_file import WeightsFile
from topos_rt.errors import OutputError

ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float16, np.int64, np.uint8, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    elements={"allow_nan": False},
)


@settings(max_examples=50, deadline=None)
@given(st.lists(ARRAYS, max_size=6))
def test_the_safetensors_library_reads_it(
    tmp_path_factory: pytest.TempPathFactory, arrays: list[np.ndarray]
) -> None:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    with WeightsFile(path) as weights:
        keys = [weights.add(f"t{i}", array) for i, array in enumerate(arrays)]
        places = weights.finish()
    loaded = load_file(path)
    data = path.read_bytes()
    for key, array in zip(keys, arrays, strict=True):
        assert loaded[key].dtype == array.dtype and np.array_equal(loaded[key], array)
        start, length = places[key]
        assert data[start : start + length] == array.tobytes()
        assert start % max(array.itemsize, 1) == 0
    assert set(loaded) == set(keys)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_equal_tensors_are_kept_once(tmp_path: Path) -> None:
    big = np.arange(1000, dtype=np.float32)
    with WeightsFile(tmp_path / "w") as weights:
        assert weights.add("a", big) == weights.add("b", big.copy()) == "a"
        assert weights.add("c", big.reshape(10, 100)) == "c"  # the same bytes in another shape
        assert weights.add("d", np.asfortranarray(big.reshape(10, 100))) == "c"
        weights.finish()
    assert (tmp_path / "w").stat().st_size < 2.1 * big.nbytes


def test_named_tensors_keep_their_names_even_where_they_are_equal(tmp_path: Path) -> None:
    bias = np.arange(64, dtype=np.float32)
    with WeightsFile(tmp_path / "w") as weights:
        weights.keep("conv.bias", bias)
        weights.keep("skip.bias", bias.copy())
        assert weights.add("graph.bias", bias.copy()) == "conv.bias"  # what a graph holds has no name to keep
        weights.finish()
    loaded = load_file(tmp_path / "w")
    assert set(loaded) == {"conv.bias", "skip.bias"}
    assert all(np.array_equal(tensor, bias) for tensor in loaded.values())


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with WeightsFile(tmp_path / name) as weights:
            order = ["a", "b"] if name == "one" else ["b", "a"]
            for key in order:
                weights.add(key, np.full(3, ord(key), np.int64))
            weights.finish()
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    data = (tmp_path / "one").read_bytes()
    size = int.from_bytes(data[:8], "little")
    assert size % 8 == 0 and list(json.loads(data[8 : 8 + size])) == ["a", "b"]


def test_full_disk(tmp_path: Path) -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def tell(self) -> int:
            return 0

        def close(self) -> None:
            pass

    with (
        pytest.raises(OutputError, match=r"No space left on device; fix: .* room"),
        WeightsFile(tmp_path / "w") as weights,
    ):
        weights._spool.close()
        weights._spool = Full()  # type: ignore[assignment]
        weights.add("a", np.zeros(3))
    assert not list(tmp_path.iterdir())


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        WeightsFile(tmp_path / "none" / "w")
