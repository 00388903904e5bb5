"""Fill the tables of docs/training.md from the results: `python docs/make_training_tables.py`."""

from __future__ import annotations

import json
from typing import Any

from pages import RESULTS, ROOT, Tables, measured, read, rewrite, table

PAGE = ROOT / "docs" / "training.md"
_HEADS = {
    "mean_head": "mean head",
    "before": "`mini` before",
    "reference": "`mini`, `reference`",
    "balanced": "`mini`, `balanced`",
    "fast": "`mini`, `fast`",
}
_INTERVAL = ("mean", "low", "high")
_NOW = ("now_median_mm", "now_mean_mm", "now_std_mm")
_PARTS = {
    "shown": "face, shown",
    "hidden_side": "face, hidden",
    "ears": "ears, hidden",
    "back": "back of the head",
}
_SEEN = {"mean_head": "mean head", "before": "`mini` before", "now": "`mini` now"}

# Logs of a network that looked for points of the surface -> what its errors counted by.
_SURFACE_RUNS = {
    "pixels": "places, in pixels",
    "coordinates": "places, by their principal coordinates",
    "mixed": "the same, on mixed pictures, with falling rates",
}


def _likeness() -> str:
    result = read("mini_quality")
    rows = [
        [
            label,
            *(f"{found[key]:.2f}" for key in ("whole_mm", "face_mm", *_NOW)),
            f"{found['nearest_by_face']:.0%}",
        ]
        for name, label in _HEADS.items()
        if (found := result.get(name))
    ]
    nearest = f"nearest of {result['heads']} by face"
    return table(["mm", "whole head", "face", "NoW median", "NoW mean", "NoW σ", nearest], rows)


def _by_yaw() -> str:
    result = read("mini_quality")
    rows = []
    for mean, own in zip(result["mean_head"]["by_yaw"], result["balanced"]["by_yaw"], strict=True):
        low, high = own["degrees"]
        pairs = [f"{own[key]:.2f} / {mean[key]:.2f}" for key in ("whole_mm", "face_mm", "now_median_mm")]
        rows.append([f"{low:g}–{high:g}°", str(own["heads"]), *pairs])
    head = ["yaw", "pictures", "whole head, `balanced` / mean head", "face", "NoW median"]
    return table(head, rows)


def _seeds() -> str:
    found = read("mini_quality")["seeds"]
    own, known = found["spread_mm"], found["training_heads_spread_mm"]
    rows = [[label, f"{own[k]:.2f}", f"{known[k]:.2f}"] for k, label in _PARTS.items() if k in own]
    return table(["spread, mm", f"{found['seeds']} seeds of one picture", "training heads"], rows)


def _evidence(result: str) -> str:
    found = read(result)
    known = {
        "the mean head": found["mean_head"],
        **found["known"],
        f"{found.get('directions', 128)} directions, known exactly": found["components"],
    }
    rows = [[name, f"{row['whole_mm']:.2f}", f"{row['face_mm']:.2f}"] for name, row in known.items()]
    return table(["what is known", "whole head", "face"], rows)


def _curve() -> str:
    curve = read("mini_evidence_now")["all_by_pictures"]
    head = ["pictures", *(f"{int(count):,}" for count in curve)]
    labels = {"whole_mm": "whole head", "face_mm": "face"}
    return table(
        head, [[label, *(f"{row[key]:.2f}" for row in curve.values())] for key, label in labels.items()]
    )


def _photographs() -> str:
    result = read("photographs_mini")
    rows = [[label, *_photograph_cells(result[name])] for name, label in _SEEN.items() if name in result]
    counted = f"{result['faces']} faces, {result['people']} people"
    head = [counted, "reprojection, %", "same person nearest", "one person / two people, mm", "ratio"]
    return table(head, rows)


def _photograph_cells(found: dict[str, Any]) -> list[str]:
    cells = [f"{found['reprojection_percent']['mean']:.2f}"]
    same = found.get("same_person")
    if not same:
        return [*cells, "", "", ""]
    apart = f"{same['within_mm']:.2f} / {same['between_mm']:.2f}"
    nearest = f"{same['nearest_is_the_same']:.0%} of {same['photographs']}"
    return [*cells, nearest, apart, f"{same['ratio']:.2f}"]


def _stability() -> str:
    found = read("photographs_mini")["now"]["stability_mm"]
    moved = [f"{row['mean']:.2f}" if row["mean"] is not None else "no face" for row in found.values()]
    return table([name.replace("_", " ") for name in found], [moved])


def _place_limits() -> str:
    found = {(r["places"], r["alike_within_m"], r["pixels_off"]): r for r in read("place_limits")["limits"]}
    pixels = sorted({off for _, _, off in found})
    rows = []
    for kind, reach in dict.fromkeys((kind, reach) for kind, reach, _ in found):
        cells = [found.get((kind, reach, off)) for off in pixels]
        label = f"{kind}, errors alike within {1000 * reach:g} mm" if reach else kind
        rows.append([label, *(f"{r['whole_mm']:.2f} / {r['face_mm']:.2f}" if r else "" for r in cells)])
    head = [f"off by {each:g} px" if each else "exact" for each in pixels]
    return table(["whole head / face, mm", *head], rows)


def _surface_runs() -> str:
    logs = {name: _held_out(f"mini_surface_{name}") for name in _SURFACE_RUNS}
    shown = {"none: the regression": logs["pixels"][0]}
    shown |= {label: logs[name][-1] for name, label in _SURFACE_RUNS.items()}
    keys = ("pixels", "pixels_deep", "mm", "mm_face")
    rows = [
        [label, f"{found['minutes']:.0f}", *(f"{found[f'held_out.{key}']:.2f}" for key in keys)]
        for label, found in shown.items()
    ]
    head = ["what errors counted by", "minutes", "px off across", "in depth", "whole head, mm", "face, mm"]
    return table(head, rows)


def _held_out(name: str) -> list[dict[str, float]]:
    """Return the records of a log of training that judge the network on held-out pictures."""
    records = map(json.loads, (RESULTS / f"{name}.jsonl").read_text().splitlines())
    return [record for record in records if "held_out.mm" in record]


def _pull() -> str:
    if not measured("landmark_pull_mini"):
        return "The weights that ship have no landmark response, so there is nothing to measure yet."
    result = read("landmark_pull_mini")
    photos = {row["weight"]: row for row in result.get("on_photographs", ())}
    mean = result["mean_head"]
    blank = [
        "",
        f"{mean['whole_mm']:.2f}",
        f"{mean['face_mm']:.2f}",
        "",
        f"{mean['nearest_by_face']:.0%}",
        "",
        "",
    ]
    rows = [["mean head", *blank]]
    for row in result["renders"]:
        change, seen = row["face_change_mm"], photos.get(row["weight"])
        alike = seen and seen["same_person"]
        rows.append(
            [
                f"{row['weight']:g}",
                f"{row['reprojection_percent']:.2f}",
                f"{row['whole_mm']:.2f}",
                f"{row['face_mm']:.2f}",
                "{:+.2f} ({:+.2f} to {:+.2f})".format(*(round(change[k], 2) + 0.0 for k in _INTERVAL)),
                f"{row['nearest_by_face']:.0%}",
                f"{seen['reprojection_percent']:.2f}" if seen else "",
                f"{alike['ratio']:.2f}" if alike else "",
            ]
        )
    head = ["`landmark_pull`", "to landmarks, %", "whole head, mm", "face, mm", "its change, mm"]
    return table(
        [*head, f"nearest of {result['people']}", "photographs, to landmarks, %", "one person / two people"],
        rows,
    )


def _same_weights() -> str:
    """Return what the export before and that which ships were off by, and took."""
    result = read("same_weights_mini")
    rows = [
        [f"`{name}`", f"{row['off']:.1g}", f"{row['earlier']['p50']:.2f}", f"{row['now']['p50']:.2f}"]
        for name, row in result["graphs"].items()
    ]
    off = ", ".join(f"{mm * 1e6:.0f} nm {way}" for way, mm in result["farthest_mm"].items())
    head = ["graph", "outputs off by, relative RMS", "before, ms", "now, ms"]
    heads = f"Vertices of the heads of {result['pictures']} pictures are off by at most: {off}."
    return f"{table(head, rows)}\n\n{heads}"


TABLES: Tables = {
    "evidence": lambda: _evidence("mini_evidence"),
    "evidence_now": lambda: _evidence("mini_evidence_now"),
    "curve": _curve,
    "likeness": _likeness,
    "by_yaw": _by_yaw,
    "seeds": _seeds,
    "photographs": _photographs,
    "stability": _stability,
    "pull": _pull,
    "place_limits": _place_limits,
    "surface_runs": _surface_runs,
    "same_weights": _same_weights,
}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
