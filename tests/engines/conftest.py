"""Fixtures that the tests of engines share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.engines import graphs
from topos_rt.engines import EngineOptions


@pytest.fixture
def options(tmp_path: Path) -> EngineOptions:
    return EngineOptions(cache=tmp_path / "cache")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return graphs.negation(tmp_path / "g.onnx")


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a fake GPU; check that everything on it is freed in the end."""
    fake_gpu = needs.module("tests.engines.fake_gpu")
    made = fake_gpu.install(monkeypatch)
    yield made
    gpu = made.gpu
    gpu.fail.clear()
    assert (gpu.used, gpu.memory, gpu.pinned, gpu.streams, made.live) == (0, {}, {}, {}, [])
