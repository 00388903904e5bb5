"""One suite over every backend. To add a backend: a function in `MAKERS`."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests import needs
from topos_rt import engines as backends
from topos_rt.engines import BACKENDS, BUILDERS, Engine, EngineOptions, Probe, backend, choose_backend, survey
from topos_rt.engines import onnxruntime as onnxruntime_backend
from topos_rt.engines.fake import FakeEngine
from topos_rt.errors import BackendError, BundleError, InputError, MissingExtraError, OptionError
from topos_rt.gpu import cuda
from topos_rt.support.arrays import Array, TensorSpec

FLOAT = np.dtype(np.float32)
INPUTS = {"a": TensorSpec((2, 3), FLOAT), "b": TensorSpec((3,), FLOAT)}
OUTPUTS = {"sum": TensorSpec((2, 3), FLOAT), "product": TensorSpec((2, 3), FLOAT)}
A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.float32([1, 10, 100])


def write_graph(path: Path, shape: list[Any] | None = None, location: str | None = None) -> Path:
    """Write sum = a + b, product = a * b; with `location`, b is an initializer in that external file."""
    sizes = shape or [2, 3]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in ("a", "sum", "product")]
    b = helper.make_tensor_value_info("b", TensorProto.FLOAT, [3])
    stored = []
    if location is not None:
        tensor = onnx.TensorProto(name="b", data_type=1, dims=[3], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
        stored.append(tensor)
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])]
    inputs = [ends[0], *([] if stored else [b])]
    graph = helper.make_graph(nodes, "g", inputs, ends[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def make_onnxruntime(directory: Path) -> Engine:
    return backend("onnxruntime").load(write_graph(directory / "g.onnx"), EngineOptions(threads=1))


def make_fake(directory: Path) -> Engine:
    results = {name: np.empty((2, 3), np.float32) for name in OUTPUTS}  # the same arrays at each call

    def handler(feeds: Mapping[str, Array]) -> dict[str, Array]:
        np.add(feeds["a"], feeds["b"], out=results["sum"])
        np.multiply(feeds["a"], feeds["b"], out=results["product"])
        return results

    return FakeEngine(handler, INPUTS, OUTPUTS)


def make_tensorrt(name: str, directory: Path) -> Engine:
    """Use the real builder and the real runner, on a fake GPU."""
    options = EngineOptions(cache=directory.parent / "engines")
    return backend(name).load(write_graph(directory / "g.onnx"), options)


MAKERS: dict[str, Callable[[Path], Engine]] = {
    "tensorrt-rtx": partial(make_tensorrt, "tensorrt-rtx"),
    "tensorrt": partial(make_tensorrt, "tensorrt"),
    "onnxruntime": make_onnxruntime,
    "fake": make_fake,
}


@pytest.fixture(params=MAKERS)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Engine]:
    name = request.param
    if name not in BUILDERS:
        with MAKERS[name](tmp_path) as made:
            yield made
        return
    fake_gpu = needs.module("tests.engines.fake_gpu")
    trt = fake_gpu.install(monkeypatch, full=name == "tensorrt")
    with MAKERS[name](tmp_path) as made:
        yield made
    assert (trt.gpu.memory, trt.gpu.pinned, trt.gpu.streams, trt.live) == ({}, {}, {}, [])


def test_every_backend_is_in_this_suite() -> None:
    assert set(BACKENDS) <= set(MAKERS)


def test_specs(engine: Engine) -> None:
    assert engine.inputs == INPUTS
    assert engine.outputs == OUTPUTS


def test_run(engine: Engine) -> None:
    outputs = engine.run({"a": A, "b": B})
    assert list(outputs) == ["sum", "product"]
    assert np.array_equal(outputs["sum"], A + B) and np.array_equal(outputs["product"], A * B)
    assert all(array.dtype == np.float32 and array.flags.writeable for array in outputs.values())


def test_feeds_of_any_layout_are_read_and_not_changed(engine: Engine) -> None:
    a, b = np.asfortranarray(A), np.repeat(B, 2)[::2]
    a.setflags(write=False)
    outputs = engine.run({"b": b, "a": a})
    assert np.array_equal(outputs["sum"], A + B)
    assert np.array_equal(a, A) and np.array_equal(b, B)


def test_no_output_is_overwritten_by_a_later_call(engine: Engine) -> None:
    first = engine.run({"a": A, "b": B})
    second = engine.run({"a": -A, "b": B})
    assert np.array_equal(first["product"], A * B)
    second["product"][:] = 7
    assert np.array_equal(engine.run({"a": -A, "b": B})["product"], -A * B)


def test_the_caller_may_own_outputs(engine: Engine) -> None:
    own = np.full((2, 3), np.nan, np.float32)
    outputs = engine.run({"a": A, "b": B}, out={"product": own})
    assert outputs["product"] is own and np.array_equal(own, A * B)
    assert np.array_equal(outputs["sum"], A + B)


def test_an_output_may_be_an_input(engine: Engine) -> None:
    a = A.copy()
    outputs = engine.run({"a": a, "b": B}, out={"sum": a})
    assert np.array_equal(a, A + B) and np.array_equal(outputs["product"], A * B)


def test_what_is_kept_feeds_a_later_run(engine: Engine) -> None:
    kept = engine.run({"a": A, "b": B}, keep=("sum",))
    assert isinstance(kept["product"], np.ndarray) and np.array_equal(kept["product"], A * B)
    assert (kept["sum"].shape, kept["sum"].dtype) == ((2, 3), np.float32)
    engine.run({"a": -A, "b": B}, keep=("sum", "product"))
    assert np.array_equal(engine.run({"a": kept["sum"], "b": B})["sum"], A + B + B)


@pytest.mark.parametrize("out", [{}, {"sum": A.copy()}])
def test_only_other_outputs_can_be_kept(engine: Engine, out: dict[str, np.ndarray]) -> None:
    name, others = ("sum", "product") if out else ("a", "sum, product")
    with pytest.raises(InputError, match=f"engine output to keep: got '{name}'; expected one of: {others}"):
        engine.run({"a": A, "b": B}, out=out, keep=(name,))


BAD_FEEDS: dict[str, tuple[Mapping[str, Any], str]] = {
    "missing": ({"a": A}, r"input 'b': got nothing; expected float32 \[3\]"),
    "unknown": ({"a": A, "b": B, "c": B}, "got 'c'; expected one of: a, b"),
    "shape": ({"a": A.T, "b": B}, r"input 'a': got float32 \[3, 2\]; expected float32 \[2, 3\]"),
    "broadcastable shape": ({"a": A[:1], "b": B}, "input 'a'"),
    "dtype": ({"a": A.astype(np.float64), "b": B}, "got float64"),
    "byte order": ({"a": A.astype(">f4"), "b": B}, "input 'a'"),
    "list": ({"a": A, "b": [1.0, 2.0, 3.0]}, "got list; expected an? "),
}


@pytest.mark.parametrize("case", BAD_FEEDS)
def test_bad_feeds(engine: Engine, case: str) -> None:
    feeds, message = BAD_FEEDS[case]
    with pytest.raises(InputError, match=message):
        engine.run(feeds)


def read_only() -> np.ndarray:
    array = np.zeros((2, 3), np.float32)
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "out, message",
    [
        ({"quotient": A.copy()}, "expected one of: sum, product"),
        ({"sum": np.zeros((3, 2), np.float32)}, "output 'sum'"),
        ({"sum": np.zeros((2, 3))}, "got float64"),
        ({"sum": np.zeros((3, 2), np.float32).T}, "strided"),
        ({"sum": read_only()}, "read-only"),
    ],
)
def test_bad_out(engine: Engine, out: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine.run({"a": A, "b": B}, out=out)


def test_an_error_does_not_spoil_the_engine(engine: Engine) -> None:
    with pytest.raises(InputError):
        engine.run({})
    assert np.array_equal(engine.run({"a": A, "b": B})["sum"], A + B)


def test_close(engine: Engine) -> None:
    engine.close()
    engine.close()
    with pytest.raises(InputError, match="after close"):
        engine.run({"a": A, "b": B})


def test_another_thread_may_run_it(engine: Engine) -> None:
    results: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: results.append(engine.run({"a": A, "b": B})["sum"]))
    thread.start()
    thread.join()
    assert np.array_equal(results[0], A + B)


def test_a_fake_engine_checks_its_handler() -> None:
    wrong = FakeEngine(lambda feeds: {"sum": A, "product": A.T}, INPUTS, OUTPUTS)
    with pytest.raises(BackendError, match="output 'product'"):
        wrong.run({"a": A, "b": B})
    silent = FakeEngine(lambda feeds: {"sum": A}, INPUTS, OUTPUTS)
    with pytest.raises(BackendError, match="got nothing"):
        silent.run({"a": A, "b": B})


def load(path: Path) -> Engine:
    return backend("onnxruntime").load(path, EngineOptions(threads=1))


def test_weights_beside_the_graph(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(B.tobytes())
    with load(write_graph(tmp_path / "g.onnx", location="w.bin")) as engine:
        assert list(engine.inputs) == ["a"]
        assert np.array_equal(engine.run({"a": A})["sum"], A + B)


@pytest.mark.parametrize("location", ["../w.bin", "{absolute}", "link.bin", "none.bin"])
def test_weights_elsewhere_are_refused(tmp_path: Path, location: str) -> None:
    outside, inside = tmp_path / "w.bin", tmp_path / "bundle"
    outside.write_bytes(B.tobytes())
    inside.mkdir()
    (inside / "link.bin").symlink_to(outside)
    graph = write_graph(inside / "g.onnx", location=location.format(absolute=outside))
    with pytest.raises(BundleError, match=r"graph g\.onnx"):
        load(graph)


@pytest.mark.parametrize("content", [b"", b"garbage " * 20, None])
def test_what_is_no_graph(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "g.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"graph g\.onnx") as caught:
        load(tmp_path / "g.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sizes", [["n", 3], [None, 3]])
def test_graphs_of_open_shape_are_refused(tmp_path: Path, sizes: list[Any]) -> None:
    with pytest.raises(BundleError, match="expected a tensor of static shape"):
        load(write_graph(tmp_path / "g.onnx", sizes))


def test_a_failing_run_is_the_backends_error(tmp_path: Path) -> None:
    """Gather checks its indices only when it runs."""
    ends = [
        helper.make_tensor_value_info("i", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]),
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Gather", ["x", "i"], ["y"])], "g", ends, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    with (
        load(tmp_path / "g.onnx") as engine,
        pytest.raises(BackendError, match=r"onnxruntime failed in g\.onnx"),
    ):
        engine.run({"i": np.array([5]), "x": np.zeros(2, np.float32)})


@pytest.mark.parametrize("threads", [0, -1, 1025, 1.5, True, "2"])
def test_bad_threads(threads: Any) -> None:
    with pytest.raises(OptionError, match="threads"):
        EngineOptions(threads)


def test_auto_does_not_load_tensorrt_without_a_driver() -> None:
    """Loading it would be the longest part of a start on a CPU."""
    needs.machine(not cuda.has_driver(), "there is a driver")
    code = "import sys; from topos_rt import engines; print(engines.choose_backend()[0], *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name, *modules = done.stdout.split()
    assert name == "onnxruntime"
    assert not {module.partition(".")[0] for module in modules} & {"tensorrt_rtx", "tensorrt", "cuda"}


def test_choose_backend() -> None:
    name, reason = choose_backend()
    assert name == next(other for other, probe in survey().items() if probe.error is None)
    assert reason.startswith(f"the best that works here; {name} ")
    assert choose_backend("onnxruntime")[1].startswith("asked for")
    assert list(survey()) == list(BACKENDS)


def test_an_unknown_backend() -> None:
    names = "auto, tensorrt-rtx, tensorrt, onnxruntime"
    with pytest.raises(OptionError, match=f"'onnxrutime'; expected one of: {names}; fix: did you mean"):
        choose_backend("onnxrutime")


def test_a_backend_that_does_not_work_here(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = MissingExtraError.needs("the backend", "some-extra")
    monkeypatch.setattr(onnxruntime_backend, "probe", lambda: Probe("not installed", fault))
    with pytest.raises(MissingExtraError):
        choose_backend("onnxruntime")
    monkeypatch.setattr(backends, "survey", lambda names: {"onnxruntime": onnxruntime_backend.probe()})
    with pytest.raises(BackendError, match=r"no backend works here: got .*onnxruntime: not installed"):
        choose_backend("auto")
