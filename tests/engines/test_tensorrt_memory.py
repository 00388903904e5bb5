"""What engines share, on a fake GPU: one stream, one arena, and outputs that stay there."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs
from tests import tiny_bundle as tiny

fake_gpu = needs.module("tests.engines.fake_gpu")
from topos_rt.engines import EngineOptions, builder
from topos_rt.errors import BackendError, InputError
from topos_rt.pipeline import HeadPipeline

pytestmark = pytest.mark.usefixtures("whole_pictures")

RTX = builder("tensorrt-rtx")
X = np.float32([1, -2, 3, 0.5])
errors = fake_gpu.real.cudaError_t


def test_a_pipeline_s_engines_share_one_stream_and_one_arena(
    trt: Any, tiny_bundle: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path))
    needs = HeadPipeline.requirements(tiny_bundle)
    assert trt.gpu.memory == {}  # nothing was loaded
    trt.scratch = 1 << 20
    with HeadPipeline.open(tiny_bundle) as pipe:
        assert len(trt.gpu.streams) == 1
        assert trt.gpu.used == trt.scratch
        pipe.warm_up()
        used = trt.gpu.used
        # Two modulations are cached, and outputs that stay on the GPU are not copied for the next engine.
        assert trt.scratch < used <= trt.scratch + sum(kinds["inputs_outputs"] for kinds in needs.values())
        pipe.warm_up()
        assert trt.gpu.used == used
    assert HeadPipeline.requirements(tiny_bundle, "onnxruntime") == {}


def test_the_identity_network_counts_for_models_that_take_it(
    trt: Any, tiny_bundle: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path))
    (tmp_path / "seeing").mkdir()
    tiny.write_tiny_bundle(tmp_path / "seeing", ("features",))
    needs = HeadPipeline.requirements(tmp_path / "seeing")
    assert set(needs) - set(HeadPipeline.requirements(tiny_bundle)) == {"face_identity"}
    assert needs["face_identity"]["inputs_outputs"] == 4 * (150 * 150 * 3 + 128 + 128 * 8 * 8)


def test_a_pipeline_that_is_dropped_gives_everything_back(
    trt: Any, tiny_bundle: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path))
    gc.disable()
    try:
        pipe = HeadPipeline.open(tiny_bundle)
        pipe.warm_up()
        assert trt.gpu.used and trt.gpu.streams and trt.live
        del pipe
        assert (trt.gpu.used, trt.gpu.pinned, trt.gpu.streams, trt.live) == (0, {}, {}, [])
    finally:
        gc.enable()


def test_closing_after_cuda_has_failed_for_good(tiny_bundle: Path, monkeypatch: Any, tmp_path: Path) -> None:
    """The error that ended it is the one that is raised; nothing can be freed any more."""
    trt = fake_gpu.install(monkeypatch)
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path))
    calls = ("cudaFree", "cudaFreeHost", "cudaStreamSynchronize", "cudaStreamDestroy")
    failing = dict.fromkeys(calls, errors.cudaErrorIllegalAddress)
    with pytest.raises(BackendError, match="cudaErrorIllegalAddress"), HeadPipeline.open(tiny_bundle) as pipe:
        trt.gpu.fail = failing
        pipe(np.zeros((32, 32, 3), np.uint8))


def test_the_arena_grows_to_the_largest_and_no_further(trt: Any, graph: Path, options: EngineOptions) -> None:
    with RTX.workspace() as workspace:
        shared = replace(options, workspace=workspace)
        engines = []
        for scratch, expected in ((100, 100), (300, 300), (200, 300)):
            trt.scratch = scratch
            engines.append(RTX.load(graph, shared))
            assert trt.gpu.used == expected
        for engine in engines:
            assert np.array_equal(engine.run({"x": X})["y"], -X)
        for engine in engines:
            engine.close()


def test_a_workspace_without_a_gpu(trt: Any) -> None:
    trt.gpu.fail = {"cudaStreamCreateWithFlags": errors.cudaErrorMemoryAllocation}
    with pytest.raises(BackendError, match="cudaErrorMemoryAllocation"):
        RTX.workspace()
    trt.gpu.devices = 0
    with pytest.raises(InputError, match="no GPU"):
        RTX.workspace()


def test_what_is_kept_stays_on_the_gpu(trt: Any, graph: Path, options: EngineOptions) -> None:
    with RTX.workspace() as workspace:
        shared = replace(options, workspace=workspace)
        with RTX.load(graph, shared) as first, RTX.load(graph, shared) as second:
            kept = first.run({"x": X}, keep=("y",))["y"]
            other = first.run({"x": 5 * X}, keep=("y",))["y"]  # in memory of its own
            copied = trt.gpu.copied
            assert np.array_equal(second.run({"x": kept})["y"], X)
            assert np.array_equal(second.run({"x": kept})["y"], X)
            assert np.array_equal(second.run({"x": other})["y"], 5 * X)
            assert trt.gpu.copied == copied
            assert np.array_equal(second.run({"x": 2 * X})["y"], -2 * X)  # an input from the host again
            assert np.array_equal(first.run({"x": X})["y"], -X)


def test_memory_that_nobody_holds_is_used_again(trt: Any, graph: Path, options: EngineOptions) -> None:
    with RTX.load(graph, options) as engine:
        held = [engine.run({"x": X}, keep=("y",))["y"] for _ in range(3)]
        used = trt.gpu.used
        assert len({array.address for array in held}) == 3
        del held
        for _ in range(5):
            assert engine.run({"x": X}, keep=("y",))["y"].shape == X.shape
        assert trt.gpu.used == used
        late = engine.run({"x": X}, keep=("y",))["y"]
    del late  # its memory is freed already


def test_arrays_of_another_gpu_are_refused(trt: Any, graph: Path, options: EngineOptions) -> None:
    with RTX.load(graph, options) as engine:
        kept = engine.run({"x": X}, keep=("y",))["y"]
        elsewhere = replace(kept, device=1)
        told = r"'x': got DeviceArray on GPU 1; expected an array, here or on GPU 0"
        with pytest.raises(InputError, match=told):
            engine.run({"x": elsewhere})
        short = replace(kept, shape=(2,))
        with pytest.raises(InputError, match=r"got float32 \[2\]; expected float32 \[4\]"):
            engine.run({"x": short})


def test_the_whole_pipeline_moves_no_context(
    trt: Any, tiny_bundle: Path, monkeypatch: Any, tmp_path: Path
) -> None:
    """After the pixels, only the latents of the sampler are copied to the GPU."""
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path))
    image = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    with HeadPipeline.open(tiny_bundle) as pipe:
        m = pipe.bundle.manifest
        pipe(image, steps=4, solver="euler", guidance=0.0)
        before = trt.gpu.copied
        pipe(image, steps=4, solver="euler", guidance=0.0)
        pixels, latent = 3 * m.image.height * m.image.width, m.latent.tokens * m.latent.channels
        assert trt.gpu.copied - before == 4 * (pixels + 5 * latent)  # four steps and the decoder


@pytest.mark.parametrize("scratch", [0, 1 << 20])
def test_activations_lie_where_we_say(trt: Any, graph: Path, options: EngineOptions, scratch: int) -> None:
    trt.scratch = scratch
    with RTX.load(graph, options) as engine:
        assert trt.gpu.used == scratch
        assert np.array_equal(engine.run({"x": X})["y"], -X)
        assert trt.gpu.used == scratch + 2 * X.nbytes


@pytest.mark.parametrize("room", [0, 20, 40])
def test_too_little_memory(trt: Any, graph: Path, options: EngineOptions, room: int) -> None:
    trt.gpu.bytes = room
    with pytest.raises(BackendError, match=r"could not load g\.onnx: got cudaMalloc: .*out of memory.*close"):
        RTX.load(graph, options)
