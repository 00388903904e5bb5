"""Show that a bundle is an earlier one exported again: the same weights, the same heads, no slower.

    python -m benchmarks.same_weights EARLIER [--json benchmarks/results/same_weights_mini.json]

A change of the exporter changes the graphs of a bundle, and so its digest, but nothing that was measured of
its weights. With this result the results of EARLIER stay quoted (`training/digests.py`). Geometry is compared
as files; graphs by what they make of the same random numbers, and by their times, in turns in one process;
heads of the pictures in examples/people as vertices, in the model's own way and with guidance and noise as
released. It fails where files differ, an output by more than rounding, a vertex by 0.001 mm, and where a
graph is slower beyond what repetition explains.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import report
from topos_rt.bench.stats import difference, summary
from topos_rt.bench.work import model_facts
from topos_rt.engines import EngineOptions
from topos_rt.engines.onnxruntime import load
from topos_rt.errors import BundleError
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import GRAPHS
from topos_rt.pipeline import HeadPipeline

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/same_weights_mini.json"
PEOPLE = ROOT / "examples/people"
LIMIT_MM = 1e-3
ROUNDING = 1e-5  # relative RMS of an output; networks export within 2e-5 of PyTorch
SAMPLING: Mapping[str, Mapping[str, Any]] = {
    "as by default": {},
    "as released": {"preset": "reference", "guidance": 3.0, "temperature": 1.0},
}
_SPEC = ("flow", "frame", "image", "latent", "points", "residual_scale", "evidence")


def main() -> int:
    """Compare and write the JSON; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("earlier", type=Path, metavar="EARLIER", help="the bundle before")
    parser.add_argument("--model", default="mini", help="the bundle now (default: mini)")
    parser.add_argument("--rounds", type=int, default=400, help="runs of each graph")
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    return report(lambda: compared(arguments), arguments.json)


def compared(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the result. Raises BundleError where the bundles are two models, or one is slower."""
    earlier, now = Bundle.open(arguments.earlier), Bundle.open(arguments.model)
    for name in _SPEC:
        _require(getattr(earlier.manifest, name) == getattr(now.manifest, name), f"another {name}")
    files = arrays_of(now)
    others = sorted({name for name, _ in arrays_of(earlier).items() ^ files.items()})
    _require(not others, f"another {', '.join(others)}")
    pictures = sorted(PEOPLE.glob("*.jpg"))
    off = {name: farthest_mm(earlier, now, pictures, given) for name, given in SAMPLING.items()}
    print(f"{len(files)} files alike; vertices in mm: {off}")
    _require(max(off.values()) < LIMIT_MM, f"vertices {max(off.values()):.2g} mm off")
    graphs = {graph: run_in_turns(earlier, now, graph, arguments.rounds) for graph in GRAPHS}
    for graph, row in graphs.items():
        print(f"{graph:<16} {row['earlier']['p50']:7.3f} -> {row['now']['p50']:7.3f} ms, off by {row['off']}")
        _require(row["off"] < ROUNDING, f"{graph} with outputs {row['off']} off")
        _require(not row["slower"], f"a slower {graph}")
    return {
        "command": "python -m benchmarks.same_weights EARLIER",
        "model": model_facts(now),
        "earlier": model_facts(earlier),
        "files": sorted(files),
        "pictures": len(pictures),
        "farthest_mm": off,
        "graphs": graphs,
    }


def arrays_of(bundle: Bundle) -> dict[str, str]:
    """Return the SHA-256s of a bundle's files of arrays, by name, but for the weights of its graphs."""
    weights = set(bundle.manifest.weight_files.values())
    return {
        name: info.sha256
        for name, info in bundle.manifest.files.items()
        if Path(name).suffix == ".safetensors" and name not in weights
    }


def farthest_mm(earlier: Bundle, now: Bundle, pictures: list[Path], given: Mapping[str, Any]) -> float:
    """Return by how much the farthest vertex differs between heads of pictures."""
    with HeadPipeline.open(earlier) as before, HeadPipeline.open(now) as after:
        heads = (
            (pipe(picture, seed=0, texture="none", **given).positions for pipe in (before, after))
            for picture in pictures
        )
        return float(f"{max(np.abs(a - b).max() for a, b in heads) * 1000:.2g}")


def run_in_turns(earlier: Bundle, now: Bundle, graph: str, rounds: int) -> dict[str, Any]:
    """Return the times of one graph in both bundles, in milliseconds, and how far their outputs are apart.

    `off` is the largest relative RMS of an output; `slower` tells whether the graph is slower now.
    """
    draw = np.random.default_rng(0)
    times: dict[str, list[float]] = {"earlier": [], "now": []}
    made: dict[str, dict[str, np.ndarray]] = {}
    with (
        load(earlier.graph(graph), EngineOptions()) as before,
        load(now.graph(graph), EngineOptions()) as after,
    ):
        feeds = {name: draw.random(spec.shape, np.float32) for name, spec in after.inputs.items()}
        for _ in range(rounds):
            for name, engine in (("earlier", before), ("now", after)):
                start = time.perf_counter()
                made[name] = engine.run(feeds)
                times[name].append(1e3 * (time.perf_counter() - start))
    change = difference(times["earlier"], times["now"], interleaved=True)
    off = max(
        np.linalg.norm(made["now"][name] - wanted) / np.linalg.norm(wanted)
        for name, wanted in made["earlier"].items()
    )
    return {
        **{name: summary(values) for name, values in times.items()},
        "change": asdict(change),
        "slower": change.significant and change.change > 0,
        "off": float(f"{off:.2g}"),
    }


def _require(alike: bool, got: str) -> None:
    if not alike:
        raise BundleError("the two bundles", got=got, expected="one model, exported twice")


if __name__ == "__main__":
    sys.exit(main())
