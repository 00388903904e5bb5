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


def _eight_bit() -> str:
    result = read("eightbit_mini")
    steps = result["euler"]["steps"]
    rows = {f"step in {name}": row for name, row in result["step_in"].items()}
    rows[f"{steps} Euler steps against {result['euler']['against_steps']:,}, FP32"] = result["euler"]
    return table(
        [
            f"{result['images']} pictures, {result['seeds']} seeds",
            "mean, mm",
            "p99",
            "max",
            "last state",
            "free",
        ],
        [
            [
                name,
                *(f"{row[f'{key}_mm']:.3f}" for key in ("mean", "p99", "max")),
                f"{row['state_relative_rms']:.1%}",
                {True: "yes", False: "no", None: ""}[row.get("free")],
            ]
            for name, row in rows.items()
        ],
    )


def _traffic() -> str:
    result = read("step_traffic")
    return table(
        ["official width, 2 blocks", "kernels", "traffic, MB", "keys and values", "plan, MB", "weights, MB"],
        [
            [
                f"{graph}, {precision}{', before' if when == 'before' else ''}",
                str(row["kernels"]),
                *(
                    f"{row[key] / 1e6:.1f}"
                    for key in ("traffic_bytes", "keys_values_bytes", "plan_bytes", "weights_bytes")
                ),
            ]
            for graph in ("dit_step", "dit_step_guided")
            for when, precision in (("before", "fp16"), ("now", "fp16"), ("now", "int8"), ("now", "fp8"))
            for row in (result[when]["official"][graph][precision],)
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


TABLES: Tables = {"fp16": _half, "at_once": _at_once, "eightbit": _eight_bit, "traffic": _traffic}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
