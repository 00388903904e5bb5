"""Fill the tables of docs/rig.md from the results: `python docs/make_rig_tables.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pages import ROOT, Tables, read, rewrite, table

PAGE = ROOT / "docs" / "rig.md"
RESULT = "rig_mini"
_METHODS = {"addition": "offsets as they are", "frames": "frames alone", "fit": "all of `fit`"}
_JOINTS = {
    "all": "all 64",
    "eye.L": "left eye",
    "eye.R": "right eye",
    "jaw": "jaw",
    "head": "head",
    "neck01": "neck",
}


def _transfer() -> str:
    methods = read(RESULT)["methods"]
    rows: dict[str, Callable[[Any], str]] = {
        "closed lids off by, mm (mean)": lambda m: f"{m['lids']['mean_mm']:.2f}",
        "… open by, mm (95 %)": lambda m: f"{m['lids']['open_p95_mm']:.2f}",
        "… overlapping by, mm (95 %)": lambda m: f"{m['lids']['overlap_p95_mm']:.2f}",
        "… open by more than 1 mm": lambda m: f"{m['lids']['open_by_1_mm']:.1%}",
        "eyeballs bent by, mm (max)": lambda m: f"{m['eyes']['max_mm']:.2f}",
        "lips in a smile, off by, mm (mean)": lambda m: f"{m['lips smile']['mean_mm']:.2f}",
        "… pressed more than 0.5 mm deeper, smile": lambda m: f"{m['lips smile']['deeper']:.1%}",
        "lips in jawOpen + mouthClose, off by, mm (mean)": lambda m: (
            f"{m['lips jawOpen + mouthClose']['mean_mm']:.2f}"
        ),
        "… pressed more than 0.5 mm deeper, jawOpen + mouthClose": lambda m: (
            f"{m['lips jawOpen + mouthClose']['deeper']:.1%}"
        ),
        "edges stretched otherwise than on the template": lambda m: f"{m['stretch']:.2%}",
        "triangles folded, per shape": lambda m: f"{m['folded_per_shape']:.2f}",
    }
    head = ["", *(_METHODS[name] for name in methods)]
    return table(head, [[label, *(show(m) for m in methods.values())] for label, show in rows.items()])


def _joints() -> str:
    result = read(RESULT)
    rows = [
        [label, f"{result['joints'][name]['mean_mm']:.1f}", f"{result['joints'][name]['p95_mm']:.1f}"]
        for name, label in _JOINTS.items()
    ]
    return table(["joint", "mean, mm", "95 %"], rows)


def _cost() -> str:
    result = read(RESULT)
    return f"{result['fit_ms']['cpu']:.1f} ms of one core on {result['heads']} heads (median)."


TABLES: Tables = {"transfer": _transfer, "joints": _joints, "cost": _cost}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
