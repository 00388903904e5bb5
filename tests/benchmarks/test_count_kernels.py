"""What is counted of a block, against counts by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import count_kernels
from tests import needs
from tests.gpu import host_gpu
from tests.gpu.shapes import random_layer
from topos_rt.gpu import cuda
from topos_rt.gpu.tables import Neighbours
from topos_rt.model.decoder_steps import Step


def test_a_linear_layer_by_hand(host_kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs.nvcc()
    monkeypatch.setattr(host_gpu, "build", lambda directory: host_kernels)
    layer = random_layer(np.random.default_rng(0), 64, 128, 1)
    steps = SimpleNamespace(convs=[Step("linear", Neighbours.identity(400).tiled(), layer, 0, 1)])
    steps.tiled = lambda: steps
    monkeypatch.setattr(count_kernels, "decoder_of", lambda preset: (None, steps))
    before = cuda.runtime
    plain, tiled = count_kernels.count("mini")["blocks"]
    assert cuda.runtime is before
    assert (plain["kernel"], plain["blocks"]) == ("graph_conv", 7)  # 64 rows each
    assert (tiled["kernel"], tiled["blocks"]) == ("graph_conv_tiled", 3)  # 192 rows each
    for row, rows, k in ((plain, 64, 64), (tiled, 192, 64 + 16)):  # biases are 16 rows more
        assert row["counts"]["flop"] == 2 * rows * k * 128
        assert row["tensor_clocks"] == row["counts"]["flop"] / 4096
        # at least rows in and out and the weights, 32 bytes a sector
        assert row["distinct_sectors"] >= (2 * rows * (64 + 128) + 2 * 64 * 128) / 32
        assert row["counts"]["sectors"] >= row["distinct_sectors"] and row["issue_clocks"] > 0
        assert 1 <= row["bank_conflicts"] < 2
