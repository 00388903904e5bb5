"""Draw docs/images/gallery*.png and people_*.png, heads of the bundled model: `python docs/make_gallery.py`.

gallery.png has expressions of heads from two photographs. The others have ten people: two photographs, and
eight rendered people whom nothing was trained on (examples/people/README.md). In gallery_1.png and
gallery_2.png they are under two lights, in people_1.png and people_2.png seen from three sides.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from topos_rt import HeadMesh, HeadPipeline
from topos_rt.pictures.image import read_picture
from topos_rt.pictures.preview import render_view
from topos_rt.pictures.shading import LIGHTS, Light
from topos_rt.support.files import write_atomic

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
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

PERSON = 190, 152  # height and width of a picture of a person
SHOWN = ("neutral", "smile", "jaw open")
# The studio's lights, and a warm lamp on the other side of a dim room.
RELIT = (
    Light((0.88, 0.18, 0.44), (1.55, 1.12, 0.74), 0.8),
    Light((-0.75, 0.35, -0.55), (0.22, 0.34, 0.52), 0.5),
)
SIDES = 0.0, -35.0, -90.0  # yaw in degrees
PER_PICTURE = 5


def main() -> None:
    """Draw the five pictures."""
    folders = ROOT / "examples", ROOT / "examples" / "people"
    people = [path for folder in folders for path in sorted(folder.glob("*.jpg"))]
    with HeadPipeline.open("mini") as pipe:
        heads = [pipe(ROOT / "examples" / name, seed=seed, temperature=TEMPERATURE) for name, seed in HEADS]
        save("gallery.png", [np.concatenate(expressions(head), 1) for head in heads])
        theirs = [pipe(path) for path in people]
    for name, views in (("gallery", under_lights), ("people", from_sides)):
        rows = [
            np.concatenate([portrait(path), *views(head)], 1)
            for path, head in zip(people, theirs, strict=True)
        ]
        for number in range(0, len(rows), PER_PICTURE):
            save(f"{name}_{number // PER_PICTURE + 1}.png", rows[number : number + PER_PICTURE])


def expressions(head: HeadMesh) -> list[np.ndarray]:
    """Return [*SIZE,3] uint8 pictures of a head, all from one camera."""
    return [
        render_view(head.posed(shapes, degrees=turns), YAW, 0, SIZE) for shapes, turns in EXPRESSIONS.values()
    ]


def portrait(path: Path) -> np.ndarray:
    """Return the picture of a person, [*PERSON,3] uint8; those who do not exist are marked."""
    high, wide = PERSON
    picture = ImageOps.fit(read_picture(path), (wide, high))
    if path.parent.name == "people":
        ImageDraw.Draw(picture).text((4, high - 14), "rendered person", (255, 255, 255), stroke_width=1,
                                     stroke_fill=(0, 0, 0))  # fmt: skip
    return np.asarray(picture)


def under_lights(head: HeadMesh) -> list[np.ndarray]:
    """Return pictures of a head in expressions under each light."""
    posed = [head.posed(EXPRESSIONS[name][0]) for name in SHOWN]
    return [render_view(each, YAW, 0, PERSON, lights) for lights in (LIGHTS, RELIT) for each in posed]


def from_sides(head: HeadMesh) -> list[np.ndarray]:
    """Return pictures of a head from three sides, neutral and then in its picture's own expression."""
    return [
        render_view(each, yaw, 0, PERSON)
        for each in (head, head.posed(head.expression or {}))
        for yaw in SIDES
    ]


def save(name: str, rows: list[np.ndarray]) -> None:
    """Write rows of pictures below each other."""
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(buffer, "PNG", optimize=True)
    write_atomic(IMAGES / name, buffer.getvalue(), parents=True)


if __name__ == "__main__":
    main()
