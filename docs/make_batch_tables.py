"""Fill the tables of docs/batch.md from the code and the results: `python docs/make_batch_tables.py`."""

from __future__ import annotations

from pages import ROOT, Tables, read, rewrite, table

from topos_rt.server.batch_results import COLUMNS

PAGE = ROOT / "docs" / "batch.md"
RESULT = "batch_mini"


def _columns() -> str:
    return table(
        ["column", "type", "holds"],
        [[f"`{name}`", f"`{kind}`", told] for name, (kind, told) in COLUMNS.items()],
    )


def _speed() -> str:
    result = read(RESULT)
    machine = result["machine"]
    rows = [
        [
            name,
            f"{case['heads_per_second']['median']:.2f}",
            f"{case['seconds']['median']:.0f}",
            f"{case['cpu_seconds']['median']:.0f}",
        ]
        for name, case in result["cases"].items()
    ]
    count = result["pictures"]
    head = ["`mini`", "heads a second, warm", f"seconds for {count} heads, with the start", "of processors"]
    return (
        f"{table(head, rows)}\n\nMedians of {result['rounds']} runs in turns, preset `{result['preset']}`, "
        f"on {machine['cores']} cores of a shared machine whose load average was "
        f"{machine['load_average_before']:.1f} before (`python -m benchmarks.bench_batch`, "
        "`benchmarks/results/batch_mini.json`)."
    )


TABLES: Tables = {"columns": _columns, "speed": _speed}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
