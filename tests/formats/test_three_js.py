"""The GLB of a rigged head in three.js, against our own pictures of the same pose.

Pictures go to tests/js/artifacts/. `python -m tests.formats.test_three_js` makes docs/images/three_js.png and
docs/images/visemes.png.
"""

from __future__ import annotations

import dataclasses
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests import needs
from tests.formats.three_js import JS, browser, look
from tests.meshes import bundled_head
from topos_rt.formats import ExportOptions, write_glb
from topos_rt.formats.morphs import morphs
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import unit_vectors, vertex_normals
from topos_rt.head.rig_fit import fit_rig
from topos_rt.head.visemes import VISEMES
from topos_rt.pictures.raster import rasterize

ARTIFACTS = JS / "artifacts"
WIDTH, HEIGHT, HALF = 320, 400, 0.16
STATES: dict[str, dict[str, Any]] = {
    "neutral": {"shapes": {}, "turns": {}},
    "jawOpen": {"shapes": {"jawOpen": 1}, "turns": {}},
    "eyeBlinkLeft": {"shapes": {"eyeBlinkLeft": 1}, "turns": {}},
    "both": {"shapes": {"jawOpen": 1, "eyeBlinkLeft": 1}, "turns": {}},
    "turned": {"shapes": {"jawOpen": 0.5}, "turns": {"head": [0, 0.5, 0]}},
}


@cache
def head() -> HeadMesh:
    template = bundled_head()
    assert template.rig is not None
    return dataclasses.replace(template, rig=fit_rig(template.rig, template.positions))


def centre() -> list[float]:
    low, high = head().bounds
    return ((low + high) / 2).tolist()


@cache
def seen() -> dict[str, Any]:
    """Return what three.js sent, with its pictures decoded."""
    results = look(write_glb(head()), job_of(STATES))
    ARTIFACTS.mkdir(exist_ok=True)
    for name, data in results.items():
        if name.endswith(".png"):
            (ARTIFACTS / name).write_bytes(data)
    return pictures_of(results)


def job_of(states: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {"width": WIDTH, "height": HEIGHT, "half": HALF, "centre": centre(), "states": states}


def pictures_of(results: dict[str, bytes]) -> dict[str, Any]:
    """Return what three.js sent: "facts", and the pictures [H,W,3] int16."""
    pictures = {
        name.removesuffix(".png"): np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.int16)
        for name, data in results.items()
        if name.endswith(".png")
    }
    return pictures | {"facts": json.loads(results["facts.json"])}


@pytest.fixture(scope="module")
def three() -> dict[str, Any]:
    needs.node_package("three")
    needs.tool("Chromium", browser(), "install it, or name it in TOPOS_RT_CHROMIUM")
    return seen()


@cache
def ours(state: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the pose's normals as colours [H,W,3] and its coverage [H,W], seen by the same camera."""
    setting, whole = STATES[state], head()
    assert whole.rig is not None
    degrees = {joint: np.degrees(turn) for joint, turn in setting["turns"].items()}  # ours are in degrees
    positions = whole.posed(setting["shapes"], degrees=degrees).positions
    shaped = whole.posed(setting["shapes"])
    normals = whole.normals.astype(np.float64)
    for morph in morphs(whole, whole.rig):
        normals[morph.vertices] += morph.normals * setting["shapes"].get(morph.name, 0)
    if setting["turns"]:  # skinning turns normals as it turns the surface
        turned, flat = (vertex_normals(points, whole.triangles) for points in (positions, shaped.positions))
        normals = unit_vectors(normals) + (turned - flat)
    pixel = HEIGHT / (2 * HALF)
    x, y, z = ((positions - centre()) * pixel).T
    screen = np.stack([WIDTH / 2 + x, HEIGHT / 2 - y, 2 * pixel - z], 1)
    triangle, weights = rasterize(screen, whole.triangles, HEIGHT, WIDTH)
    corners = unit_vectors(normals)[whole.triangles[triangle]]
    colours = np.einsum("hwk,hwkc->hwc", weights, corners)
    colours /= np.maximum(np.linalg.norm(colours, axis=2, keepdims=True), 1e-6)
    covered = triangle >= 0
    return np.where(covered[..., None], (colours * 0.5 + 0.5) * 255, 0).round().astype(np.int16), covered


def changed(one: np.ndarray, other: np.ndarray, by: int = 24) -> np.ndarray:
    return np.abs(one - other).max(2) > by


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    for _ in range(pixels):
        around = np.pad(mask, 1)
        mask = mask | around[:-2, 1:-1] | around[2:, 1:-1] | around[1:-1, :-2] | around[1:-1, 2:]
    return mask


def test_three_js_finds_skin_shapes_and_material(three: dict[str, Any]) -> None:
    facts, rig = three["facts"], head().rig
    assert rig is not None
    assert facts["skinned"] and facts["bones"] == len(rig.joint_names)
    assert facts["shapes"] == {name: number for number, name in enumerate(rig.shape_names)}
    assert (facts["metalness"], facts["roughness"]) == (0, 0.55)


@pytest.mark.parametrize("state", STATES)
def test_three_js_draws_the_pose_as_we_do(three: dict[str, Any], state: str) -> None:
    theirs, (own, covered) = three[f"{state}_normals"], ours(state)
    both = theirs.any(2) & covered
    assert both.sum() / (theirs.any(2) | covered).sum() > 0.99
    off = np.abs(theirs - own).max(2)[both]
    assert np.median(off) <= 2 and np.percentile(off, 97) <= 24, (np.median(off), np.percentile(off, 97))
    if state != "neutral":  # and it differs from another pose
        other = np.abs(theirs - ours("neutral")[0]).max(2)[both]
        assert np.percentile(other, 99) > 2 * np.percentile(off, 99)


@pytest.mark.parametrize("state", ["jawOpen", "eyeBlinkLeft", "both"])
def test_what_should_move_moves_and_the_rest_does_not(three: dict[str, Any], state: str) -> None:
    moved = changed(three["neutral_normals"], three[f"{state}_normals"])
    expected = changed(ours("neutral")[0], ours(state)[0])
    assert (moved & grown(expected, 2)).sum() / moved.sum() > 0.98
    assert (grown(moved, 2) & expected).sum() / expected.sum() > 0.98
    # only the lower face moves, or the head's own left eye (on the right of the picture)
    rows, columns = np.nonzero(moved)
    assert moved.sum() > 100
    if state == "jawOpen":
        assert rows.min() > 0.5 * HEIGHT
    if state == "eyeBlinkLeft":
        assert columns.min() > 0.5 * WIDTH and rows.max() < 0.6 * HEIGHT
    lit = changed(three["neutral_lit"], three[f"{state}_lit"])
    slightly = grown(changed(ours("neutral")[0], ours(state)[0], by=6), 2)
    assert (lit & slightly).sum() / lit.sum() > 0.98 and lit.sum() > 50


@pytest.mark.parametrize(
    ("form", "by"),
    [({"quantize": True}, 2), ({"skeleton": "compact"}, 0), ({"morphs": "jawOpen,eyeBlinkLeft"}, 0)],
)
def test_other_forms_look_the_same(three: dict[str, Any], form: dict[str, Any], by: int) -> None:
    states = {name: STATES[name] for name in ("both", "turned")}
    found = pictures_of(look(write_glb(head(), ExportOptions(**form)), job_of(states)))
    for name in states:
        for kind in ("lit", "normals"):
            off = np.abs(found[f"{name}_{kind}"] - three[f"{name}_{kind}"]).max(2)
            assert np.percentile(off, 99.5) <= by, (form, name, kind, np.percentile(off, 99.5))
    assert found["facts"]["bones"] == (36 if "skeleton" in form else three["facts"]["bones"])


def test_visemes_in_three_js(three: dict[str, Any]) -> None:
    found = spoken()
    assert list(found["facts"]["shapes"]) == list(VISEMES)
    silent = found["viseme_sil_normals"]
    assert not changed(silent, three["neutral_normals"]).any()
    for name in list(VISEMES)[1:]:
        rows, _ = np.nonzero(changed(silent, found[f"{name}_normals"]))
        assert len(rows) > 50 and rows.min() > 0.4 * HEIGHT, name  # the mouth moves, and nothing above


@cache
def spoken() -> dict[str, Any]:
    """Return the pictures of every viseme."""
    states = {name: {"shapes": {name: 1}, "turns": {}} for name in VISEMES}
    return pictures_of(look(write_glb(head(), ExportOptions(morphs="visemes")), job_of(states)))


def viseme_sheet() -> bytes:
    """Return a PNG of the mouths of all visemes, with their names, as three.js draws them."""
    found, size = spoken(), (200, 170)
    sheet = Image.new("RGB", (5 * size[0], 3 * size[1]))
    for number, name in enumerate(VISEMES):
        lit = Image.fromarray(found[f"{name}_lit"].astype(np.uint8))
        part = lit.crop((60, 190, 260, 360))
        ImageDraw.Draw(part).text((6, 4), name.removeprefix("viseme_"), fill=(255, 255, 255))
        sheet.paste(part, (number % 5 * size[0], number // 5 * size[1]))
    buffer = io.BytesIO()
    sheet.quantize(128).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def montage() -> bytes:
    """Return a PNG with three rows: three.js with the file's material, three.js's normals, our normals."""
    pictures = seen()
    rows = [[pictures[f"{state}_{kind}"] for state in STATES] for kind in ("lit", "normals")]
    rows.append([ours(state)[0] for state in STATES])
    image = np.concatenate([np.concatenate(row, 1) for row in rows]).astype(np.uint8)
    small = Image.fromarray(image).resize(
        (image.shape[1] * 3 // 5, image.shape[0] * 3 // 5), Image.Resampling.LANCZOS
    )
    buffer = io.BytesIO()
    small.quantize(256).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    from topos_rt.support.files import write_atomic

    images = Path(__file__).parents[2] / "docs" / "images"
    write_atomic(images / "three_js.png", montage())
    write_atomic(images / "visemes.png", viseme_sheet())
