"""The times of an engine's runs, measured by the events of a fake GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs

fake_gpu = needs.module("tests.engines.fake_gpu")
from topos_rt.bench import ceilings
from topos_rt.bench.watch import FIELDS, Watched
from topos_rt.engines import EngineOptions, builder
from topos_rt.engines.contract import DeviceTimes, Traced
from topos_rt.errors import BackendError
from topos_rt.gpu import cuda

RTX = builder("tensorrt-rtx")
X = np.float32([1, -2, 3, 0.5])


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a fake GPU; check that everything on it is freed in the end."""
    made = fake_gpu.install(monkeypatch)
    yield made
    assert (made.gpu.used, made.gpu.streams, made.gpu.events, made.live) == (0, {}, {}, [])


def test_a_run_is_told_of_until_nobody_listens(trt: Any, graph: Path, options: EngineOptions) -> None:
    told: list[DeviceTimes] = []
    with RTX.load(graph, options) as engine:
        assert isinstance(engine, Traced)
        plain = engine.run({"x": X})["y"]
        engine.trace(told.append)
        assert np.array_equal(engine.run({"x": X})["y"], plain)
        engine.run({"x": X})
        engine.trace(None)
        engine.run({"x": X})
        assert trt.gpu.events == {}
    assert len(told) == 2
    for times in told:
        assert min(times.enqueue, times.to_device, times.compute, times.to_host) > 0


def test_events_are_given_back_with_the_engine(trt: Any, graph: Path, options: EngineOptions) -> None:
    engine = RTX.load(graph, options)
    engine.trace(lambda times: None)
    engine.trace(lambda times: None)
    assert len(trt.gpu.events) == 4
    engine.close()
    engine.trace(lambda times: None)  # a closed engine ignores this


def test_a_run_after_one_that_failed(trt: Any, graph: Path, options: EngineOptions) -> None:
    told: list[DeviceTimes] = []
    with RTX.load(graph, options) as engine:
        engine.trace(told.append)
        trt.fail = "execute"
        with pytest.raises(BackendError):
            engine.run({"x": X})
        trt.fail = ""
        engine.run({"x": X})
    assert len(told) == 1


def test_no_room_for_events(trt: Any, graph: Path, options: EngineOptions) -> None:
    with RTX.load(graph, options) as engine:
        trt.gpu.fail["cudaEventCreate"] = fake_gpu.NO_MEMORY
        with pytest.raises(cuda.CudaError):
            engine.trace(lambda times: None)
        assert engine.run({"x": X})["y"].shape == X.shape


def test_watched_on_a_device(trt: Any, graph: Path, options: EngineOptions) -> None:
    with Watched(RTX.load(graph, options)) as engine:
        assert engine.on_device
        engine.run({"x": X})
        assert engine.samples == {name: [] for name in FIELDS}
        with engine.record():
            engine.run({"x": X})
    row = {name: values[0] for name, values in engine.samples.items()}
    assert row["latencyMs"] == row["h2dMs"] + row["computeMs"] + row["d2hMs"]
    assert 0 < row["enqMs"] < row["hostMs"]


def test_a_copy_on_the_device(trt: Any) -> None:
    found = ceilings._copied(1 << 20, ceilings._copy_device(1 << 20))
    assert found["bytes"] == 1 << 20 and found["bytes_per_s"] > 0 and found["ms"]["n"] >= 5
