"""A head made by one launch, against the same head made step by step.

It runs on a fake GPU, with the real kernel built for the host, and on a real GPU.
"""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import bench_graph
from export.onnx.decoder_tensors import decoder_tensors
from models import TOPOSVAE
from tests import needs
from tests import tiny_bundle as tiny
from tests.fakes import same
from topos_rt.gpu import cuda
from topos_rt.head.hierarchy import Hierarchy
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.model.decoder import KernelDecoder, NumpyDecoder
from topos_rt.model.decoder_steps import make_steps
from topos_rt.model.manifest import Manifest
from topos_rt.support.progress import Progress

fake_gpu = needs.module("tests.engines.fake_gpu")
from topos_rt import HeadPipeline
from topos_rt.errors import BackendError, Cancelled, InputError, OptionError
from topos_rt.gpu import ops

pytestmark = pytest.mark.usefixtures("whole_pictures")

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
errors = fake_gpu.real.cudaError_t
SETTINGS: dict[str, dict[str, Any]] = {
    "reference": {"preset": "reference", "guidance": 3.0},
    "balanced, the model's own guidance": {"preset": "balanced"},
    "an interval": {"steps": 5, "solver": "ab3", "guidance": 2.0, "interval": (0.2, 0.7)},
    "reuse": {"steps": 5, "solver": "heun", "guidance": 2.0, "reuse": 2, "temperature": 0.5},
}


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, host_module: Any, tmp_path: Path) -> Iterator[Any]:
    """Yield a fake GPU whose streams also take the kernels; check that everything is freed in the end."""
    made = fake_gpu.install(monkeypatch)
    gpu = made.gpu
    gpu.kernels = 0

    def launcher(name: str) -> Callable[..., None]:
        def launch(**arguments: Any) -> None:
            gpu.kernels += not gpu.recording
            gpu.put(arguments["stream"], lambda: getattr(host_module, name)(**arguments) and None)

        return launch

    launchers = {name: launcher(name) for name in ("flow_step", "graph_conv", "linear_out", "pack_rows")}
    kernels = SimpleNamespace(TILED=True, **launchers)
    monkeypatch.setattr(ops, "kernels", lambda: kernels)
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path))
    yield made
    gpu.fail.clear()
    assert (gpu.used, gpu.memory, gpu.streams, gpu.graphs, made.live) == (0, {}, {}, 0, [])


@pytest.mark.parametrize("case", SETTINGS)
def test_it_is_the_head_made_step_by_step(trt: Any, tiny_bundle: Path, case: str) -> None:
    with HeadPipeline.open(tiny_bundle, "tensorrt-rtx") as pipe:
        expected = pipe(IMAGE, seed=[3, 4], **SETTINGS[case])
    with HeadPipeline.open(tiny_bundle, "tensorrt-rtx", cuda_graph=True) as pipe:
        heads = pipe(IMAGE, seed=[3, 4], **SETTINGS[case])
        kernels = trt.gpu.kernels
        again = pipe(IMAGE, seed=[3, 4], **SETTINGS[case])
        assert trt.gpu.kernels == kernels and trt.gpu.graphs == 1  # recorded once, then only launched
    size = np.ptp(expected[0].positions)
    for head, want, twice in zip(heads, expected, again, strict=True):
        # The sums are the same, in FP32 but in another order.
        assert np.abs(head.positions - want.positions).max() < 1e-5 * size
        assert np.array_equal(head.positions, twice.positions)
        assert "flow_graph" in head.timings and "dit_step" not in head.timings
        assert head.metadata == want.metadata


@pytest.fixture
def gnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the tiny bundle a decoder for our kernels: random, from its latents to its vertices."""
    ball, tokens = tiny.HEAD, tiny.N
    cluster = np.arange(tiny.V) * tokens // tiny.V
    hierarchy = Hierarchy.build(ball.positions, ball.normals, ball.topology.edges, [cluster])
    torch.manual_seed(0)
    vae = TOPOSVAE(
        hierarchy,
        code_channels=tiny.D,
        width=16,
        num_encoder_layers=1,
        decoder_blocks=(2,),
        decoder_channel=(32, 16),
    )
    steps = make_steps(decoder_tensors(vae.requires_grad_(False)), hierarchy)
    for decoder in (KernelDecoder, NumpyDecoder):
        monkeypatch.setattr(decoder, "open", classmethod(lambda cls, bundle, threads=None: cls(steps)))


def test_our_own_decoder_is_a_part_of_it(trt: Any, tiny_bundle: Path, gnn: None) -> None:
    heads = {}
    for one_launch in (False, True):
        with HeadPipeline.open(tiny_bundle, "tensorrt-rtx", decoder="kernels", cuda_graph=one_launch) as pipe:
            heads[one_launch] = pipe(IMAGE, seed=1, guidance=2.0).positions
            pipe(IMAGE, seed=2, guidance=2.0)
            assert np.array_equal(pipe(IMAGE, seed=1, guidance=2.0).positions, heads[one_launch])
            assert trt.gpu.graphs == 1 + one_launch  # the decoder's and, if there is one, the sampler's
    size = np.ptp(heads[True])
    assert size > 0 and np.abs(heads[True] - heads[False]).max() < 1e-3 * size  # its features are FP16


def test_the_kernels_decode_where_they_can_be_had(
    trt: Any, own_bundle: Path, gnn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels are FP16, so they are not for a model without FP16, nor for a caller who wants FP32."""

    def ours(**more: Any) -> bool:
        with HeadPipeline.open(own_bundle, "tensorrt-rtx", **more) as pipe:
            engines = pipe._networks._engines
            return engines is not None and isinstance(engines["vae_decoder"], KernelDecoder)

    assert not ours()
    manifest = Manifest.from_json((own_bundle / "manifest.json").read_bytes())
    write_manifest(own_bundle, dataclasses.replace(manifest, graphs_fp16=manifest.graphs))
    assert ours() and not ours(precision="fp32") and not ours(decoder="engine")

    def refuse(cls: Any, bundle: Bundle, threads: Any = None) -> None:
        raise BackendError("the CUDA kernels are not there")

    monkeypatch.setattr(KernelDecoder, "open", classmethod(refuse))
    assert not ours()


@pytest.mark.parametrize("decoder", ["engine", "kernels"])
def test_only_pixels_and_noise_go_to_the_gpu(trt: Any, tiny_bundle: Path, gnn: None, decoder: str) -> None:
    with HeadPipeline.open(tiny_bundle, "tensorrt-rtx", decoder=decoder, cuda_graph=True) as pipe:
        m = pipe.bundle.manifest
        pipe(IMAGE)
        before = trt.gpu.copied
        pipe(IMAGE)
        pixels = 3 * m.image.height * m.image.width
        assert trt.gpu.copied - before == 4 * (pixels + m.latent.tokens * m.latent.channels)


def test_a_callback_does_not_change_how_a_head_is_computed(trt: Any, tiny_bundle: Path) -> None:
    seen: list[Progress] = []
    with HeadPipeline.open(tiny_bundle, "tensorrt-rtx", cuda_graph=True) as pipe:
        watched, alone = pipe(IMAGE, steps=4, callback=seen.append), pipe(IMAGE, steps=4)
        assert "flow_graph" in watched.timings and trt.gpu.graphs == 1
        assert same(watched, alone)
    assert [now.step for now in seen if now.stage == "flow_graph"] == [0, 4]


def test_stepwise_calls_are_told_of_every_step_and_may_stop_there(trt: Any, tiny_bundle: Path) -> None:
    steps: list[int] = []

    def watch(progress: Progress) -> bool:
        steps.append(progress.step)
        return progress.step < 3

    with HeadPipeline.open(tiny_bundle, "tensorrt-rtx", cuda_graph=True) as pipe:
        head = pipe(IMAGE, steps=2, stepwise=True, callback=watch)
        assert max(steps) == 2 and "dit_step" in head.timings
        with pytest.raises(Cancelled, match="step 3 of 4"):
            pipe(IMAGE, steps=4, stepwise=True, callback=watch)
        assert len(list(pipe.stream(IMAGE, steps=4))) == 4
        assert trt.gpu.graphs == 0


def test_a_few_settings_are_kept(trt: Any, tiny_bundle: Path) -> None:
    with HeadPipeline.open(tiny_bundle, "tensorrt-rtx", cuda_graph=True) as pipe:
        for steps in (1, 2, 3, 4, 5, 6, 2):
            pipe(IMAGE, steps=steps)
        assert trt.gpu.graphs == 4


def test_warming_up_records_what_later_calls_use(trt: Any, tiny_bundle: Path) -> None:
    with HeadPipeline.open(tiny_bundle, "tensorrt-rtx", cuda_graph=True) as pipe:
        for options in ({}, {"preset": "fast", "guidance": 2.0}):
            pipe.warm_up(**options)
            graphs, kernels = trt.gpu.graphs, trt.gpu.kernels
            assert "flow_graph" in pipe(IMAGE, **options).timings
            assert (trt.gpu.graphs, trt.gpu.kernels) == (graphs, kernels)
        assert graphs == 2


def test_a_pipeline_that_is_dropped_gives_its_graphs_back(trt: Any, tiny_bundle: Path) -> None:
    pipe = HeadPipeline.open(tiny_bundle, "tensorrt-rtx", cuda_graph=True)
    pipe(IMAGE)
    assert trt.gpu.graphs == 1 and trt.gpu.used
    del pipe
    assert (trt.gpu.graphs, trt.gpu.used, trt.gpu.streams) == (0, 0, {})


def test_heads_between_other_work(trt: Any, tiny_bundle: Path) -> None:
    """Whatever runs between two launches may bind the engines to other addresses."""
    points = np.random.default_rng(1).standard_normal((64, 3))
    with HeadPipeline.open(tiny_bundle, "tensorrt-rtx", cuda_graph=True) as pipe:
        first = pipe(IMAGE, seed=1)
        pipe.retopologize(points, points, passes=1)
        pipe(IMAGE, steps=3, stepwise=True)
        assert np.array_equal(pipe(IMAGE, seed=1).positions, first.positions)


def test_a_gpu_is_needed(tiny_bundle: Path) -> None:
    with pytest.raises(OptionError, match="cuda_graph: got the backend onnxruntime; expected one that"):
        HeadPipeline.open(tiny_bundle, "onnxruntime", cuda_graph=True)


def test_kernels_are_needed(trt: Any, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise BackendError("the CUDA kernels are not there")

    monkeypatch.setattr(ops, "kernels", missing)
    with (
        HeadPipeline.open(tiny_bundle, "tensorrt-rtx", cuda_graph=True) as pipe,
        pytest.raises(BackendError, match="the CUDA kernels are not there"),
    ):
        pipe(IMAGE)


FAILURES = ("cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphLaunch")


@pytest.mark.parametrize("call", FAILURES)
def test_a_recording_that_fails(trt: Any, tiny_bundle: Path, call: str) -> None:
    with HeadPipeline.open(tiny_bundle, "tensorrt-rtx", cuda_graph=True) as pipe:
        trt.gpu.fail = {call: errors.cudaErrorStreamCaptureUnsupported}
        with pytest.raises(BackendError, match=r"the CUDA graph of the sampler.*without cuda_graph"):
            pipe(IMAGE)
        trt.gpu.fail = {}
        trt.gpu.recording.clear()
        assert pipe(IMAGE).positions.shape[1] == 3


def test_an_engine_that_cannot_be_recorded(trt: Any, tiny_bundle: Path) -> None:
    with HeadPipeline.open(tiny_bundle, "tensorrt-rtx", cuda_graph=True) as pipe:
        trt.fail = "capture"
        with pytest.raises(BackendError, match=r"dit_context cannot be recorded.*without cuda_graph"):
            pipe(IMAGE)
        trt.fail = ""
        assert pipe(IMAGE).positions.shape[1] == 3


def test_nothing_is_collected_while_recording(trt: Any, tiny_bundle: Path) -> None:
    """The thread that records must not free the memory of a pipeline that was dropped."""
    seen = []
    begin = ops.kernels().flow_step

    def flow_step(**arguments: Any) -> None:
        seen.append((bool(trt.gpu.recording), gc.isenabled()))
        begin(**arguments)

    ops.kernels().flow_step = flow_step
    with HeadPipeline.open(tiny_bundle, "tensorrt-rtx", cuda_graph=True) as pipe:
        pipe(IMAGE, steps=2)
        assert set(seen) == {(False, True), (True, False)} and gc.isenabled()
        trt.gpu.fail = {"cudaStreamEndCapture": errors.cudaErrorStreamCaptureUnsupported}
        with pytest.raises(BackendError):
            pipe(IMAGE, steps=3)
        assert gc.isenabled()
        trt.gpu.fail = {}
        trt.gpu.recording.clear()


def test_collection_is_off_until_the_last_recording_ends(trt: Any) -> None:
    with cuda.Stream() as one, cuda.Stream() as other:
        first, second = one.capture(), other.capture()
        graphs = [first.__enter__(), second.__enter__()]
        first.__exit__(None, None, None)
        assert not gc.isenabled()
        second.__exit__(None, None, None)
        assert gc.isenabled()
        for (graph,) in graphs:
            graph.close()


def test_a_decoder_on_the_host_cannot_be_recorded(trt: Any, tiny_bundle: Path, gnn: None) -> None:
    with (
        HeadPipeline.open(tiny_bundle, "tensorrt-rtx", decoder="numpy", cuda_graph=True) as pipe,
        pytest.raises(InputError, match=r"with vae_decoder: got NumpyDecoder; expected TensorRT.*without"),
    ):
        pipe(IMAGE)


def test_the_benchmark(trt: Any, tiny_bundle: Path, gnn: None, tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    words = ["--model", str(tiny_bundle), "--preset", "fast", "--json", str(path)]
    assert bench_graph.main([*words, "--rounds", "0"]) == 2
    assert bench_graph.main([*words, "--rounds", "2", "--backend", "onnxruntime"]) == 2
    assert bench_graph.main([*words, "--rounds", "2"]) == 0
    found = json.loads(path.read_text())
    assert set(found["ms"]) == set(bench_graph.MODES) and found["ms"]["graph"]["n"] == 2
    graph, own = found["compared"]
    assert graph["ratio"] > 0 and graph["interval"] is None
    assert 0 < graph["largest_mm"] < 1 < own["largest_mm"]  # these two decoders have nothing in common
    assert found["failed"] == {}


def test_the_benchmark_goes_on_without_our_decoder(trt: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    assert bench_graph.main(["--model", str(tiny_bundle), "--rounds", "1", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert set(found["ms"]) == {"steps", "graph"} and len(found["compared"]) == 1
    assert "no tensors decoder.*" in found["failed"]["graph_kernels"]


@pytest.mark.gpu
@pytest.mark.parametrize("case", SETTINGS)
def test_on_a_real_gpu(tiny_bundle: Path, case: str) -> None:
    from topos_rt.engines import builder

    probe = builder("tensorrt-rtx").probe()
    needs.machine(probe.error is None, probe.detail)
    with HeadPipeline.open(tiny_bundle, "tensorrt-rtx") as pipe:
        expected = pipe(IMAGE, seed=3, **SETTINGS[case])
    with HeadPipeline.open(tiny_bundle, "tensorrt-rtx", cuda_graph=True) as pipe:
        for _ in range(3):
            head = pipe(IMAGE, seed=3, **SETTINGS[case])
            assert np.abs(head.positions - expected.positions).max() < 1e-4 * np.ptp(expected.positions)
