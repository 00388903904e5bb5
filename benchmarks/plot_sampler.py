"""Draw the frontier that `bench_sampler` measured.

python -m benchmarks.plot_sampler benchmarks/results/sampler_mini.json docs/images/sampler_frontier.png
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.ticker

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from topos_rt.flow.solvers import SOLVERS
from topos_rt.support.files import read_json, write_atomic

_PALETTE: Any = plt.get_cmap("tab10")
_COLOURS = {name: _PALETTE(i) for i, name in enumerate(SOLVERS)}


def main() -> None:
    """Read the JSON and write the PNG."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    result = read_json(arguments.results, "the results")
    write_atomic(arguments.picture, _draw(result), parents=True)


def _draw(result: dict[str, Any]) -> bytes:
    figure, axes = plt.subplots(figsize=(9, 5), dpi=110)
    for name, colour in _COLOURS.items():
        _scatter(axes, result["screened"], name, color=colour, s=9, alpha=0.25, linewidths=0)
        _scatter(axes, result["measured"], name, color=colour, s=42, label=name)
    for name, row in result["presets"].items():
        axes.annotate(
            name,
            (row["evaluations"], row["mean_mm"]),
            xytext=(8, 12),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": "0.4"},
        )
    own = result["presets"]["reference"]["mean_mm"]
    axes.axhline(own, color="0.5", lw=0.8, ls="--")
    across = axes.get_yaxis_transform()
    axes.text(0.01, own, "the release's 50 steps", transform=across, va="bottom", fontsize=8, color="0.35")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="network evaluations",
        ylabel="mean vertex distance to 1,000 steps, mm",
        title=f"{result['model']['name']}: {result['images']} held-out portraits × {result['seeds']} seeds"
        " (faint: screened on eight)",
    )
    for set_ticks, ticks in (
        (axes.set_xticks, (5, 10, 20, 50, 100)),
        (axes.set_yticks, (0.1, 0.2, 0.5, 1, 2, 5, 10)),
    ):
        set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axes.grid(alpha=0.25)
    axes.legend(title="solver", frameon=False)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def _scatter(axes: Any, rows: list[dict[str, Any]], solver: str, **style: Any) -> None:
    own = [row for row in rows if row["settings"]["solver"] == solver]
    axes.scatter([row["evaluations"] for row in own], [row["mean_mm"] for row in own], **style)


if __name__ == "__main__":
    main()
