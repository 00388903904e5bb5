"""Texture bundles: their manifest is read strictly, and their graphs are what it says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs

needs.module("diffusers")
from tests.texture_bundle import texture_bundle
from topos_rt.engines import EngineOptions
from topos_rt.errors import BundleError, InputError, OptionError
from topos_rt.texture.official.bundle import TextureBundle
from topos_rt.texture.official.contracts import contract
from topos_rt.texture.official.manifest import TextureManifest
from topos_rt.texture.official.networks import TextureNetworks
from topos_rt.texture.official.opening import PaintSource

ONE = EngineOptions(1)


@pytest.fixture(scope="module")
def bundle() -> TextureBundle:
    return TextureBundle.open(texture_bundle())


def changed(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(tree: dict[str, Any]) -> None:
        *way, last = key.split(".")
        for name in way:
            tree = tree[name]
        if value is None:
            del tree[last]
        else:
            tree[last] = value

    return change


MANIFESTS = [
    ("format", "topos_rt.bundle", "manifest key 'format'"),
    ("version", 9, "manifest key 'version'"),
    ("steps", 0, "manifest key 'steps'"),
    ("guidance", 0.5, "manifest key 'guidance'"),
    ("picture.side", 1 << 20, "picture.side"),
    ("picture.tokens", -1, "picture.tokens"),
    ("text.positive", 9999, "text.tokens"),
    ("schedule.rounding", "fp8", "schedule.rounding"),
    ("schedule.shift_terminal", 1.5, "schedule.shift_terminal"),
    ("schedule.max_image_seq_len", 1, "schedule.max_image_seq_len"),
    ("graphs.entry", None, "manifest key 'graphs'"),
    ("graphs_bf16.section_00", None, "manifest key 'graphs_bf16'"),
    ("parameters.guide", None, "manifest key 'parameters'"),
    ("embeddings", "other.safetensors", "no entry for 'other.safetensors'"),
    ("weights.kind", "stolen", "weights.kind"),
    ("extra", 1, "manifest key 'extra'"),
]


@pytest.mark.parametrize(("key", "value", "message"), MANIFESTS)
def test_manifests_are_read_strictly(bundle: TextureBundle, key: str, value: Any, message: str) -> None:
    tree = json.loads((bundle.path / "texture.json").read_text())
    changed(key, value)(tree)
    with pytest.raises(BundleError, match=message):
        manifest = TextureManifest.from_json(json.dumps(tree).encode())
        from topos_rt.model.bundle_files import check_files

        check_files(bundle.path, manifest, False, "texture.json")


def test_a_graph_of_other_shapes_is_refused(bundle: TextureBundle) -> None:
    sizes = dataclasses.replace(bundle.manifest.picture, channels=15)
    other = TextureBundle(bundle.path, dataclasses.replace(bundle.manifest, picture=sizes))
    with (
        TextureNetworks(other, "onnxruntime", ONE) as opened,
        pytest.raises(BundleError, match="outputs of texture graph vae_encoder"),
    ):
        opened.encode(np.zeros((1, 3, 32, 32), np.float32))


def test_every_graph_has_a_contract(bundle: TextureBundle) -> None:
    for name in bundle.manifest.graph_names():
        inputs, outputs = contract(bundle.manifest, name)
        assert inputs and outputs
    assert [contract(bundle.manifest, f"modulation_0{k}")[1]["modulation"][0] for k in range(2)] == [2, 1]


def test_precisions_that_the_bundle_lacks_are_refused(bundle: TextureBundle) -> None:
    assert bundle.manifest.precisions() == ("bf16", "fp16", "fp32")
    bare = dataclasses.replace(bundle.manifest, graphs_bf16={}, graphs_fp16={})
    with pytest.raises(BundleError, match="precision bf16: got a bundle with fp32"):
        TextureNetworks(TextureBundle(bundle.path, bare), "onnxruntime", ONE, "bf16")


def test_closed_networks_say_so(bundle: TextureBundle) -> None:
    opened = TextureNetworks(bundle, "onnxruntime", ONE)
    opened.close()
    opened.close()
    with pytest.raises(InputError, match="a call after close"):
        opened.decode(np.zeros((1, 16, 16), np.float32))


def test_sources_do_not_mix(bundle: TextureBundle) -> None:
    with pytest.raises(OptionError, match="drop --lora, --prompts and --embeddings"):
        PaintSource(bundle.path, embeddings=Path("x"))
