"""The measure of landmarks in the loop, on a few pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import needs

needs.module("numba")
from benchmarks import bench_landmark_pull as bench
from tests.landmark_worlds import responding_mini
from tests.training.shard_files import write_shards
from topos_rt.errors import OptionError
from topos_rt.model.bundle import Bundle
from topos_rt.scan.face_region import face_region
from topos_rt.scan.fit import mean_head

ROOT = Path(__file__).parents[2]


def test_changes_are_paired_and_have_an_interval() -> None:
    draw = np.random.default_rng(0)
    before = draw.uniform(1, 5, 200)
    off = draw.normal(-0.2, 0.1, 200)
    found = bench.change(before + off, before)
    assert found["mean"] == pytest.approx(off.mean(), abs=1e-4)
    half = 1.96 * off.std() / np.sqrt(200)
    assert found["low"] == pytest.approx(off.mean() - half, abs=0.2 * half)
    assert found["high"] == pytest.approx(off.mean() + half, abs=0.2 * half)
    assert found["share_better"] == pytest.approx((off < 0).mean())


def test_errors_are_each_heads_own() -> None:
    bundle = Bundle.open("mini", verify=False)
    region, mean = face_region(bundle), mean_head(bundle).points * bundle.manifest.frame.radius_m
    nose = mean + 0.01 * np.exp(-((mean - mean[region.vertices[0]]) ** 2).sum(1) / 0.02**2)[:, None] * [
        0,
        0,
        1,
    ]
    errors = bench.own_errors(np.stack([1.1 * mean, mean]), np.stack([mean, nose]), region)
    assert errors[0] < 1e-6 < 0.1 < errors[1]


def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, folder = responding_mini(tmp_path), tmp_path / "held_out"
    folder.mkdir()
    mean = mean_head(Bundle.open("mini")).points * 0.14
    heads = mean * np.array([[1, 1, 1], [1.05, 1, 1], [1, 1, 1.05]])[:, None] + np.array([0, 0.5, 0])
    picture = np.asarray(Image.open(ROOT / "examples" / "hopper.jpg").convert("RGB").resize((384, 384)))
    write_shards(folder, heads, picture, [0, 20, -40])
    words = ["x", "--bundle", str(bundle), "--held-out", str(folder), "--weights", "0,20"]
    monkeypatch.setattr(sys, "argv", [*words, "--people", "2", "--json", str(tmp_path / "found.json")])
    bench.main()
    found = json.loads((tmp_path / "found.json").read_text())
    off, on = found["renders"]
    assert (off["weight"], on["weight"], found["people"], found["directions"]) == (0, 20, 2, 4)
    assert off["face_change_mm"]["mean"] == 0 != on["face_change_mm"]["mean"]
    assert on["reprojection_percent"] < off["reprojection_percent"]
    assert on["face_change_mm"]["mean"] == pytest.approx(on["face_mm"] - off["face_mm"], abs=2e-3)
    monkeypatch.setattr(sys, "argv", [*words, "--people", "1", "--json", str(tmp_path / "no.json")])
    with pytest.raises(OptionError, match="--people: got 1; expected 2 or more"):
        bench.main()
