"""What the tests of engines share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends import graphs
from topos_rt.backends import EngineOptions


@pytest.fixture
def options(tmp_path: Path) -> EngineOptions:
    return EngineOptions(cache=tmp_path / "cache")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return graphs.negation(tmp_path / "g.onnx")
