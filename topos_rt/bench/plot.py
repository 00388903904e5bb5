"""A plot of a measurement: where the time of a head goes, and how steady it is. This needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from topos_rt.bench.session import HEAD, STAGES
from topos_rt.errors import MissingExtraError

_BAR, _TAIL = "#3b6fb5", "#a9c1e2"
_LINES = {"p50": "#1d8a5f", "p99": "#c2553a"}


def draw(result: Mapping[str, Any]) -> bytes:
    """Draw a result of `topos-rt bench` as a PNG.

    The upper half shows the medians, with the 99th percentiles behind them; the lower half the runs in order.

    Raises MissingExtraError without matplotlib.
    """
    settings, sampling = result["settings"], result["settings"]["sampling"]
    heads = bool(result["stages"])
    if heads:
        rows = {name: row for name in STAGES if (row := result["stages"].get(name))}
    else:
        rows = {graph: row["computeMs"] for graph, row in result["graphs"].items()}
    figure = figure_class()(figsize=(10, 6.5), dpi=200, layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[3, 2])
    figure.suptitle(
        f"{settings['model']['name']}: {sampling['solver']}, {sampling['steps']} steps, "
        f"{settings['backend']} {settings['precision']}\n{result['machine']['backend']}"
    )
    _bars(above, rows)
    shown = HEAD if heads else next(iter(rows))
    _runs(below, shown, result["samples_ms"][shown], rows[shown])
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def figure_class() -> Any:
    """Return matplotlib's `Figure`. Raises MissingExtraError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError.needs("drawing a measurement", "plot") from error
    return Figure


def _bars(axes: Any, rows: Mapping[str, Mapping[str, float]]) -> None:
    names = list(rows)
    axes.barh(names, [row["p99"] for row in rows.values()], color=_TAIL, label="p99")
    axes.barh(names, [row["p50"] for row in rows.values()], color=_BAR, label="p50")
    for place, row in enumerate(rows.values()):
        axes.annotate(
            f"{row['p50']:.3g} / {row['p99']:.3g}",
            (row["p99"], place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("ms")
    axes.legend(loc="upper right")


def _runs(axes: Any, name: str, samples: list[float], row: Mapping[str, Any]) -> None:
    axes.plot(samples, ".", color=_BAR)
    for key, colour in _LINES.items():
        axes.axhline(row[key], color=colour, label=f"{key} {row[key]:.4g}")
    spread = "" if row["cv"] is None else f", varies by {row['cv']:.1%}"
    axes.set_title(f"{name}: {len(samples)} runs, min {row['min']:.4g}, max {row['max']:.4g} ms{spread}")
    axes.set_xlabel("run")
    axes.set_ylabel("ms")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
