"""Draw the pictures of the README from the bundled model: `python docs/make_images.py`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from topos_rt import HeadMesh, HeadPipeline
from topos_rt.pictures.preview import render_preview, render_view
from topos_rt.support.files import write_atomic

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
HEIGHT = 400


def main() -> None:
    """Draw demo.png, the demo's portrait and preview, and photographs.png, every example and two heads."""
    portraits = sorted((ROOT / "examples").glob("*.jpg"))
    with HeadPipeline.open("mini") as pipe:
        heads = {path: pipe(path, seed=[0, 1]) for path in portraits}
    demo = ROOT / "examples" / "astronaut.jpg"
    preview = Image.open(io.BytesIO(render_preview(heads[demo][0], HEIGHT))).convert("RGB")
    save("demo.png", [picture(demo), np.asarray(preview)])
    save("photographs.png", [part for path in portraits for part in (picture(path), *views(heads[path]))])


def picture(path: Path) -> np.ndarray:
    """Return a portrait, which must be square, at our height."""
    image = Image.open(path).convert("RGB")
    return np.asarray(image.resize((HEIGHT, HEIGHT), Image.Resampling.LANCZOS))


def views(heads: list[HeadMesh]) -> list[np.ndarray]:
    """Draw seed 0 from the front and from the side, seed 1 from the front."""
    first, second = heads
    size = (HEIGHT, HEIGHT * 4 // 5)
    return [render_view(first, 0, 0, size), render_view(first, -50, 0, size), render_view(second, 0, 0, size)]


def save(name: str, parts: list[np.ndarray]) -> None:
    """Write pictures side by side, as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(parts, 1)).save(buffer, "PNG", optimize=True)
    write_atomic(IMAGES / name, buffer.getvalue(), parents=True)


if __name__ == "__main__":
    main()
