"""How close a measurement comes to what the machine allows.

The floor of a run is the larger of two times: its exact FLOPs over the rate of a large matrix product, and
the bytes of its inputs and outputs over the rate of a large copy, both measured in the same process. rho is
the floor over the median: 1 is perfect. Norms, activations and softmax count as no FLOPs and weights as no
bytes, so that a floor is never too high.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from topos_rt.bench.session import HEAD
from topos_rt.bench.stats import Row


def roofline(
    ceilings: Mapping[str, Any],
    flops: Mapping[str, int],
    sizes: Mapping[str, int],
    runs: Mapping[str, int],
    graphs: Mapping[str, Mapping[str, Any]],
    stages: Mapping[str, Row],
) -> dict[str, Any]:
    """Return floor and rho of each measured graph and, where heads were measured, of a head.

    Args:
        ceilings: the result of `topos_rt.bench.ceilings.measure`.
        flops: the FLOPs of one run of each graph, from the manifest.
        sizes: the bytes that one run of each graph reads and writes.
        runs: the number of runs of each graph in one head.
        graphs: the times of single runs, by the names of `topos_rt.bench.watch.FIELDS`.
        stages: the times of whole heads.
    """
    rate, bandwidth = ceilings["gemm"]["flops_per_s"], ceilings["copy"]["bytes_per_s"]
    floors = {graph: _floor(flops[graph], sizes[graph], rate, bandwidth) for graph in sizes}
    result: dict[str, Any] = {
        "graphs": {
            graph: {
                "flops": flops[graph],
                "bytes": sizes[graph],
                **floors[graph],
                **_rho(floors[graph]["floor_ms"], rows["computeMs"]),
            }
            for graph, rows in graphs.items()
        },
        "head": None,
    }
    if HEAD in stages:
        floor = sum(count * floors[graph]["floor_ms"] for graph, count in runs.items() if count)
        total = sum(count * flops[graph] for graph, count in runs.items())
        result["head"] = {"flops": total, "floor_ms": floor, **_rho(floor, stages[HEAD])}
    return result


def _floor(flops: int, size: int, rate: float, bandwidth: float) -> dict[str, Any]:
    compute, memory = 1e3 * flops / rate, 1e3 * size / bandwidth
    return {"floor_ms": max(compute, memory), "bound": "compute" if compute >= memory else "memory"}


def _rho(floor: float, row: Row | None) -> dict[str, Any]:
    median = None if row is None else row["p50"]
    return {"p50_ms": median, "rho": floor / median if median else None}
