from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests import tiny_bundle as tiny
from tests.fakes import IMAGE, OTHER, Counting, fake_pipeline
from topos_rt.backends.base import Tensor, TensorSpec
from topos_rt.backends.fake import FakeEngine
from topos_rt.bundle import GRAPHS, Bundle, ImageSpec, LatentSpec, Manifest, PointSpec, write_manifest
from topos_rt.errors import BackendError, BundleError
from topos_rt.networks import Networks
from topos_rt.pipeline import HeadPipeline
from topos_rt.topology import Topology


def test_guidance_costs_two_runs_a_step_and_its_context_is_made_once(tiny_bundle: Path) -> None:
    context, step = Counting("dit_context"), Counting("dit_step")
    used = fake_pipeline(tiny_bundle, dit_context=context.engine, dit_step=step.engine)
    used(IMAGE, steps=4, guidance=0)
    assert (context.runs, step.runs) == (1, 4)
    used(IMAGE, steps=4, guidance=2)
    assert (context.runs, step.runs) == (3, 12)
    used(OTHER, steps=4, guidance=2)
    assert (context.runs, step.runs) == (4, 20)


def test_what_is_not_finite_is_our_failure(tiny_bundle: Path) -> None:
    inner = tiny.TinyModel().engine("vae_decoder")

    def broken(feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = inner.run(feeds)
        outputs["vertices"][0, 3, 1] = np.nan
        return outputs

    used = fake_pipeline(tiny_bundle, vae_decoder=FakeEngine(broken, inner.inputs, inner.outputs))
    with pytest.raises(BackendError, match="not finite: got 1 NaN"):
        used(IMAGE)


def changed(path: Path, **values: Any) -> None:
    manifest = Manifest.from_json((path / "manifest.json").read_text())
    write_manifest(path, dataclasses.replace(manifest, **values))


CONTRACT_BREAKS: dict[str, tuple[dict[str, Any], str]] = {
    "pixels": (
        {"image": ImageSpec(32, 31, 4, 5)},
        r"image_encoder: input 'pixels': got float32 \[1, 3, 32, 32\]",
    ),
    "tokens": ({"image": ImageSpec(32, 32, 5, 5)}, r"image_encoder: output 'tokens': .* \[1, 5, 5\]"),
    "channels": ({"image": ImageSpec(32, 32, 4, 6)}, "image_encoder: output 'tokens'"),
    "latent": (
        {"latent": LatentSpec(7, 3)},
        r"dit_step: input 'latent': .* expected float32 \[1, 7, 3\]",
    ),
    "points": ({"points": PointSpec(41)}, "vae_encoder: input 'points'"),
    "swapped graphs": (
        {"graphs": dataclasses.replace(tiny.manifest().graphs, dit_step="vae_decoder.onnx")},
        "dit_step: inputs: got latent; expected keys, latent, time, values",
    ),
}


@pytest.mark.parametrize("case", CONTRACT_BREAKS)
def test_graphs_that_are_not_as_the_manifest_says(own_bundle: Path, case: str) -> None:
    values, message = CONTRACT_BREAKS[case]
    changed(own_bundle, **values)
    with pytest.raises(BundleError, match=message):
        HeadPipeline.open(own_bundle, threads=1)


def test_a_decoder_for_another_topology(own_bundle: Path) -> None:
    (own_bundle / "rig.safetensors").unlink()
    cube = Topology.from_polygons(8, [[4, 5, 7, 6], [5, 1, 3, 7]])
    cube.save(own_bundle / "topology.safetensors")
    changed(own_bundle, rig=None)
    with pytest.raises(BundleError, match=r"vae_decoder: output 'vertices': got float32 \[1, 42, 6\]"):
        HeadPipeline.open(own_bundle, threads=1)


def test_keys_that_the_step_does_not_take(tiny_bundle: Path) -> None:
    inner = tiny.TinyModel().engine("dit_context")
    outputs = inner.outputs | {"keys": TensorSpec((3, 1, tiny.TOKENS, 4), np.dtype(np.float32))}
    with pytest.raises(BundleError, match=r"dit_step: input 'keys': .* as dit_context gives it"):
        fake_pipeline(tiny_bundle, dit_context=FakeEngine(inner.run, inner.inputs, outputs))


def test_graphs_of_another_precision(tiny_bundle: Path) -> None:
    inner = tiny.TinyModel().engine("image_encoder")
    inputs = {"pixels": TensorSpec((1, 3, 32, 32), np.dtype(np.float16))}
    with pytest.raises(BundleError, match="got float16"):
        fake_pipeline(tiny_bundle, image_encoder=FakeEngine(inner.run, inputs, inner.outputs))


def test_engines_must_be_the_five(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    with pytest.raises(BundleError, match="engines"):
        Networks(bundle, {"dit_step": tiny.TinyModel().engine("dit_step")})


def test_a_graph_that_does_not_load_closes_the_others(
    own_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from topos_rt.backends import onnxruntime as module

    closed: list[str] = []
    close = module.OnnxRuntimeEngine.close
    monkeypatch.setattr(
        module.OnnxRuntimeEngine, "close", lambda self: (closed.append(self._name), close(self))
    )
    graph = onnx.load(own_bundle / "vae_encoder.onnx", load_external_data=False)
    graph.graph.node[0].op_type = "Nonsense"
    (own_bundle / "vae_encoder.onnx").write_bytes(graph.SerializeToString())
    changed(own_bundle)
    with pytest.raises(BundleError, match=r"graph vae_encoder\.onnx"):
        HeadPipeline.open(own_bundle, threads=1)
    assert sorted(closed) == sorted(f"{name}.onnx" for name in GRAPHS if name != "vae_encoder")
