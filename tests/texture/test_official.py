"""TOPOS-Texture in engines: a tiny texture bundle against what the release's own script made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import topos_rt
from tests import needs

needs.module("diffusers")  # the extra `texture` makes what is tested here
from tests.export.texture.released import GUIDANCE, PEOPLE, STEPS, VERSIONS, apart, made, picture
from tests.texture_bundle import texture_bundle
from topos_rt.engines import EngineOptions
from topos_rt.errors import BackendError, BundleError, Cancelled, FaceError, InputError
from topos_rt.flow.program import flow_program
from topos_rt.flow.solvers import SOLVERS
from topos_rt.head.mesh import HeadMesh
from topos_rt.model.bundle import Bundle
from topos_rt.texture.official import painter as painting
from topos_rt.texture.official.bundle import TextureBundle
from topos_rt.texture.official.cost import bundle_cost, evaluation_flops
from topos_rt.texture.official.dress import check_layout, dressed
from topos_rt.texture.official.loop import run
from topos_rt.texture.official.manifest import LayoutSpec
from topos_rt.texture.official.networks import TextureNetworks
from topos_rt.texture.official.painter import EnginePainter, Painted, map_pixels
from topos_rt.texture.official.settings import PaintOptions, evaluations, sampler_settings

ROOT = Path(__file__).parents[2]
ASTRONAUT = ROOT / "examples" / "astronaut.jpg"
OPTIONS = PaintOptions(STEPS, guidance=GUIDANCE)
CLOSE = 1e-5  # of FP32, after four guided steps
ONE = EngineOptions(1)


def in_fp32(bundle: TextureBundle) -> TextureBundle:
    """Return a bundle whose times are not rounded to BF16, as in the FP32 runs of the release's script."""
    schedule = dataclasses.replace(bundle.manifest.schedule, rounding="fp32")
    return TextureBundle(bundle.path, dataclasses.replace(bundle.manifest, schedule=schedule))


@pytest.fixture(scope="module")
def bundle() -> TextureBundle:
    return TextureBundle.open(texture_bundle())


@pytest.fixture(scope="module")
def networks(bundle: TextureBundle) -> Iterator[TextureNetworks]:
    with TextureNetworks(in_fp32(bundle), "onnxruntime", ONE) as opened:
        yield opened


@pytest.fixture
def painter(bundle: TextureBundle, networks: TextureNetworks) -> EnginePainter:
    return EnginePainter(in_fp32(bundle), networks, OPTIONS)


@pytest.fixture
def same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painting, "noise", lambda seed, shape: made(VERSIONS[0])["start"])


def latents(painter: EnginePainter, person: str) -> list[np.ndarray]:
    program = flow_program(painter.settings)
    list(painter._networks.prepare(evaluation.t for evaluation in program))
    start = made(VERSIONS[0])["start"]
    return [np.asarray(x) for x in run(painter._field(picture(person)), program, start)]


@pytest.mark.parametrize("person", PEOPLE)
def test_every_step_is_the_releases(painter: EnginePainter, person: str) -> None:
    """The stored prompts are of the first portrait, so the second's steps differ by what the quirk leaves."""
    close = CLOSE if person == PEOPLE[0] else 1e-3
    for k, latent in enumerate(latents(painter, person)):
        assert apart(latent, made(VERSIONS[0])[f"{person}.latent.{k}"]) < close


def test_the_map_is_the_releases(painter: EnginePainter, same_noise: None) -> None:
    painted, wanted = painter.paint(picture("astronaut")), made(VERSIONS[0])["astronaut.map"]
    # Rounding down makes a step of one out of a difference of 1e-7.
    assert np.abs(painted.albedo.astype(int) - wanted).max() <= 1
    assert (painted.albedo != wanted).mean() < 0.01
    assert painted.facts["evaluations"] == 2 * STEPS and painted.facts["guidance"] == GUIDANCE


def _black_is_the_portrait(painter: EnginePainter, patch: pytest.MonkeyPatch) -> None:
    pixels = painting.portrait_pixels(picture("astronaut"), 32)
    patch.setattr(painter, "_black", painter._networks.encode(pixels))


def _no_length(painter: EnginePainter, patch: pytest.MonkeyPatch) -> None:
    def plain(conditional: Any, unconditional: Any, w: float) -> Any:
        difference = conditional - unconditional
        return conditional + w * difference, difference

    patch.setattr(painter._networks, "guide", plain)


def _padding_is_text(painter: EnginePainter, patch: pytest.MonkeyPatch) -> None:
    texts = painter._networks.texts()
    patch.setattr(painter._networks, "texts", lambda: tuple((text, 0 * mask) for text, mask in texts))


def _both_pictures_count(painter: EnginePainter, patch: pytest.MonkeyPatch) -> None:
    manifest = painter.bundle.manifest
    sizes = dataclasses.replace(manifest.picture, tokens=2 * manifest.picture.tokens)
    other = dataclasses.replace(manifest, picture=sizes)
    patch.setattr(painter, "settings", sampler_settings(other, OPTIONS))


def _rounded_times(painter: EnginePainter, patch: pytest.MonkeyPatch) -> None:
    networks = painter._networks
    rounded = TextureBundle.open(networks._bundle.path, verify=False)
    patch.setattr(networks, "_bundle", rounded)
    patch.setattr(networks, "_modulations", {})


CHANGES = [_black_is_the_portrait, _no_length, _padding_is_text, _both_pictures_count, _rounded_times]


@pytest.mark.parametrize("change", CHANGES)
def test_without_a_peculiarity_the_steps_are_others(
    painter: EnginePainter, change: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    painter._networks._modulations.clear()
    change(painter, monkeypatch)
    last = latents(painter, "astronaut")[-1]
    assert apart(last, made(VERSIONS[0])[f"astronaut.latent.{STEPS - 1}"]) > 10 * CLOSE
    painter._networks._modulations.clear()


def test_sections_may_be_loaded_anew_for_every_evaluation(
    bundle: TextureBundle, painter: EnginePainter, same_noise: None
) -> None:
    with TextureNetworks(in_fp32(bundle), "onnxruntime", ONE, resident=False) as passing:
        found = EnginePainter(in_fp32(bundle), passing, OPTIONS).paint(picture("astronaut"))
        assert not any(name.startswith("section") for name in passing._engines)
    assert np.array_equal(found.albedo, painter.paint(picture("astronaut")).albedo)


def test_seeds_make_other_maps_and_the_same_again(painter: EnginePainter) -> None:
    one, again, other = (painter.paint(picture("hopper"), seed).albedo for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


COSTS = [
    (PaintOptions(), 100),
    (PaintOptions(steps=12), 24),
    (PaintOptions(solver="heun"), 198),
    (PaintOptions(reuse=2), 75),
    (PaintOptions(guidance=1.0), 50),
    (PaintOptions(steps=12, solver="heun"), 46),
    (PaintOptions(steps=10, solver="unipc", reuse=2), 15),
    (PaintOptions(steps=10, interval=(0.99, 1.0)), 11),
]


@pytest.mark.parametrize(("options", "count"), COSTS)
def test_options_cost_what_they_are_labelled_with(
    bundle: TextureBundle, options: PaintOptions, count: int
) -> None:
    settings = sampler_settings(bundle.manifest, options)
    assert evaluations(settings) == count
    program = flow_program(settings)
    assert sum(1 if evaluation.guidance is None else 2 for evaluation in program) == count


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_paints(painter: EnginePainter, solver: str) -> None:
    chosen = PaintOptions(3, solver, GUIDANCE, (0.0, 1.0), reuse=2)
    other = EnginePainter(painter.bundle, painter._networks, chosen)
    done: list[tuple[str, int, int]] = []
    painted = other.paint(picture("astronaut"), 0, lambda *told: done.append(told))
    steps = [(now, count) for stage, now, count in done if stage == painting.PAINTING]
    count = len(flow_program(other.settings))
    assert steps == [(k, count) for k in range(count + 1)]
    assert painted.albedo.std() > 10 and painted.facts["solver"] == solver


def test_a_report_may_cancel(painter: EnginePainter) -> None:
    def stop(stage: str, done: int, count: int) -> None:
        if stage == painting.PAINTING and done == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        painter.paint(picture("astronaut"), 0, stop)
    assert painter.paint(picture("astronaut")).albedo.shape == (32, 32, 3)


def test_a_smaller_reference_takes_another_bundle() -> None:
    small = TextureBundle.open(texture_bundle(3, 16))
    spec = small.manifest.picture
    assert (spec.tokens, spec.reference_tokens, small.manifest.transformer.sections) == (16, 4, 1)
    with EnginePainter.open(small.path, OPTIONS, "onnxruntime") as opened:
        assert opened.paint(picture("astronaut")).albedo.shape == (32, 32, 3)
    whole = TextureBundle.open(texture_bundle())
    assert evaluation_flops(small.manifest) < evaluation_flops(whole.manifest)


def test_the_cost_is_told_in_bytes_and_evaluations(bundle: TextureBundle) -> None:
    manifest = bundle.manifest
    settings = sampler_settings(manifest, OPTIONS)
    wide, narrow = (bundle_cost(manifest, settings, name) for name in ("fp32", "bf16"))
    weights = sum(manifest.parameters[name] for name in manifest.section_names())
    assert (wide.device_bytes["sections"], narrow.device_bytes["sections"]) == (4 * weights, 2 * weights)
    passing = bundle_cost(manifest, settings, "fp32", resident=False)
    assert passing.device_bytes["sections"] < wide.device_bytes["sections"]
    assert wide.seconds(1e-6) == pytest.approx(2 * STEPS * evaluation_flops(manifest) / 1e6)
    assert "8 evaluations" in wide.lines()[1] and "GB" in wide.lines()[0]


def test_nan_out_of_the_vae_is_one_line() -> None:
    for bad in (np.nan, np.inf):
        pixels = np.zeros((1, 3, 8, 8), np.float32)
        pixels[0, 1, 2, 3] = bad
        with pytest.raises(BackendError, match="the VAE of the texture stage: got NaN or infinite"):
            map_pixels(pixels)
    levels = np.linspace(-1.5, 1.5, 64, dtype=np.float32).reshape(1, 1, 8, 8).repeat(3, 1)
    found = map_pixels(levels)
    assert found.min() == 0 and found.max() == 255  # clipped, then rounded down
    assert found[..., 0].reshape(-1)[32] == int((levels.reshape(3, -1)[0, 32] / 2 + 0.5) * 255)


def test_portraits_are_stretched_whole() -> None:
    wide = Image.fromarray(np.arange(200 * 100 * 3, dtype=np.uint64).reshape(100, 200, 3).astype(np.uint8))
    found = painting.portrait_pixels(wide, 32)
    wanted = np.asarray(wide.resize((32, 32), Image.Resampling.LANCZOS), np.float32) / 255 * 2 - 1
    assert np.array_equal(found[0], wanted.transpose(2, 0, 1)) and found.shape == (1, 3, 32, 32)


class FakePainter:
    """A painter whose map tells the seed, and where the picture is bright."""

    def __init__(self, layout: LayoutSpec) -> None:
        self.layout = layout
        self.seen: list[Any] = []

    def paint(self, picture: Image.Image, seed: int = 0, report: Any = None) -> Painted:
        self.seen.append(picture)
        for done in range(3):
            if report is not None:
                report("painting", done, 2)
        albedo = np.zeros((16, 16, 3), np.uint8)
        albedo[:8] = 200  # the upper half: v from 0.5 to 1
        albedo[..., 2] = seed
        return Painted(albedo, {"steps": 2, "seed": seed})

    def close(self) -> None:
        self.seen.clear()


MINI = LayoutSpec("mini", 4538, 0)


@pytest.fixture(scope="module")
def pipe() -> Iterator[topos_rt.HeadPipeline]:
    with topos_rt.HeadPipeline.open("mini", "onnxruntime", threads=1) as opened:
        yield opened


def mini_layout(bundle: Bundle) -> LayoutSpec:
    return LayoutSpec("mini", bundle.topology.num_vertices, len(bundle.topology.polygon_sizes))


def test_a_pipeline_lays_it_on_the_heads_own_uvs(pipe: topos_rt.HeadPipeline, tmp_path: Path) -> None:
    fake, told = FakePainter(mini_layout(pipe.bundle)), []
    pipe.paint_with(fake)
    heads = pipe(
        ASTRONAUT, seed=[3, 4], preset="fast", texture="official", texture_size=512, callback=told.append
    )
    assert [head.texture.albedo[0, 0, 2] for head in heads] == [3, 4]
    head = heads[0]
    assert np.array_equal(head.topology.uvs, pipe.bundle.topology.uvs)  # no atlas of ours
    assert head.texture.albedo.shape == (512, 512, 3) and not head.texture.confidence.any()
    assert head.metadata["texture"] == {"kind": "official", "steps": 2, "seed": 3, "size": 512}
    assert fake.seen[0].size == Image.open(ASTRONAUT).size  # the whole picture
    assert [(p.step, p.steps) for p in told if p.stage == "texture" and p.steps == 2][:3] == [
        (0, 2),
        (1, 2),
        (2, 2),
    ]
    colours = _colours_by_v(head)
    assert colours[0].mean() < 20 and colours[1].mean() > 180  # the first row is v = 1
    for suffix in ("glb", "usda", "obj", "head"):
        head.save(tmp_path / f"a.{suffix}")
    assert b"image/jpeg" in (tmp_path / "a.glb").read_bytes()
    assert (tmp_path / "a_albedo.jpg").exists() and "UsdUVTexture" in (tmp_path / "a.usda").read_text()
    again = HeadMesh.load(tmp_path / "a.head")
    assert again.texture.metadata["kind"] == "official"
    drawn = topos_rt.render_preview(head)
    assert len(drawn) > 1000
    pipe.paint_with(None)


def _colours_by_v(head: HeadMesh) -> tuple[np.ndarray, np.ndarray]:
    from topos_rt.formats.textures import first_uvs, vertex_colours

    v, colours = first_uvs(head.topology)[:, 1], vertex_colours(head)
    assert colours is not None
    return colours[(v > 0.05) & (v < 0.4), 0], colours[(v > 0.6) & (v < 0.95), 0]


def test_a_callback_cancels_the_painting(pipe: topos_rt.HeadPipeline) -> None:
    pipe.paint_with(FakePainter(mini_layout(pipe.bundle)))
    with pytest.raises(Cancelled, match="stage texture, step 1 of 2"):
        pipe(
            ASTRONAUT,
            preset="fast",
            texture="official",
            callback=lambda p: not (p.stage == "texture" and (p.step, p.steps) == (1, 2)),
        )
    pipe.paint_with(None)


def test_what_a_pipeline_refuses(pipe: topos_rt.HeadPipeline, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="texture 'official': got a pipeline without a painter"):
        pipe(ASTRONAUT, texture="official")
    pipe.paint_with(FakePainter(LayoutSpec("MetaHuman", 24049, 24002)))
    with pytest.raises(BundleError, match=r"got 4,538 vertices .* expected the MetaHuman head of 24,049"):
        pipe(ASTRONAUT, texture="official")
    pipe.paint_with(FakePainter(mini_layout(pipe.bundle)))
    with pytest.raises(FaceError, match="no face was found"):
        pipe(np.full((64, 64, 3), 128, np.uint8), texture="official")
    pipe.paint_with(None)


def test_maps_that_are_no_squares_of_colours_are_refused(pipe: topos_rt.HeadPipeline) -> None:
    head = pipe(ASTRONAUT, preset="fast", texture="none")
    for albedo in (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(BackendError, match="texture 'official'"):
            dressed(head, Painted(albedo), 512, "png")
    with pytest.raises(BundleError, match="no UVs"):
        bare = dataclasses.replace(
            head.topology, uvs=np.zeros((0, 2), np.float32), polygon_uvs=np.zeros(0, np.int32), lods=()
        )
        check_layout(bare, mini_layout(pipe.bundle), "a head")
