"""Export and engines at full size, which take minutes and gigabytes.

By hand: `pytest -m slow tests/export/test_full_size.py`. With TOPOS_RT_FULL_SIZE=DIR the last test keeps its
bundle and engines there, and takes those that it finds.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest

from export import random
from export.generated import generate
from export.onnx.files import compare
from export.onnx.graphs import build_graphs
from models import FastDiT
from tests.engines import graphs
from tests.export.release_files import save_checkpoints, write_topology
from topos_rt.bench.work import model_facts
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import GRAPHS

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
        "official",
        "--vae",
        f"{ckpt}/TOPOS-VAE.model.pth",
        "--dit",
        f"{ckpt}/TOPOS-DiT.model.pth",
        "--topology",
        f"{folder}/data",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "precision"), [("random", "fp32"), ("random", "fp16"), ("official", "fp32")]
)
def test_full_size(kind: str, precision: str, tmp_path: Path) -> None:
    """Export keeps to 16 GiB, ten minutes and 1.3 GB for an FP16 DiT; each stage answers as in PyTorch."""
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
        "model": model_facts(bundle),
        "cores": len(os.sched_getaffinity(0)),
        "seconds": round(seconds, 1),
        "peak_gib": round(gib, 2),
        "weights_bytes": weights.stat().st_size,
        "dit_bytes": dit,
        "relative_rms_onnxruntime_to_pytorch": errors,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"export_{kind}_{precision}.json").write_text(json.dumps(result, indent=2) + "\n")
    assert seconds <= SECONDS and gib <= GIB
    assert precision == "fp32" or dit <= DIT_FP16_BYTES
    assert all(error <= TOLERANCE for error in (errors or {}).values())


# The inputs and then the outputs of each graph, at the released size.
T, C, N, D, BLOCKS = 1374, 1024, 1513, 32, 24
CONTEXT = {"keys": (BLOCKS, 16, T, 64), "values": (BLOCKS, 16, T, 64)}
STEP = {"latent": (1, N, D), "modulation": (BLOCKS, 6, C), **CONTEXT}
SHAPES = {
    "image_encoder": ({"pixels": (1, 3, 518, 518)}, {"tokens": (1, T, C)}),
    "dit_modulation": ({"time": (1,)}, {"modulation": (BLOCKS, 6, C)}),
    "dit_context": ({"tokens": (1, T, C)}, CONTEXT),
    "dit_step": (STEP, {"velocity": (1, N, D)}),
    "dit_step_guided": ({**STEP, "guidance": (1,)}, {"velocity": (1, N, D), "difference": (1, N, D)}),
    "vae_decoder": ({"latent": (1, N, D)}, {"vertices": (1, 24049, 6)}),
    "vae_encoder": ({"points": (1, 8192, 6)}, {"mean": (1, N, D), "logvar": (1, N, D)}),
}
LARGE = 1e8  # bytes; in smaller engines the weights are not what counts
# Products of FP16 operands are the work of an engine.
HALF_PRODUCTS = {
    "image_encoder": {"MATRIX_MULTIPLY": 24 * 4, "ATTENTION_INPUT": 24},
    "dit_modulation": {},
    "dit_context": {"MATRIX_MULTIPLY": 1},
    "dit_step": {"MATRIX_MULTIPLY": BLOCKS * 6, "ATTENTION_INPUT": BLOCKS * 2},
    "dit_step_guided": {"MATRIX_MULTIPLY": BLOCKS * 6 + 1, "ATTENTION_INPUT": BLOCKS * 2},
}


@pytest.mark.slow
def test_every_engine_at_full_size(tmp_path: Path) -> None:
    """TensorRT-RTX builds all seven graphs in FP16 with the command that users have."""
    work = Path(os.environ.get("TOPOS_RT_FULL_SIZE") or tmp_path)
    if not (work / "bundle/manifest.json").exists():
        run_here(work, "-m", "export", *random_arguments(work), "--out", "bundle")
    command = [
        "-m",
        "topos_rt",
        "build",
        "--model",
        "bundle",
        "--backend",
        "tensorrt-rtx",
        "--precision",
        "fp16",
        "--cache",
        "cache",
        "--json",
    ]
    output, seconds, gib = run_here(work, *command)
    told = json.loads(output)
    if all(facts["built"] for facts in told["graphs"].values()):
        machine = {
            "cores": len(os.sched_getaffinity(0)),
            "processor": processor(),
            "gpu": None,
            "wall_seconds": round(seconds, 1),
            "peak_gib": round(gib, 2),
        }
        (RESULTS / "build_official.json").write_text(json.dumps(told | {"machine": machine}, indent=2) + "\n")
    assert told["exit_code"] == 0 and told["precision"] == "fp16"
    assert list(told["graphs"]) == list(GRAPHS) == list(SHAPES)
    bundle = Bundle.open(work / "bundle")
    for graph, facts in told["graphs"].items():
        check_engine(bundle, graph, facts)
    assert told["graphs"]["dit_step"]["bytes"] <= DIT_FP16_BYTES and gib <= GIB
    plans = {path.name.partition(".")[0]: path.stat().st_size for path in work.glob("cache/engines/*.plan")}
    assert plans == {graph: facts["bytes"] for graph, facts in told["graphs"].items()}


def check_engine(bundle: Bundle, graph: str, facts: dict[str, Any]) -> None:
    model = onnx.load(bundle.graph(graph, "fp16"), load_external_data=False)
    ends = [
        {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in side}
        for side in (model.graph.input, model.graph.output)
    ]
    assert ends == list(SHAPES[graph])
    half, wide = graphs.products(bundle.graph(graph, "fp16"))
    found = facts["layers_by_kind"].get("fp16", {})
    assert {kind: found.get(kind, 0) for kind in half} == half
    assert HALF_PRODUCTS.get(graph, half) == half and (half or graph == "dit_modulation")
    assert Counter(facts["fp32_products"].values()) == wide
    if (stored := weight_bytes(model)) > LARGE:
        assert stored <= facts["device_bytes"]["weights"] * 1.01 and facts["bytes"] <= 1.05 * stored
    on_device = facts["device_bytes"]
    assert on_device["inputs_outputs"] == 4 * sum(math.prod(s) for side in ends for s in side.values())


def weight_bytes(model: onnx.ModelProto) -> int:
    """Count the bytes of the weights as an engine keeps them, with those cast that are cast to FP16."""
    halved = {
        node.input[0]
        for node in model.graph.node
        for a in node.attribute
        if node.op_type == "Cast" and a.name == "to" and a.i == onnx.TensorProto.FLOAT16
    }
    sizes = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.FLOAT16: 2, onnx.TensorProto.INT64: 8}
    return sum(
        math.prod(t.dims) * (2 if t.name in halved else sizes[t.data_type]) for t in model.graph.initializer
    )


def run_here(work: Path, *words: str) -> tuple[str, float, float]:
    """Return what a Python command prints, its seconds and its peak GiB."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, *words], cwd=work, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, output
    return output, time.perf_counter() - start, usage.ru_maxrss / 2**20


def processor() -> str:
    """Return the processor's name, as Linux tells it."""
    names = (
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    return next(names, "unknown")


def dit_bytes(weights: Path) -> int:
    with weights.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    spans = [entry["data_offsets"] for name, entry in header.items() if name.startswith("dit_")]
    return sum(end - start for start, end in spans)


def relative_errors(bundle: Bundle) -> dict[str, float]:
    """Return the relative RMS of each stage between onnxruntime and PyTorch, both in FP32, on one input."""
    preset = random.official()
    vae, dit, encoder = random.draw(preset, generate(preset.recipe).hierarchy, 0)
    graphs = build_graphs(encoder, FastDiT(dit), vae, preset.image_size, preset.points)
    return {name: compare(graph, bundle.graph(name)) for name, graph in graphs.items()}
