"""Measurements and comparisons as lines of text for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from topos_rt.bench.session import STAGES, TO_GLB
from topos_rt.errors import shortened

_COLUMNS = ("min", "mean", "p50", "p90", "p95", "p99", "max")
_LAPS = ("interpreter", "import", "load", "build", "warm_up", "first", "second", "to_first_head")
_NAME = 18
_LONGEST = 60  # characters of a text from a file


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a measurement."""
    settings, sampling = result["settings"], result["settings"]["sampling"]
    passes = settings["evaluations"]["passes"]
    yield f"{settings['model']['name']} ({settings['model']['weights']})"
    yield f"{result['machine']['backend']}; {settings['precision']}, {settings['threads']} threads"
    yield (
        f"{sampling['preset']}: {sampling['solver']}, {sampling['steps']} steps, {passes} evaluations, "
        f"guidance {settings['guidance_policy']}; {settings['input']}"
    )
    if result["stages"]:
        yield ""
        yield _row("warm, ms", [*_COLUMNS, "cv", "n"])
        for name in (*STAGES, TO_GLB):
            if name in result["stages"]:  # not every model has a rig
                yield _row(name, _statistics(result["stages"][name]))
    yield ""
    yield from _graphs(result)
    if result["cold"]:
        yield ""
        yield from _cold(result["cold"])
    yield ""
    yield from _ceilings(result)
    device = result["memory"]["device"]
    there = f", on the device {_megabytes(device['peak_bytes'])}" if device else ""
    yield f"peak memory of this process {_megabytes(result['memory']['peak_host_bytes'])}{there}"
    for line in result["diagnosis"]:
        yield f"note: {line['what']}; fix: {line['fix']}"


def comparison(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a comparison."""
    if found["interleaved"]:
        yield "run by turns, here and now"
    else:
        yield f"as measured, each in its own run; the machine itself differed by {found['drift']:.1%}"
    for key, (first, second) in found["differs"].items():
        yield f"{key}: {shortened(first, _LONGEST)} and {shortened(second, _LONGEST)}"
    yield ""
    yield _row("p50, ms", ["A", "B", "change", "95 %", "interval", "A/A"])
    for name, row in found["rows"].items():
        shares = [f"{row[key]:+.1%}" for key in ("change", "low", "high")]
        verdict = ("slower" if row["change"] > 0 else "faster") if row["significant"] else "no difference"
        cells = [_ms(row["a_p50"]), _ms(row["b_p50"]), *shares, f"{row['a_a']:.1%}"]
        yield f"{_row(name, cells)}  {verdict}"
    if found["limit"] is not None:
        names = shortened(", ".join(found["slower"]))
        yield f"slower than the {found['limit']:.1%} allowed: {names}" if names else "within the limit"


def _graphs(result: Mapping[str, Any]) -> Iterator[str]:
    fields = ("enqMs", "h2dMs", "computeMs", "d2hMs", "latencyMs")
    yield _row("engine runs, p50", ["a head", *fields, "GFLOP", "floor", "rho"])
    for graph, rows in result["graphs"].items():
        roof = result["roofline"]["graphs"][graph]
        times = [_ms(rows[name]["p50"]) if rows[name] else "-" for name in fields]
        rho = "-" if roof["rho"] is None else f"{roof['rho']:.2f}"
        work = [f"{roof['flops'] / 1e9:.3g}", _ms(roof["floor_ms"]), rho]
        yield _row(graph, [f"{rows['runs_per_head']}x", *times, *work])


def _cold(states: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield _row(
        "cold, p50 in ms",
        [name.replace("_", " ") for name in _LAPS if name != "to_first_head"] + ["to 1st", "peak MB", "n"],
    )
    for state in states:
        laps = [_ms(state["ms"][name]["p50"]) if name in state["ms"] else "-" for name in _LAPS]
        memory = _megabytes(state["peak_host_bytes"]).removesuffix(" MB")
        yield _row(state["state"], [*laps, memory, state["ms"]["first"]["n"]])


def _ceilings(result: Mapping[str, Any]) -> Iterator[str]:
    gemm, copy = result["ceilings"]["gemm"], result["ceilings"]["copy"]
    yield (
        f"ceilings: {gemm['flops_per_s'] / 1e9:,.1f} GFLOP/s in a product of side {gemm['side']} in "
        f"{gemm['precision']}, {copy['bytes_per_s'] / 1e9:,.1f} GB/s in a copy"
    )
    head = result["roofline"]["head"]
    if head is not None:
        yield (
            f"rho {head['rho']:.2f}: a head's {head['flops'] / 1e9:,.3g} GFLOP take at least "
            f"{_ms(head['floor_ms'])} ms at that rate, and took {_ms(head['p50_ms'])}"
        )


def _statistics(row: Mapping[str, Any]) -> list[object]:
    cv = "-" if row["cv"] is None else f"{row['cv']:.1%}"
    return [*(_ms(row[name]) for name in _COLUMNS), cv, row["n"]]


def _row(name: str, cells: Iterable[object]) -> str:
    return f"{shortened(name, _LONGEST):<{_NAME}}" + "".join(f"{cell!s:>11}" for cell in cells)


def _ms(value: float) -> str:
    digits = 0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}"


def _megabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:,.0f} MB"
