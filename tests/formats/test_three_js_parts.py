"""The GLB of a head with parts in three.js, against our preview of the same pose, picture by picture.

The viewer has the preview's camera, lights and film, but casts no shadows. Pictures go to tests/js/artifacts.
`python -m tests.formats.test_three_js_parts` makes docs/images/three_js_parts.png.
"""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import needs
from tests.formats.three_js import JS, browser, look
from tests.part_heads import dressed
from topos_rt.formats import write_glb
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.part_kit import PIECES, SURFACES
from topos_rt.pictures.colour import LINEAR
from topos_rt.pictures.preview import Frame, render_view
from topos_rt.pictures.shading import GROUND, LIGHTS, SKY, Sitter

ARTIFACTS = JS / "artifacts"
WIDTH, HEIGHT = 400, 500
BLOCK = 10  # pixels that are averaged before pictures are compared
_SMILE = {"mouthSmileLeft": 1, "mouthSmileRight": 1, "mouthUpperUpLeft": 0.6, "mouthUpperUpRight": 0.6}
STATES: dict[str, tuple[dict[str, float], float]] = {
    "neutral": ({}, 0),
    "jawOpen": ({"jawOpen": 1}, 0),
    "smile": ({**_SMILE, "jawOpen": 0.15}, 0),
    "eyeBlinkLeft": ({"eyeBlinkLeft": 1}, 0),
    "eyeLookUpLeft": ({"eyeLookUpLeft": 1}, 0),
    "eyeLookOutLeft": ({"eyeLookOutLeft": 1}, 0),
    "three-quarter": ({"jawOpen": 0.5}, -38),
}


def posed(state: str) -> HeadMesh:
    shapes, _ = STATES[state]
    return dressed().posed(shapes)


@cache
def drawn(state: str) -> tuple[Frame, Sitter]:
    """Return the frame and the sitter of our picture of a state."""
    sitter = Sitter.of(posed(state))
    return Frame.around(sitter, STATES[state][1], 0, HEIGHT, WIDTH), sitter


def placed(state: str) -> dict[str, Any]:
    """Return what the viewer needs to look at a state as we do: its centre and distance in metres."""
    frame, _ = drawn(state)
    low, high = posed(state).bounds
    return {
        "shapes": STATES[state][0],
        "yaw": STATES[state][1],
        "centre": ((low + high) / 2).astype(float).tolist(),
        "distance": float(frame.distance * (high - low).max() / 2),
    }


@cache
def seen() -> dict[str, Any]:
    """Return what three.js sent: "facts" and, for each state, "lit" and "unlit", [H,W,3] uint8."""
    frame, _ = drawn("neutral")
    towards = [np.array(light.direction) / np.linalg.norm(light.direction) for light in LIGHTS]
    job = {
        "width": WIDTH,
        "height": HEIGHT,
        "centre": placed("neutral")["centre"],
        "kinds": ["lit", "unlit"],
        "states": {state: placed(state) for state in STATES},
        "preview": {
            "fov": float(np.degrees(2 * np.arctan(frame.height / 2 / (frame.unit * frame.distance)))),
            "lights": [
                {"direction": direction.tolist(), "colour": list(light.colour)}
                for direction, light in zip(towards, LIGHTS, strict=True)
            ],
            "sky": SKY.ravel().astype(float).tolist(),
            "ground": GROUND.ravel().astype(float).tolist(),
        },
    }
    results = look(write_glb(dressed()), job)
    ARTIFACTS.mkdir(exist_ok=True)
    found: dict[str, Any] = {"facts": json.loads(results["facts.json"]), "lit": {}, "unlit": {}}
    for state in STATES:
        for kind in ("lit", "unlit"):
            data = results[f"{state}_{kind}.png"]
            (ARTIFACTS / f"parts_{state}_{kind}.png").write_bytes(data)
            with Image.open(io.BytesIO(data)) as opened:
                found[kind][state] = np.asarray(opened.convert("RGB"))
    return found


@cache
def ours(state: str) -> np.ndarray:
    return render_view(posed(state), STATES[state][1], size=(HEIGHT, WIDTH))


@cache
def shown(state: str) -> np.ndarray:
    """Return what each pixel of our picture shows, [H,W]: -1 nothing, a surface, or a material of a part."""
    frame, sitter = drawn(state)
    head = posed(state)
    assert head.parts is not None and sitter.parts is not None
    kit = head.parts.kit
    triangle, _, away = frame.drawn(sitter)
    surface = kit.surfaces[head.topology.triangle_uvs[:, 0]]
    found = np.where(triangle >= 0, np.tile(surface.astype(int), 4)[triangle], -1)
    over, weights, nearer = frame.drawn(sitter.parts, False)
    seen_parts = nearer < away
    assert sitter.parts.skin is not None
    cover = sitter.parts.skin.cover(over[seen_parts], weights[seen_parts])
    piece = kit.pieces[kit.triangles[over[seen_parts]][:, 0]]
    teeth = np.array([each.material == "teeth" for each in PIECES.values()])[piece]
    kind = np.where(teeth, len(SURFACES), len(SURFACES) + 1)
    found[seen_parts] = np.where(cover > 0.5, kind, found[seen_parts])
    return found[::2, ::2]


@pytest.fixture(scope="module")
def chromium() -> None:
    needs.node_package("three")
    needs.tool("Chromium", browser(), "install it, or name it in TOPOS_RT_CHROMIUM")


def blocks(picture: np.ndarray) -> np.ndarray:
    """Return the means of blocks of a picture [H,W] or [H,W,C]."""
    high, wide = HEIGHT // BLOCK, WIDTH // BLOCK
    cut = picture[: high * BLOCK, : wide * BLOCK].astype(np.float64)
    return cut.reshape(high, BLOCK, wide, BLOCK, -1).mean((1, 3))


def test_three_js_knows_the_materials(chromium: None) -> None:
    materials = seen()["facts"]["materials"]
    assert list(materials) == ["skin", "eyes", "mouth", "teeth", "lashes"]
    assert materials["eyes"]["roughness"] < 0.1 and materials["lashes"]["transparent"]
    assert seen()["facts"]["skinned"]


@pytest.mark.parametrize("state", STATES)
def test_three_js_draws_what_our_preview_draws(chromium: None, state: str) -> None:
    """Averaged over blocks inside the head, colours differ by what shadows and reflections take and add."""
    theirs, own, inside = seen()["lit"][state], ours(state), shown(state) >= 0
    whole = blocks(inside)[..., 0] == 1
    off = np.abs(blocks(theirs) - blocks(own)).max(2)[whole]
    assert np.median(off) < 13 and np.percentile(off, 90) < 33, (np.median(off), np.percentile(off, 90))
    a, b = (blocks(picture).mean(2)[whole] for picture in (theirs, own))
    assert np.corrcoef(a, b)[0, 1] > 0.9, np.corrcoef(a, b)[0, 1]


@pytest.mark.parametrize("state", STATES)
def test_materials_lie_where_ours_do(chromium: None, state: str) -> None:
    """Without light, three.js shows the colours of what our rasteriser finds at each pixel."""
    unlit, kinds = LINEAR[seen()["unlit"][state]], shown(state)
    covered = unlit.sum(2) > 0
    assert (covered & (kinds >= 0)).sum() / (covered | (kinds >= 0)).sum() > 0.99
    head = posed(state)
    assert head.parts is not None
    if state in ("jawOpen", "smile"):
        teeth = unlit[inner(kinds == len(SURFACES))]
        mouth = unlit[inner(kinds == SURFACES.index("mouth"))]
        assert len(teeth) > 20
        assert np.median(teeth.mean(1)) > 0.35
        if state == "jawOpen":
            assert len(mouth) > 200 and np.median(mouth.mean(1)) < 0.25


def inner(mask: np.ndarray) -> np.ndarray:
    """Return a mask without its rim of one pixel."""
    around = np.pad(mask, 1)
    return mask & around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]


def test_an_open_mouth_shows_teeth_and_a_dark_mouth_in_both(chromium: None) -> None:
    kinds = shown("jawOpen")
    teeth, mouth = inner(kinds == len(SURFACES)), inner(kinds == SURFACES.index("mouth"))
    for picture in (seen()["lit"]["jawOpen"], ours("jawOpen")):
        light = LINEAR[picture].mean(2)
        assert np.median(light[teeth]) > 4 * np.median(light[mouth])
        assert np.median(light[mouth]) < 0.08
        red = LINEAR[picture][mouth]
        assert (red[:, 0] > 1.5 * red[:, 2]).mean() > 0.3  # a tongue, not a hole


@pytest.mark.parametrize(
    ("state", "moves"), [("eyeLookUpLeft", (0, -1)), ("eyeLookOutLeft", (1, 0)), ("eyeBlinkLeft", None)]
)
def test_a_look_moves_the_iris_in_both(chromium: None, state: str, moves: tuple[int, int] | None) -> None:
    """The dark of the head's left eye, on the right of the picture, goes where the eye looks."""

    def dark(picture: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        eye = kinds == SURFACES.index("eyes")
        eye[:, : WIDTH // 2] = False
        light = LINEAR[picture].mean(2)
        rows, columns = np.nonzero(eye & (light < 0.08))
        return np.array([columns.mean(), rows.mean()]) if len(rows) > 5 else np.array([np.nan, np.nan])

    for pictures in (lambda name: seen()["unlit"][name], ours):
        before, after = (dark(pictures(name), shown(name)) for name in ("neutral", state))
        if moves is None:
            assert np.isfinite(before).all() and not np.isfinite(after).all()
        else:
            assert (after - before) @ np.array(moves) > 0.6


def montage() -> bytes:
    """Return a PNG with two rows: three.js with the file's materials, and our preview."""
    rows = [[seen()["lit"][state] for state in STATES], [ours(state) for state in STATES]]
    image = Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in rows]))
    small = image.resize((image.width * 3 // 5, image.height * 3 // 5), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.quantize(256).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    from topos_rt.support.files import write_atomic

    write_atomic(Path(__file__).parents[2] / "docs" / "images" / "three_js_parts.png", montage())
