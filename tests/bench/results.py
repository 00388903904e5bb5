"""A complete result with made-up numbers, for tests of the code that reads results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from topos_rt.bench.result import FORMAT, VERSION
from topos_rt.bench.stats import summary

Change = Callable[[dict[str, Any]], object]
GPU = {"name": "Imaginary RTX 1", "sm_mhz": 2000.0, "temperature_c": 60.0, "held_back_by": []}


def made(head: float = 100.0, spread: float = 0.005, seed: int = 0) -> dict[str, Any]:
    """Return a result of a calm, steady GPU with heads near `head` ms."""
    rng = np.random.default_rng(seed)
    samples = {
        "head": list(head * (1 + spread * rng.standard_normal(60))),
        "vae_decoder": list(5 * (1 + spread * rng.standard_normal(60))),
    }
    times = {"enqMs": 0.5, "h2dMs": 0.1, "computeMs": 9.0, "d2hMs": 0.1, "latencyMs": 9.2, "hostMs": 9.4}
    row: dict[str, Any] = {name: summary([value, value]) for name, value in times.items()}
    return {
        "format": FORMAT,
        "version": VERSION,
        "settings": {
            "model": {"name": "tiny", "sha256": "0" * 64},
            "backend": "tensorrt-rtx",
            "precision": "fp16",
            "threads": 2,
            "sampling": {"solver": "euler", "steps": 10},
            "input": "random pixels in memory",
            "evaluations": {"guided": 0, "unguided": 10, "passes": 10},
            "guidance_policy": "off",
        },
        "protocol": {"mode": "heads", "warm_up": {"runs": 10, "steady": True}},
        "machine": {"cpu": "a", "cores": 8, "load_average_before": 0.1, "topos_rt": "0.1.0"},
        "device": {"before": dict(GPU), "after": dict(GPU)},
        "ceilings": {"gemm": {"side": 8192, "ms": {"p50": 2.0}}},
        "stages": {name: summary(values) for name, values in samples.items()},
        "graphs": {"dit_step": {"runs_per_head": 10, **row}},
        "samples_ms": samples,
    }


def put(*keys: str, value: Any) -> Change:
    def change(tree: dict[str, Any]) -> None:
        for key in keys[:-1]:
            tree = tree[key]
        tree[keys[-1]] = value

    return change
