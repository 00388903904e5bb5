"""Engines are compared through Polygraphy: tests of what passes, what must not, and what is said."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import pytest

from tests import needs

needs.module("polygraphy")
from export.__main__ import main
from export.compare import command as compare
from export.compare.command import REFERENCES, RUNNERS, Runner
from export.compare.fp16_emulation import emulated_form
from export.compare.judge import FACTOR, FLOOR, judge
from export.onnx.example_feeds import example_feeds
from export.onnx.forms import narrow_form
from tests import tiny_bundle as tiny
from topos_rt.engines import BACKENDS
from topos_rt.engines.fake import FakeEngine
from topos_rt.errors import BackendError, InputError
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.model.manifest import GRAPHS, GraphFiles
from topos_rt.support.arrays import TensorSpec

SIZE = 64
SPEC = {"x": TensorSpec((SIZE,), np.dtype(np.float32))}
OUT = {"y": TensorSpec((SIZE,), np.dtype(np.float32))}
X = np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
PORTRAIT = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def halved(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundle with FP16 forms beside it."""
    directory = tmp_path_factory.mktemp("bundles") / "halved"
    directory.mkdir()
    manifest = tiny.write_tiny_bundle(directory)
    for graph in GRAPHS:
        half = narrow_form(onnx.load(directory / f"{graph}.onnx", load_external_data=False))
        (directory / f"{graph}.fp16.onnx").write_bytes(half.SerializeToString())
    names = GraphFiles(**{graph: f"{graph}.fp16.onnx" for graph in GRAPHS})
    write_manifest(directory, dataclasses.replace(manifest, graphs_fp16=names))
    return directory


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, Any]]:
    def run(*words: object) -> tuple[int, str, Any]:
        """Return the exit code, all that was printed, and the report."""
        file = tmp_path / "report" / "numbers.json"
        code = main(["compare", *map(str, words), "--threads", "1", "--json", str(file)])
        told = capsys.readouterr()
        return code, told.out + told.err, json.loads(file.read_text()) if file.exists() else None

    return run


# The judge


def engine(of: Callable[[np.ndarray], np.ndarray]) -> Callable[[], FakeEngine]:
    return lambda: FakeEngine(lambda feeds: {"y": of(feeds["x"]).astype(np.float32)}, SPEC, OUT)


def spike(size: float) -> Callable[[np.ndarray], np.ndarray]:
    def of(x: np.ndarray) -> np.ndarray:
        y = x.copy()
        y[3] += size
        return y

    return of


def nan(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    y[3] = np.nan
    return y


EXACT = engine(lambda x: x)
OFF = engine(lambda x: x + 0.01)  # the yardstick: max 0.01, RMS 0.01
JUDGED: dict[str, tuple[Callable[[np.ndarray], np.ndarray], bool]] = {
    "the same": (lambda x: x, True),
    "as far off": (lambda x: x - 0.01, True),
    "just within": (lambda x: x + 0.0199, True),
    "just beyond": (lambda x: x + 0.0201, False),
    "one value, within the RMS": (spike(0.0201), False),
    "within the largest, beyond nothing": (spike(0.0199), True),
    "scaled": (lambda x: 1.05 * x, False),
    "shifted by one": (lambda x: np.roll(x, 1), False),
    "NaN": (nan, False),
    "infinite": (lambda x: x / 0, False),
}


@pytest.mark.parametrize("case", JUDGED)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_verdicts_by_a_yardstick(case: str) -> None:
    of, passes = JUDGED[case]
    (outputs,) = judge(EXACT, engine(of), OFF, [{"x": X}])
    verdict = outputs["y"]
    assert verdict.passed is passes
    assert (verdict.of_limit <= 1) is passes
    assert verdict.limits.max_abs == pytest.approx(FACTOR * 0.01, rel=1e-4)
    if case not in ("NaN", "infinite"):
        apart = of(X).astype(np.float64) - X
        assert verdict.errors.max_abs == pytest.approx(np.abs(apart).max(), rel=1e-4, abs=1e-9)
        assert verdict.errors.mean_abs == pytest.approx(np.abs(apart).mean(), rel=1e-4, abs=1e-9)
        rms = np.linalg.norm(apart) / np.linalg.norm(X)
        assert verdict.relative_rms == pytest.approx(rms, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("part, passes", [(0.5, True), (2.0, False)])
def test_verdicts_without_a_yardstick(part: float, passes: bool) -> None:
    (outputs,) = judge(EXACT, engine(lambda x: x * (1 + part * FLOOR)), None, [{"x": X}])
    assert outputs["y"].passed is passes
    assert outputs["y"].of_limit == pytest.approx(part, rel=0.02)


def test_zeros_need_zeros() -> None:
    zeros = engine(lambda x: 0 * x)
    (outputs,) = judge(zeros, zeros, zeros, [{"x": X}])
    assert outputs["y"].passed and outputs["y"].of_limit == outputs["y"].relative_rms == 0
    (outputs,) = judge(zeros, OFF, zeros, [{"x": X}])
    assert not outputs["y"].passed and outputs["y"].of_limit == np.inf


def test_every_run_has_limits_of_its_own() -> None:
    """An error that is fine beside large values is not beside small ones."""
    rough = engine(lambda x: 1.01 * x)
    ones = np.ones_like(X)
    runs = judge(EXACT, engine(lambda x: x + 0.015), rough, [{"x": ones}, {"x": 0.1 * ones}])
    assert [run["y"].passed for run in runs] == [True, False]


OTHER: dict[str, tuple[dict[str, TensorSpec], dict[str, TensorSpec]]] = {
    "another input": ({"z": SPEC["x"]}, OUT),
    "another shape": ({"x": TensorSpec((SIZE, 1), np.dtype(np.float32))}, OUT),
    "another type": ({"x": TensorSpec((SIZE,), np.dtype(np.float16))}, OUT),
    "another output": (SPEC, {"why": OUT["y"]}),
    "one output more": (SPEC, {**OUT, "z": OUT["y"]}),
}


@pytest.mark.parametrize("case", OTHER)
def test_engines_of_other_tensors_are_refused_and_closed(case: str) -> None:
    """Polygraphy would match names by likeness and cast what it is given."""
    inputs, outputs = OTHER[case]
    made = FakeEngine(lambda feeds: {}, inputs, outputs)
    told = r"(inputs|outputs) of the candidate: got .*; expected [xy] float32"
    with pytest.raises(BackendError, match=told):
        judge(EXACT, lambda: made, None, [{"x": X}])
    with pytest.raises(InputError, match="after close"):
        made.run({})


@pytest.mark.parametrize("of", [nan, lambda x: x * np.inf])
def test_a_reference_or_yardstick_that_is_not_finite_judges_nothing(of: Callable[[Any], Any]) -> None:
    for reference, yardstick in ((engine(of), EXACT), (EXACT, engine(of))):
        with pytest.raises(BackendError, match="output 'y' of the reference or its yardstick: got values"):
            judge(reference, EXACT, yardstick, [{"x": X}])


def test_engines_are_open_one_at_a_time_and_closed_after_a_failure() -> None:
    open_now: list[str] = []

    class Counted(FakeEngine):
        def close(self) -> None:
            open_now.remove(self.name)
            super().close()

    def maker(name: str, of: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]) -> Any:
        def make() -> FakeEngine:
            assert not open_now
            made = Counted(of, SPEC, OUT)
            made.name = name  # type: ignore[attr-defined]
            open_now.append(name)
            return made

        return make

    def fail(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise BackendError("no room on the GPU")

    good = maker("good", lambda feeds: {"y": feeds["x"]})
    judge(good, maker("b", lambda feeds: {"y": feeds["x"]}), good, [{"x": X}, {"x": X}])
    with pytest.raises(BackendError, match="no room"):
        judge(good, maker("bad", fail), None, [{"x": X}])
    assert not open_now


# Inputs


def test_feeds_are_those_of_the_pipeline(tiny_bundle: Path) -> None:
    feeds = example_feeds(Bundle.open(tiny_bundle), PORTRAIT, seed=3, threads=1)
    assert {graph: len(runs) for graph, runs in feeds.items()} == {
        "image_encoder": 1,
        "dit_context": 1,
        "dit_modulation": 4,
        "dit_step": 2,
        "dit_step_guided": 2,
        "vae_decoder": 2,
        "vae_encoder": 1,
    }
    model = tiny.TinyModel()
    tokens = model.image_encoder(feeds["image_encoder"][0]["pixels"])["tokens"]
    assert np.allclose(feeds["dit_context"][0]["tokens"], tokens, atol=1e-5)
    for step in (*feeds["dit_step"], *feeds["dit_step_guided"]):
        for name, value in model.dit_context(tokens).items():
            assert np.allclose(step[name], value, atol=1e-5)
    assert [feed["time"][0] for feed in feeds["dit_modulation"]] == [1.0, 0.75, 0.5, 0.25]
    for graph, runs in feeds.items():
        for feed in runs:
            assert {name: value.shape for name, value in feed.items()} == tiny.SHAPES[graph][0]
            assert all(value.std() > 0 or value.size == 1 for value in feed.values())
    again = example_feeds(Bundle.open(tiny_bundle), PORTRAIT, seed=3, threads=1)
    other = example_feeds(Bundle.open(tiny_bundle), PORTRAIT, seed=4, threads=1)
    latents = [runs["vae_decoder"][0]["latent"] for runs in (feeds, again, other)]
    assert np.array_equal(latents[0], latents[1]) and not np.allclose(latents[0], latents[2])


# The command


def test_every_graph_without_a_gpu(run: Any, halved: Path) -> None:
    code, told, report = run(halved, "--b", "onnxruntime-fp16")
    assert code == 0 and report["agree"] and list(report["graphs"]) == list(GRAPHS)
    for graph, row in report["graphs"].items():
        assert set(row["outputs"]) == set(tiny.SHAPES[graph][1])
        for facts in (fact for runs in row["outputs"].values() for fact in runs):
            assert facts["passed"] and facts["of_limit"] <= 1
            assert (facts["relative_rms"] == 0) is (graph == "dit_modulation")  # without a product
            # FP16 keeps 11 bits, and what rounds more is further off.
            assert facts["relative_rms"] < 2e-3 and facts["relative_rms"] < facts["relative_rms_limit"] < 0.1
    (decoded, _) = report["graphs"]["vae_decoder"]["outputs"]["vertices"]
    assert 0 < decoded["mean_mm"] <= decoded["p99_mm"] <= decoded["max_mm"] < 1
    assert decoded["max_mm"] <= 1000 * tiny.FRAME.radius_m * decoded["max_abs"] * 3**0.5
    assert len(told.splitlines()) == 4 + sum(len(outputs) for _, outputs in tiny.SHAPES.values())
    assert "tiny: onnxruntime-fp16, FP16 forms emulated" in told
    assert told.endswith("all within their limits\n")


def test_what_needs_a_gpu_is_said_in_one_line(run: Any, halved: Path) -> None:
    code, told, report = run(halved, "--graph", "vae_decoder")
    needs.machine("tensorrt" not in report["b"], "there is a GPU")
    assert code == 0 and report["b"].startswith("onnxruntime-fp16")
    (line,) = (line for line in told.splitlines() if "GPU" in line)
    assert "need an NVIDIA GPU, there with --b tensorrt-rtx or tensorrt; here tensorrt-rtx: " in line


def scaled(by: float, name: str) -> Callable[[Path, Path], None]:
    """Return a form whose output `name` is off by a factor, as by a builder's fault."""

    def form(source: Path, target: Path) -> None:
        emulated_form(source, target)
        model = onnx.load(target, load_external_data=False)
        if name not in {output.name for output in model.graph.output}:
            return
        for node in model.graph.node:
            node.output[:] = [f"{name}.right" if found == name else found for found in node.output]
        factor = onnx.helper.make_tensor("factor", onnx.TensorProto.FLOAT, [], [by])
        model.graph.initializer.append(factor)
        model.graph.node.append(onnx.helper.make_node("Mul", [f"{name}.right", "factor"], [name]))
        target.write_bytes(model.SerializeToString())

    return form


@pytest.mark.parametrize("by, code", [(1.0, 0), (1.02, 1), (float("nan"), 1)])
def test_an_engine_that_is_off_fails(
    run: Any, halved: Path, monkeypatch: pytest.MonkeyPatch, by: float, code: int
) -> None:
    fault = dataclasses.replace(RUNNERS["onnxruntime-fp16"], form=scaled(by, "logvar"))
    monkeypatch.setitem(RUNNERS, "faulty", fault)
    got, told, report = run(halved, "--b", "faulty", "--graph", "vae_encoder", "dit_step")
    assert got == code and report["agree"] is (code == 0)
    assert ("beyond its limit: vae_encoder" in told) is (code == 1)
    passed = {name: runs[0]["passed"] for name, runs in report["graphs"]["vae_encoder"]["outputs"].items()}
    assert passed == {"mean": True, "logvar": code == 0}
    assert report["graphs"]["dit_step"]["agree"]
    assert ("not finite" in told) is (by != by)


def test_values_beyond_fp16_fail_though_they_are_near(run: Any, halved: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(compare, "LARGEST_FP16", 0.01)
    code, told, report = run(halved, "--b", "onnxruntime-fp16", "--graph", "dit_context")
    assert code == 1 and "casts values up to" in told and "beyond its limit: dit_context" in told
    outputs = report["graphs"]["dit_context"]["outputs"]
    assert all(fact["passed"] for facts in outputs.values() for fact in facts)


def test_built_plans_on_a_gpu_that_is_not_there(
    run: Any, halved: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    """Take the path of --b tensorrt-rtx: real plans, our runner, and a fake GPU that computes in FP32."""
    fake_gpu = needs.module("tests.engines.fake_gpu")
    trt = fake_gpu.install(monkeypatch)
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path / "cache"))
    code, told, report = run(halved, "--graph", "vae_decoder", "dit_step_guided")
    assert code == 0 and report["b"].startswith("tensorrt-rtx, FP16 engines")
    assert "Imaginary RTX 1" in told and "need an NVIDIA GPU" not in told
    assert len(list((tmp_path / "cache/engines").glob("*.fp16-*.plan"))) == 2
    code, _, report = run(halved, "--a", "tensorrt-rtx-fp32", "--b", "onnxruntime", "--graph", "vae_encoder")
    assert code == 0 and report["a"].startswith("tensorrt-rtx-fp32, FP32 engines")
    assert trt.live == [] and trt.gpu.used == 0
    trt.fail = "execute"
    code, told, _ = run(halved, "--b", "tensorrt-rtx", "--graph", "vae_decoder")
    assert code == 1 and "error: TensorRT failed in vae_decoder.fp16.onnx" in told


def test_runners_name_backends_that_exist() -> None:
    assert {runner.backend for runner in RUNNERS.values()} == set(BACKENDS)
    assert {runner.precision for runner in REFERENCES.values()} == {"fp32"}
    assert all(isinstance(runner, Runner) for runner in RUNNERS.values())


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "an unknown graph": (("--graph", "dit_stop"), "unknown graph: got 'dit_stop'; expected one of: image"),
    "an unknown runner": (("--b", "tensort"), "unknown runner: got 'tensort'; expected one of: auto, onnx"),
    "a reference in FP16": (("--a", "tensorrt-rtx"), "unknown reference: got 'tensorrt-rtx'"),
    "no such portrait": (("--image", "nowhere.png"), "nowhere.png"),
    "a bad seed": (("--seed", "-1"), "seed: got -1; expected a whole number"),
    "bad threads": (("--threads", "0"), "threads: got 0"),
    "a report that cannot be": (("--json", "/dev/null/x.json"), "cannot write /dev/null/x.json"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_usage_is_one_line(halved: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = BAD[case]
    assert main(["compare", str(halved), "--b", "onnxruntime-fp16", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_bundles_that_cannot_be_compared(run: Any, tiny_bundle: Path) -> None:
    code, told, report = run(tiny_bundle, "--b", "onnxruntime-fp16")
    assert (code, report) == (2, None) and "FP16 graphs of the bundle: got none; fix: " in told
    assert run("nowhere")[0] == 2
    code, _, report = run(tiny_bundle, "--b", "onnxruntime")
    assert code == 0 and report["agree"]


def test_an_engine_that_does_not_run_here(run: Any, halved: Path) -> None:
    code, told, _ = run(halved, "--b", "tensorrt")
    needs.machine(code != 0, "TensorRT works here")
    assert code == 2
    assert "pip install 'topos-rt[tensorrt]'" in told or "needs an NVIDIA GPU" in told


def test_a_missing_polygraphy(run: Any, halved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polygraphy", None)
    code, told, _ = run(halved, "--b", "onnxruntime-fp16")
    assert code == 2 and "fix: pip install 'topos-rt[compare]'" in told


def test_the_bundled_model(run: Any) -> None:
    code, _, report = run("mini", "--b", "onnxruntime-fp16", "--graph", "vae_decoder", "dit_step_guided")
    assert code == 0
    assert report["graphs"]["vae_decoder"]["outputs"]["vertices"][0]["p99_mm"] < 0.05
