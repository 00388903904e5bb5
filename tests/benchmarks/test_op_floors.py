"""The arithmetic of the floors, against counts by hand and the decoder as PyTorch runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bench_ops
from benchmarks.op_floors import Ceilings, decoder_floors
from export import random
from export.generated import generate
from export.onnx.decoder_tensors import decoder_tensors
from models import TOPOSVAE
from topos_rt.model.decoder_steps import DecoderSteps, make_steps

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def steps() -> DecoderSteps:
    preset = random.mini()
    hierarchy = generate(preset.recipe).hierarchy
    return make_steps(decoder_tensors(TOPOSVAE(hierarchy, **preset.vae)), hierarchy)


def test_one_launch_by_hand(steps: DecoderSteps) -> None:
    result = decoder_floors(steps, Ceilings(100.0, 1.0))
    row = next(row for row in result["launches"] if row["name"] == "decoder.3.resblks.1.conv_b")
    step = next(step for step in steps.convs if step.name == row["name"])
    rows, edges = step.neighbours.rows, len(step.neighbours.types[0].indices)
    assert (row["k"], row["n"], row["edges"]) == (64, 32, [edges, rows])
    assert row["gflop"] == pytest.approx(2e-9 * rows * 64 * 32)
    assert row["gflop_per_edge"] == pytest.approx(2e-9 * (edges + rows) * 32 * 32)
    # features in and out and the residual, the table, the weights
    assert row["mbytes"] == pytest.approx((3 * rows * 64 + 4 * (edges + rows + 1) + 64 * 32 * 2) / 1e6)
    assert row["floor_us"] == pytest.approx(max(row["gflop"] / 100 * 1e3, row["mbytes"]))


def test_the_whole_is_the_sum(steps: DecoderSteps) -> None:
    result = decoder_floors(steps, Ceilings(790.0, 4.3))
    flop = sum(2e-9 * s.neighbours.rows * s.layer.matrix.size for s in steps.convs)
    flop += 2e-9 * steps.vertices * steps.last.matrix.size
    assert result["decoder"]["gflop"] == pytest.approx(flop)
    assert result["decoder"]["launches"] == len(steps.convs) + 2
    faster = decoder_floors(steps, Ceilings(2 * 790.0, 2 * 4.3))
    assert faster["decoder"]["floor_us"] == pytest.approx(result["decoder"]["floor_us"] / 2)
    assert np.isfinite(list(result["decoder"].values())).all()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_ops.main(["--floors", "--preset", "mini", "--json", str(tmp_path / "a.json")])
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["decoder"]["launches"] == len(found["launches"]) + 1
    assert "decoder: " in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        bench_ops.main(["--rehearse", "--preset", "mini", "--step", "nothing"])
    assert caught.value.code == 2 and "no step nothing" in capsys.readouterr().err
