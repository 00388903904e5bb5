"""Fill the tables of the README from `benchmarks/results/`: `python docs/make_tables.py`."""

from __future__ import annotations

from typing import Any

from pages import ROOT, Tables, read, rewrite, table

from topos_rt.flow.settings import PRESETS

PAGE = ROOT / "README.md"


def _quality() -> str:
    result = read("mini_quality")
    labels = {"mean_head": "always the mean head", "before": "`mini` before", "balanced": "`mini` now"}
    rows = [
        [label, *(f"{result[name][key]:.2f}" for key in ("whole_mm", "face_mm", "now_median_mm")),
         f"{result[name]['nearest_by_face']:.0%}"]
        for name, label in labels.items() if name in result
    ]  # fmt: skip
    vae = result["vae"]
    rows.append([f"{vae['points']:,} points → head", f"{vae['whole_mm']:.2f}", "", "", ""])
    people = f"right one of {result['heads']} nearest"
    return table(["mm", "whole head", "face", "face, NoW median", people], rows)


def _speed() -> str:
    results = {name: read(f"cpu_mini_{name}") for name in PRESETS}
    cold = {name: _fresh(result)["to_first_head"] for name, result in results.items()}
    textured = all("texture" in result["stages"] for result in results.values())
    made = "textured " if textured else "plain "
    stages = {f"pixels → {made}head": "head", f"portrait → {made}GLB": "portrait to glb"}
    stages |= {"the texture's share": "texture"} if textured else {}
    rows = {
        what: {name: result["stages"][stage] for name, result in results.items()}
        for what, stage in stages.items()
    }
    rows["first head of a new process"] = cold
    return table(
        ["ms", *(f"`{name}`, {PRESETS[name].steps} steps" for name in results)],
        [[what, *(f"{ms['p50']:.0f}" for ms in row.values())] for what, row in rows.items()],
    )


def _fresh(result: Any) -> Any:
    """Return lap -> statistics of fresh processes without a warm-up."""
    cold = (state for state in result["cold"] if state["state"] == "fresh process")
    return next(state["ms"] for state in cold if not state["warmed_up"])


TABLES: Tables = {"quality": _quality, "speed": _speed}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
