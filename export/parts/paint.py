"""The picture of the parts: teeth with their gums, and lashes with their coverage."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from export.parts.shapes import BITE, GUM_EDGE, ROW_PLACES, Strip

SIDE = 512
# Piece -> top and bottom of its band in the picture, in pixels; left and right lashes share theirs.
BANDS = {
    "upper_teeth": (4, 188),
    "lower_teeth": (196, 380),
    "upper_lashes": (388, 444),
    "lower_lashes": (452, 508),
}
_EDGE = 2  # pixels of a band that UVs keep away from
_SHARP = 4  # lashes are drawn this much larger, then reduced
_GUM, _TOOTH, _TIP, _ROOT = (170, 92, 88), (236, 228, 210), (230, 226, 218), (226, 208, 176)
_GROOVE, _INSIDE = (128, 96, 78), (120, 62, 58)
_LASH = (22, 15, 12)
# Lashes -> how many there are along a lid, their length in shares of the strip, their width in pixels.
_LASHES = {"upper_lashes": (104, 0.98, 2.9), "lower_lashes": (62, 0.66, 1.9)}
_FIRST_SEEN = 0.24  # share of a strip that lies inside the lid: its lashes begin here


def band_of(name: str) -> str:
    """Return the band of a piece."""
    return name if name in BANDS else name.partition("_")[2]


def uvs_of(strip: Strip) -> np.ndarray:
    """Return the UVs [count,2] of a strip's vertices, origin bottom left."""
    top, bottom = BANDS[band_of(strip.name)]
    low = np.array([_EDGE + 0.5, top + _EDGE])
    room = np.array([SIDE - 2 * _EDGE - 1, bottom - top - 2 * _EDGE])
    across, along = np.meshgrid(strip.across, strip.along)
    at = np.stack([across, along], -1).reshape(-1, 2) * room + low
    found: np.ndarray = np.clip(at / SIDE * [1, -1] + [0, 1], 0, 1)
    return found


def paint(strips: list[Strip]) -> bytes:
    """Return the picture as a PNG. The same strips give the same bytes."""
    picture = np.zeros((SIDE, SIDE, 4), np.uint8)
    for strip in strips:
        name = band_of(strip.name)
        top, bottom = BANDS[name]
        if name in ("upper_teeth", "lower_teeth"):
            picture[top - 4 : bottom + 4, :, :3] = _teeth(strip, bottom - top + 8)
            picture[top - 4 : bottom + 4, :, 3] = 255
        else:
            picture[top - 4 : bottom + 4, :, :3] = _LASH
            picture[top:bottom, :, 3] = _lashes(name, bottom - top)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def _teeth(strip: Strip, height: int) -> np.ndarray:
    """Return the colours [height,SIDE,3] of a band of teeth, from its gum to its inside."""
    across = np.clip((np.arange(SIDE) + 0.5 - _EDGE) / (SIDE - 2 * _EDGE), 0, 1)
    along = np.clip((np.arange(height) + 0.5 - 4 - _EDGE) / (height - 8 - 2 * _EDGE), 0, 1)[:, None]
    ends = strip.across[::2]
    tooth = np.clip(np.searchsorted(ends, across, side="right") - 1, 0, len(ends) - 2)
    width = ends[tooth + 1] - ends[tooth]
    place = (across - ends[tooth]) / width  # 0..1 across a tooth
    side = 1 - np.abs(2 * place - 1)  # 0 in the grooves, 1 in the middle
    # the gum's edge is an arch over each tooth, with a point between two
    gum = ROW_PLACES[GUM_EDGE] + 0.075 * (1 - np.sqrt(np.clip(1 - (1 - side) ** 2, 0, 1)))
    gum = gum * np.ones_like(along)
    edge = ROW_PLACES[BITE]
    down = np.clip((along - gum) / (edge - gum), 0, 1)
    colour = _mix(np.array(_ROOT, float), np.array(_TOOTH, float), np.clip(down / 0.45, 0, 1)[..., None])
    colour = _mix(colour, np.array(_TIP, float), np.clip((down - 0.8) / 0.2, 0, 1)[..., None] * 0.6)
    dark = np.exp(-(((side * width * SIDE / 2) / 1.1) ** 2)) * (0.55 + 0.4 * down)
    colour = _mix(colour, np.array(_GROOVE, float), dark[..., None])
    shade = 1 - 0.16 * (1 - side) ** 3
    colour = colour * shade[None, :, None]
    back = np.abs(across - 0.5) * 2
    colour = colour * (1 - 0.2 * np.clip((back - 0.35) / 0.65, 0, 1))[None, :, None]
    bled = np.clip(np.abs(along - gum) / 0.02, 0, 1)
    in_gum = (along < gum)[..., None]
    flesh = (
        np.array(_GUM, float) * (0.86 + 0.14 * bled)[..., None] * np.clip(0.55 + along * 1.6, 0, 1)[..., None]
    )
    colour = np.where(in_gum, flesh, colour)
    inside = np.clip((along - 0.9) / 0.04, 0, 1)[..., None]
    colour = _mix(colour, np.array(_INSIDE, float), inside * np.ones_like(colour[..., :1]))
    found: np.ndarray = np.clip(colour + 0.5, 0, 255).astype(np.uint8)
    return found


def _mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    return a * (1 - share) + b * share


def _lashes(name: str, height: int) -> np.ndarray:
    """Return the coverage [height,SIDE] of lashes that grow downwards in the picture, from root to tip."""
    count, length, thick = _LASHES[name]
    rng = np.random.default_rng(5)
    large = Image.new("L", (SIDE * _SHARP, height * _SHARP))
    drawing = ImageDraw.Draw(large)
    for number in range(count):
        at = (number + 0.5 + rng.uniform(-0.35, 0.35)) / count
        # sparse and short at the inner corner, longest past the middle
        grown = length * (0.42 + 0.58 * np.sin(np.pi * np.clip(at * 0.92 + 0.06, 0, 1)) ** 0.8)
        grown *= rng.uniform(0.82, 1.08)
        lean = (at - 0.42) * 0.06 + rng.normal(0, 0.006)
        steps = np.linspace(0, 1, 9)
        x = (at + lean * steps**1.6) * SIDE * _SHARP
        y = (_FIRST_SEEN + (grown - _FIRST_SEEN) * steps) * height * _SHARP
        for step in range(8):
            wide = max(1.0, thick * _SHARP * (1 - 0.75 * steps[step]))
            ends = [(x[step], y[step]), (x[step + 1], y[step + 1])]
            drawing.line(ends, fill=255, width=round(wide))
    small = np.asarray(large.resize((SIDE, height), Image.Resampling.BOX), np.float32)
    # the rim of the lid is dark where lashes stand close together
    rows = (np.arange(height) + 0.5)[:, None] / height
    rim = 200 * np.exp(-(((rows - _FIRST_SEEN) / 0.07) ** 2)) * (rows >= _FIRST_SEEN - 0.03)
    rim = rim * np.sin(np.pi * np.clip((np.arange(SIDE) + 0.5) / SIDE, 0.02, 0.98))[None] ** 0.5
    weight = 1.0 if name == "upper_lashes" else 0.75
    found: np.ndarray = np.clip(np.maximum(small, rim) * weight + 0.5, 0, 255).astype(np.uint8)
    return found
