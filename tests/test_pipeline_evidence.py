"""Heads of models that take evidence: it is that of the face that was chosen, on every way to a head."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import needs
from tests import tiny_bundle as tiny
from tests.fakes import fake_pipeline, in_metres, same
from topos_rt import HeadPipeline
from topos_rt.cli.main import main
from topos_rt.engines import EngineOptions
from topos_rt.engines.fake import FakeEngine
from topos_rt.errors import BundleError, InputError
from topos_rt.faces.evidence import evidence
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.networks import LOOKED_WITH
from topos_rt.faces.portrait import FaceChoice, portraits
from topos_rt.flow.sampling import noise
from topos_rt.formats import EXPORTERS, ExportOptions
from topos_rt.gpu import ops
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.model.evidence import EVIDENCE, no_evidence
from topos_rt.model.networks import Networks
from topos_rt.support.arrays import Array

EXAMPLES = Path(__file__).parents[1] / "examples"
ALL = tuple(EVIDENCE)
SOME = ("landmarks", "expression")
GREY = np.full((64, 64, 3), 128, np.uint8)
SAMPLING: dict[str, Any] = {"preset": "reference", "steps": 3, "guidance": 0.0}


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder.open("onnxruntime", 1) as opened:
        yield opened


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle that takes all evidence. No test may change it."""
    directory = tmp_path_factory.mktemp("seeing")
    tiny.write_tiny_bundle(directory, ALL, varied=True)
    return directory


@pytest.fixture(scope="module")
def couple() -> Image.Image:
    """Two people side by side: the astronaut, who is larger, and Hopper."""
    left, right = (Image.open(EXAMPLES / f"{name}.jpg").convert("RGB") for name in ("astronaut", "hopper"))
    picture = Image.new("RGB", (left.width + right.width, max(left.height, right.height)), "white")
    picture.paste(left, (0, 0))
    picture.paste(right, (left.width, 0))
    return picture


class Watching:
    """The tiny image encoder, which keeps what it is fed."""

    def __init__(self, names: tuple[str, ...] = ALL) -> None:
        inner = tiny.TinyModel(names).engine("image_encoder")
        self.fed: list[dict[str, Array]] = []

        def handler(feeds: Mapping[str, Array]) -> dict[str, Array]:
            self.fed.append({name: np.array(array) for name, array in feeds.items()})
            return inner.run(feeds)

        self.engine = FakeEngine(handler, inner.inputs, inner.outputs)


def watched(path: Path, finder: FaceFinder | None) -> tuple[HeadPipeline, Watching]:
    bundle, watching = Bundle.open(path), Watching()
    engines = tiny.engines(ALL) | {"image_encoder": watching.engine}
    return HeadPipeline(bundle, Networks(bundle, engines), "fake", finder=finder), watching


def equal(fed: Mapping[str, Array], expected: Mapping[str, Array]) -> bool:
    return all(np.array_equal(fed[name], expected[name]) for name in ALL)


def test_each_face_brings_its_own(seeing: Path, finder: FaceFinder, couple: Image.Image) -> None:
    pipe, watching = watched(seeing, finder)
    faces = finder.find(couple)
    assert len(faces) == 2
    own = [evidence(ALL, couple, face, finder) for face in faces]
    assert not equal(own[0], own[1])
    pipe(couple, **SAMPLING)
    pipe(couple, face=1, **SAMPLING)
    pipe(couple, face=faces[1], **SAMPLING)
    pipe(couple, face="all", **SAMPLING)
    list(pipe.stream(couple, face=1, **SAMPLING))
    list(pipe.each([couple, GREY], face_check=False, seed=4, **SAMPLING))
    nobody = no_evidence(ALL)
    expected = [own[0], own[1], own[1], own[0], own[1], own[1], own[0], nobody]
    assert len(watching.fed) == len(expected)
    assert all(itertools.starmap(equal, zip(watching.fed, expected, strict=True)))


def test_a_crop_is_of_the_pixels_alone(seeing: Path, finder: FaceFinder, couple: Image.Image) -> None:
    pipe, watching = watched(seeing, finder)
    wide, high = Image.open(EXAMPLES / "hopper.jpg").size
    box = (couple.width - wide, 0, wide, high)
    head = pipe(couple, crop=box, **SAMPLING)
    assert head.face is not None and head.face.box[0] > couple.width - wide
    assert equal(watching.fed[0], evidence(ALL, couple, head.face, finder))
    head = pipe(couple, crop="none", **SAMPLING)
    assert head.face is not None and equal(watching.fed[1], evidence(ALL, couple, head.face, finder))
    assert not np.array_equal(watching.fed[0]["pixels"], watching.fed[1]["pixels"])
    pipe(couple, crop=box, face_check=False, **SAMPLING)  # no face is looked for
    assert equal(watching.fed[2], no_evidence(ALL))


def test_seeds_share_the_tokens_of_a_face(seeing: Path, finder: FaceFinder, couple: Image.Image) -> None:
    pipe, watching = watched(seeing, finder)
    heads = pipe(couple, seed=[1, 2, 3], **SAMPLING)
    assert len(watching.fed) == 1
    assert [("evidence" in head.timings, "image_encoder" in head.timings) for head in heads] == [
        (True, True),
        (False, False),
        (False, False),
    ]
    stages = list(heads[0].timings)
    assert stages.index("face") < stages.index("evidence") < stages.index("image_encoder")


def test_a_pipeline_without_a_finder(seeing: Path, finder: FaceFinder, couple: Image.Image) -> None:
    pipe, watching = watched(seeing, None)
    pipe(couple, **SAMPLING)
    assert equal(watching.fed[0], no_evidence(ALL))
    with pytest.raises(InputError, match="the evidence of a face: got a pipeline without a face finder"):
        pipe(couple, face=finder.find(couple)[0], **SAMPLING)


# Way -> its backend, and whether one CUDA graph makes a head.
WAYS = {
    "fake": ("", False),
    "onnxruntime": ("onnxruntime", False),
    "tensorrt-rtx": ("tensorrt-rtx", False),
    "tensorrt": ("tensorrt", False),
    "one launch": ("tensorrt-rtx", True),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Return a way to run networks; GPUs are fake, and take the kernel of the sampler."""
    name: str = request.param
    backend, one_launch = WAYS[name]
    if not backend.startswith("tensorrt"):
        return name
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path))
    fake_gpu = needs.module("tests.engines.fake_gpu")
    trt = fake_gpu.install(monkeypatch, full=backend == "tensorrt")
    if one_launch:
        host = request.getfixturevalue("host_module")

        def launch(**arguments: Any) -> None:
            trt.gpu.put(arguments["stream"], lambda: host.flow_step(**arguments) and None)

        monkeypatch.setattr(ops, "kernels", lambda: SimpleNamespace(TILED=True, flow_step=launch))
    return name


def test_the_whole_way_against_float64(way: str, seeing: Path, finder: FaceFinder) -> None:
    """The networks run on each backend, the face stage always on onnxruntime."""
    image = Image.open(EXAMPLES / "hopper.jpg").convert("RGB")
    (face,) = finder.find(image)
    bundle, (backend, one_launch) = Bundle.open(seeing), WAYS[way]
    if backend:
        networks = Networks.open(bundle, backend, EngineOptions(1), cuda_graph=one_launch)
    else:
        networks = Networks(bundle, tiny.engines(ALL))
    with networks:
        pipe = HeadPipeline(bundle, networks, way, finder=finder)
        head = pipe(image, seed=5, **SAMPLING)
    model = tiny.TinyModel(ALL)
    (portrait,) = portraits(image, "hopper", finder, FaceChoice())
    pixels = portrait.pixels(tiny.SIDE, tiny.SIDE)
    tokens = model.image_encoder(pixels, **evidence(ALL, image, face, finder))["tokens"]
    rows, e = tiny.variation().directions.astype(np.float64), np.float64(noise(5, (tiny.N * tiny.D,)))
    inside = rows.T @ (rows @ e)
    x = (tiny.FLOW.temperature * (e - inside) + 1.25 * inside).reshape(1, tiny.N, tiny.D)
    for t, t_next in itertools.pairwise(np.linspace(1, 0, 4)):
        x = x - (t - t_next) * model.velocity(x, t, tokens)
    expected = in_metres(model.vae_decoder(x)["vertices"][0])
    assert head.positions == pytest.approx(expected[:, :3], abs=2e-5)
    assert "evidence" in head.timings and ("flow_graph" in head.timings) == one_launch
    assert head.metadata["temperature"] == tiny.FLOW.temperature
    assert head.metadata["open_temperature"] == 1.25


def test_a_temperature_of_the_caller_scales_all_noise(seeing: Path, tmp_path: Path) -> None:
    tiny.write_tiny_bundle(tmp_path, ALL)
    varied, plain = fake_pipeline(seeing), fake_pipeline(tmp_path)
    one, other = (pipe(GREY, seed=3, temperature=0.5, **SAMPLING) for pipe in (varied, plain))
    assert same(one, other) and "open_temperature" not in one.metadata
    one, other = (pipe(GREY, seed=3, **SAMPLING) for pipe in (varied, plain))
    assert not np.array_equal(one.positions, other.positions)
    assert "open_temperature" not in other.metadata
    again = list(varied.stream(GREY, seed=3, **SAMPLING))[-1]
    assert np.array_equal(again.positions, one.positions)


def test_encoding_without_a_face_and_with_other_evidence(seeing: Path) -> None:
    networks = Networks(Bundle.open(seeing), tiny.engines(ALL))
    pixels = np.random.default_rng(0).random((1, 3, tiny.SIDE, tiny.SIDE), np.float32)
    assert np.array_equal(*(networks.encode_image(pixels, e).tokens for e in (None, no_evidence(ALL))))
    bad: dict[str, tuple[dict[str, Array], str]] = {
        "one is missing": (no_evidence(ALL[:-1]), "engine input 'aligned': got nothing"),
        "one too many": ({**no_evidence(ALL), "hair": np.zeros(1, np.float32)}, "'hair'"),
        "another shape": ({**no_evidence(ALL), "pose": np.zeros((1, 3), np.float32)}, "'pose'"),
    }
    for given, message in bad.values():
        with pytest.raises(InputError, match=message):
            networks.encode_image(pixels, given)


CONTRACT_BREAKS: dict[str, tuple[tuple[str, ...], tuple[str, ...] | None, str]] = {
    "a missing input": (SOME, (*SOME, "identity"), "got expression, landmarks, pixels; expected expression,"),
    "an input too many": (SOME, ("landmarks",), "got expression, landmarks, pixels; expected landmarks,"),
    "no evidence at all": (SOME, None, "got expression, landmarks, pixels; expected pixels"),
}


@pytest.mark.parametrize("case", CONTRACT_BREAKS)
def test_graphs_that_take_other_evidence_than_the_manifest_says(case: str, tmp_path: Path) -> None:
    written, claimed, message = CONTRACT_BREAKS[case]
    made = tiny.write_tiny_bundle(tmp_path, written)
    write_manifest(tmp_path, dataclasses.replace(made, evidence=claimed))
    with pytest.raises(BundleError, match=f"graph image_encoder: inputs: {message}"):
        HeadPipeline.open(tmp_path, "onnxruntime", threads=1)


def test_a_graph_without_the_estimate_that_the_manifest_promises(tmp_path: Path) -> None:
    made = tiny.write_tiny_bundle(tmp_path, SOME)
    write_manifest(tmp_path, dataclasses.replace(made, residual_scale=0.5))
    with pytest.raises(
        BundleError, match="graph image_encoder: outputs: got tokens; expected estimate, tokens"
    ):
        HeadPipeline.open(tmp_path, "onnxruntime", threads=1)


def test_evidence_of_another_shape(seeing: Path) -> None:
    inner = tiny.TinyModel(ALL).engine("image_encoder")
    inputs = inner.inputs | {"pose": dataclasses.replace(inner.inputs["pose"], shape=(1, 3))}
    with pytest.raises(BundleError, match=r"input 'pose': got float32 \[1, 3\]; expected float32 \[1, 2\]"):
        fake_pipeline(seeing, image_encoder=FakeEngine(inner.run, inputs, inner.outputs))


def test_a_bundle_with_a_damaged_variation(tmp_path: Path) -> None:
    tiny.write_tiny_bundle(tmp_path, varied=True)
    found = Bundle.open(tmp_path).variation
    assert found is not None and np.array_equal(found.directions, tiny.variation().directions)
    (tmp_path / "variation.safetensors").write_bytes(b"x" * 40)
    write_manifest(tmp_path, dataclasses.replace(tiny.manifest(), variation="variation.safetensors"))
    with pytest.raises(BundleError, match=r"file variation.safetensors: got .*; expected a complete"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("names", [(), SOME, ("features",)])
def test_the_identity_network_is_loaded_for_those_who_take_it(names: tuple[str, ...], tmp_path: Path) -> None:
    tiny.write_tiny_bundle(tmp_path, names)
    with HeadPipeline.open(tmp_path, "onnxruntime", threads=1) as pipe:
        pipe.warm_up()
        head = pipe(str(EXAMPLES / "hopper.jpg"), **SAMPLING)
        assert ("evidence" in head.timings) == bool(names)
        assert pipe._finder is not None
        loaded = set(pipe._finder.networks._engines)
    assert loaded == {*LOOKED_WITH, *(["face_identity"] if names == ("features",) else [])}


def test_nothing_of_an_identity_stays(
    seeing: Path, finder: FaceFinder, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a head, nor its files, nor a log hold the embedding."""
    caplog.set_level(logging.DEBUG)
    pipe, watching = watched(seeing, finder)
    head = pipe(str(EXAMPLES / "hopper.jpg"), **SAMPLING)
    embedding = watching.fed[0]["identity"]
    assert embedding.any() and head.face is not None
    kept = [pickle.dumps(head), EXPORTERS["glb"](head, ExportOptions())]
    assert head.face.landmarks[:2].tobytes() in kept[0]  # as the embedding would be
    assert not any(embedding[0, :4].tobytes() in data for data in kept)
    assert f"{embedding[0, 0]:.4f}" not in caplog.text + str(head.metadata)


def test_info_says_what_a_model_takes(
    seeing: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(seeing)]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["evidence"] == f"{', '.join(ALL)} of the face"
    assert rows["variation"] == "temperature 1.25 in 2 directions that pictures leave open"
    assert main(["info", str(tiny_bundle)]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["evidence"] == "the pixels alone"
    assert rows["variation"] == "none: one temperature scales all noise"
