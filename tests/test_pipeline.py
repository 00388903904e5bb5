"""Heads of a pipeline against float64 and by seeds, images and options; loading and closing."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topos_rt
from tests import tiny_bundle as tiny
from tests.fakes import IMAGE, OTHER, Counting, fake_pipeline, in_metres, same
from topos_rt.errors import BundleError, ImageError, InputError, OptionError
from topos_rt.flow.counting import network_evaluations
from topos_rt.flow.sampling import noise
from topos_rt.flow.settings import resolve, time_grid
from topos_rt.head.rig import Binding
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.model.manifest import GRAPHS, FlowSpec, Manifest
from topos_rt.pictures.image import load_image
from topos_rt.pipeline import HeadPipeline

pytestmark = pytest.mark.usefixtures("whole_pictures")


def reference(image: np.ndarray, seed: int, steps: int, w: float, shift: float = 1.0) -> np.ndarray:
    """Compute a head in float64, from image to decoder: [V,6] positions | normals."""
    model = tiny.TinyModel()
    tokens = model.image_encoder(load_image(image, tiny.SIDE, tiny.SIDE))["tokens"]
    x = tiny.FLOW.temperature * np.float64(noise(seed, (1, tiny.N, tiny.D)))
    times = [shift * t / (1 + (shift - 1) * t) for t in np.linspace(1, 0, steps + 1)]
    for t, t_next in itertools.pairwise(times):
        v, v0 = model.velocity(x, t, tokens), model.velocity(x, t, 0 * tokens)
        x = x - (t - t_next) * ((1 + w) * v - w * v0)
    return in_metres(model.vae_decoder(x)["vertices"][0])


@pytest.mark.parametrize("backend", ["onnxruntime", "fake"])
@pytest.mark.parametrize("w, shift", [(0.0, 1.0), (1.5, 1.0), (3.0, 3.0)])
def test_the_whole_way_against_float64(
    tiny_bundle: Path, tiny_pipe: HeadPipeline, backend: str, w: float, shift: float
) -> None:
    used = tiny_pipe if backend == "onnxruntime" else fake_pipeline(tiny_bundle)
    head = used(IMAGE, seed=4, preset="reference", steps=9, guidance=w, shift=shift)
    expected = reference(IMAGE, 4, 9, w, shift)
    assert np.abs(head.positions - expected[:, :3]).max() < 1e-6
    assert np.abs(head.normals - expected[:, 3:]).max() < 1e-5
    assert head.metadata["backend"] == backend


def test_what_a_head_says_of_itself(tiny_pipe: HeadPipeline) -> None:
    head = tiny_pipe(IMAGE, seed=2**64 - 1, preset="fast", steps=5)
    assert head.metadata == {
        "model": "tiny",
        "weights": "random weights: the shape means nothing",
        "backend": "onnxruntime",
        "preset": "fast",
        "steps": 5,
        "solver": "unipc",
        "guidance": 1.5,
        "shift": 3.0,
        "interval": [0.0, 1.0],
        "reuse": 1,
        "times": None,
        "temperature": 0.75,
        "seed": 2**64 - 1,
        "face": None,
        "crop": {"centre": [20.0, 24.0], "side": 40, "angle_degrees": 0.0},
        "warnings": [],
    }
    assert head.face is None
    assert json.loads(json.dumps(head.metadata)) == head.metadata
    assert head.topology is tiny_pipe.bundle.topology and head.rig is tiny_pipe.bundle.rig
    stages = ["image", "image_encoder", "dit_context", "dit_step", "vae_decoder", "rig"]
    assert list(head.timings) == [*stages, "total"]
    assert all(seconds > 0 for seconds in head.timings.values())
    assert head.timings["total"] == pytest.approx(sum(head.timings[stage] for stage in stages))


def test_a_seed_gives_the_same_head_again_and_other_images_and_seeds_others(tiny_pipe: HeadPipeline) -> None:
    head = tiny_pipe(IMAGE, seed=1)
    assert same(head, tiny_pipe(IMAGE, seed=1))
    assert not np.array_equal(head.positions, tiny_pipe(IMAGE, seed=2).positions)
    assert not np.array_equal(head.positions, tiny_pipe(OTHER, seed=1).positions)


def test_a_rig_with_a_binding_is_fitted_to_the_head(own_bundle: Path) -> None:
    bundle = Bundle.open(own_bundle)
    assert bundle.rig is not None
    template = np.random.default_rng(0).normal(0, 0.05, (bundle.rig.num_vertices, 3))
    binding = Binding(
        template=template,
        joint_index=np.array([1, 2, 3]),
        joint_weight=np.array([0.5, 0.5, 1.0]),
        joint_offsets=np.array([0, 2, 3]),
        contact_pairs=np.zeros((0, 2), int),
        contact_offsets=np.zeros(3, int),
        parts=np.zeros(len(template), int),
    )
    rig = dataclasses.replace(bundle.rig, binding=binding)
    with HeadPipeline.open(dataclasses.replace(bundle, rig=rig)) as pipe:
        head = pipe(IMAGE)
    assert head.rig is not None and head.rig.binding is None
    joints = np.stack([head.positions[[1, 2]].mean(0), head.positions[3]])
    assert head.rig.joint_positions == pytest.approx(joints, abs=1e-6)
    assert not np.array_equal(head.rig.shape_delta, rig.shape_delta)


def test_temperature_scales_the_noise(tiny_pipe: HeadPipeline) -> None:
    own, cold, hot = (tiny_pipe(IMAGE, seed=3, temperature=t) for t in (None, 0, 1.5))
    assert (own.metadata["temperature"], hot.metadata["temperature"]) == (tiny.FLOW.temperature, 1.5)
    assert np.array_equal(cold.positions, tiny_pipe(IMAGE, seed=4, temperature=0).positions)
    # the tiny network is affine in the noise
    moved = [np.abs(head.positions - cold.positions).max() for head in (own, hot)]
    assert moved[1] == pytest.approx(2 * moved[0], rel=1e-3)


def test_presets_differ(tiny_pipe: HeadPipeline) -> None:
    assert [tiny_pipe(IMAGE, preset=name).metadata["steps"] for name in ("reference", "fast")] == [50, 8]


def test_lists_give_lists_equal_to_single_calls(tiny_pipe: HeadPipeline) -> None:
    singles = [tiny_pipe(image, seed=seed, steps=3) for image, seed in ((IMAGE, 5), (OTHER, 6))]
    assert all(map(same, tiny_pipe([IMAGE, OTHER], seed=[5, 6], steps=3), singles))
    assert all(map(same, tiny_pipe((IMAGE, OTHER), seed=(5, 6), steps=3), singles))
    assert all(
        map(same, tiny_pipe([IMAGE, OTHER], seed=5, steps=3), [singles[0], tiny_pipe(OTHER, seed=5, steps=3)])
    )
    assert all(
        map(same, tiny_pipe(IMAGE, seed=[5, 6], steps=3), [singles[0], tiny_pipe(IMAGE, seed=6, steps=3)])
    )
    assert [
        len(heads)
        for heads in (tiny_pipe([IMAGE], seed=0), tiny_pipe(IMAGE, seed=[0]), tiny_pipe([], seed=0))
    ] == [1, 1, 0]


def test_each_gives_the_heads_of_a_call_one_by_one(tiny_bundle: Path) -> None:
    decoder = Counting("vae_decoder")
    used = fake_pipeline(tiny_bundle, vae_decoder=decoder.engine)
    expected = used([IMAGE, OTHER], seed=[5, 6], steps=3) + used(IMAGE, seed=[5, 6], steps=3)
    before = decoder.runs
    heads = used.each([IMAGE, OTHER], seed=[5, 6], steps=3)
    assert decoder.runs == before
    found = [next(heads)]
    assert decoder.runs == before + 1
    found += [*heads, *used.each(IMAGE, seed=[5, 6], steps=3)]
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))
    assert all(same(one, used(IMAGE, steps=3)) for one in used.each(IMAGE, steps=3))
    with pytest.raises(OptionError, match="steps: got 0"):
        used.each(IMAGE, steps=0)


def test_several_seeds_of_an_image_encode_it_once(tiny_bundle: Path) -> None:
    encoder, context = Counting("image_encoder"), Counting("dit_context")
    used = fake_pipeline(tiny_bundle, image_encoder=encoder.engine, dit_context=context.engine)
    heads = used(IMAGE, seed=[1, 2, 3], steps=2, guidance=0)
    assert encoder.runs == context.runs == 1
    assert "image_encoder" in heads[0].timings and "image_encoder" not in heads[1].timings


@pytest.mark.parametrize("seeds", [[1], [1, 2, 3], []])
def test_seeds_that_do_not_match_the_images(tiny_pipe: HeadPipeline, seeds: list[int]) -> None:
    with pytest.raises(OptionError, match="seeds for a list of images"):
        tiny_pipe([IMAGE, OTHER], seed=seeds)


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"preset": "turbo"}, "unknown preset"),
    ({"solver": "rk45"}, "unknown solver"),
    ({"steps": 0}, "steps: got 0"),
    ({"guidance": -1}, "guidance"),
    ({"shift": 0}, "shift"),
    ({"interval": (1, 0)}, "guidance interval"),
    ({"reuse": 0}, "guidance reuse"),
    ({"times": (1, 0.5)}, "times"),
    ({"seed": -1}, "seed: got -1"),
    ({"seed": 2**64}, "seed"),
]


@pytest.mark.parametrize("options, message", BAD_OPTIONS)
def test_bad_options_are_found_before_any_work(
    tiny_bundle: Path, options: dict[str, Any], message: str
) -> None:
    encoder = Counting("image_encoder")
    used = fake_pipeline(tiny_bundle, image_encoder=encoder.engine)
    with pytest.raises(OptionError, match=message):
        used(IMAGE, **options)
    with pytest.raises(OptionError, match=message):
        used.stream(IMAGE, **options)
    with pytest.raises(OptionError, match="seed"):
        used(IMAGE, seed=[0, -1])
    assert encoder.runs == 0


def test_a_bad_image(tiny_pipe: HeadPipeline, tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        tiny_pipe(tmp_path / "none.png")
    assert tiny_pipe(IMAGE).metadata["seed"] == 0


def test_sampling_options_reach_the_sampler(tiny_bundle: Path) -> None:
    """The engines run as often as the settings imply, and the head's metadata has the settings."""
    plain, full = Counting("dit_step"), Counting("dit_step_guided")
    used = fake_pipeline(tiny_bundle, dit_step=plain.engine, dit_step_guided=full.engine)
    head = used(IMAGE, steps=10, shift=1, interval=(0.3, 0.7), reuse=2, solver="ab2")
    assert (plain.runs, full.runs) == (7, 3)
    about = head.metadata
    assert (about["interval"], about["reuse"], about["solver"]) == ([0.3, 0.7], 2, "ab2")
    settings = resolve(steps=10, shift=1, interval=(0.3, 0.7), reuse=2, guidance=1.5)
    assert network_evaluations(settings) == 7 + 2 * 3
    times = (1.0, 0.9, 0.5, 0.0)
    assert used(IMAGE, times=times).metadata["times"] == list(times)
    assert used(IMAGE, times=times).metadata["steps"] == len(list(used.stream(IMAGE, times=times))) == 3
    even = used(IMAGE, times=time_grid(4, 2.0))
    assert np.array_equal(even.positions, used(IMAGE, steps=4, shift=2.0).positions)


@pytest.mark.parametrize("value", [3, None])
def test_unknown_keywords_are_mistakes(tiny_pipe: HeadPipeline, value: int | None) -> None:
    for call in (tiny_pipe, tiny_pipe.each, tiny_pipe.stream):
        with pytest.raises(TypeError, match="unexpected keyword argument 'step_count'; expected"):
            call(IMAGE, step_count=value)  # type: ignore[call-arg, call-overload]


def test_close(tiny_bundle: Path) -> None:
    used = HeadPipeline.open(tiny_bundle, threads=1)
    stream = used.stream(IMAGE)
    next(stream)
    used.close()
    used.close()
    for again in (lambda: used(IMAGE), lambda: next(stream), used.warm_up):
        with pytest.raises(InputError, match="this pipeline is closed"):
            again()


def test_warm_up_runs_every_graph(tiny_bundle: Path) -> None:
    counting = {graph: Counting(graph) for graph in GRAPHS}
    used = fake_pipeline(tiny_bundle, **{graph: one.engine for graph, one in counting.items()})
    used.warm_up()
    assert all(one.runs for one in counting.values())
    with pytest.raises(OptionError, match="unknown preset"):
        used.warm_up(preset="turbo")


def test_open(tiny_bundle: Path) -> None:
    with HeadPipeline.open(Bundle.open(tiny_bundle), backend="onnxruntime", threads=2) as used:
        assert used.backend == "onnxruntime" and "asked for" in used.backend_reason
    with pytest.raises(OptionError, match="unknown backend"):
        HeadPipeline.open(tiny_bundle, backend="cuda")
    with pytest.raises(OptionError, match="threads"):
        HeadPipeline.open(tiny_bundle, threads=0)
    with pytest.raises(BundleError, match="no such model"):
        HeadPipeline.open("no-such-model")


def test_guidance_is_the_models_own_by_default(own_bundle: Path) -> None:
    manifest = Manifest.from_json((own_bundle / "manifest.json").read_text())
    write_manifest(own_bundle, dataclasses.replace(manifest, flow=FlowSpec(sigma_min=0.0, guidance=0)))
    with HeadPipeline.open(own_bundle, threads=1) as used:
        assert used(IMAGE).metadata["guidance"] == 0.0
        assert same(used(IMAGE), used(IMAGE, guidance=0))


def test_generate(tiny_bundle: Path, tiny_pipe: HeadPipeline) -> None:
    head = topos_rt.generate(IMAGE, model=tiny_bundle, seed=3, steps=2, guidance=1, threads=1)
    assert same(head, tiny_pipe(IMAGE, seed=3, steps=2, guidance=1))
    with pytest.raises(OptionError, match="unknown precision"):
        topos_rt.generate(IMAGE, model=tiny_bundle, precision="int4")


def test_a_head_can_be_saved(tiny_pipe: HeadPipeline, tmp_path: Path) -> None:
    for name in ("a.glb", "b.glb"):
        tiny_pipe(IMAGE, seed=3).save(tmp_path / name)
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()
