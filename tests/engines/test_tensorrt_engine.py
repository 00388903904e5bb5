"""The runner of plans, on a fake GPU; see fake_gpu.py."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs
from tests.engines import graphs

fake_gpu = needs.module("tests.engines.fake_gpu")
from topos_rt.engines import EngineOptions, Probe, builder, choose_backend
from topos_rt.engines.cache import EngineCache, EngineCacheWarning
from topos_rt.engines.tensorrt import backend as tensorrt
from topos_rt.engines.tensorrt import engine as tensorrt_engine
from topos_rt.engines.tensorrt import plan as tensorrt_plan
from topos_rt.engines.trust import read_signed, write_signed
from topos_rt.errors import BackendError, InputError, MissingExtraError, ToposError
from topos_rt.gpu import cuda
from topos_rt.pipeline import HeadPipeline

pytestmark = pytest.mark.usefixtures("whole_pictures")

RTX, FULL = builder("tensorrt-rtx"), builder("tensorrt")
X = np.float32([1, -2, 3, 0.5])
errors = fake_gpu.real.cudaError_t


def test_the_whole_pipeline(trt: Any, tiny_bundle: Path, monkeypatch: Any, tmp_path: Path) -> None:
    """Engines built by TensorRT-RTX and run by our runner make the head of the backend onnxruntime."""
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path))
    image = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    with HeadPipeline.open(tiny_bundle) as pipe:
        assert pipe.backend == "tensorrt-rtx"
        assert "the best that works here; tensorrt-rtx 1." in pipe.backend_reason
        head = pipe(image, seed=3, preset="fast")
        again = pipe(image, seed=3, preset="fast")
    with HeadPipeline.open(tiny_bundle, backend="onnxruntime", threads=1) as pipe:
        expected = pipe(image, seed=3, preset="fast")
    assert np.array_equal(head.positions, again.positions)
    assert np.array_equal(head.positions, expected.positions)


def test_arrays_that_are_not_staged(trt: Any, graph: Path, options: EngineOptions, monkeypatch: Any) -> None:
    monkeypatch.setattr(tensorrt_engine, "_STAGED_BYTES", 0)
    with RTX.load(graph, options) as engine:
        assert trt.gpu.pinned == {}
        for x in (X, np.repeat(X, 2)[::2]):
            assert np.array_equal(engine.run({"x": x})["y"], -X)
        own = X.copy()
        assert engine.run({"x": own}, out={"y": own})["y"] is own
        assert np.array_equal(own, -X)


def test_a_failed_run_harms_no_later_one(trt: Any, graph: Path, options: EngineOptions) -> None:
    with RTX.load(graph, options) as engine:
        for failure in ("kernel", "execute"):
            trt.fail = failure
            with pytest.raises(BackendError):
                engine.run({"x": X}, keep=("y",))
            trt.fail = ""
            assert np.array_equal(engine.run({"x": X})["y"], -X)
        trt.gpu.lost = True
        with pytest.raises(BackendError, match="cudaErrorLaunchFailure"):
            engine.run({"x": X})
        trt.gpu.lost = False
        assert np.array_equal(engine.run({"x": X})["y"], -X)


def test_the_engine_stays_on_its_gpu(trt: Any, graph: Path, options: EngineOptions) -> None:
    trt.gpu.device = 1
    with RTX.load(graph, options) as engine:
        trt.gpu.device = 0
        moves: list[int] = []
        trt.gpu.cudaSetDevice = lambda ordinal: moves.append(ordinal) or (errors.cudaSuccess,)
        engine.run({"x": X})
        assert moves == [1, 0]


LOAD_FAILURES = {
    "deserialize": r"refuses the engine of g\.onnx: got no room for the weights; fix: use the backend onnx",
    "context": r"could not load g\.onnx",
}


@pytest.mark.parametrize("failure", LOAD_FAILURES)
def test_a_load_that_fails(trt: Any, graph: Path, options: EngineOptions, failure: str) -> None:
    trt.fail = failure
    with pytest.raises(BackendError, match=LOAD_FAILURES[failure]):
        RTX.load(graph, options)


RUN_FAILURES = {
    "bind": r"could not bind 'x' of g\.onnx",
    "execute": r"TensorRT failed in g\.onnx: got a kernel could not be compiled",
    "kernel": r"could not run g\.onnx: got cudaStreamSynchronize: cudaErrorIllegalAddress",
}


@pytest.mark.parametrize("failure", RUN_FAILURES)
def test_a_run_that_fails(trt: Any, graph: Path, options: EngineOptions, failure: str) -> None:
    with RTX.load(graph, options) as engine:
        trt.fail = failure
        with pytest.raises(BackendError, match=RUN_FAILURES[failure]):
            engine.run({"x": X})
        trt.fail = ""
        assert np.array_equal(engine.run({"x": X})["y"], -X)


def test_close_is_quiet_where_cuda_has_failed_for_good(trt: Any, graph: Path, options: EngineOptions) -> None:
    engine = RTX.load(graph, options)
    trt.gpu.fail = {"cudaGetDevice": errors.cudaErrorIllegalAddress}
    engine.close()
    trt.gpu.fail = {}
    with pytest.raises(InputError, match="after close"):
        engine.run({"x": X})


@pytest.mark.parametrize("bit", tensorrt_plan.VALIDITY)
def test_each_reason_to_refuse_a_plan_is_told(
    trt: Any, graph: Path, options: EngineOptions, bit: int
) -> None:
    reason, fix = tensorrt_plan.VALIDITY[bit]
    trt.verdicts, trt.fail = [bit], "deserialize" if bit == 2 else ""
    with pytest.raises(BackendError) as caught:
        RTX.load(graph, options)
    assert str(caught.value) == f"TensorRT refuses the engine of g.onnx: got {reason}; fix: {fix}"


def test_a_gpu_that_is_not_on_the_list_may_do(trt: Any, graph: Path, options: EngineOptions) -> None:
    """The verdict says that the plan is not for this GPU, but it loads and runs."""
    trt.verdicts = [2]
    with RTX.load(graph, options) as made:
        assert np.array_equal(made.run({"x": X})["y"], -X)


def test_the_bits_are_those_of_tensorrt(trt: Any) -> None:
    bits = {int(value) for value in trt.EngineInvalidityDiagnostics.__members__.values()}
    assert bits == set(tensorrt_plan.VALIDITY)


@pytest.mark.parametrize("bits, rebuilt", [(1, True), (32, True), (33, True), (34, False)])
def test_a_kept_plan_that_is_refused_is_built_once_more(
    trt: Any, graph: Path, options: EngineOptions, bits: int, rebuilt: bool
) -> None:
    RTX.plan(graph, options)
    trt.verdicts = [bits]
    if not rebuilt:
        with pytest.raises(BackendError, match="compute capability"):
            RTX.load(graph, options)
        return
    with pytest.warns(EngineCacheWarning, match="it is built anew") as caught:
        made = RTX.load(graph, options)
    with made:
        assert np.array_equal(made.run({"x": X})["y"], -X)
    assert len(caught) == 1
    trt.verdicts = [1, 1]
    with pytest.warns(EngineCacheWarning), pytest.raises(BackendError, match="another version"):
        RTX.load(graph, options)


def kernels(options: EngineOptions) -> list[Path]:
    return list(EngineCache(options.cache).directory.glob("*.jit"))


def test_compiled_kernels_are_kept(trt: Any, graph: Path, options: EngineOptions) -> None:
    RTX.load(graph, options).close()
    (path,) = kernels(options)
    assert read_signed(path) == b"kernels" and path.name.endswith(".sm89.jit")
    before = path.stat().st_mtime_ns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RTX.load(graph, options).close()
    assert path.stat().st_mtime_ns == before  # nothing was new, so nothing was written
    engine = RTX.load(graph, options)
    trt.runtime_cache = b"more kernels"
    engine.close()
    assert read_signed(path) == b"more kernels"
    assert EngineCache(options.cache).entries()[0].bytes > len(b"more kernels")


def test_compiled_kernels_outlive_a_program_that_does_not_close(
    trt: Any, graph: Path, options: EngineOptions
) -> None:
    """After a notebook or a killed process: the first run saves what it compiled, once."""
    engine = RTX.load(graph, options)
    assert kernels(options) == []
    engine.run({"x": X})
    (path,) = kernels(options)
    assert read_signed(path) == b"kernels"
    before = path.stat().st_mtime_ns
    engine.run({"x": X})
    engine.close()
    assert path.stat().st_mtime_ns == before


def test_an_engine_that_is_dropped_gives_everything_back(
    trt: Any, graph: Path, options: EngineOptions
) -> None:
    gc.disable()
    try:
        engine = RTX.load(graph, options)
        engine.run({"x": X})
        assert trt.gpu.used and trt.gpu.pinned and trt.live
        del engine
        assert (trt.gpu.used, trt.gpu.pinned, trt.gpu.streams, trt.live) == (0, {}, {}, [])
    finally:
        gc.enable()


@pytest.mark.parametrize("nth", [1, 2])
def test_a_copy_that_fails_leaves_none_in_flight(
    trt: Any, graph: Path, options: EngineOptions, monkeypatch: Any, nth: int
) -> None:
    """The arrays of copies in flight are freed with the error."""
    monkeypatch.setattr(tensorrt_engine, "_STAGED_BYTES", 0)
    copy, calls = trt.gpu.cudaMemcpyAsync, []

    def failing(*arguments: Any) -> Any:
        calls.append(1)
        return (errors.cudaErrorUnknown,) if len(calls) == nth else copy(*arguments)

    with RTX.load(graph, options) as engine:
        trt.gpu.cudaMemcpyAsync = failing
        with pytest.raises(BackendError, match="cudaErrorUnknown"):
            engine.run({"x": X})
        assert trt.gpu.streams and not any(trt.gpu.streams.values())
        assert np.array_equal(engine.run({"x": X})["y"], -X)


def test_an_error_is_told_with_its_own_words_only(trt: Any, graph: Path, options: EngineOptions) -> None:
    """What TensorRT logs about stale kernels has nothing to do with a later failure."""
    RTX.load(graph, options).close()
    write_signed(kernels(options)[0], b"of another driver")
    with pytest.warns(EngineCacheWarning, match="another GPU"), RTX.load(graph, options) as engine:
        trt.fail = "kernel"
        with pytest.raises(BackendError) as caught:
            engine.run({"x": X})
    trt.fail = ""
    assert "runtime cache" not in str(caught.value) and "cudaErrorIllegalAddress" in str(caught.value)


def test_kernels_of_another_gpu_are_told_of_and_replaced(
    trt: Any, graph: Path, options: EngineOptions
) -> None:
    RTX.load(graph, options).close()
    (path,) = kernels(options)
    write_signed(path, b"of another driver")
    with pytest.warns(EngineCacheWarning, match="another GPU, driver or version, or damaged") as caught:
        RTX.load(graph, options).close()
    assert len(caught) == 1 and read_signed(path) == b"kernels"


def test_kernels_that_somebody_else_may_have_written_are_not_loaded(
    trt: Any, graph: Path, options: EngineOptions
) -> None:
    RTX.load(graph, options).close()
    (path,) = kernels(options)
    path.write_bytes(b"kernels")  # they would be accepted, but carry no digest
    with pytest.warns(EngineCacheWarning, match="are not used: it is not one of ours"):
        RTX.load(graph, options).close()
    assert read_signed(path) == b"kernels"


def test_kernels_that_cannot_be_read_or_written(trt: Any, graph: Path, options: EngineOptions) -> None:
    RTX.load(graph, options).close()
    (path,) = kernels(options)
    path.unlink()
    path.mkdir()
    with pytest.warns(EngineCacheWarning, match="cannot be read: Is a directory"):
        engine = RTX.load(graph, options)
    with pytest.warns(EngineCacheWarning, match="the compiled kernels are not kept: cannot write"):
        engine.close()


def test_a_cache_that_cannot_be_written_to(trt: Any, graph: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    options = EngineOptions(cache=tmp_path / "file")
    told = "cannot write to the engine cache"
    with pytest.warns(EngineCacheWarning, match=told) as caught, RTX.load(graph, options) as engine:
        assert np.array_equal(engine.run({"x": X})["y"], -X)
    assert len(caught) == 1


def test_full_tensorrt(monkeypatch: pytest.MonkeyPatch, graph: Path, options: EngineOptions) -> None:
    """TensorRT has no runtime cache and no verdict on plans, and its plans are for one GPU."""
    trt = fake_gpu.install(monkeypatch, full=True)
    with FULL.load(graph, options) as engine:
        assert np.array_equal(engine.run({"x": X})["y"], -X)
    assert kernels(options) == []
    assert FULL.plan(graph, options).key.compute_capability == "8.9"
    trt.gpu.capability = (12, 0)
    assert FULL.plan(graph, options).reason == "built before, but for compute capability 8.9, not 12.0"
    assert "compute capability 12.0" in FULL.probe().detail
    trt.gpu.driver = 0
    for call in (FULL.check_builds, lambda: FULL.plan(graph, options)):
        with pytest.raises(InputError, match="no driver"):
            call()


NO_GPU: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no driver": (lambda gpu: setattr(gpu, "driver", 0), "got no driver; fix: install the NVIDIA driver"),
    "no GPU": (lambda gpu: setattr(gpu, "devices", 0), "got a driver, but no GPU"),
    "no GPU, as CUDA tells it": (
        lambda gpu: gpu.fail.update(cudaGetDeviceCount=errors.cudaErrorNoDevice),
        "got cudaGetDeviceCount: cudaErrorNoDevice, no CUDA-capable device",
    ),
    "an old driver": (
        lambda gpu: (
            setattr(gpu, "driver", 12040),
            gpu.fail.update(cudaGetDeviceCount=errors.cudaErrorInsufficientDriver),
        ),
        r"got a driver for CUDA 12\.4; expected CUDA 1\d\.\d; fix: update the NVIDIA driver",
    ),
}


@pytest.mark.parametrize("case", NO_GPU)
def test_no_gpu_at_load(trt: Any, graph: Path, options: EngineOptions, case: str) -> None:
    change, told = NO_GPU[case]
    change(trt.gpu)
    with pytest.raises(InputError, match=f"needs an NVIDIA GPU and its driver: {told}"):
        RTX.load(graph, options)
    probe = RTX.probe()
    assert isinstance(probe.error, InputError)
    assert probe.detail.startswith("tensorrt-rtx 1.") and "builds engines here" in probe.detail
    assert choose_backend()[0] == "onnxruntime"
    with pytest.raises(InputError):
        choose_backend("tensorrt-rtx")
    assert RTX.plan(graph, options).built  # building needs no GPU


def test_this_machine_as_it_is(graph: Path, options: EngineOptions) -> None:
    probe = RTX.probe()
    needs.machine(probe.error is not None, "there is a GPU")
    with pytest.raises(ToposError) as caught:
        RTX.load(graph, options)
    assert str(caught.value) == str(probe.error)


def test_probe(trt: Any) -> None:
    gpu = "Imaginary RTX 1, 1 GiB, compute capability 8.9, driver for CUDA 13.0"
    assert RTX.probe() == Probe(f"tensorrt-rtx {trt.__version__} on {gpu}")


def test_a_gpu_that_is_not_on_the_list_is_tried(trt: Any) -> None:
    trt.gpu.capability = (9, 0)
    trt.verdicts, trt.fail = [2], "deserialize"
    refused = RTX.probe()
    assert "not on tensorrt-rtx's list (SM120, " in refused.detail
    assert "and a trial fails: it was not built for GPUs of this compute capability" in refused.detail
    assert isinstance(refused.error, BackendError)
    for failure in ("context", "execute", "kernel"):
        trt.fail = failure
        assert "and a trial fails: " in RTX.probe().detail
        assert choose_backend()[0] == "onnxruntime"
    trt.fail = ""
    accepted = RTX.probe()
    assert accepted.error is None and accepted.detail.endswith("yet a trial runs")
    assert choose_backend()[0] == "tensorrt-rtx"


def test_a_package_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise OSError("libtensorrt_rtx.so.1: cannot open shared object file")

    monkeypatch.setattr(tensorrt, "import_module", broken)
    probe = RTX.probe()
    assert "libtensorrt_rtx.so.1" in probe.detail and isinstance(probe.error, MissingExtraError)
    assert "pip install --force-reinstall 'topos-rt[tensorrt-rtx]'" in str(probe.error)


def test_missing_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise ModuleNotFoundError("No module named 'cuda'")

    monkeypatch.setattr(cuda, "runtime", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'topos-rt\[tensorrt-rtx\]'"):
        RTX.check_builds()


def test_memory_can_be_asked_for(trt: Any) -> None:
    assert cuda.free_bytes() == 1 << 30
    with cuda.Memory(256):
        assert cuda.free_bytes() == (1 << 30) - 256


@pytest.mark.gpu
@pytest.mark.parametrize("chosen", [RTX, FULL], ids=lambda chosen: chosen.name)
@pytest.mark.parametrize("half", [True, False])
def test_on_a_real_gpu(chosen: Any, half: bool, tmp_path: Path, options: EngineOptions) -> None:
    probe = chosen.probe()
    needs.machine(probe.error is None, probe.detail)
    path = graphs.product(tmp_path / "g.onnx", half)
    x = np.random.default_rng(1).standard_normal((2, 8)).astype(np.float32)
    w = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float16 if half else np.float32)
    expected = x.astype(w.dtype).astype(np.float64) @ w.astype(np.float64)
    for _ in range(2):  # first built and compiled, then from the cache
        with chosen.load(path, replace(options, precision="fp16" if half else "fp32")) as engine:
            for _ in range(3):
                y = engine.run({"x": x})["y"]
                # The sum of 8 products rounded to the operands' type is off by a few units in the last place.
                bound = np.abs(x) @ np.abs(w.astype(np.float32)) * np.finfo(w.dtype).eps
                assert (np.abs(y - expected) <= 8 * bound).all()
