"""Measure how far the levels of detail are from the full head, over held-out synthetic heads.

python -m benchmarks.bench_lods [--heads 30] [--json benchmarks/results/lods_mini.json]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import write_result
from topos_rt import Bundle, __version__
from topos_rt.bench.work import model_facts
from topos_rt.scan.metrics import compare
from topos_rt.scan.surface import Surface
from training.heads import EVALUATION_SEED, HeadModel

SAMPLES = 10_000


def measure(bundle: Bundle, heads: np.ndarray) -> dict[str, Any]:
    """Return level -> its sizes, and its surface distances over all heads in mm, both ways combined."""
    result = {}
    for level, lod in enumerate(bundle.topology.lods, 1):
        found = [
            compare(
                Surface(head[lod.vertices], lod.triangles),
                Surface(head, bundle.topology.triangles),
                samples=SAMPLES,
            )
            for head in heads
        ]
        normals = [each.normal_consistency for each in found if each.normal_consistency is not None]
        result[str(level)] = {
            "vertices": len(lod.vertices),
            "triangles": len(lod.triangles),
            "share": round(len(lod.triangles) / len(bundle.topology.triangles), 4),
            "mean_mm": round(float(np.mean([each.chamfer_l1_mm for each in found])), 4),
            "p95_mm": round(float(np.mean([each.p95_mm for each in found])), 4),
            "worst_mm": round(max(each.max_mm for each in found), 4),
            "normal_consistency": round(float(np.mean(normals)), 4),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=int, default=30)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/lods_mini.json"))
    args = parser.parse_args()
    bundle, heads = Bundle.open(args.model), HeadModel.load().sample(args.heads, EVALUATION_SEED)
    result = {
        "topos_rt": __version__,
        "model": model_facts(bundle),
        "heads": len(heads),
        "samples": SAMPLES,
        "vertices": bundle.topology.num_vertices,
        "triangles": len(bundle.topology.triangles),
        "levels": measure(bundle, heads),
    }
    write_result(args.json, result)
    print(json.dumps(result["levels"], indent=2))


if __name__ == "__main__":
    main()
