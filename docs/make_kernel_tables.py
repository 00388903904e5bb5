"""Fill the table of docs/kernels.md from `benchmarks/results/`: `python docs/make_kernel_tables.py`."""

from __future__ import annotations

from itertools import groupby

from pages import ROOT, Tables, read, rewrite, table

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
    head = ["rows, columns, K", "kernel", "blocks", "tensor cores", "shared memory", "instructions",
            "bank conflicts", "KB through L2", "of them different"]  # fmt: skip
    chosen, lines = {}, []
    for row in read("kernel_counts_official")["blocks"]:  # the last of a shape: with a residual
        types = 2 if ".conv_" in row["name"] else 1
        chosen[row["rows"], row["c_out"], types * row["c_in"], row["kernel"]] = row
    for (rows, columns, k, kernel), row in sorted(chosen.items()):
        clocks = [f"{row[f'{part}_clocks']:,.0f}" for part in ("tensor", "shared", "issue")]
        sectors = [f"{32e-3 * n:.0f}" for n in (row["counts"]["sectors"], row["distinct_sectors"])]
        lines.append([f"{rows:,} × {columns}, {k}", kernel, str(row["blocks"]), *clocks,
                      f"{row['bank_conflicts']:.2f}", *sectors])  # fmt: skip
    return table(head, lines)


TABLES: Tables = {"floors": _floors, "counts": _counts}


if __name__ == "__main__":
    rewrite(PAGE, TABLES)
