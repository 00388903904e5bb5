"""Draw docs/images/gallery.png, expressions of the bundled model's heads: `python docs/make_gallery.py`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from topos_rt import HeadMesh, HeadPipeline
from topos_rt.pictures.preview import render_view
from topos_rt.support.files import write_atomic

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "images" / "gallery.png"
SIZE = 250, 200  # height and width of a picture
YAW = -18.0
# Weights of blendshapes, and rotations of joints in radians.
EXPRESSIONS: dict[str, tuple[dict[str, float], dict[str, tuple[float, float, float]]]] = {
    "neutral": ({}, {}),
    "smile": (
        {"mouthSmileLeft": 0.7, "mouthSmileRight": 0.7, "cheekSquintLeft": 0.5, "cheekSquintRight": 0.5,
         "eyeSquintLeft": 0.3, "eyeSquintRight": 0.3}, {},
    ),
    "blink": ({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}, {}),
    "jaw open": ({"jawOpen": 0.8}, {}),
    "turned, looking back": (
        {"eyeLookOutRight": 0.8, "eyeLookInLeft": 0.8, "browInnerUp": 0.6}, {"head": (3.0, 26.0, 0.0)},
    ),
}  # fmt: skip
# A picture and a seed for each row.
HEADS = (("astronaut.jpg", 0), ("astronaut.jpg", 5), ("hopper.jpg", 0), ("hopper.jpg", 2))
TEMPERATURE = 1.0  # the flow was trained with this; it gives more variety than mini's default


def main() -> None:
    """Draw one row for each head and one column for each expression."""
    with HeadPipeline.open("mini") as pipe:
        heads = [pipe(ROOT / "examples" / name, seed=seed, temperature=TEMPERATURE) for name, seed in HEADS]
    rows = [np.concatenate(expressions(head), 1) for head in heads]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(buffer, "PNG", optimize=True)
    write_atomic(OUT, buffer.getvalue(), parents=True)


def expressions(head: HeadMesh) -> list[np.ndarray]:
    """Return [*SIZE,3] uint8 pictures of a head, all from one camera."""
    return [
        render_view(head.posed(shapes, degrees=turns), YAW, 0, SIZE) for shapes, turns in EXPRESSIONS.values()
    ]


if __name__ == "__main__":
    main()
