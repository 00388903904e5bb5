"""The diagnosis of a measurement: one line for each thing that slows or disturbs it, with the remedy.

The first two rules and their limits are trtexec's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from topos_rt.bench.session import HEAD

ENQUEUE_SHARE = 0.8  # of the compute time
UNSTABLE_CV = 0.025
HOST_SHARE = 0.25  # of a head, outside of engine runs
BUSY_SHARE = 0.25  # of the cores, by other processes
CLOCK_DROP = 0.05

Result = Mapping[str, Any]


def diagnose(result: Result) -> list[dict[str, str]]:
    """Return the lines for a result, each with the keys `kind`, `what` and `fix`."""
    return [
        {"kind": kind, "what": what, "fix": fix} for kind, rule in RULES.items() for what, fix in rule(result)
    ]


def _enqueue(result: Result) -> Iterator[tuple[str, str]]:
    bound = {
        graph: rows["enqMs"]["p50"] / rows["computeMs"]["p50"]
        for graph, rows in result["graphs"].items()
        if rows["enqMs"] and rows["enqMs"]["p50"] > ENQUEUE_SHARE * rows["computeMs"]["p50"]
    }
    if bound:
        told = ", ".join(f"{graph} {share:.0%}" for graph, share in bound.items())
        yield (
            f"handing work to the GPU takes as long as the work: enqueue time over compute time {told}",
            "replay a CUDA graph, or work on several heads at once",
        )


def _unstable(result: Result) -> Iterator[tuple[str, str]]:
    rows = (
        {HEAD: result["stages"][HEAD]}
        if HEAD in result["stages"]
        else {graph: rows["computeMs"] for graph, rows in result["graphs"].items()}
    )
    for name, row in rows.items():
        if row["cv"] is not None and row["cv"] > UNSTABLE_CV:
            yield (
                f"unstable: the times of {name} vary by {row['cv']:.1%} (over {UNSTABLE_CV:.1%})",
                "stop other programs, wait for the machine to cool, take more --runs",
            )


def _thermal(result: Result) -> Iterator[tuple[str, str]]:
    before, after = result["device"]["before"], result["device"]["after"]
    if not before or not after:
        return
    if after["held_back_by"]:
        yield (
            f"the GPU's clocks are held down by {', '.join(after['held_back_by'])}",
            "cool it, or read the numbers as those of this limit",
        )
    first, last = before["sm_mhz"], after["sm_mhz"]
    if first and last and last < (1 - CLOCK_DROP) * first:
        heat = after["temperature_c"]  # not every GPU reports it
        where = "" if heat is None else f", at {heat:.0f} °C"
        yield (
            f"the GPU's clock fell from {first:.0f} to {last:.0f} MHz{where}",
            "let it cool, and take fewer --runs at a time",
        )


def _host(result: Result) -> Iterator[tuple[str, str]]:
    if HEAD not in result["stages"] or not any(rows["enqMs"] for rows in result["graphs"].values()):
        return
    head = result["stages"][HEAD]["p50"]
    engines = sum(rows["runs_per_head"] * rows["latencyMs"]["p50"] for rows in result["graphs"].values())
    if (share := 1 - engines / head) > HOST_SHARE:
        yield (
            f"CPU-bound: {share:.0%} of a head is work of the host outside of the engines",
            "see the stages image and other, give a smaller picture, use a faster core",
        )


def _busy(result: Result) -> Iterator[tuple[str, str]]:
    load, cores = result["machine"]["load_average_before"], result["machine"]["cores"]
    if load is not None and load > BUSY_SHARE * cores:
        yield (
            f"busy: {load:.1f} processes wanted one of {cores} cores before this began",
            "stop other programs; compare these numbers with no others",
        )


def _cold(result: Result) -> Iterator[tuple[str, str]]:
    warm_up = result["protocol"]["warm_up"]
    if warm_up and not warm_up["steady"]:
        yield (
            f"not warm: heads still got faster after {warm_up['runs']} runs",
            "measure again with a larger --warm-up",
        )


RULES: dict[str, Callable[[Result], Iterator[tuple[str, str]]]] = {
    "enqueue-bound": _enqueue, "unstable": _unstable, "thermal": _thermal, "cpu-bound": _host,
    "busy": _busy, "not-warm": _cold,
}  # fmt: skip
