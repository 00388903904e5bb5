"""Measure what FP16 engines cost in accuracy, without a GPU: vertex distances to FP32 in millimetres.

    python -m benchmarks.bench_precision --json benchmarks/results/fp16_mini.json [--images 8]

The FP16 forms of a bundle's graphs are emulated on the CPU (`export.compare.fp16_emulation`), first in each
stage alone, then in all together, with the release's sampling: 50 Euler steps, w = 3. The pictures are
held-out renders; drawing them needs the extra `training`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_sampler import held_out_portraits, summary
from benchmarks.report import write_result
from export.compare.fp16_emulation import Emulated, emulated_form
from topos_rt import Bundle, HeadPipeline, __version__
from topos_rt.bench.work import model_facts
from topos_rt.engines import EngineOptions
from topos_rt.engines.onnxruntime import load
from topos_rt.faces.finder import FaceFinder
from topos_rt.model.manifest import GRAPHS
from topos_rt.model.networks import Networks

STAGES = {
    "image_encoder": ("image_encoder",),
    "dit_context": ("dit_context",),
    "dit_step": ("dit_step", "dit_step_guided"),
    "vae_decoder": ("vae_decoder",),
    "all": GRAPHS,
}
# The release's settings, whatever a model's own are, because guidance makes errors several times larger.
SETTINGS: dict[str, Any] = {"preset": "reference", "guidance": 3.0, "temperature": 1.0}
TARGET_MM = 0.05  # of the 99th percentile


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--shards", type=Path, metavar="DIR", help="held-out pictures of training.render")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    bundle, options = Bundle.open(arguments.model), EngineOptions(arguments.threads)
    images = held_out_portraits(arguments.model, arguments.images, arguments.shards)
    with tempfile.TemporaryDirectory() as folder:
        emulated = _load_emulated(bundle, Path(folder), options)
        plain = {graph: load(bundle.graph(graph), options) for graph in GRAPHS}
        truth = _heads(bundle, plain, images)
        rows = {}
        for stage, graphs in STAGES.items():
            heads = _heads(bundle, plain | {graph: emulated[graph] for graph in graphs}, images)
            rows[stage] = summary(np.linalg.norm(heads - truth, axis=-1), decimals=5)
            print(
                f"{stage:<14} mean {rows[stage]['mean_mm']:.4f}  p99 {rows[stage]['p99_mm']:.4f}"
                f"  max {rows[stage]['max_mm']:.4f} mm",
                flush=True,
            )
    result = {
        "command": f"python -m benchmarks.bench_precision --shards SHARDS --images {arguments.images}",
        "topos_rt": __version__,
        "model": model_facts(bundle),
        "settings": SETTINGS,
        "images": arguments.images,
        "fp16_in": rows,
        "target_p99_mm": TARGET_MM,
        "largest_magnitude": {graph: engine.largest for graph, engine in emulated.items()},
    }
    print(f"largest magnitude cast to FP16: {max(result['largest_magnitude'].values()):.0f} of 65504")
    write_result(arguments.json, result)


def _load_emulated(bundle: Bundle, folder: Path, options: EngineOptions) -> dict[str, Emulated]:
    engines = {}
    for graph in GRAPHS:
        emulated_form(bundle.graph(graph, "fp16"), folder / f"{graph}.onnx")
        engines[graph] = Emulated(load(folder / f"{graph}.onnx", options))
    return engines


def _heads(bundle: Bundle, engines: Mapping[str, Any], images: np.ndarray) -> np.ndarray:
    """Return the vertices of a head of each image, [images,V,3] in mm."""
    with FaceFinder.open() as finder:
        pipe = HeadPipeline(
            bundle, Networks(bundle, engines), finder=finder if bundle.manifest.evidence else None
        )
        heads = [pipe(image, seed=i, **SETTINGS) for i, image in enumerate(images)]
    return 1000 * np.stack([head.positions for head in heads])


if __name__ == "__main__":
    main()
