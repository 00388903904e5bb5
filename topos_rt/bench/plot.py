"""A measurement as a picture, drawn with Pillow: where a head's time goes, and how steady it is."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from topos_rt.bench.session import HEAD, STAGES

_Box: TypeAlias = tuple[float, float, float, float]

_WIDTH, _HEIGHT, _SCALE = 1000, 560, 2
_INK, _FAINT, _GRID, _PAPER = "#22262b", "#7a828c", "#e3e6ea", "#ffffff"
_BAR, _TAIL, _DOT = "#3b6fb5", "#a9c1e2", "#3b6fb5"
_LINES = {"p50": "#1d8a5f", "p99": "#c2553a"}
_LEFT = 150


class _Page:
    """Drawing in points, on a sheet with more pixels than that."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (_WIDTH * _SCALE, _HEIGHT * _SCALE), _PAPER)
        self._draw = ImageDraw.Draw(self.image)
        self._fonts = {size: ImageFont.load_default(size * _SCALE) for size in (11, 12, 15)}

    def text(
        self, x: float, y: float, text: str, size: int = 12, ink: str = _INK, anchor: str = "lm"
    ) -> None:
        self._draw.text((x * _SCALE, y * _SCALE), text, ink, self._fonts[size], anchor=anchor)

    def box(self, box: _Box, ink: str) -> None:
        x0, y0, x1, y1 = (value * _SCALE for value in box)
        self._draw.rectangle((x0, y0, max(x0, x1), y1), fill=ink)

    def line(self, x0: float, y0: float, x1: float, y1: float, ink: str) -> None:
        self._draw.line([value * _SCALE for value in (x0, y0, x1, y1)], ink, _SCALE)

    def dot(self, x: float, y: float, ink: str) -> None:
        r = 2.0
        self._draw.ellipse([value * _SCALE for value in (x - r, y - r, x + r, y + r)], ink)

    def png(self) -> bytes:
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


def draw(result: Mapping[str, Any]) -> bytes:
    """A PNG. Above, medians with the 99th percentile behind them; below, the runs in their order."""
    page = _Page()
    settings, sampling = result["settings"], result["settings"]["sampling"]
    page.text(
        24,
        26,
        f"{settings['model']['name']}: {sampling['solver']}, {sampling['steps']} steps, "
        f"{settings['backend']} {settings['precision']}",
        15,
    )
    page.text(24, 48, result["machine"]["backend"], 12, _FAINT)
    heads = bool(result["stages"])
    rows = (
        {name: row for name in STAGES if (row := result["stages"].get(name))}
        if heads
        else {graph: row["computeMs"] for graph, row in result["graphs"].items()}
    )
    _bars(page, rows, (_LEFT, 76, _WIDTH - 130, 76 + 24 * len(rows)))
    name = HEAD if heads else next(iter(rows))
    _runs(page, name, result["samples_ms"][name], rows[name], (_LEFT, 340, _WIDTH - 130, 516))
    return page.png()


def _bars(page: _Page, rows: Mapping[str, Mapping[str, float]], box: _Box) -> None:
    left, top, right, bottom = box
    largest = max(row["p99"] for row in rows.values())
    for tick in _ticks(0.0, largest):
        x = left + (right - left) * tick / largest
        page.line(x, top, x, bottom, _GRID)
        page.text(x, bottom + 10, f"{tick:g}", 11, _FAINT, "mm")
    for number, (name, row) in enumerate(rows.items()):
        y = top + 24 * number + 12
        middle, tail = (left + (right - left) * row[key] / largest for key in ("p50", "p99"))
        page.text(left - 10, y, name, anchor="rm")
        page.box((left, y - 7, tail, y + 7), _TAIL)
        page.box((left, y - 7, middle, y + 7), _BAR)
        page.text(tail + 6, y, f"{row['p50']:.3g} / {row['p99']:.3g}", 11, _FAINT)
    page.text(left - 10, bottom + 10, "ms, p50 / p99", 11, _FAINT, "rm")


def _runs(page: _Page, name: str, samples: list[float], row: Mapping[str, Any], box: _Box) -> None:
    left, top, right, bottom = box
    values = np.asarray(samples)
    low, high = float(values.min()), float(values.max())
    margin = 0.08 * (high - low) or 0.01 * high
    low, high = low - margin, high + margin

    def at(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / (high - low)

    page.text(24, top - 18, f"{name}, {len(values)} runs in their order", 12)
    for tick in _ticks(low, high):
        page.line(left, at(tick), right, at(tick), _GRID)
        page.text(left - 10, at(tick), f"{tick:g}", 11, _FAINT, "rm")
    for number, value in enumerate(samples):
        page.dot(left + (right - left) * (number + 0.5) / len(samples), at(value), _DOT)
    for key, ink in _LINES.items():
        page.line(left, at(row[key]), right, at(row[key]), ink)
        page.text(right + 6, at(row[key]), f"{key} {row[key]:.4g}", 11, ink)
    spread = "" if row["cv"] is None else f", varies by {row['cv']:.1%}"
    page.text(left, bottom + 18, f"min {row['min']:.4g}, max {row['max']:.4g} ms{spread}", 11, _FAINT)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, about five."""
    raw = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(raw))
    step = float(power * min((1, 2, 5, 10), key=lambda factor: abs(factor * power - raw)))
    first = np.ceil(low / step)
    return [float(f"{(first + k) * step:.10g}") for k in range(int((high - first * step) / step) + 1)]
