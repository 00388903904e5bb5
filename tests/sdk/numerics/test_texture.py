"""Textures in C++: the bits that `topos_rt.texture` makes of the same head, where its passes are compiled."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tests import needs
from tests.part_heads import plain
from tests.sample_pictures import smooth
from tests.sdk.numerics.calls import call
from tests.sdk.numerics.textures import MAPS, TABLES, Prepared, prepared
from tests.texture.portraits import atlas, bundle, painted, plan, sample, with_picture
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.portrait import FaceChoice, Portrait, portraits
from topos_rt.faces.seen import with_face
from topos_rt.gpu.texture_ops import native
from topos_rt.head.mesh import HeadMesh
from topos_rt.pictures.image import upright_picture
from topos_rt.pictures.raster import rasterize
from topos_rt.texture import grids, spectacles
from topos_rt.texture.stage import BASE, TextureChoice, base_texture, with_texture

EXAMPLES = Path(__file__).parents[3] / "examples"
PHOTOGRAPHS = ("astronaut.jpg", "hopper.jpg", "people/held_out_0_031.jpg", "people/held_out_1_113.jpg")


@pytest.fixture(scope="module")
def small(lib: ctypes.CDLL) -> Iterator[Prepared]:
    needs.machine(native() is not None, "the passes for the CPU are not built")
    with prepared(lib, 512) as made:
        yield made


@cache
def photograph(name: str) -> tuple[HeadMesh, Portrait]:
    """Return the mean head, fitted to a photograph of the examples."""
    picture = upright_picture(EXAMPLES / name)
    with FaceFinder.open(threads=1) as finder:
        (portrait,) = portraits(picture, name, finder, FaceChoice())
    return with_face(plain(), portrait, bundle().landmarks), portrait


def same(made: Prepared, head: HeadMesh, portrait: Portrait) -> HeadMesh:
    """Compare the texture of a head with Python's, which is returned."""
    maps, facts, notes = made.project(head, portrait)
    want = with_texture(head, portrait, bundle(), TextureChoice("projected", made.side))
    assert want.texture is not None
    assert facts == want.texture.metadata
    assert notes == want.metadata.get("warnings", [])[len(head.metadata.get("warnings", [])) :]
    for name in MAPS:
        own = getattr(want.texture, name)
        assert maps[name].shape == own.shape
        off = np.abs(maps[name].astype(int) - own)
        assert not off.any(), f"{name}: {np.count_nonzero(off)} of {off.size} differ by up to {off.max()}"
    return want


@pytest.mark.parametrize("side", [512, 1024, 2048])
def test_tables_and_the_base_material(lib: ctypes.CDLL, side: int) -> None:
    own = plan(side)
    with prepared(lib, side) as made:
        rows, columns = own.window
        assert made.window() == [rows.start, rows.stop, columns.start, columns.stop]
        for which, name in enumerate(TABLES):
            want = own_table(own, name)
            np.testing.assert_array_equal(made.table(which, want.dtype), want.reshape(-1), err_msg=name)
        np.testing.assert_array_equal(
            made.table(len(TABLES), np.float32), spectacles.zone(atlas()).reshape(-1)
        )
        maps, facts, notes = made.nothing()
        texture = base_texture(own, atlas(), TextureChoice(BASE, side))
        assert facts == texture.metadata and not notes
        for name in MAPS:
            np.testing.assert_array_equal(maps[name], getattr(texture, name), err_msg=name)


def own_table(own: Any, name: str) -> np.ndarray:
    if name == "grain":
        from topos_rt.texture.hair import grain

        return grain(own.side)
    found: np.ndarray = getattr(own, name)
    if name in ("samples", "eyes"):
        return found.astype(np.uint64)
    return found.astype(np.uint8) if found.dtype == bool else found


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs(name: str, small: Prepared) -> None:
    head, portrait = photograph(name)
    assert same(small, head, portrait).metadata["texture"]["seen"] > 0.3


@pytest.mark.parametrize("side", [1024, 2048])
def test_sizes(side: int, lib: ctypes.CDLL) -> None:
    with prepared(lib, side) as made:
        same(made, *photograph("astronaut.jpg"))


def spoiled(kind: str) -> tuple[HeadMesh, Portrait]:
    """Return a head and a portrait that something is wrong with."""
    found = sample()
    picture, face = found.portrait.picture, found.portrait.face
    assert face is not None

    def draw(paint: Any) -> tuple[HeadMesh, Portrait]:
        made = painted(found, paint)
        return made.head, made.portrait

    def shown(image: Image.Image) -> tuple[HeadMesh, Portrait]:
        made = with_picture(found, image)
        return made.head, made.portrait

    if kind == "grey":
        return shown(picture.convert("L").convert("RGB"))
    if kind == "black":
        return shown(Image.new("RGB", picture.size, "black"))
    if kind == "white":
        return shown(Image.new("RGB", picture.size, "white"))
    if kind == "orange":
        scaled = np.asarray(picture) * np.array([1.0, 0.6, 0.25])
        return shown(Image.fromarray(scaled.astype(np.uint8)))
    if kind == "transparent":
        alpha = Image.linear_gradient("L").resize(picture.size)
        made = picture.copy()
        made.putalpha(alpha)
        return shown(made)
    if kind == "teeth":
        return draw(lambda pen, at: pen.rectangle([*(at[78] - 3), *(at[308] + 9)], fill=(240, 240, 230)))
    if kind == "rims":
        return draw(lambda pen, at: [rim(pen, at, ids) for ids in ((33, 133), (263, 362))])
    if kind == "blue hat":
        return draw(lambda pen, at: pen.rectangle([0, 0, 511, float(at[10, 1])], fill=(20, 40, 200)))
    assert kind == "half"
    return draw(lambda pen, at: pen.rectangle([float(at[1, 0]), 0, 511, 511], fill=(30, 160, 40)))


def rim(pen: ImageDraw.ImageDraw, at: np.ndarray, ids: tuple[int, int]) -> None:
    centre, half = (at[ids[0]] + at[ids[1]]) / 2, np.linalg.norm(at[ids[0]] - at[ids[1]])
    size = half * np.array([0.95, 0.80])
    pen.ellipse([*(centre - size + [0, 4]), *(centre + size + [0, 4])], outline=(25, 20, 20), width=4)


@pytest.mark.parametrize(
    "kind", ["grey", "black", "white", "orange", "transparent", "teeth", "rims", "blue hat", "half"]
)
def test_what_spoils_photographs(kind: str, small: Prepared) -> None:
    want = same(small, *spoiled(kind))
    assert want.texture is not None
    assert want.texture.metadata["spectacles"] == (kind == "rims")


@pytest.mark.parametrize("tone", ["light", "dark"])
@pytest.mark.parametrize("lamp", ["key", "side"])
@pytest.mark.parametrize("yaw", [-50.0, 0.0, 30.0])
def test_tones_lights_and_turns(tone: str, lamp: str, yaw: float, small: Prepared) -> None:
    found = sample(tone, lamp, yaw)
    same(small, found.head, found.portrait)


@pytest.mark.parametrize("size", [48, 200, 700])
def test_sizes_of_faces(size: int, small: Prepared) -> None:
    found = sample(size=size)
    want = same(small, found.head, found.portrait)
    assert bool(want.metadata.get("warnings")) == (size == 48)


def test_a_face_at_the_edge_of_its_picture(small: Prepared) -> None:
    head, portrait = photograph("hopper.jpg")
    face = portrait.face
    assert face is not None
    x, y, wide, high = (int(value) for value in face.box)
    cut = portrait.picture.crop((0, 0, x + wide // 2, y + high * 3 // 4))
    same(small, head, Portrait(cut, face, "auto"))


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 4]), st.floats(0.6, 8))
@settings(max_examples=30, deadline=None)
def test_grids(lib: ctypes.CDLL, seed: int, channels: int, sigma: float) -> None:
    rng = np.random.default_rng(seed)
    high, wide = (int(2 * value) for value in rng.integers(2, 20, 2))
    values = rng.normal(size=(high, wide, channels)).astype(np.float32)

    def scaled(which: int, amount: float, shape: tuple[int, ...]) -> np.ndarray:
        out = np.empty(shape, np.float32)
        call(lib, "scale_grid", which, values, high, wide, channels, float(amount), out)
        return out

    np.testing.assert_array_equal(scaled(0, sigma, values.shape), grids.blurred(values, sigma))
    np.testing.assert_array_equal(scaled(1, 2, (high // 2, wide // 2, channels)), grids.shrunk(values, 2))
    for step in (2, 3, 8):
        np.testing.assert_array_equal(
            scaled(2, step, (high * step, wide * step, channels)), grids.grown(values, step)
        )


@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 32]), st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_filling_and_areas(lib: ctypes.CDLL, seed: int, side: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(side, side, 3)).astype(np.float32)
    weights = (rng.random((side, side)) * (rng.random((side, side)) < share)).astype(np.float32)
    out = np.empty_like(values)
    call(lib, "fill_grid", values, weights, side, 3, out)
    np.testing.assert_array_equal(out, grids.filled(values, weights))
    inside, start = rng.random((side, side)) < 0.3 + 0.7 * share, rng.random((side, side)) < 0.05
    for which, want in ((0, grids.largest_piece(inside, start)), (1, grids.depth_inside(inside))):
        found = np.empty((side, side), np.float32)
        call(lib, "area_grid", which, inside.view(np.uint8), start.view(np.uint8), side, side, found)
        np.testing.assert_array_equal(found, want)


@given(st.integers(0, 2**32 - 1), st.booleans(), st.floats(2, 60))
@settings(max_examples=40, deadline=None)
def test_triangles(lib: ctypes.CDLL, seed: int, cull: bool, spread: float) -> None:
    rng = np.random.default_rng(seed)
    high, wide, count = 40, 56, 30
    screen = np.concatenate([rng.normal(25, spread, (count, 2)), rng.uniform(-0.2, 2, (count, 1))], 1)
    if seed % 2:
        screen = np.round(screen)  # corners on edges of pixels, and triangles without an area
    triangles = rng.integers(0, count, (60, 3)).astype(np.int32)
    ids, weights = np.empty((high, wide), np.int32), np.empty((high, wide, 3), np.float32)
    call(lib, "rasterize", screen, count, triangles, len(triangles), high, wide, cull, ids, weights)
    want, own = rasterize(screen, triangles, high, wide, cull)
    np.testing.assert_array_equal(ids, want)
    np.testing.assert_array_equal(weights, own)


@pytest.mark.parametrize("side", [4, 200, 256])
def test_picture_files(lib: ctypes.CDLL, side: int) -> None:
    """PNG has the pixels, with and without libspng; JPEG has the bytes of Pillow where it is read alike."""
    pixels = smooth(side, side)

    def file(which: int) -> bytes:
        out = np.empty(
            call(lib, "picture_file", which, pixels, side, None, returns=ctypes.c_uint64), np.uint8
        )
        call(lib, "picture_file", which, pixels, side, out, returns=ctypes.c_uint64)
        return out.tobytes()

    for which in (0, 1):
        with Image.open(io.BytesIO(file(which))) as opened:
            opened.load()  # checks the sums
            assert opened.format == "PNG" and opened.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(opened), pixels)
    if call(lib, "decodes_jpeg", returns=ctypes.c_int32):
        want = io.BytesIO()
        Image.fromarray(pixels).save(want, "JPEG", quality=92, subsampling=0, optimize=True)
        assert file(2) == want.getvalue()
    else:
        assert file(2) == b""


def test_the_weights_of_spectacles(lib: ctypes.CDLL) -> None:
    """`sdk/src/spectacles_weights.h` has what `python -m training.spectacles` made."""
    weights, bias = spectacles._weights()
    address = call(lib, "spectacles_weights", returns=ctypes.POINTER(ctypes.c_float))
    np.testing.assert_array_equal(np.ctypeslib.as_array(address, weights.shape), weights)
    assert call(lib, "spectacles_bias", returns=ctypes.c_float) == bias
