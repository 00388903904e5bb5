"""Measure how far a backend's engines are from onnxruntime in FP32, graph by graph and on the final vertices.

    python -m benchmarks.stage_errors --backend tensorrt-rtx --precision fp16 --json FILE [--model mini]

Every graph gets the inputs it had in a head of the reference, so that no error is passed on. Then whole heads
of both are compared with the release's sampling: 50 Euler steps, w = 3. Output buffers start as NaN, so that
values left unwritten are found.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import report
from topos_rt.bench.session import Request, Session, opened
from topos_rt.bench.work import model_facts
from topos_rt.errors import OptionError
from topos_rt.model.manifest import GRAPHS

SETTINGS: dict[str, Any] = {"preset": "reference", "guidance": 3.0, "temperature": 1.0}


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table and write the JSON. Return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    return report(lambda: measure(arguments), arguments.json)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the JSON object. Raises OptionError for invalid arguments."""
    if not 1 <= arguments.seeds <= 1000:
        raise OptionError("--seeds", got=arguments.seeds, expected="a whole number from 1 to 1000")
    sampling = SETTINGS | {"steps": arguments.steps}
    truth = Request(arguments.model, "onnxruntime", "fp32", sampling=sampling)
    tried = Request(
        arguments.model, arguments.backend, arguments.precision, cache=arguments.cache, sampling=sampling
    )
    with opened(truth) as reference, opened(tried) as other:
        reference.pipeline.warm_up()
        reference.head()
        graphs = {graph: _graph(reference, other, graph) for graph in GRAPHS}
        moved = np.stack([_moved(reference, other, seed) for seed in range(arguments.seeds)])
        about = {
            "backend": other.pipeline.backend,
            "reason": other.pipeline.backend_reason,
            "precision": other.options.precision,
            "model": model_facts(other.pipeline.bundle),
        }
    heads = {
        "mean_mm": float(moved.mean()),
        "p99_mm": float(np.percentile(moved, 99)),
        "max_mm": float(moved.max()),
    }
    print(
        f"heads            mean {heads['mean_mm']:.4f}  p99 {heads['p99_mm']:.4f}  max "
        f"{heads['max_mm']:.4f} mm, {arguments.seeds} seeds"
    )
    return {
        **about,
        "against": "onnxruntime fp32",
        "settings": sampling,
        "seeds": arguments.seeds,
        "graphs": graphs,
        "heads": heads,
    }


def _graph(reference: Session, other: Session, graph: str) -> dict[str, Any]:
    feeds = reference.engines[graph].feeds
    expected = reference.engines[graph].run(feeds)
    engine = other.engines[graph]  # which may take keys and values in FP16
    feeds = {name: np.asarray(array).astype(engine.inputs[name].dtype) for name, array in feeds.items()}
    poisoned = {name: np.full(spec.shape, np.nan, spec.dtype) for name, spec in engine.outputs.items()}
    found = engine.run(feeds, out=poisoned)
    row = {}
    for name, array in expected.items():
        difference = found[name].astype(np.float64) - array
        rms = float(np.linalg.norm(difference) / np.linalg.norm(array.astype(np.float64)))
        row[name] = {
            "relative_rms": rms if np.isfinite(rms) else None,
            "largest": float(np.abs(difference).max()) if np.isfinite(rms) else None,
        }
        print(f"{graph:<16} {name:<12} relative RMS {rms:.2e}", flush=True)
    return row


def _moved(reference: Session, other: Session, seed: int) -> np.ndarray:
    """Return [V] distances in millimetres between the two heads of a seed."""
    picture = np.random.default_rng(seed).integers(0, 256, (256, 256, 3), np.uint8)
    first, second = (
        session.pipeline(picture, seed=seed, **session.request.sampling).positions
        for session in (reference, other)
    )
    distances: np.ndarray = 1000 * np.linalg.norm(second.astype(np.float64) - first, axis=1)
    return distances


if __name__ == "__main__":
    raise SystemExit(main())
