"""Heads made at once, against the same heads made one after another.

They are made by fake engines of numbers of heads, by onnxruntime, and by TensorRT-RTX's plans on a fake GPU.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs
from tests import tiny_bundle as tiny
from tests.fakes import IMAGE, OTHER
from topos_rt import HeadMesh, HeadPipeline
from topos_rt.engines import EngineOptions, builder, onnxruntime
from topos_rt.engines.contract import AT_ONCE, FORMS
from topos_rt.engines.fake import FakeEngine
from topos_rt.errors import BundleError, Cancelled, ImageError, InputError, OptionError
from topos_rt.jobs import groups
from topos_rt.model import at_once
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.model.manifest import GRAPHS_AT_ONCE
from topos_rt.model.networks import Networks
from topos_rt.model.sources import STEPS, engine_source
from topos_rt.support.arrays import Array
from topos_rt.support.progress import Progress, Tracker

pytestmark = pytest.mark.usefixtures("whole_pictures")

SETTINGS: dict[str, dict[str, Any]] = {
    "the model's own guidance": {"preset": "balanced"},
    "no guidance": {"preset": "fast", "guidance": 0},
    "an interval and reuse": {
        "steps": 6, "solver": "heun", "guidance": 2.0, "interval": (0.2, 0.9), "reuse": 2
    },
}  # fmt: skip
# It is a share of the size of a head. No difference was seen, but a batch may be summed otherwise elsewhere.
TOLERANCE = 2e-6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle with graphs that take several heads at once, whose encoder estimates the latent."""
    directory = tmp_path_factory.mktemp("bundles") / "at_once"
    directory.mkdir()
    tiny.write_tiny_bundle(directory, estimating=True, at_once=True)
    return directory


@pytest.fixture
def gaining(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let onnxruntime make heads at once, too."""
    monkeypatch.setattr(onnxruntime, "gains_at_once", True)


def open_on_cpu(bundle: Path, batch: int = 8) -> HeadPipeline:
    return HeadPipeline.open(bundle, "onnxruntime", threads=1, batch=batch)


def assert_equal_heads(heads: list[HeadMesh], expected: list[HeadMesh]) -> None:
    assert len(heads) == len(expected)
    size = np.ptp(expected[0].positions)
    for head, want in zip(heads, expected, strict=True):
        assert np.abs(head.positions - want.positions).max() < TOLERANCE * size
        assert head.metadata == want.metadata
    # Heads of other images or seeds are further apart than that by far.
    assert np.abs(expected[0].positions - expected[-1].positions).max() > 500 * TOLERANCE * size


@pytest.mark.parametrize("case", SETTINGS)
def test_seeds_of_an_image(bundle: Path, gaining: None, case: str) -> None:
    with open_on_cpu(bundle, 1) as pipe:
        assert pipe.batch == 1
        expected = pipe(IMAGE, seed=range(15), **SETTINGS[case])
    with open_on_cpu(bundle) as pipe:
        assert pipe.batch == 8
        assert_equal_heads(pipe(IMAGE, seed=range(15), **SETTINGS[case]), expected)


def test_images_each_with_its_own_seed(bundle: Path, gaining: None) -> None:
    images, seeds = [IMAGE, OTHER, IMAGE, OTHER, OTHER], [4, 5, 6, 5, 4]
    with open_on_cpu(bundle, 1) as pipe:
        expected = pipe(images, seed=seeds)
    with open_on_cpu(bundle, 4) as pipe:
        heads = pipe(images, seed=seeds)
        assert_equal_heads(heads, expected)
        assert np.array_equal(heads[3].positions, heads[1].positions)  # its place in a batch changes nothing
        streamed = list(pipe.stream(IMAGE, seed=4))
    assert np.array_equal(streamed[-1].positions, expected[0].positions)


class Several:
    """Fake engines of numbers of heads, over those of one head, which write down what they ran."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, int]] = []

    def engine(self, graph: str, number: int) -> FakeEngine:
        inner = tiny.TinyModel().engine(graph)
        inputs, outputs = (tiny.specs(side) for side in tiny.shapes_at_once(graph, number))

        def handler(feeds: Mapping[str, Array]) -> dict[str, Array]:
            self.runs.append((graph, number))
            made = [inner.run({n: self._part(n, a, k) for n, a in feeds.items()}) for k in range(number)]
            whole = {"keys", "values"}
            join = {name: np.stack if name in whole else np.concatenate for name in outputs}
            return {name: join[name]([one[name] for one in made]) for name in outputs}

        return FakeEngine(handler, inputs, outputs)

    @staticmethod
    def _part(name: str, array: Array, k: int) -> Array:
        if name in ("modulation", "guidance"):
            return array
        return array[k] if name in ("keys", "values") else array[k : k + 1]

    def pipeline(self, path: Path, numbers: tuple[int, ...] = AT_ONCE) -> HeadPipeline:
        bundle = Bundle.open(path)
        several = {n: {graph: self.engine(graph, n) for graph in GRAPHS_AT_ONCE} for n in numbers}
        return HeadPipeline(bundle, Networks(bundle, tiny.engines(), several), "fake")


def test_the_largest_numbers_first(tiny_bundle: Path) -> None:
    several = Several()
    with several.pipeline(tiny_bundle) as pipe:
        heads = pipe(IMAGE, seed=range(15), steps=3, guidance=0)
        own = [(graph, n) for n in (8, 4, 2) for graph in ("dit_context", *["dit_step"] * 3)]
        assert several.runs == own
        with several.pipeline(tiny_bundle, ()) as alone:
            assert_equal_heads(heads, alone(IMAGE, seed=range(15), steps=3, guidance=0))
        several.runs.clear()
        pipe(IMAGE, seed=1, steps=3)
        assert several.runs == []


def test_a_bad_image_does_not_lose_those_before_it(tiny_bundle: Path) -> None:
    several, bad = Several(), np.zeros((4, 4, 9), np.uint8)
    with several.pipeline(tiny_bundle) as pipe:
        expected = pipe([IMAGE, OTHER, IMAGE], seed=[0, 1, 2])
        heads = []
        with pytest.raises(ImageError):
            for head in pipe.each([IMAGE, OTHER, IMAGE, bad, OTHER], seed=[0, 1, 2, 3, 4]):
                heads.append(head)
    for head, want in zip(heads, expected, strict=True):
        assert np.array_equal(head.positions, want.positions)


def test_progress_and_timings(tiny_bundle: Path) -> None:
    told: list[Progress] = []
    with Several().pipeline(tiny_bundle, (2,)) as pipe:
        heads = pipe(IMAGE, seed=[1, 2, 3], steps=2, callback=lambda progress: told.append(progress))
        assert {progress.item for progress in told} == {0, 1, 2} and told[-1].items == 3
        for head in heads:
            assert head.timings["dit_step"] > 0 and head.timings["vae_decoder"] > 0
            parts = sum(seconds for name, seconds in head.timings.items() if name != "total")
            assert head.timings["total"] == pytest.approx(parts)
        assert heads[0].timings["dit_step"] == heads[1].timings["dit_step"]
        assert "image_encoder" in heads[0].timings and "image_encoder" not in heads[1].timings
        with pytest.raises(Cancelled, match="dit_step"):
            pipe(IMAGE, seed=[1, 2], steps=2, callback=lambda progress: progress.step < 1)


def test_what_heads_share_adds_up() -> None:
    trackers = [Tracker(steps=3, item=k, items=3) for k in range(3)]
    trackers[0].timings["image"] = 5.0
    with Tracker.shared(trackers) as first:
        first.timings["dit_step"] = 6.0
    assert [t.timings for t in trackers] == [{"image": 5.0, "dit_step": 2.0}, *[{"dit_step": 2.0}] * 2]


def test_groups() -> None:
    numbers = (4, 2, 1)
    assert list(groups(iter(range(11)), numbers)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [10]]
    assert list(groups(iter(()), numbers)) == []

    def failing(error: Exception) -> Iterator[int]:
        yield from range(6)
        raise error

    made = groups(failing(InputError("bad")), numbers)
    assert [next(made), next(made)] == [[0, 1, 2, 3], [4, 5]]
    with pytest.raises(InputError):
        next(made)
    made = groups(failing(Cancelled("stopped")), numbers)
    assert next(made) == [0, 1, 2, 3]
    with pytest.raises(Cancelled):  # at once: nobody waits for the other two
        next(made)


def test_a_batch_is_a_wish(bundle: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_on_cpu(bundle) as pipe:
        assert pipe.batch == 1  # a CPU gains nothing
    monkeypatch.setattr(onnxruntime, "gains_at_once", True)
    with open_on_cpu(tiny_bundle) as pipe:
        assert pipe.batch == 1  # the bundle has no graphs for it
    with open_on_cpu(bundle, 2) as pipe:
        assert pipe.batch == 2
    for wrong in (0, 3, 16, True, 2.0):
        with pytest.raises(OptionError, match=r"batch: got .*; expected one of: 1, 2, 4, 8"):
            open_on_cpu(bundle, wrong)  # type: ignore[arg-type]


def test_engines_that_are_not_those_of_the_manifest(tiny_bundle: Path) -> None:
    several, opened = Several(), Bundle.open(tiny_bundle)
    sound = {graph: several.engine(graph, 2) for graph in GRAPHS_AT_ONCE}
    wrong = {graph: several.engine(graph, 4) for graph in GRAPHS_AT_ONCE}
    for engines in (wrong, sound | {"dit_step": wrong["dit_step"]}, {"dit_step": sound["dit_step"]}):
        with pytest.raises(BundleError):
            Networks(opened, tiny.engines(), {2: engines})
    Networks(opened, tiny.engines(), {2: sound})


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, host_module: Any, tmp_path: Path) -> Iterator[Any]:
    """Yield a fake GPU with our kernel; check that everything is freed in the end."""
    from types import SimpleNamespace

    from topos_rt.gpu import ops

    made = needs.module("tests.engines.fake_gpu").install(monkeypatch)

    def flow_step(**arguments: Any) -> None:
        made.gpu.put(arguments["stream"], lambda: host_module.flow_step(**arguments) and None)

    monkeypatch.setattr(ops, "kernels", lambda: SimpleNamespace(TILED=False, flow_step=flow_step))
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path))
    yield made
    assert (made.gpu.used, made.gpu.memory, made.gpu.streams, made.gpu.graphs, made.live) == (
        0,
        {},
        {},
        0,
        [],
    )


@pytest.fixture(scope="module")
def in_fp16(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same bundle, whose manifest calls its graphs those of FP16, too."""
    directory = tmp_path_factory.mktemp("bundles") / "in_fp16"
    shutil.copytree(bundle, directory)
    manifest = Bundle.open(bundle).manifest
    assert manifest.graphs_at_once is not None
    at_once = dict.fromkeys(FORMS, manifest.graphs_at_once["fp32"])
    own = dataclasses.replace(manifest, graphs_fp16=manifest.graphs, graphs_at_once=at_once)
    write_manifest(directory, own)
    return directory


def keys_of(pipe: HeadPipeline, number: int) -> set[np.dtype[Any]]:
    """Return the types that the engines of a number of heads have for keys and values."""
    networks: Any = pipe._networks
    own = networks._engines if number == 1 else networks._at_once[number]
    context, steps = own["dit_context"].outputs, [own[name].inputs for name in STEPS]
    return {side[name].dtype for side in (context, *steps) for name in ("keys", "values")}


@pytest.mark.parametrize("one_launch", [False, True])
def test_engines_of_one_number_agree_on_keys_and_values(trt: Any, in_fp16: Path, one_launch: bool) -> None:
    options: dict[str, Any] = {"decoder": "engine", "cuda_graph": one_launch}
    made = {}
    for precision in ("fp32", "fp16"):
        with HeadPipeline.open(in_fp16, "tensorrt-rtx", batch=4, precision=precision, **options) as pipe:
            assert pipe.batch == 4
            found = {number: keys_of(pipe, number) for number in (1, 2, 4)}
            alone = np.dtype("float16" if precision == "fp16" else "float32")
            assert found == {1: {alone}, 2: {np.dtype("float32")}, 4: {np.dtype("float32")}}
            made[precision] = pipe(IMAGE, seed=range(7))  # the last one alone
    apart = [np.abs(a.positions - b.positions).max() for a, b in zip(made["fp16"], made["fp32"], strict=True)]
    assert apart[:6] == [0] * 6  # these graphs round nothing themselves
    assert 0 < apart[6] < 1e-3 * np.ptp(made["fp32"][0].positions)


def test_one_head_at_a_time_in_8_bits(in_fp16: Path) -> None:
    opened, chosen = Bundle.open(in_fp16), builder("tensorrt-rtx")
    for precision, numbers in (("fp16", (4, 2)), ("int8", ()), ("fp8", ())):
        settled = engine_source(opened, STEPS[0], chosen, EngineOptions(precision=precision))[1]
        assert at_once.numbers_for(opened, chosen, settled.precision, 4) == numbers


def test_other_keywords_are_refused(tiny_bundle: Path) -> None:
    for name in ("wrap", "batches", "model_name"):
        with pytest.raises(TypeError, match=rf"open\(\) got an unexpected keyword argument '{name}'"):
            HeadPipeline.open(tiny_bundle, **{name: None})  # type: ignore[call-arg]


@pytest.mark.parametrize("one_launch", [False, True])
def test_plans_with_a_profile_for_each_number(trt: Any, bundle: Path, one_launch: bool) -> None:
    options: dict[str, Any] = {"decoder": "engine", "cuda_graph": one_launch}
    with HeadPipeline.open(bundle, "tensorrt-rtx", **options) as pipe:
        expected = pipe([IMAGE, OTHER] * 4, seed=range(8)) + pipe(IMAGE, seed=range(20, 27))
        contexts = len(trt.live)
    with HeadPipeline.open(bundle, "tensorrt-rtx", batch=8, **options) as pipe:
        assert pipe.batch == 8 and len(trt.live) == contexts + 9  # three graphs, each for 2, 4 and 8
        heads = pipe([IMAGE, OTHER] * 4, seed=range(8)) + pipe(IMAGE, seed=range(20, 27))
        assert_equal_heads(heads, expected)
        again = pipe(IMAGE, seed=range(20, 27))
        assert [np.array_equal(a.positions, b.positions) for a, b in zip(again, heads[8:], strict=True)] == [
            True
        ] * 7
        if one_launch:
            assert trt.gpu.graphs == 4  # one for each of 8, 4, 2 and 1
            assert "flow_graph" in heads[0].timings and "dit_step" not in heads[0].timings


def test_a_profile_that_fails(trt: Any, bundle: Path) -> None:
    trt.fail = "profile"
    with pytest.raises(Exception, match="TensorRT could not load"):
        HeadPipeline.open(bundle, "tensorrt-rtx", batch=2, decoder="engine")
    trt.fail = ""


def test_what_it_takes_on_the_gpu(trt: Any, bundle: Path) -> None:
    needed = HeadPipeline.requirements(bundle, "tensorrt-rtx", batch=4, decoder="engine")
    alone = HeadPipeline.requirements(bundle, "tensorrt-rtx", decoder="engine")
    more = {f"{graph} at once" for graph in GRAPHS_AT_ONCE}
    assert set(needed) - set(alone) == more
    one, several = needed["dit_step"], needed["dit_step at once"]
    shared = 4 * tiny.BLOCKS * 6 * tiny.WIDTH  # bytes of the modulation, which all heads share
    assert several["inputs_outputs"] == sum(AT_ONCE) * (one["inputs_outputs"] - shared) + shared
    assert several["weights"] < 2 * max(1, one["weights"])


def test_the_sizes_of_a_session(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    path = opened.graph_at_once("dit_step", "fp32")
    assert path is not None and opened.graph_at_once("dit_step", "fp16") is None
    engines = onnxruntime.load_at_once(path, EngineOptions(threads=1), (8, 2))
    for number, engine in engines.items():
        inputs, outputs = (tiny.specs(side) for side in tiny.shapes_at_once("dit_step", number))
        assert (dict(engine.inputs), dict(engine.outputs)) == (inputs, outputs)
        engine.close()
    with pytest.raises(BundleError, match="static shape"):  # a graph of several heads is none of one
        onnxruntime.load(path, EngineOptions(threads=1))
    bare = dataclasses.replace(opened.manifest, graphs_at_once=None)
    assert "at_once" not in "".join(bare.graph_files())
