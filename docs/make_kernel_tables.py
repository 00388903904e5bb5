"""Fill the tables of docs/kernels.md from `benchmarks/results/`: `python docs/make_kernel_tables.py`."""

from __future__ import annotations

from itertools import groupby

from pages import ROOT, Tables, measured, read, rewrite, table

PAGE = ROOT / "docs" / "kernels.md"
_KEYS = ("gflop", "mbytes", "l2_mbytes", "l2_mbytes_tiled", "floor_us")


def _floors() -> str:
    result = read("ops_floors_official")
    head = ["rows, columns", "launches", "GFLOP", "MB", "MB through L2", "tiled", "floor, µs", "bound by"]
    lines = []
    for (rows, n), group in groupby(result["launches"], key=lambda row: (row["rows"], row["n"])):
        part = list(group)
        sums = [sum(row[key] for row in part) for key in _KEYS]
        bound = " and ".join(sorted({row["bound"] for row in part}))
        lines.append(_line(f"{rows:,} × {n}", len(part), sums, bound))
    total = result["decoder"]
    lines.append(_line("the decoder", total["launches"], [total[key] for key in _KEYS], ""))
    return table(head, lines)


def _line(name: str, launches: int, sums: list[float], bound: str) -> list[str]:
    return [name, str(launches), *(f"{value:.1f}" for value in sums), bound]


def _counts() -> str:
    head = [
        "rows, columns, K",
        "kernel",
        "blocks",
        "tensor cores",
        "shared memory",
        "instructions",
        "bank conflicts",
        "KB through L2",
        "distinct KB",
    ]
    chosen, lines = {}, []
    for row in read("kernel_counts_official")["blocks"]:  # the last of each shape has a residual
        types = 2 if ".conv_" in row["name"] else 1
        chosen[row["rows"], row["c_out"], types * row["c_in"], row["kernel"]] = row
    for (rows, columns, k, kernel), row in sorted(chosen.items()):
        clocks = [f"{row[f'{part}_clocks']:,.0f}" for part in ("tensor", "shared", "issue")]
        sectors = [f"{32e-3 * n:.0f}" for n in (row["counts"]["sectors"], row["distinct_sectors"])]
        lines.append(
            [
                f"{rows:,} × {columns}, {k}",
                kernel,
                str(row["blocks"]),
                *clocks,
                f"{row['bank_conflicts']:.2f}",
                *sectors,
            ]
        )
    return table(head, lines)


def _measured() -> str:
    result, launches = read("ops_h100"), {row["name"]: row for row in read("ops_floors_official")["launches"]}
    head = [
        "rows, columns, K",
        "",
        "floor, µs",
        "bound by",
        "`graph_conv`, µs",
        "tiled, µs",
        "in L2, µs",
        "share of the ceiling",
    ]
    lines = []
    for name, row in result["graph_conv"].items():
        what, ours = launches[name], row["us"]
        tiled = ours.get("ours, tiled")
        times = [f"{tiled[how]['p50']:.1f}" for how in ("in_a_row", "in_a_row_warm")] if tiled else ["", ""]
        share = (tiled or ours["ours"])["share_of_ceiling"]
        lines.append(
            [
                f"{what['rows']:,} × {what['n']}, {what['k']}",
                f"`{name}`",
                f"{row['floor_us']:.1f}",
                row["bound"],
                f"{ours['ours']['p50']:.1f}",
                *times,
                f"{share:.0%}",
            ]
        )
    ceilings = result["ceilings"]
    about = (
        f"{result['machine']['device']}; `{result['command']}`; ceilings of the run"
        f" {ceilings['tflops']:.0f} TFLOP/s and {ceilings['tbytes']:.2f} TB/s."
    )
    return f"{about}\n\n{table(head, lines)}"


def _decoders() -> str:
    found = read("ops_h100_others")["decoder"]["us"]
    lines = [[name, f"{row['p50']:,.0f}", f"{row['p99']:,.0f}"] for name, row in found.items()]
    return table(["decoder, official size", "p50, µs", "p99, µs"], lines)


def _heads() -> str:
    head = ["model", "step by step, ms", "one CUDA graph, ms", "with our decoder, ms", "ratio of the two"]
    lines = []
    for name in filter(measured, ("graph_h100_decoder", "graph_h100_mini")):
        result = read(name)
        low, high = result["compared"][1]["interval"]
        lines.append(
            [
                f"`{result['model']['name']}`",
                *(f"{row['p50']:.2f}" for row in result["ms"].values()),
                f"{result['compared'][1]['ratio']:.2f} ({low:.2f} to {high:.2f})",
            ]
        )
    return table(head, lines)


TABLES: Tables = {
    "floors": _floors, "counts": _counts, "measured": _measured, "decoders": _decoders, "heads": _heads,
}  # fmt: skip


if __name__ == "__main__":
    rewrite(PAGE, TABLES)
