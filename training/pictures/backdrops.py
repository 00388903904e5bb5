"""Draw what is behind a person: plain walls, gradients, rooms and landscapes out of focus, and clutter."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.pictures.textures import LINEAR

_KINDS = ("plain", "gradient", "blocks", "lights", "landscape", "clutter", "stripes")
_SHARES = (0.14, 0.14, 0.22, 0.10, 0.14, 0.16, 0.10)
_DRAWN = 96  # pixels along a side before blur and enlargement


def draw(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a backdrop [size,size,3] float32, linear light."""
    kind = str(rng.choice(_KINDS, p=_SHARES))
    picture = Image.fromarray(_gradient(rng))
    if kind not in ("plain", "gradient"):
        pencil = ImageDraw.Draw(picture)
        for shape, box, colour in _shapes(kind, rng):
            getattr(pencil, shape)(box, fill=colour)
        blur = rng.choice([rng.uniform(0.3, 1.0), rng.uniform(1, 4)], p=[0.4, 0.6])
        picture = picture.filter(ImageFilter.GaussianBlur(float(blur)))
    image = LINEAR[np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))]
    return np.minimum(image * np.float32(np.exp(rng.normal(-0.1, 0.4))), 1.2).astype(np.float32)


def _colour(rng: np.random.Generator) -> np.ndarray:
    grey = rng.uniform(0, 255)
    return np.clip(grey + rng.normal(0, 1, 3) * rng.choice([6, 18, 50], p=[0.5, 0.35, 0.15]), 0, 255)


def _gradient(rng: np.random.Generator) -> np.ndarray:
    """Return a picture whose four corners have related colours."""
    base, spread = _colour(rng), rng.choice([4, 25, 80], p=[0.4, 0.4, 0.2])
    corners = np.clip(base + rng.normal(0, spread, (2, 2, 1)) + rng.normal(0, spread / 3, (2, 2, 3)), 0, 255)
    across = np.linspace(0, 1, _DRAWN)
    rows = corners[:, 0, None] * (1 - across[:, None]) + corners[:, 1, None] * across[:, None]
    return (rows[0] * (1 - across)[:, None, None] + rows[1] * across[:, None, None]).astype(np.uint8)


def _shapes(kind: str, rng: np.random.Generator) -> list[tuple[str, list[float], tuple[int, ...]]]:
    """Return shapes with their boxes and colours, from back to front."""
    out = []

    def add(shape: str, x: float, y: float, w: float, h: float, colour: np.ndarray) -> None:
        box = [float(x), float(y), float(x + max(w, 1)), float(y + max(h, 1))]
        out.append((shape, box, tuple(int(c) for c in np.clip(colour, 0, 255))))

    n = _DRAWN
    if kind == "landscape":
        line = rng.uniform(0.3, 0.8) * n
        add("rectangle", 0, 0, n, line, np.array([150, 180, 220]) + rng.normal(0, 30, 3))
        add("rectangle", 0, line, n, n, np.array([80, 110, 50]) + rng.normal(0, 35, 3))
        for _ in range(rng.integers(10, 60)):
            y = line + rng.normal(0, 16)
            add("ellipse", rng.uniform(-10, n), y, rng.uniform(4, 30), rng.uniform(4, 24),
                np.array([60, 90, 40]) + rng.normal(0, 35, 3))  # fmt: skip
    elif kind == "stripes":
        x = 0.0
        while x < n:
            width = rng.uniform(2, 14)
            add("rectangle", x, rng.uniform(0, 20), width, n, _colour(rng))
            x += width
    else:
        shape = {"lights": "ellipse", "blocks": "rectangle"}.get(kind)
        for _ in range(rng.integers(5, 45)):
            w, h = np.exp(rng.uniform(0.7, 3.8, 2))
            colour = _colour(rng)
            if kind == "lights":
                h = w = rng.uniform(2, 12)
                colour = colour + 90
            add(shape or str(rng.choice(["ellipse", "rectangle"])),
                rng.uniform(-0.2, 1) * n, rng.uniform(-0.2, 1) * n, w, h, colour)  # fmt: skip
    return out
