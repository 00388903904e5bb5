"""A bundle that was exported again is told from another model."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks import same_weights
from topos_rt import Bundle
from topos_rt.bench.stats import Difference
from topos_rt.bench.work import model_digest
from topos_rt.errors import BundleError
from topos_rt.model.bundle import write_manifest
from topos_rt.model.manifest import GRAPHS

ROOT = Path(__file__).parents[2]
ROUNDS = 30


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Return a copy of the bundle that ships, and let one picture and one way to sample be enough."""
    (tmp_path / "people").mkdir()
    shutil.copy(ROOT / "examples" / "astronaut.jpg", tmp_path / "people")
    monkeypatch.setattr(same_weights, "PEOPLE", tmp_path / "people")
    monkeypatch.setattr(same_weights, "SAMPLING", {"quickly": {"steps": 2}})
    return Bundle.open(shutil.copytree(Bundle.open("mini").path, tmp_path / "mini"))


def compared(earlier: Bundle) -> dict[str, Any]:
    return same_weights.compared(argparse.Namespace(earlier=earlier.path, model="mini", rounds=ROUNDS))


def test_a_copy_is_the_same_model(earlier: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Difference, "significant", False)  # a busy machine is no fault
    found = compared(earlier)
    assert found["model"]["sha256"] == found["earlier"]["sha256"] == model_digest(earlier)
    assert found["farthest_mm"] == {"quickly": 0.0} and set(found["graphs"]) == set(GRAPHS)
    assert all(row["off"] == 0 and row["now"]["n"] == ROUNDS for row in found["graphs"].values())
    assert "topology.safetensors" in found["files"]


def test_another_way_to_sample_is_another_model(earlier: Bundle) -> None:
    flow = dataclasses.replace(earlier.manifest.flow, temperature=0.5)
    write_manifest(earlier.path, dataclasses.replace(earlier.manifest, flow=flow))
    with pytest.raises(BundleError, match="the two bundles: got another flow; expected one model"):
        compared(earlier)


def test_other_geometry_is_another_model(earlier: Bundle) -> None:
    (earlier.path / "variation.safetensors").unlink()
    write_manifest(earlier.path, dataclasses.replace(earlier.manifest, variation=None))
    with pytest.raises(BundleError, match=r"got another variation\.safetensors"):
        compared(earlier)


def test_another_weight_is_another_model(earlier: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    path = earlier.path / "dit_step.onnx"
    model = onnx.load(path, load_external_data=False)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "dit.out_bias")
    changed = numpy_helper.to_array(bias) + np.float32(0.01)
    bias.CopyFrom(numpy_helper.from_array(changed, bias.name))
    onnx.save(model, path)
    write_manifest(earlier.path, earlier.manifest)
    with pytest.raises(BundleError, match=r"got vertices .* mm off"):
        compared(earlier)
    monkeypatch.setattr(same_weights, "LIMIT_MM", 1e9)
    with pytest.raises(BundleError, match=r"got dit_step with outputs .* off"):
        compared(earlier)
