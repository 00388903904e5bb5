"""Fill the tables of docs/training_pictures.md from the results: `python docs/make_picture_tables.py`."""

from __future__ import annotations

from pages import ROOT, Tables, read, rewrite, table

PAGE = ROOT / "docs" / "training_pictures.md"
RESULT = "training_pictures_cpu"
_PARTS = {
    "surfaces": "expression, garments, hair, normals, sorting",
    "backdrop": "backdrop",
    "shadows": "shadow map",
    "visibility": "visibility buffer",
    "light": "light, and blending of what is thin",
    "occluders": "occluders, visible vertices",
    "film": "lens, sensor, tone curve",
    "jpeg": "JPEG",
}


def _speed() -> str:
    result = read(RESULT)
    parts = result["cpu_ms_by_part"]
    rows = [[label, f"{parts[name]:.1f}"] for name, label in _PARTS.items()]
    rows.append(["**all**", f"**{result['cpu_ms']:.1f}**"])
    rows.append(["drawing a person", f"{result['people_ms']:.1f}"])
    return table(["part", "ms of one core"], rows)


def _rate() -> str:
    result = read(RESULT)
    rates, load = result["pictures_per_second"], result["load"][0]
    return (
        f"That is {result['pictures_per_cpu_second']:.1f} pictures per second of one core, measured over "
        f"{result['pictures']} pictures. By the clock it was {rates['1 process']:.1f} a second with one "
        f"process and {rates['2 processes']:.1f} with two, on {result['cores']} cores that other work shared "
        f"(load {load:.0f})."
    )


def _rasterisers() -> str:
    found = read(RESULT)["rasterisers_ms"]
    rows = [
        [name, "–" if value is None else f"{value:.0f}"]
        for name, value in found.items()
        if name not in ("triangles", "samples")
    ]
    return table([f"{found['triangles']:,} triangles, {found['samples']:,} samples", "ms"], rows)


TABLES: Tables = {"speed": _speed, "rate": _rate, "rasterisers": _rasterisers}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
