"""Fill the tables of docs/backends.md from `benchmarks/results/`: `python docs/make_backend_tables.py`."""

from __future__ import annotations

from pages import ROOT, Tables, read, rewrite, table

PAGE = ROOT / "docs" / "backends.md"


def _half() -> str:
    result = read("fp16_mini")
    return table(
        ["FP16 in", "mean, mm", "p99", "max"],
        [
            [stage, *(f"{row[f'{key}_mm']:.4f}" for key in ("mean", "p99", "max"))]
            for stage, row in result["fp16_in"].items()
        ],
    )


def _at_once() -> str:
    graphs = read("at_once_cpu")["graphs"]
    return table(
        [
            "processor time of a head, ms, by the number at once",
            *next(iter(graphs.values()))["cpu_ms"],
            "differs by",
        ],
        [
            [f"`{graph}`", *(f"{ms:.2f}" for ms in row["cpu_ms"].values()), f"{row['difference']:.1g}"]
            for graph, row in graphs.items()
        ],
    )


TABLES: Tables = {"fp16": _half, "at_once": _at_once}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
