"""TensorRT-RTX's real builder, which needs no GPU, behind the cache."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import signal
import threading
import time
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from export.bundle_writer import WIDE_SUMS
from tests import needs
from tests.engines import graphs
from topos_rt.engines import EngineOptions, backend, builder
from topos_rt.engines.cache import EngineCache, EngineCacheWarning
from topos_rt.engines.contract import AT_ONCE, BATCH
from topos_rt.engines.tensorrt.backend import Plan
from topos_rt.engines.tensorrt.build import Messages
from topos_rt.errors import BackendError, BundleError, Cancelled, MissingExtraError, OptionError, OutputError
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import GRAPHS, GraphFiles
from topos_rt.model.sources import engine_source

tensorrt_rtx = needs.module("tensorrt_rtx")

RTX = builder("tensorrt-rtx")
ATTENTIONS = {"image_encoder": 8, "vae_encoder": 3}  # of `mini`; their two products are one kernel


def all_plans(model: Path | str, options: EngineOptions) -> dict[str, Plan]:
    bundle = Bundle.open(model)
    return {graph: RTX.plan(*engine_source(bundle, graph, RTX, options)) for graph in GRAPHS}


def check_plans(first: dict[str, Plan], second: dict[str, Plan]) -> None:
    assert set(first) == set(GRAPHS)
    for graph, plan in first.items():
        again = second[graph]
        assert plan.built and plan.reason == "not built before"
        assert not again.built and again.reason == "in the cache"
        assert again.data == plan.data and again.build == plan.build
        assert set(plan.build.memory) == {"weights", "activations", "inputs_outputs"}
        assert plan.build.layers and set(plan.build.layers) <= {"fp16", "fp32"}


def test_every_graph_of_the_tiny_bundle(tiny_bundle: Path, options: EngineOptions) -> None:
    check_plans(all_plans(tiny_bundle, options), all_plans(tiny_bundle, options))


@pytest.fixture(scope="module")
def mini_plans(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Plan], dict[str, Plan]]:
    options = EngineOptions(cache=tmp_path_factory.mktemp("mini"))
    return all_plans("mini", options), all_plans("mini", options)


def test_every_graph_of_the_bundled_model(mini_plans: tuple[dict[str, Plan], dict[str, Plan]]) -> None:
    check_plans(*mini_plans)
    for graph, plan in mini_plans[0].items():
        if graph != "dit_modulation":  # it is small, runs once per time, and stays in FP32
            assert plan.build.layers["fp16"]["MATRIX_MULTIPLY"] > len(plan.build.wide_products)
        half, wide = graphs.products(Bundle.open("mini").graph(graph, "fp16"))
        found = plan.build.layers.get("fp16", {})
        assert {kind: found.get(kind, 0) for kind in half} == half  # no product is widened or lost on the way
        assert Counter(plan.build.wide_products.values()) == wide
    bytes_of_weights = sum(plan.build.memory["weights"] for plan in mini_plans[0].values())
    assert 1e6 < bytes_of_weights < sum(len(plan.data) for plan in mini_plans[0].values())


def test_graphs_that_run_once_for_a_head_are_summed_in_fp32(
    mini_plans: tuple[dict[str, Plan], dict[str, Plan]],
) -> None:
    """The plans say so of each product, and of attention: a builder that took the casts out would not."""
    for graph, plan in mini_plans[0].items():
        if graph == "dit_modulation":  # FP32 throughout
            continue
        half, _ = graphs.products(Bundle.open("mini").graph(graph, "fp16"))
        sums = Counter(re.findall(rb"accumulation_type=(\d)", plan.data))
        attention = Counter(re.findall(rb"hmma_(fp16|fp32)_traits", plan.data))
        if graph in WIDE_SUMS:  # products of FP32 numbers have 0, too
            alone = half["MATRIX_MULTIPLY"] - 2 * ATTENTIONS.get(graph, 0)
            assert 0.8 * alone <= sums[b"2"] <= alone and b"fp16" not in attention
        else:
            # Attention is written out for speed, and the builder sums one of its two products in FP32.
            assert not sums[b"2"] and attention[b"fp16"] == attention[b"fp32"] > 0


def test_weights_are_hashed_only_where_no_manifest_vouches(tiny_bundle: Path, options: EngineOptions) -> None:
    bundle = Bundle.open(tiny_bundle)
    path, vouched = engine_source(bundle, "dit_step", RTX, options)
    first = RTX.plan(path, vouched)
    assert RTX.plan(path, replace(vouched, hashes={})).key == first.key
    assert first.key.weights == {"weights.safetensors": bundle.manifest.files["weights.safetensors"].sha256}
    altered = replace(vouched, hashes={tiny_bundle / "weights.safetensors": "0" * 64})
    assert RTX.plan(path, altered).reason == "built before, but with other weights"


def test_the_precision_is_settled_by_bundle_backend_and_caller(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    names = {graph: f"half/{graph}.onnx" for graph in GRAPHS}
    both = replace(bundle, manifest=replace(bundle.manifest, graphs_fp16=GraphFiles(**names)))

    def settled(bundle: Bundle, name: str, asked: str | None) -> tuple[str | None, str]:
        path, options = engine_source(bundle, "dit_step", backend(name), EngineOptions(precision=asked))
        return options.precision, path.relative_to(bundle.path).as_posix()

    wide, half = ("fp32", "dit_step.onnx"), ("fp16", "half/dit_step.onnx")
    for asked, expected in ((None, half), ("fp16", half), ("fp32", wide)):
        assert settled(both, "tensorrt-rtx", asked) == expected
    for asked in (None, "fp32"):
        assert settled(both, "onnxruntime", asked) == wide
    with pytest.raises(OptionError, match="precision: got 'fp16'; expected fp32"):
        settled(both, "onnxruntime", "fp16")
    assert settled(bundle, "tensorrt-rtx", None) == wide
    with pytest.raises(BundleError, match="FP16 graphs of the bundle"):
        settled(bundle, "tensorrt-rtx", "fp16")


@pytest.fixture
def heeded() -> Iterator[Callable[[int, FrameType | None], object]]:
    """Return Python's handler of Ctrl-C, in place even where whoever started the tests ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("thread", [False, True])
def test_ctrl_c_ends_a_build_wherever_it_comes(
    graph: Path,
    options: EngineOptions,
    monkeypatch: pytest.MonkeyPatch,
    heeded: Callable[[int, FrameType | None], object],
    thread: bool,
) -> None:
    """TensorRT swallows what Python raises in the code of ours that it calls: monitors and loggers."""
    module = importlib.import_module("topos_rt.engines.tensorrt.build")
    real, places = heeded, 0

    def interrupt() -> None:
        if thread:  # as TensorRT may call from threads of its own
            worker = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
            worker.start()
            worker.join()
        else:
            os.kill(os.getpid(), signal.SIGINT)

    take = module.Messages._take
    for at in range(1, 6):
        calls: list[int] = []

        def taken(self: Any, error: bool, text: str, at: int = at, calls: list[int] = calls) -> None:
            calls.append(1)
            if len(calls) == at:
                interrupt()
            take(self, error, text)

        monkeypatch.setattr(module.Messages, "_take", taken)
        with pytest.raises(KeyboardInterrupt):
            RTX.plan(graph, options)
        places += 1
    monkeypatch.undo()
    for share in (0.0, 0.5):

        def progress(graph: str, done: float, share: float = share) -> None:
            if done >= share:
                interrupt()

        with pytest.raises(KeyboardInterrupt):
            RTX.plan(graph, replace(options, progress=progress))
        places += 1
    assert places == 7 and signal.getsignal(signal.SIGINT) is real
    assert RTX.plan(graph, options).built


@pytest.mark.parametrize("half, weights", [(True, None), (False, None), (True, "w.bin"), (False, "w.bin")])
def test_the_graph_decides_the_precision(
    tmp_path: Path, options: EngineOptions, half: bool, weights: str | None
) -> None:
    plan = RTX.plan(graphs.product(tmp_path / "g.onnx", half, weights), options)
    assert plan.build.layers["fp16" if half else "fp32"]["MATRIX_MULTIPLY"] == 1
    assert plan.build.wide_products == ({} if half else {"plain": "MATRIX_MULTIPLY"})
    assert plan.build.memory["inputs_outputs"] == 2 * 2 * 8 * 4


def test_requirements_are_known_before_loading(graph: Path, options: EngineOptions) -> None:
    need = RTX.requirements(graph, options)
    assert need["inputs_outputs"] == 32 and need["activations"] >= 0
    assert RTX.requirements(graph, options) == need


def test_progress_rises_to_one(graph: Path, options: EngineOptions) -> None:
    told: list[tuple[str, float]] = []
    RTX.plan(graph, replace(options, progress=lambda *what: told.append(what)))
    names, fractions = zip(*told, strict=True)
    assert set(names) == {"g"} and len(told) > 5
    assert list(fractions) == sorted(fractions) and fractions[0] < 0.5 and fractions[-1] == 1


@pytest.mark.parametrize("calls", [1, 4])
def test_a_build_can_be_cancelled(
    graph: Path, options: EngineOptions, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    made: list[Any] = []
    build = tensorrt_rtx.Builder.build_serialized_network

    def recorded(*arguments: Any) -> Any:
        made.append(build(*arguments))
        return made[-1]

    monkeypatch.setattr(tensorrt_rtx.Builder, "build_serialized_network", recorded)

    def stop(_: str, fraction: float) -> bool:
        told.append(fraction)
        return len(told) < calls

    with pytest.raises(Cancelled, match=r"the build of g\.onnx"):
        RTX.plan(graph, replace(options, progress=stop))
    assert len(told) == calls and made == [None]  # TensorRT itself stopped the build
    assert RTX.plan(graph, options).reason == "not built before"


@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt()])
def test_what_the_callback_raises_comes_out(
    graph: Path, options: EngineOptions, error: BaseException
) -> None:
    def fail(_: str, fraction: float) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        RTX.plan(graph, replace(options, progress=fail))
    assert caught.value is error
    assert RTX.plan(graph, options).built


REBUILT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "damaged": (lambda plan: plan.write_bytes(bytes(plan.stat().st_size)), "its plan is damaged"),
    "cut short": (lambda plan: os.truncate(plan, 1000), "its plan has 1000 bytes"),
    "foreign": (lambda plan: plan.write_bytes(b"MZ" * 99), "its plan has 198 bytes"),
}


@pytest.mark.parametrize("case", REBUILT)
def test_a_bad_plan_is_built_anew_after_one_warning(graph: Path, options: EngineOptions, case: str) -> None:
    damage, told = REBUILT[case]
    first = RTX.plan(graph, options)
    (plan,) = EngineCache(options.cache).directory.glob("*.plan")
    damage(plan)
    with pytest.warns(EngineCacheWarning) as caught:
        second = RTX.plan(graph, options)
    assert len(caught) == 1 and second.built and told in second.reason
    assert len(second.data) == len(first.data)
    assert not RTX.plan(graph, options).built


def test_a_plan_of_another_version(
    graph: Path, options: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tensorrt_rtx.__version__
    RTX.plan(graph, options)
    monkeypatch.setattr(tensorrt_rtx, "__version__", "99.0")
    again = RTX.plan(graph, options)
    assert again.built and again.reason == f"built before, but by version {own} and this is 99.0"


def test_a_cache_that_cannot_be_written_to(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    options = EngineOptions(cache=tmp_path / "file")
    with pytest.warns(EngineCacheWarning, match="the engine is built at each start") as caught:
        plan = RTX.plan(graph, options)
    assert len(caught) == 1 and plan.built and not plan.kept
    with pytest.raises(OutputError, match="cannot write to the engine cache"):
        RTX.plan(graph, options, must_keep=True)


def build_once(path: Path, cache: Path, ready: Any, results: Any) -> None:
    def slowly(_: str, fraction: float) -> None:
        time.sleep(0.02)

    ready.wait(60)
    plan = RTX.plan(path, EngineOptions(cache=cache, progress=slowly))
    results.put((plan.built, plan.reason, plan.data))


def test_two_processes_build_one_plan(graph: Path, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, results = spawn.Barrier(2), spawn.Queue()
    arguments = (graph, tmp_path / "cache", ready, results)
    workers = [spawn.Process(target=build_once, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    told = sorted(results.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert [(built, reason) for built, reason, _ in told] == [
        (False, "built by another process meanwhile"),
        (True, "not built before"),
    ]
    assert told[0][2] == told[1][2]


def test_waiting_for_another_process_can_be_cancelled(graph: Path, options: EngineOptions) -> None:
    key, cache = RTX.plan(graph, options).key, EngineCache(options.cache)
    cache.clear()
    with cache.lock(key), pytest.raises(Cancelled, match="waiting for the build"):
        RTX.plan(graph, replace(options, progress=lambda name, fraction: False))


@pytest.mark.parametrize("case", graphs.UNREADABLE)
def test_what_is_no_graph(tmp_path: Path, options: EngineOptions, case: str) -> None:
    graphs.UNREADABLE[case](tmp_path / "bad.onnx")
    with pytest.raises(BundleError, match=r"graph bad\.onnx") as caught:
        RTX.plan(tmp_path / "bad.onnx", options)
    assert "\n" not in str(caught.value)


def test_graphs_of_open_shape_are_refused(tmp_path: Path, options: EngineOptions) -> None:
    node = helper.make_node("Neg", ["x"], ["y"])
    path = graphs.save(tmp_path / "g.onnx", [node], {"x": [3, "n"], "y": [3, "n"]})
    with pytest.raises(
        BundleError, match=r"tensor 'x': got \[3, -1\]; expected a tensor of static shape, but"
    ):
        RTX.plan(path, options)


def test_a_plan_for_several_numbers_of_heads(tmp_path: Path, options: EngineOptions) -> None:
    """Its weights are there once, and inputs and outputs for each number."""
    weights = np.ones((64, 64), np.float32)
    size = weights.nbytes
    path = tmp_path / "g.onnx"
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    ends = {"x": [BATCH, 64], "y": [BATCH, 64]}
    graphs.save(path, [node], ends, [numpy_helper.from_array(weights, "w")])
    plan = RTX.plan(path, options)
    assert plan.build.memory["inputs_outputs"] == 2 * 4 * 64 * sum(AT_ONCE)
    assert size <= plan.build.memory["weights"] < 2 * size


def test_what_tensorrt_cannot_do_is_told_in_its_words(tmp_path: Path, options: EngineOptions) -> None:
    node = helper.make_node("Nonsense", ["x"], ["y"], name="odd_one")
    path = graphs.save(tmp_path / "g.onnx", [node], {"x": [3], "y": [3]})
    with pytest.raises(BundleError, match=r"graph g\.onnx: got Nonsense odd_one: .*onnxruntime"):
        RTX.plan(path, options)


def test_a_build_that_fails_is_told_in_its_words(
    graph: Path, options: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, network: Any, config: Any) -> None:
        self.logger.log(tensorrt_rtx.ILogger.ERROR, "no tactic\nfor this layer")
        self.logger.log(tensorrt_rtx.ILogger.ERROR, "no tactic\nfor this layer")

    monkeypatch.setattr(tensorrt_rtx.Builder, "build_serialized_network", fail)
    told = r"TensorRT could not build g\.onnx: got no tactic for this layer; fix: use the backend onnxruntime"
    with pytest.raises(BackendError, match=told):
        RTX.plan(graph, options)


def test_a_missing_package(graph: Path, options: EngineOptions) -> None:
    other = replace(RTX, module="tensorrt_nowhere")
    for call in (other.check_builds, lambda: other.plan(graph, options), lambda: other.load(graph, options)):
        with pytest.raises(MissingExtraError, match=r"pip install 'topos-rt\[tensorrt-rtx\]'"):
            call()
    probe = other.probe()
    assert probe.detail == "not installed" and isinstance(probe.error, MissingExtraError)


@pytest.mark.parametrize("precision", ["fp4", "", 16])
def test_bad_precisions(precision: Any) -> None:
    with pytest.raises(OptionError, match="precision"):
        EngineOptions(precision=precision)


def test_only_builders_build() -> None:
    with pytest.raises(OptionError, match="expected one of: tensorrt-rtx, tensorrt"):
        builder("onnxruntime")


def test_a_sound_build_warns_of_nothing(graph: Path, options: EngineOptions) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RTX.plan(graph, options).built
        assert not RTX.plan(graph, options).built


def test_a_logger_outlives_its_messages() -> None:
    """The library may still call the first logger after all that was made with it is gone."""
    messages = Messages(tensorrt_rtx)
    messages.logger.log(tensorrt_rtx.ILogger.ERROR, "kept")
    assert messages.errors() == "kept"
    logger, gone = weakref.ref(messages.logger), weakref.ref(messages)
    del messages
    assert gone() is None and logger() is not None
    logger().log(tensorrt_rtx.ILogger.ERROR, "to nobody")
