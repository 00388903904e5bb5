"""Fill the tables of docs/retopology.md from the results: `python docs/make_retopology_tables.py`."""

from __future__ import annotations

from pages import ROOT, Tables, read, rewrite, table

PAGE = ROOT / "docs" / "retopology.md"


def _kinds() -> str:
    result = read("retopologize_mini")
    rows = []
    for kind, passes in result["kinds"].items():
        one, three = passes["1 passes"], passes["3 passes"]
        rows.append(
            [
                kind,
                *(f"{part['surface_mm']:.2f}" for part in (one, three)),
                f"{three['worst_head_surface_mm']:.2f}",
                f"{three['input_to_head_mm']:.2f}",
                *(f"{part['vertex_mm']:.2f}" for part in (one, three)),
            ]
        )
    turned = result["turned"]
    rows.append(
        [
            "outside only, turned at random, `--align`",
            "",
            f"{turned['surface_mm']:.2f}",
            f"{turned['worst_head_surface_mm']:.2f}",
            f"{turned['input_to_head_mm']:.2f}",
            "",
            f"{turned['vertex_mm']:.2f}",
        ]
    )
    head = [
        f"input, {result['heads']} heads",
        "surface, 1 pass",
        "surface, 3 passes",
        "worst head",
        "input to head",
        "vertices, 1 pass",
        "vertices, 3 passes",
    ]
    return table(head, rows)


def _turned() -> str:
    turned = read("retopologize_mini")["turned"]
    return table(
        ["orientations found", "refused", "mean rotation error", "largest"],
        [
            [
                f"{turned['found']} of {turned['of']}",
                str(turned["refused"]),
                f"{turned['degrees_mean']:.1f}°",
                f"{turned['degrees_max']:.1f}°",
            ]
        ],
    )


def _selection() -> str:
    result = read("retopologize_mini")["selection"]
    names = list(next(iter(result.values())))
    return table(
        ["one pass, mean surface distance, mm", *names],
        [[kind, *(f"{found[name]:.3f}" for name in names)] for kind, found in result.items()],
    )


def _lods() -> str:
    result = read("lods_mini")
    rows = [["0", f"{result['vertices']:,}", f"{result['triangles']:,}", "0", "0", "0"]]
    for level, found in result["levels"].items():
        rows.append(
            [
                level,
                f"{found['vertices']:,}",
                f"{found['triangles']:,}",
                f"{found['mean_mm']:.2f}",
                f"{found['p95_mm']:.2f}",
                f"{found['worst_mm']:.1f}",
            ]
        )
    return table(["level", "vertices", "triangles", "mean, mm", "p95", "worst point of all heads"], rows)


TABLES: Tables = {
    "kinds": _kinds, "turned": _turned, "selection": _selection, "lods": _lods,
}  # fmt: skip

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
