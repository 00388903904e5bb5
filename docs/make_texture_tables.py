"""Fill the tables of docs/texture.md from the results: `python docs/make_texture_tables.py`."""

from __future__ import annotations

import numpy as np
from pages import ROOT, Tables, read, rewrite, table

PAGE = ROOT / "docs" / "texture.md"
RESULT = "texture_mini"
LOWERED = 0.12  # by which a texture is to lower the distance
HELD_OUT = "held-out render"  # the group of those who are not in the gallery
GROUPS = {
    "photograph": "photographs of the gallery",
    "gallery's render": "renders of the gallery",
    HELD_OUT: "other renders",
}


def _truth() -> str:
    rows = read(RESULT)["truth"]
    lights, tones = (list(dict.fromkeys(row[key] for row in rows)) for key in ("light", "tone"))

    def cell(light: str, tone: str) -> str:
        found = [row for row in rows if (row["light"], row["tone"]) == (light, tone)]
        return f"{max(r['log_luminance_sd'] for r in found):.3f}, {max(r['delta_e'] for r in found):.1f}"

    return table(
        ["light", *(f"{tone} skin" for tone in tones)],
        [[light, *(cell(light, tone) for tone in tones)] for light in lights],
    )


def _identity() -> str:
    found = read(RESULT)["identity"]
    groups = dict.fromkeys(row["group"] for row in found["pictures"])
    rows = []
    for group in groups:
        for kind, label in (("flat", "without a texture"), ("projected", "with the photograph")):
            chosen = [row[kind] for row in found["pictures"] if row["group"] == group]
            values = np.array([[np.nan if v is None else v for v in row] for row in chosen])
            count = f"{len(chosen)} {GROUPS[group]}"
            rows.append([count, label, *(f"{value:.3f}" for value in np.nanmean(values, 0))])
    told = table(["pictures", "head", "front", "+30°", "-30°"], rows)
    return (
        f"{told}\n\nPictures and textured heads of different people are {found['mismatched_mean']:.3f} apart,"
        f" and for {found['right_head_is_nearest']:.0%} of the {found['heads']} pictures the nearest textured"
        " head is the right one."
    )


def _gallery() -> str:
    rows, lowered = [], dict[bool, list[float]]({True: [], False: []})
    for row in read(RESULT)["identity"]["pictures"]:
        flat, own, again = row["flat"][0], row["projected"][0], row["again"]
        if flat is None or own is None:
            continue
        shown = row["group"] != HELD_OUT
        lowered[shown].append(flat - own)
        if shown:
            pairs = [f"{again['psnr']:.1f} / {again['flat_psnr']:.1f}"]
            pairs.append(f"{again['ssim']:.2f} / {again['flat_ssim']:.2f}")
            rows.append([row["picture"], f"{flat:.3f}", f"{own:.3f}", f"{flat - own:.3f}", *pairs])
    told = table(["picture", "without a texture", "with it", "lowered by", "PSNR, dB", "SSIM"], rows)
    own, others = (lowered[shown] for shown in (True, False))
    enough = [sum(value >= LOWERED for value in values) for values in (own, others)]
    return (
        f"{told}\n\nThe distance falls by {np.mean(own):.3f} in the mean and by {min(own):.3f} at least; for"
        f" {enough[0]} of {len(own)} by {LOWERED} or more. For the {len(others)} other renders, taken as they"
        f" come, with spectacles, hair and coloured light, it falls by {min(others):.3f} at least, and for"
        f" {enough[1]} by {LOWERED} or more."
    )


def _preview() -> str:
    found = read(RESULT)["preview_ms"]
    return (
        f"A preview, three views 640 pixels high, of a head with a texture takes"
        f" {found['textured'] / found['plain']:.2f} times the processor time of one without, and"
        f" {found['textured'] / found['head']:.2f} times that of making the head with its texture."
    )


def _spectacles() -> str:
    found = read(RESULT)["spectacles"]
    return (
        f"Of {found['with']} held-out rendered faces with spectacles {found['recall']:.0%} are noticed, and"
        f" of {found['without']} without {found['false_alarms']:.1%} are taken for such (area under the curve"
        f" {found['auc']:.3f})."
    )


def _time() -> str:
    found = read(RESULT)["time_ms"]
    told = [
        f"{label} {found[name]['processor_median']:.0f} ms of processor time"
        for name, label in (("native", "With the compiled passes it takes"), ("numpy", "in NumPy alone"))
        if name in found
    ]
    files = read(RESULT)["files_ms"]
    parts = ", ".join(
        f"{name} {row['processor_median']:.0f} ms and {row['bytes'] / 1000:,.0f} kB"
        for name, row in files.items()
        if "glb" not in name
    )
    whole, plain = files["glb"], files["glb without a texture"]
    return (
        f"A texture of 1024 x 1024, after the landmarks. {', '.join(told)}; the passes over texels run on"
        f" {read(RESULT)['cores']} cores at once. Its files take: {parts}. A GLB with rig and texture takes"
        f" {whole['processor_median']:.0f} ms and {whole['bytes'] / 1000:,.0f} kB, without a texture"
        f" {plain['processor_median']:.0f} ms and {plain['bytes'] / 1000:,.0f} kB."
    )


def _parts_errors() -> str:
    found = read("parts")["errors_mm"]
    rows = []
    for name, label in (
        ("fitted", "these weights"),
        ("nearest_triangle", "the nearest triangle"),
        ("blendshapes", "these weights, in blendshapes that move them"),
    ):
        for part, ways in found.items():
            if name in ways:
                row = ways[name]
                rows.append([part, label, *(f"{row[key]:.1f}" for key in ("mean", "p95", "largest"))])
    return table(["parts", "placed by", "mean", "95 %", "largest"], rows)


def _parts_cost() -> str:
    found = read("parts")["costs"]
    files = found["files"]

    def pair(form: str) -> str:
        whole, bare = files[f"{form} with parts"], files[f"{form} without"]
        return (
            f"{whole['bytes'] / 1000:,.0f} instead of {bare['bytes'] / 1000:,.0f} kB and"
            f" {whole['processor_median']:.0f} instead of {bare['processor_median']:.0f} ms of processor time"
        )

    return (
        f"The kit of `mini` has {found['vertices']} vertices and takes {found['kit_bytes'] / 1000:.0f} kB."
        f" Placing it, with its rig, takes {found['placing_ms']:.0f} ms of processor time. A textured head"
        f" with its rig takes {pair('glb')} as GLB, and quantized {pair('quantized glb')}."
    )


TABLES: Tables = {
    "texture_truth": _truth,
    "texture_identity": _identity,
    "texture_gallery": _gallery,
    "texture_preview": _preview,
    "texture_spectacles": _spectacles,
    "texture_time": _time,
    "parts_errors": _parts_errors,
    "parts_cost": _parts_cost,
}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
