"""Fill the table of docs/kernels.md from `benchmarks/results/`: `python docs/make_kernel_tables.py`."""

from __future__ import annotations

import json
import re
from itertools import groupby
from pathlib import Path
from typing import Any

from topos_rt.files import write_atomic

ROOT = Path(__file__).parents[1]
_KEYS = ("gflop", "mbytes", "l2_mbytes", "floor_us")


def main() -> None:
    """Rewrite docs/kernels.md where a number has changed."""
    path = ROOT / "docs" / "kernels.md"
    write_atomic(path, filled(path.read_text()).encode())


def filled(text: str) -> str:
    """The text with its table made anew."""
    result = json.loads((ROOT / "benchmarks" / "results" / "ops_floors_official.json").read_text())
    made, count = re.subn(
        r"(<!-- floors -->\n).*?(<!-- /floors -->)",
        lambda found: f"{found[1]}{_table(result)}\n{found[2]}", text, flags=re.DOTALL,
    )  # fmt: skip
    if count != 1:
        raise ValueError(f"docs/kernels.md: got {count} places for the table; expected 1")
    return made


def _table(result: dict[str, Any]) -> str:
    head = ["rows, columns", "launches", "GFLOP", "MB", "MB through L2", "floor, µs", "bound by"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for (rows, n), group in groupby(result["launches"], key=lambda row: (row["rows"], row["n"])):
        part = list(group)
        sums = [sum(row[key] for row in part) for key in _KEYS]
        bound = " and ".join(sorted({row["bound"] for row in part}))
        lines.append(_line(f"{rows:,} × {n}", len(part), sums, bound))
    total = result["decoder"]
    lines.append(_line("the decoder", total["launches"], [total[key] for key in _KEYS], ""))
    return "\n".join(lines)


def _line(name: str, launches: int, sums: list[float], bound: str) -> str:
    return f"| {name} | {launches} | {' | '.join(f'{value:.1f}' for value in sums)} | {bound} |"


if __name__ == "__main__":
    main()
