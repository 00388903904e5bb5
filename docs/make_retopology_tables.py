"""Fill the tables of docs/retopology.md from `benchmarks/results/`: `python docs/make_retopology_tables.py`.

A table stands between `<!-- name -->` and `<!-- /name -->`. No number in one is written by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from topos_rt.files import write_atomic

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "retopology.md"


def main() -> None:
    """Rewrite docs/retopology.md where a number has changed."""
    write_atomic(PAGE, filled(PAGE.read_text()).encode())


def filled(text: str) -> str:
    """The text with every table made anew. Raises ValueError where a table has no place or several."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda found, make=make: f"{found[1]}{make()}\n{found[2]}", text)
        if count != 1:
            raise ValueError(f"{PAGE.name}: got {count} places for the table {name!r}; expected 1")
    return text


def _read(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _kinds() -> str:
    result = _read("retopologize_mini")
    rows = []
    for kind, passes in result["kinds"].items():
        one, three = passes["1 passes"], passes["3 passes"]
        rows.append([kind, *(f"{part['surface_mm']:.2f}" for part in (one, three)),
                     f"{three['worst_head_surface_mm']:.2f}", f"{three['input_to_head_mm']:.2f}",
                     *(f"{part['vertex_mm']:.2f}" for part in (one, three))])
    turned = result["turned"]
    rows.append(["outside only, turned at random, `--align`", "", f"{turned['surface_mm']:.2f}",
                 f"{turned['worst_head_surface_mm']:.2f}", f"{turned['input_to_head_mm']:.2f}", "",
                 f"{turned['vertex_mm']:.2f}"])
    head = [f"input, {result['heads']} heads", "surface, 1 pass", "surface, 3 passes", "worst head",
            "input to head", "vertices, 1 pass", "vertices, 3 passes"]  # fmt: skip
    return _table(head, rows)


def _turned() -> str:
    turned = _read("retopologize_mini")["turned"]
    return _table(["orientations found", "refused", "mean rotation error", "largest"], [[
        f"{turned['found']} of {turned['of']}", str(turned["refused"]), f"{turned['degrees_mean']:.1f}°",
        f"{turned['degrees_max']:.1f}°"]])  # fmt: skip


def _selection() -> str:
    result = _read("retopologize_mini")["selection"]
    names = list(next(iter(result.values())))
    return _table(["one pass, mean surface distance, mm", *names], [
        [kind, *(f"{found[name]:.3f}" for name in names)] for kind, found in result.items()])  # fmt: skip


def _lods() -> str:
    result = _read("lods_mini")
    rows = [["0", f"{result['vertices']:,}", f"{result['triangles']:,}", "0", "0", "0"]]
    for level, found in result["levels"].items():
        rows.append([level, f"{found['vertices']:,}", f"{found['triangles']:,}", f"{found['mean_mm']:.2f}",
                     f"{found['p95_mm']:.2f}", f"{found['worst_mm']:.1f}"])
    return _table(["level", "vertices", "triangles", "mean, mm", "p95", "worst point of all heads"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "kinds": _kinds, "turned": _turned, "selection": _selection, "lods": _lods,
}  # fmt: skip

if __name__ == "__main__":
    main()
