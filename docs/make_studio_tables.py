"""Fill the table of docs/studio.md from `benchmarks/results/`: `python docs/make_studio_tables.py`."""

from __future__ import annotations

from pages import ROOT, Tables, read, rewrite, table

PAGE = ROOT / "docs" / "studio.md"
RESULT = "studio_mini"
_WAYS = {
    "service": "the WebSockets, without a browser",
    "page without 3D": "the page, where nothing is drawn in 3D",
    "page": "the page, drawn in 3D by the processor",
}


def _studio() -> str:
    result = read(RESULT)
    rows = []
    for way, told in _WAYS.items():
        head, mirror = result["ways"][way]["head"], result["ways"][way]["mirror"]
        spans = [head["first_ms"], head["done_ms"], mirror["delay_ms"]]
        first, done, late = (f"{span['p50']:.0f} / {span['p99']:.0f}" for span in spans)
        rows.append([told, first, done, f"{mirror['per_second']:.1f}", late])
    machine = result["machine"]
    before, after = machine["load_average_before"], machine["load_average_after"]
    names = ["", "first estimate, ms", "head with its skin, ms", "mirror, updates a second", "its delay, ms"]
    return (
        f"{table(names, rows)}\n\nMilliseconds are p50 / p99, the preset is `{result['preset']}`. Measured on"
        f" {machine['cores']} cores of a shared {machine['cpu']}, whose load average was {before:.1f} before"
        f" and {after:.1f} after: other work had its share of these times."
    )


TABLES: Tables = {"studio": _studio}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
