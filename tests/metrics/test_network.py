"""Feature networks as ONNX files: what they see, which fit, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import needs

needs.module("torch")

import onnx
import torch
from onnx import TensorProto

from tests.metrics.networks import Random, pictures, tensor, write
from topos_rt.errors import InputError, OptionError
from topos_rt.metrics import FeatureNetwork

IMAGE = pictures(1, 48)[0]
PICTURE = Image.fromarray(IMAGE)


def test_features_and_maps_are_those_of_the_network(tmp_path: Path) -> None:
    path = write(tmp_path / "random.onnx")
    with torch.no_grad():
        maps = [values.numpy() for values in Random().maps(tensor(IMAGE[None]))]
    with FeatureNetwork(path, ["one", "two"]) as network:
        for mine, theirs in zip(network.maps(PICTURE), maps, strict=True):
            assert np.allclose(mine, theirs, atol=1e-5)
    with FeatureNetwork(path, ["features"]) as network:
        found = network.features(PICTURE)
        assert found.shape == (10,) and np.allclose(found, maps[1].mean((2, 3))[0], atol=1e-5)
        assert np.array_equal(found, network.features(PICTURE))


@pytest.mark.parametrize(("scale", "low", "high"), [("0..1", 0, 1), ("-1..1", -1, 1), ("0..255", 0, 255)])
def test_pixels_have_the_range_that_was_asked_for(
    scale: str, low: float, high: float, tmp_path: Path
) -> None:
    black_and_white = Image.fromarray(np.repeat(np.uint8([0, 255]), 32 * 16 * 3).reshape(32, 32, 3))
    with FeatureNetwork(write(tmp_path / "a.onnx"), scale=scale) as network:
        pixels = network.pixels(black_and_white)
    assert pixels.dtype == np.float32 and (pixels.min(), pixels.max()) == (low, high)


def test_a_network_of_fixed_size_sees_the_middle_scaled(tmp_path: Path) -> None:
    with FeatureNetwork(write(tmp_path / "a.onnx", shape=(1, 3, 32, 16))) as network:
        assert network.size == (32, 16) and network.pixels(PICTURE).shape == (1, 3, 32, 16)
    free = write(tmp_path / "b.onnx", shape=("batch", 3, "h", "w"))
    with FeatureNetwork(free, side=24) as network:
        assert network.pixels(PICTURE).shape == (1, 3, 24, 24)
    with FeatureNetwork(free) as network:
        assert network.size is None and network.pixels(PICTURE).shape == (1, 3, 48, 48)
        with pytest.raises(InputError, match=r"got 3000 x 9 pixels; expected 8 to 2048 a side"):
            network.pixels(Image.new("RGB", (3000, 9)))


SHAPES: list[tuple[dict[str, Any], str]] = [
    ({"shape": (4, 3, 32, 32)}, r"inputs of a.onnx: got \[4, 3, 32, 32\]"),
    ({"shape": (1, 1, 32, 32)}, r"got \[1, 1, 32, 32\]"),
    ({"shape": (1, 3, 32, "w")}, r"expected one \[1,3,H,W\] float32 .*; fix: export it with the input"),
    ({"shape": (1, 3, 32, 4096)}, r"got \[1, 3, 32, 4096\]"),
    ({"shape": (1, 3, 32, 32), "kind": TensorProto.DOUBLE}, "network .*a.onnx: got|inputs of a.onnx"),
]


@pytest.mark.parametrize(("made", "message"), SHAPES)
def test_networks_with_another_input_are_refused(made: dict[str, Any], message: str, tmp_path: Path) -> None:
    try:
        path = write(tmp_path / "a.onnx", **made)
    except onnx.checker.ValidationError as error:  # pragma: no cover
        pytest.fail(str(error))
    with pytest.raises(InputError, match=message):
        FeatureNetwork(path)


def test_files_that_are_no_network_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"not a network")
    for name, message in (
        ("none.onnx", "got no such file; expected an ONNX file"),
        (".", "got a directory"),
        ("a.onnx", "fix: export it to ONNX again"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            FeatureNetwork(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_weights_outside_its_folder_are_refused(tmp_path: Path) -> None:
    model = onnx.load(write(tmp_path / "a.onnx"))
    (tmp_path / "inside").mkdir()
    tensor_ = model.graph.initializer[0]
    (tmp_path / "secret").write_bytes(tensor_.raw_data)
    tensor_.ClearField("raw_data")
    tensor_.data_location = TensorProto.EXTERNAL
    entry = tensor_.external_data.add()
    entry.key, entry.value = "location", "../secret"
    (tmp_path / "inside" / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"weights in \.\./secret, outside its directory"):
        FeatureNetwork(tmp_path / "inside" / "a.onnx")


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"outputs": ["featurs"]}, "unknown output of a.onnx: .*; fix: did you mean 'features'"),
    ({"scale": "0..2"}, "unknown range of pixels"),
    ({"side": 7}, "size of pictures: got 7; expected 8 to 2048"),
    ({"side": 1 << 40}, "size of pictures"),
    ({"threads": 0}, "threads: got 0"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS)
def test_options_out_of_range(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=message):
        FeatureNetwork(write(tmp_path / "a.onnx"), **options)


def test_a_size_that_the_network_does_not_have(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", shape=(1, 3, 32, 32))
    with pytest.raises(OptionError, match="got 24, of a network that sees 32 x 32"):
        FeatureNetwork(path, side=24)
    FeatureNetwork(path, side=32).close()


def test_outputs_that_are_no_features(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx")
    with (
        FeatureNetwork(path) as network,
        pytest.raises(InputError, match="got 3 outputs: one, two, features"),
    ):
        network.features(PICTURE)
    with (
        FeatureNetwork(path, ["two"]) as network,
        pytest.raises(
            InputError,
            match=r"output 'two' of a.onnx: got float32 \[1, 10, 12, 12\]; expected floats \[1,C\]",
        ),
    ):
        network.features(PICTURE)
    network.close()
    with pytest.raises(InputError, match=r"a call after close\(\)"):
        network.maps(PICTURE)
