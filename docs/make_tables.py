"""Fill the tables of the README from `benchmarks/results/`: `python docs/make_tables.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pages import ROOT, Tables, read, rewrite, table

from topos_rt.flow.settings import PRESETS

PAGE = ROOT / "README.md"
_STAGES = (
    "image", "image_encoder", "dit_context", "dit_step", "vae_decoder", "rig", "glb", "portrait to glb",
)  # fmt: skip


def _quality() -> str:
    result = read("mini_quality")
    differs, heads = result["differs_mm"], result["heads"]

    def row(label: str, part: Mapping[str, Any]) -> list[str]:
        return [label, f"{part['error_mm']['mean']:.2f}", f"{part['nearest_is_right']:.0%}"]

    vae, points = result["vae"]["error_mm"]["mean"], result["vae"]["points"]
    return table(
        ["", "mean, mm", f"right head nearest of {heads}"],
        [
            [f"VAE, from {points:,} surface points", f"{vae:.2f}", ""],
            row("portrait → head, `balanced`", result["balanced"]),
            row("portrait → head, `fast`", result["fast"]),
            row("portrait → head, `reference`", result["reference"]),
            row("50 steps with the release's w = 3, temperature 1", result["reference_w3"]),
            ["always the mean head", f"{result['mean_head_mm']['mean']:.2f}", f"{1 / heads:.0%}"],
            [
                "same portrait, another seed / same seed, another portrait: heads differ by",
                f"{differs['same_image_other_seed']:.2f} / {differs['same_seed_other_image']:.2f}",
                "",
            ],
        ],
    )


def _speed() -> str:
    results = {name: _warm(name) for name in PRESETS}
    labels = {stage: stage for stage in _STAGES} | {"load": "cold: load", "first head": "cold: first head"}
    return table(
        ["p50, ms", *(f"`{name}`, {PRESETS[name].steps} steps" for name in results)],
        [[label, *(f"{ms[stage]['p50']:.0f}" for ms in results.values())] for stage, label in labels.items()],
    )


def _warm(preset: str) -> Any:
    """Stage -> statistics, of a result of `topos-rt bench`."""
    result = read(f"cpu_mini_{preset}")
    cold = next(state["ms"] for state in result["cold"] if not state["warmed_up"])
    return result["stages"] | {"load": cold["load"], "first head": cold["first"]}


def _sampler() -> str:
    result = read("sampler_mini")
    rows = []
    for name, settings in PRESETS.items():
        row = result["presets"][name]
        warm = _warm(name)
        rows.append(
            [
                f"`{name}`",
                f"{settings.solver}, {settings.steps} steps, {_extras(row['settings'])}",
                str(row["evaluations"]),
                *(f"{row[f'{key}_mm']:.3f}" for key in ("mean", "p99", "max")),
                f"{warm['dit_step']['p50']:.0f}",
            ]
        )
    head = ["preset", "solver", "network evaluations", "mean, mm", "p99", "max", "sampling on CPU, ms"]
    return table(head, rows)


def _extras(settings: Mapping[str, Any]) -> str:
    grid = "its own time grid" if settings["times"] else f"shift {settings['shift']:g}"
    low, high = settings["interval"]
    parts = [grid]
    parts += [] if (low, high) == (0, 1) else [f"guidance for t in {low:g}…{high:g}"]
    parts += [] if settings["reuse"] == 1 else [f"guidance anew every {settings['reuse']} evaluations"]
    return ", ".join(parts)


def _previews() -> str:
    shown = (1, 2, 4, 6, 8, 11)
    rows = []
    for name in ("balanced", "fast"):
        means = {row["step"]: row["mean_mm"] for row in read("sampler_mini")["previews"][name]}
        rows.append([f"`{name}`", *(f"{means[step]:.1f}" if step in means else "" for step in shown)])
    return table(["mean, mm, after step", *map(str, shown)], rows)


def _half() -> str:
    result = read("fp16_mini")
    return table(
        ["FP16 in", "mean, mm", "p99", "max"],
        [
            [stage, *(f"{row[f'{key}_mm']:.4f}" for key in ("mean", "p99", "max"))]
            for stage, row in result["fp16_in"].items()
        ],
    )


TABLES: Tables = {
    "quality": _quality, "speed": _speed, "sampler": _sampler, "previews": _previews, "fp16": _half,
}  # fmt: skip

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
