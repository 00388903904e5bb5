"""Texture bundles in TensorRT-RTX: plans of every graph, and the loop on a fake GPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs

fake_gpu = needs.module("tests.engines.fake_gpu")
needs.module("diffusers")
from tests.export.texture.released import GUIDANCE, STEPS, picture
from tests.texture_bundle import texture_bundle
from topos_rt.cli.main import main
from topos_rt.engines import EngineOptions
from topos_rt.texture.official import painter as painting
from topos_rt.texture.official.bundle import TextureBundle
from topos_rt.texture.official.networks import TextureNetworks
from topos_rt.texture.official.painter import EnginePainter
from topos_rt.texture.official.settings import PaintOptions

OPTIONS = PaintOptions(STEPS, guidance=GUIDANCE)


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    made = fake_gpu.install(monkeypatch)
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path / "cache"))
    yield made
    gpu = made.gpu
    assert (gpu.used, gpu.memory, gpu.pinned, gpu.streams, made.live) == (0, {}, {}, {}, [])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_plans_are_built_without_a_gpu(
    precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = TextureBundle.open(texture_bundle())
    words = ["build", "--model", str(bundle.path), "--backend", "tensorrt-rtx", "--precision", precision]
    assert main([*words, "--cache", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["graphs"]) == set(bundle.manifest.graph_names()) and told["precision"] == precision
    for name, facts in told["graphs"].items():
        assert facts["built"] and facts["bytes"] > 0
        if name.startswith("section"):
            # Every product of a block, and attention by one operator with a mask.
            assert facts["layers_by_kind"][precision]["MATRIX_MULTIPLY"] >= 12
            assert facts["layers_by_kind"][precision]["ATTENTION_INPUT"] >= 1
            assert not facts["fp32_products"]
        elif not name.startswith("modulation"):
            assert precision not in facts["layers"]


def test_the_loop_stays_on_the_gpu(trt: Any) -> None:
    """Only modulations, masks and times go to the GPU while a map is made, and the map is that of a CPU."""
    bundle = TextureBundle.open(texture_bundle())
    with TextureNetworks(bundle, "onnxruntime", EngineOptions(1)) as networks:
        wanted = EnginePainter(bundle, networks, OPTIONS).paint(picture("astronaut"))
    copied: list[int] = []

    def watch(stage: str, done: int, count: int) -> None:
        if stage == painting.PAINTING:
            copied.append(trt.gpu.copied)

    with TextureNetworks(bundle, "tensorrt-rtx", EngineOptions(), "fp32") as networks:
        painter = EnginePainter(bundle, networks, OPTIONS)
        found = painter.paint(picture("astronaut"), 0, watch)
    assert np.abs(found.albedo.astype(int) - wanted.albedo).max() <= 1
    manifest = bundle.manifest
    modulation = manifest.transformer.blocks * 3 * 6 * manifest.transformer.width * 4
    mask, time = manifest.transformer.sections * manifest.text.tokens * 4, 4
    guide, advance = 4, 4 * 4
    step = 2 * (modulation + mask + time) + guide + advance
    assert np.diff(copied)[1:].tolist() == [step] * (STEPS - 1)
    noise = manifest.picture.tokens * manifest.picture.channels * 4
    # The first step takes the noise up, for both branches and for the sum, which four arrays make.
    assert copied[1] - copied[0] == step + 2 * noise + 3 * noise
