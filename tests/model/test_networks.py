from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests import tiny_bundle as tiny
from tests.fakes import IMAGE, OTHER, Counting, fake_pipeline
from topos_rt.engines.fake import FakeEngine
from topos_rt.errors import BackendError, BundleError
from topos_rt.head.topology import Topology
from topos_rt.model import networks
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.model.manifest import GRAPHS, ImageSpec, LatentSpec, Manifest, PointSpec
from topos_rt.model.networks import Networks
from topos_rt.pipeline import HeadPipeline
from topos_rt.support.arrays import Array, TensorSpec


def test_a_step_is_one_run_guided_or_not_and_modulations_are_made_once_a_time(tiny_bundle: Path) -> None:
    names = ("dit_context", "dit_modulation", "dit_step", "dit_step_guided")
    counts = {name: Counting(name) for name in names}
    used = fake_pipeline(tiny_bundle, **{name: counting.engine for name, counting in counts.items()})

    def runs() -> list[int]:
        return [counts[name].runs for name in names]

    used(IMAGE, steps=4, guidance=0)
    assert runs() == [1, 4, 4, 0]
    used(IMAGE, steps=4, guidance=2)
    assert runs() == [2, 4, 4, 4]
    used(OTHER, steps=8, guidance=2)
    assert runs() == [3, 8, 4, 12]  # four of the eight times were cached


def test_modulations_do_not_pile_up(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_MODULATION_BYTES", 3 * tiny.BLOCKS * 6 * tiny.WIDTH * 4)
    made = Counting("dit_modulation")
    used = Networks(Bundle.open(tiny_bundle), tiny.engines() | {"dit_modulation": made.engine})
    for t in (1.0, 0.9, 0.8, 1.0, 0.7):
        assert np.allclose(used.modulation(t), t * tiny.TinyModel().weights["dit_modulation.w"])
    assert made.runs == 4
    used.modulation(1.0)
    assert made.runs == 4  # still cached: it was used last but one
    used.modulation(0.9)
    assert made.runs == 5


def test_modulations_from_several_threads(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_MODULATION_BYTES", 3 * tiny.BLOCKS * 6 * tiny.WIDTH * 4)
    used = Networks(Bundle.open(tiny_bundle), tiny.engines())
    own = tiny.TinyModel().weights["dit_modulation.w"]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            times = [(k * 7 % 11) / 11 for k in range(4000)]
            made = list(pool.map(used.modulation, times))
    finally:
        sys.setswitchinterval(interval)
    assert all(np.allclose(got, t * own) for got, t in zip(made, times, strict=True))
    assert len(used._modulations) <= 3


def test_closing_lets_go_of_what_was_kept(tiny_bundle: Path) -> None:
    used = Networks(Bundle.open(tiny_bundle), tiny.engines())
    used.modulation(0.5)
    assert used._modulations
    used.close()
    assert not used._modulations


def test_engines_that_a_caller_brought_stay_open_when_networks_are_dropped(tiny_bundle: Path) -> None:
    bundle, engines = Bundle.open(tiny_bundle), tiny.engines()
    expected = Networks(bundle, engines).modulation(0.5)
    assert np.array_equal(Networks(bundle, engines).modulation(0.5), expected)


def test_guidance_combines_both_halves(tiny_bundle: Path) -> None:
    used, model = Networks(Bundle.open(tiny_bundle), tiny.engines()), tiny.TinyModel()
    tokens = np.random.default_rng(0).standard_normal((1, tiny.TOKENS, tiny.CHANNELS)).astype(np.float32)
    x = np.random.default_rng(1).standard_normal((1, tiny.N, tiny.D)).astype(np.float32)
    field = used.field(used.context(tokens))
    conditional, unconditional = model.velocity(x, 0.3, tokens), model.velocity(x, 0.3, 0 * tokens)
    velocity, difference = field.guided(x, 0.3, 2.5)
    assert np.allclose(field.conditional(x, 0.3), conditional, atol=1e-6)
    assert np.allclose(velocity, 3.5 * conditional - 2.5 * unconditional, atol=1e-5)
    assert np.allclose(difference, conditional - unconditional, atol=1e-6)


def test_what_is_not_finite_is_our_failure(tiny_bundle: Path) -> None:
    inner = tiny.TinyModel().engine("vae_decoder")

    def broken(feeds: Mapping[str, Array]) -> dict[str, Array]:
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
    "latent": ({"latent": LatentSpec(7, 3)}, r"dit_step: input 'latent': .* expected float32 \[1, 7, 3\]"),
    "points": ({"points": PointSpec(41)}, "vae_encoder: input 'points'"),
    "swapped graphs": (
        {"graphs": dataclasses.replace(tiny.manifest().graphs, dit_step="vae_decoder.onnx")},
        "dit_step: inputs: got latent; expected keys, latent, modulation, values",
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


def test_a_modulation_that_the_step_does_not_take(tiny_bundle: Path) -> None:
    inner = tiny.TinyModel().engine("dit_modulation")
    outputs = {"modulation": TensorSpec((tiny.BLOCKS, 6, 3), np.dtype(np.float32))}
    with pytest.raises(BundleError, match=r"dit_step: input 'modulation': .* as dit_modulation gives it"):
        fake_pipeline(tiny_bundle, dit_modulation=FakeEngine(inner.run, inner.inputs, outputs))


def test_graphs_of_another_precision(tiny_bundle: Path) -> None:
    inner = tiny.TinyModel().engine("image_encoder")
    inputs = {"pixels": TensorSpec((1, 3, 32, 32), np.dtype(np.float16))}
    with pytest.raises(BundleError, match="got float16"):
        fake_pipeline(tiny_bundle, image_encoder=FakeEngine(inner.run, inputs, inner.outputs))


def half_context(inner: FakeEngine, names: Collection[str]) -> FakeEngine:
    """Return an engine whose tensors of these names are FP16."""
    sides = (
        {name: TensorSpec(s.shape, np.dtype(np.float16)) if name in names else s for name, s in side.items()}
        for side in (inner.inputs, inner.outputs)
    )
    return FakeEngine(inner.run, *sides)


def test_keys_and_values_may_be_fp16_where_all_agree(tiny_bundle: Path) -> None:
    model = tiny.TinyModel()
    names = ("dit_context", "dit_step", "dit_step_guided")
    halved = {name: half_context(model.engine(name), ("keys", "values")) for name in names}
    with fake_pipeline(tiny_bundle, **halved):
        pass
    with pytest.raises(BundleError, match=r"dit_step_guided: input 'keys': .* as dit_context gives it"):
        fake_pipeline(tiny_bundle, dit_context=halved["dit_context"], dit_step=halved["dit_step"])
    wrong = half_context(model.engine("dit_modulation"), ("modulation",))
    with pytest.raises(BundleError, match="got float16"):
        fake_pipeline(tiny_bundle, dit_modulation=wrong)


def test_engines_must_be_all(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    with pytest.raises(BundleError, match="engines"):
        Networks(bundle, {"dit_step": tiny.TinyModel().engine("dit_step")})


def test_a_graph_that_does_not_load_closes_the_others(
    own_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from topos_rt.engines import onnxruntime as module

    closed: list[str] = []
    close = module.OnnxRuntimeEngine.close
    monkeypatch.setattr(
        module.OnnxRuntimeEngine, "close", lambda self: (closed.append(self._path.name), close(self))
    )
    graph = onnx.load(own_bundle / "vae_encoder.onnx", load_external_data=False)
    graph.graph.node[0].op_type = "Nonsense"
    (own_bundle / "vae_encoder.onnx").write_bytes(graph.SerializeToString())
    changed(own_bundle)
    with pytest.raises(BundleError, match=r"graph vae_encoder\.onnx"):
        HeadPipeline.open(own_bundle, threads=1)
    assert sorted(closed) == sorted(f"{name}.onnx" for name in GRAPHS if name != "vae_encoder")
