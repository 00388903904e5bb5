"""Fill the tables of docs/rig.md from `benchmarks/results/rig_mini.json`: `python docs/make_rig_tables.py`.

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
PAGE = ROOT / "docs" / "rig.md"
_METHODS = {"addition": "offsets as they are", "frames": "frames alone", "fit": "all of `fit`"}
_JOINTS = {
    "all": "all 64",
    "eye.L": "left eye",
    "eye.R": "right eye",
    "jaw": "jaw",
    "head": "head",
    "neck01": "neck",
}


def main() -> None:
    """Rewrite docs/rig.md where a number has changed."""
    write_atomic(PAGE, filled(PAGE.read_text()).encode())


def filled(text: str) -> str:
    """The text with every table made anew. Raises ValueError where a table has no place or several."""
    result = json.loads((ROOT / "benchmarks" / "results" / "rig_mini.json").read_text())
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda found, make=make: f"{found[1]}{make(result)}\n{found[2]}", text)
        if count != 1:
            raise ValueError(f"docs/rig.md: got {count} places for the table {name!r}; expected 1")
    return text


def _transfer(result: Any) -> str:
    methods = result["methods"]
    rows: dict[str, Callable[[Any], str]] = {
        "closed lids off by, mm (mean)": lambda m: f"{m['lids']['mean_mm']:.2f}",
        "… open by, mm (95 %)": lambda m: f"{m['lids']['open_p95_mm']:.2f}",
        "… overlapping by, mm (95 %)": lambda m: f"{m['lids']['overlap_p95_mm']:.2f}",
        "… open by more than 1 mm": lambda m: f"{m['lids']['open_by_1_mm']:.1%}",
        "eyeballs bent by, mm (max)": lambda m: f"{m['eyes']['max_mm']:.2f}",
        "lips in a smile, off by, mm (mean)": lambda m: f"{m['lips smile']['mean_mm']:.2f}",
        "… pressed more than 0.5 mm deeper, smile": lambda m: f"{m['lips smile']['deeper']:.1%}",
        "lips in jawOpen + mouthClose, off by, mm (mean)": lambda m: (
            f"{m['lips jawOpen + mouthClose']['mean_mm']:.2f}"),
        "… pressed more than 0.5 mm deeper, jawOpen + mouthClose": lambda m: (
            f"{m['lips jawOpen + mouthClose']['deeper']:.1%}"),
        "edges stretched otherwise than on the template": lambda m: f"{m['stretch']:.2%}",
        "triangles folded, per shape": lambda m: f"{m['folded_per_shape']:.2f}",
    }  # fmt: skip
    head = ["", *(_METHODS[name] for name in methods)]
    return _table(head, [[label, *(show(m) for m in methods.values())] for label, show in rows.items()])


def _joints(result: Any) -> str:
    rows = [[label, f"{result['joints'][name]['mean_mm']:.1f}", f"{result['joints'][name]['p95_mm']:.1f}"]
            for name, label in _JOINTS.items()]  # fmt: skip
    return _table(["joint", "mean, mm", "95 %"], rows)


def _cost(result: Any) -> str:
    return f"{result['fit_ms']['cpu']:.1f} ms of one core on {result['heads']} heads (median)."


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


TABLES: dict[str, Callable[[Any], str]] = {"transfer": _transfer, "joints": _joints, "cost": _cost}

if __name__ == "__main__":
    main()
