"""Fill the tables of docs/faces_fit.md from the results: `python docs/make_face_fit_tables.py`."""

from __future__ import annotations

from typing import Any

from pages import ROOT, Tables, read, rewrite, table

PAGE = ROOT / "docs" / "faces_fit.md"
RESULT = "face_fit_mini"
_METHODS = ("network", "fit, true head", "fit, mean head")


def _poses() -> str:
    rows = []
    for name, found in read(RESULT)["sets"].items():
        for method, errors in found["poses"].items():
            cells = [
                f"{errors[angle]['bias']:+.1f}, {errors[angle]['median']:.1f}, {errors[angle]['p90']:.1f}"
                for angle in ("yaw", "pitch", "roll")
            ]
            rows.append([f"{name} ({found['faces']} faces)", method, *cells])
    return table(
        ["pictures", "", *(f"{angle}: bias, median, 90 %" for angle in ("yaw", "pitch", "roll"))], rows
    )


def _expressions() -> str:
    sets = read(RESULT)["sets"]
    name = "renders" if "renders" in sets else "drawings"
    rows = []
    for shape, found in sets[name]["expressions"].items():
        rows.append([shape, str(found["shown"]), *(_cell(found.get(method)) for method in _METHODS)])
    return table([f"shape ({name})", "faces that show it", *_METHODS], rows)


def _cell(found: Any) -> str:
    return "–" if found is None else f"{found['correlation']:.2f}, {found['error']:.2f}"


def _cost() -> str:
    result = read(RESULT)
    found = result["sets"]["drawings"]
    cpu, wall = (f"{found['fit_ms'][clock]:.1f} ms" for clock in ("cpu", "wall"))
    load = f"{result['load_average']:.1f}"
    return f"A fit takes {cpu} of processor time; it took {wall} at a load of {load} (medians)."


TABLES: Tables = {"poses": _poses, "expressions": _expressions, "cost": _cost}


if __name__ == "__main__":
    rewrite(PAGE, TABLES)
