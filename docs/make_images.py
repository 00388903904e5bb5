"""Draw the pictures of the README from the bundled model: `python docs/make_images.py`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from topos_rt import HeadMesh, HeadPipeline
from topos_rt.faces.drawing import draw_portrait
from topos_rt.faces.portrait import portrait_square
from topos_rt.pictures.image import read_picture
from topos_rt.pictures.preview import render_preview, render_view
from topos_rt.support.files import write_atomic

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
HEIGHT = 400


def main() -> None:
    """Draw demo.png, what the demo sees and makes, and photographs.png, the same of every example."""
    portraits = sorted((ROOT / "examples").glob("*.jpg"))
    with HeadPipeline.open("mini") as pipe:
        heads = {path: pipe(path) for path in portraits}
    demo = ROOT / "examples" / "astronaut.jpg"
    preview = render_preview(heads[demo], HEIGHT, beside=seen(demo, heads[demo]))
    save("demo.png", [np.asarray(Image.open(io.BytesIO(preview)).convert("RGB"))])
    save(
        "photographs.png", [part for path, head in heads.items() for part in (seen(path, head), *views(head))]
    )


def seen(path: Path, head: HeadMesh) -> np.ndarray:
    """Draw the part of a portrait that the model saw, with the landmarks, at our height."""
    return draw_portrait(read_picture(path), head.face, portrait_square(head.face), HEIGHT)


def views(head: HeadMesh) -> list[np.ndarray]:
    """Draw a head from the front and from the side, and from the front with the portrait's expression."""
    size = (HEIGHT, HEIGHT * 4 // 5)
    posed = head.posed(head.expression)
    return [render_view(head, 0, 0, size), render_view(head, -50, 0, size), render_view(posed, 0, 0, size)]


def save(name: str, parts: list[np.ndarray]) -> None:
    """Write pictures side by side, as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(parts, 1)).save(buffer, "PNG", optimize=True)
    write_atomic(IMAGES / name, buffer.getvalue(), parents=True)


if __name__ == "__main__":
    main()
