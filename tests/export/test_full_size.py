"""Export at full size: minutes and gigabytes. By hand: `pytest -m slow tests/export/test_full_size.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from export import random
from export.generated import generate
from export.graphs import build_graphs
from export.models import FastDiT
from export.onnx_files import compare
from tests.export.release_files import save_checkpoints, write_topology
from topos_rt.bundle import Bundle

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
GIB, SECONDS, DIT_FP16_BYTES, TOLERANCE = 16, 600, 1.3e9, 1e-5


def random_arguments(folder: Path) -> list[str]:
    return ["random", "--preset", "official"]


def official_arguments(folder: Path) -> list[str]:
    """Random weights and a generated head in the release's file formats."""
    preset = random.official()
    head = generate(preset.recipe)
    save_checkpoints(folder, *random.draw(preset, head.hierarchy, 0))
    write_topology(folder / "data", head.positions, head.topology, preset.recipe.depth)
    ckpt = folder / "pretrained_ckpt"
    return [
        "official", "--vae", f"{ckpt}/TOPOS-VAE.model.pth", "--dit", f"{ckpt}/TOPOS-DiT.model.pth",
        "--topology", f"{folder}/data",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "precision"), [("random", "fp32"), ("random", "fp16"), ("official", "fp32")]
)
def test_full_size(kind: str, precision: str, tmp_path: Path) -> None:
    """16 GiB, ten minutes, 1.3 GB for an FP16 DiT; each stage as in PyTorch. The numbers are kept."""
    arguments = random_arguments(tmp_path) if kind == "random" else official_arguments(tmp_path)
    out = tmp_path / "bundle"
    command = ["-m", "export", *arguments, "--precision", precision, "--out", str(out)]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds, gib = time.perf_counter() - start, usage.ru_maxrss / 2**20
    assert process.returncode == 0
    bundle = Bundle.open(out)
    weights = out / "weights.safetensors"
    dit = dit_bytes(weights)
    errors = relative_errors(bundle) if (kind, precision) == ("random", "fp32") else None
    result = {
        "command": f"python -m export {arguments[0]} (full size) --precision {precision}",
        "cores": len(os.sched_getaffinity(0)), "seconds": round(seconds, 1), "peak_gib": round(gib, 2),
        "weights_bytes": weights.stat().st_size, "dit_bytes": dit,
        "relative_rms_onnxruntime_to_pytorch": errors,
    }  # fmt: skip
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"export_{kind}_{precision}.json").write_text(json.dumps(result, indent=2) + "\n")
    assert seconds <= SECONDS and gib <= GIB
    assert precision == "fp32" or dit <= DIT_FP16_BYTES
    assert all(error <= TOLERANCE for error in (errors or {}).values())


def dit_bytes(weights: Path) -> int:
    with weights.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    spans = [entry["data_offsets"] for name, entry in header.items() if name.startswith("dit_")]
    return sum(end - start for start, end in spans)


def relative_errors(bundle: Bundle) -> dict[str, float]:
    """Relative RMS of each stage, onnxruntime to PyTorch, both FP32, on one input."""
    preset = random.official()
    vae, dit, encoder = random.draw(preset, generate(preset.recipe).hierarchy, 0)
    graphs = build_graphs(encoder, FastDiT(dit), vae, preset.image_size, preset.points)
    return {name: compare(graph, bundle.graph(name)) for name, graph in graphs.items()}
