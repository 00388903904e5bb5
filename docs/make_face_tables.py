"""Fill the tables of docs/faces.md from `benchmarks/results/`: `python docs/make_face_tables.py`."""

from __future__ import annotations

from pages import ROOT, Tables, read, rewrite, table

PAGE = ROOT / "docs" / "faces.md"
RESULT = "faces_cpu"


def _times() -> str:
    """Return the time of each part of finding a face."""
    rows = [
        [name, f"{row['p50']:.0f}", f"{row['p95']:.0f}"] for name, row in read(RESULT)["times_ms"].items()
    ]
    return table(["part", "median, ms", "95th percentile, ms"], rows)


def _stability() -> str:
    """Return how far landmarks move for each change of a picture."""
    found = read(RESULT)["stability_percent"]
    changes = list(next(iter(found.values())))
    rows = [[change, *(f"{rows[change]['mean']:.2f}" for rows in found.values())] for change in changes]
    return table(["change", *(f"`{name}.jpg`" for name in found)], rows)


TABLES: Tables = {"faces_times": _times, "faces_stability": _stability}


if __name__ == "__main__":
    rewrite(PAGE, TABLES)
