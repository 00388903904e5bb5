"""Tables in pages, each between `<!-- name -->` and `<!-- /name -->`. No number in them is hand-written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from topos_rt.support.files import write_atomic

ROOT = Path(__file__).parents[1]
Tables = Mapping[str, Callable[[], str]]


def read(name: str) -> Any:
    """Return a result from `benchmarks/results/`, by its name without suffix."""
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def filled(page: str, tables: Tables) -> str:
    """Return a page with every table made again. Raises ValueError if a table has no place, or several."""
    for name, make in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        page, count = pattern.subn(lambda found, make=make: f"{found[1]}{make()}\n{found[2]}", page)
        if count != 1:
            raise ValueError(f"got {count} places for the table {name!r}; expected 1")
    return page


def rewrite(path: Path, tables: Tables) -> None:
    """Fill a page's tables, and write the page."""
    write_atomic(path, filled(path.read_text(), tables).encode())
