"""Fill the tables of docs/sampling.md from `benchmarks/results/`: `python docs/make_sampling_tables.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pages import ROOT, Tables, measured, read, rewrite, table

from topos_rt.flow.settings import PRESETS

PAGE = ROOT / "docs" / "sampling.md"
_NOT_YET = "The weights that ship have not been measured yet."


def _sampler() -> str:
    if not measured("sampler_mini"):
        return _NOT_YET
    result = read("sampler_mini")
    rows = []
    for name in PRESETS:
        warm = read(f"cpu_mini_{name}")["stages"]
        rows.append([f"`{name}`", *_row(result["presets"][name]), f"{warm['dit_step']['p50']:.0f}"])
    for name in ("balanced", "fast"):
        picked = result["by_rule"].get(name)
        found = ["none that was measured", *[""] * 4] if picked is None else _row(picked)
        rows.append([f"what the rule for `{name}` picks on these weights", *found, ""])
    head = ["preset", "solver", "network evaluations", "mean, mm", "p99", "max", "sampling on CPU, ms"]
    return table(head, rows)


def _row(row: Mapping[str, Any]) -> list[str]:
    settings = row["settings"]
    return [
        f"{settings['solver']}, {settings['steps']} steps, {_extras(settings)}",
        str(row["evaluations"]),
        *(f"{row[f'{key}_mm']:.3f}" for key in ("mean", "p99", "max")),
    ]


def _extras(settings: Mapping[str, Any]) -> str:
    grid = "its own time grid" if settings["times"] else f"shift {settings['shift']:g}"
    low, high = settings["interval"]
    parts = [grid]
    parts += [] if (low, high) == (0, 1) else [f"guidance for t in {low:g}…{high:g}"]
    parts += [] if settings["reuse"] == 1 else [f"guidance anew every {settings['reuse']} evaluations"]
    return ", ".join(parts)


def _previews() -> str:
    if not measured("sampler_mini"):
        return _NOT_YET
    shown = (1, 2, 4, 6, 8, 11)
    rows = []
    for name in ("balanced", "fast"):
        means = {row["step"]: row["mean_mm"] for row in read("sampler_mini")["previews"][name]}
        rows.append([f"`{name}`", *(f"{means[step]:.1f}" if step in means else "" for step in shown)])
    return table(["mean, mm, after step", *map(str, shown)], rows)


def _own_grid() -> str:
    if not measured("own_grid_mini"):
        return _NOT_YET
    rows = read("own_grid_mini")["measured"]
    release, *others = rows  # the release's 50 steps, which say what is free
    head = ["setting", "network evaluations", "mean, mm", "p99", "max", "free"]
    told = [[*_row(row), "yes" if row["free"] else "no"] for row in others]
    return table(head, [[*_row(release), ""], *told])


TABLES: Tables = {"sampler": _sampler, "previews": _previews, "own_grid": _own_grid}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
