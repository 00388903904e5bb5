"""Count what the kernels of the DiT's step read and write, from TensorRT-RTX's own lists, without a GPU.

    python -m benchmarks.step_traffic --json benchmarks/results/step_traffic.json [--before DIR]

Random weights of the sizes of `mini`, and two blocks of the official size, are exported and built in every
precision. Bytes are those of the tensors that go in and out of kernels, weights left out, if nothing stays in
a cache. `--write DIR` keeps the graphs: those of another revision, written so, are for `--before`,
and are built as they were then: with FP32 keys and values.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import write_result
from export.bundle_writer import WIDE_SUMS, round_to_half
from export.onnx.files import half_file, write_graphs
from export.onnx.graphs import (
    DitContextGraph,
    DitModulationGraph,
    DitStepGraph,
    GuidedDitStepGraph,
    OnnxGraph,
)
from export.random import PRESETS, _randomise
from models import FastDiT, TOPOSDiT
from topos_rt.engines import builder
from topos_rt.engines.tensorrt.build import build
from topos_rt.engines.tensorrt.eightbit import EIGHT_BIT
from topos_rt.engines.tensorrt.layers import BuiltLayer, traffic
from topos_rt.model.contracts import HALVED
from topos_rt.model.sources import STEPS

SIZES: Mapping[str, Mapping[str, int]] = {"mini": {}, "official": {"num_blocks": 2}}
TOKENS = {"mini": 149, "official": 1374}
WAITS = ("signal", "wait")  # they are no kernels
MOVES = {"Tran", "Move", "Resh", "Slic", "Cast", "Conc", "Repl"}  # in names of kernels: nothing is computed


def main() -> None:
    """Count, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--before", type=Path, metavar="DIR", help="graphs of an earlier revision")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write the graphs here, and do no more")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.write:
        _write(arguments.write)
        return
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder))
        counts = {"now": _counts(Path(folder), HALVED)}
        if arguments.before:
            counts = {"before": _counts(arguments.before, ()), **counts}
    result = {
        "command": "python -m benchmarks.step_traffic --before DIR",
        "model": None,  # weights do not matter
        "tensorrt_rtx": builder("tensorrt-rtx").check_builds(),
        "blocks": {
            name: own.get("num_blocks", PRESETS[name]().dit["num_blocks"]) for name, own in SIZES.items()
        },
        **counts,
    }
    if arguments.json:
        write_result(arguments.json, result)


def _write(folder: Path) -> None:
    for name in SIZES:
        torch.manual_seed(0)
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_graphs(_graphs(name), folder / name, "fp16", wide_sums=WIDE_SUMS, compared=())


def _graphs(name: str) -> dict[str, OnnxGraph]:
    """Return the graphs that run at each step, and the one that makes keys and values."""
    sizes: Mapping[str, Any] = {**PRESETS[name]().dit, **SIZES[name]}
    plain, generator = TOPOSDiT(**sizes), torch.Generator().manual_seed(0)
    _randomise(plain, generator)
    dit = FastDiT(plain.requires_grad_(False).eval())
    round_to_half(dit)
    tokens = torch.randn(1, TOKENS[name], sizes["cond_channels"], generator=generator)
    with torch.no_grad():
        keys, values = DitContextGraph(dit)(tokens)
        modulation = DitModulationGraph(dit)(torch.tensor([0.7]))
    latent = torch.randn(1, *dit.latent_shape, generator=generator)
    step = {"latent": latent, "modulation": modulation, "keys": keys, "values": values}
    guided = step | {"guidance": torch.tensor([3.0])}
    return {
        "dit_context": OnnxGraph(DitContextGraph(dit), {"tokens": tokens}, ("keys", "values")),
        "dit_step": OnnxGraph(DitStepGraph(dit), step, ("velocity",)),
        "dit_step_guided": OnnxGraph(GuidedDitStepGraph(dit), guided, ("velocity", "difference")),
    }


def _counts(folder: Path, halved: Collection[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in SIZES:
        for graph in STEPS:
            for precision in ("fp16", *EIGHT_BIT):
                row = _count(folder / name / half_file(graph), precision, halved)
                found.setdefault(name, {}).setdefault(graph, {})[precision] = row
                print(f"{name:<10}{graph:<16}{precision:<6}{row}", flush=True)
    return found


def _count(path: Path, precision: str, halved: Collection[str]) -> dict[str, int]:
    """Build a plan and count."""
    kept: list[BuiltLayer] = []
    module = builder("tensorrt-rtx")._import()
    form = EIGHT_BIT.get(precision)
    data, report = build(module, path, form=form, halved=halved, listed=kept.extend)
    kernels = [layer for layer in kept if layer.kind not in WAITS]
    return {
        "kernels": len(kernels),
        "only_move": sum(_only_moves(layer) for layer in kernels),
        "traffic_bytes": traffic(kernels),
        "keys_values_bytes": traffic(layer for layer in kernels if _reads_context(layer)),
        "plan_bytes": len(data),
        "weights_bytes": report.memory["weights"],
    }


def _only_moves(layer: BuiltLayer) -> bool:
    """Tell whether a kernel does no more than to copy, transpose or cast: its name lists what it does."""
    words = set(re.findall(r"[A-Z][a-z]+", layer.name.removeprefix("__myl_").partition("_myl")[0]))
    return layer.kind == "kgen" and bool(words) and words <= MOVES


def _reads_context(layer: BuiltLayer) -> bool:
    return any(tensor.name in ("keys", "values") for tensor in layer.inputs)


if __name__ == "__main__":
    main()
