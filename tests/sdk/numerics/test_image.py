"""Pictures of the C++ numerics against Pillow and `topos_rt.pictures.image`, bit for bit."""

from __future__ import annotations

import ctypes
import io

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.sdk.numerics.calls import call
from topos_rt.pictures import image as twin

NEWEST = int(PIL.__version__.split(".")[0]) >= 13
FORMATS = ("RGB", "RGBA", "BGRA")
FILTERS = ("BOX", "BILINEAR", "HAMMING", "BICUBIC", "LANCZOS")
# From one pixel up, odd and even, up and down, one side kept.
SIZES = [((1, 1), (7, 5)), ((16, 16), (128, 128)), ((37, 53), (128, 128)), ((640, 480), (128, 128)),
         ((300, 128), (128, 128)), ((128, 300), (128, 128)), ((513, 17), (31, 200)),
         ((900, 901), (3, 2))]  # fmt: skip


def noisy(width: int, height: int, channels: int, seed: int = 0) -> np.ndarray:
    """Random pixels, in part black, white, transparent or opaque."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, channels), np.uint8)
    ends = rng.random(pixels.shape)
    return np.where(ends < 0.15, 0, np.where(ends > 0.85, 255, pixels)).astype(np.uint8)


def taken(
    lib: ctypes.CDLL, block: np.ndarray, size: tuple[int, int], stride: int, form: str, orientation: int = 1
) -> np.ndarray | None:
    """Return what `take_picture` makes of memory, whose upper row is the last one where the stride falls."""
    width, height = size
    out, made = np.empty(width * height * 4, np.uint8), np.zeros(2, np.int32)
    start = block[-stride * (height - 1) if stride < 0 else 0 :]
    channels = call(lib, "take_picture", start, width, height, stride, FORMATS.index(form), orientation, out,
                    made, returns=ctypes.c_int32)  # fmt: skip
    return out[: width * height * channels].reshape(made[1], made[0], channels) if channels else None


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("gap", [0, 5])
def test_formats_and_strides(lib: ctypes.CDLL, form: str, flipped: bool, gap: int) -> None:
    pixels = noisy(23, 17, len(form))
    row = 23 * len(form) + gap
    block = np.full((17, row), 77, np.uint8)
    order = [2, 1, 0, 3] if form == "BGRA" else slice(None)
    rows = pixels[..., order][::-1] if flipped else pixels[..., order]
    block[:, : 23 * len(form)] = rows.reshape(17, -1)
    stride = -row if flipped else row if gap else 0
    got = taken(lib, block.reshape(-1), (23, 17), stride, form)
    assert got is not None
    assert np.array_equal(got, np.asarray(twin.upright_picture(pixels)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["RGB", "RGBA"])
def test_every_orientation(lib: ctypes.CDLL, orientation: int, form: str) -> None:
    pixels, file, exif = noisy(29, 18, len(form)), io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    got = taken(lib, pixels.reshape(-1), (29, 18), 0, form, orientation)
    assert got is not None
    assert np.array_equal(got, np.asarray(twin.upright_picture(file.getvalue())))


def test_opaque_pictures_lose_their_alpha_and_transparent_ones_are_refused(lib: ctypes.CDLL) -> None:
    pixels = noisy(20, 20, 4)
    pixels[..., 3] = 255
    opaque = taken(lib, pixels.reshape(-1), (20, 20), 0, "RGBA")
    assert opaque is not None and np.array_equal(opaque, pixels[..., :3])
    pixels[..., 3] = 0
    assert taken(lib, pixels.reshape(-1), (20, 20), 0, "RGBA") is None


def test_every_value_on_black(lib: ctypes.CDLL) -> None:
    value, alpha = np.meshgrid(np.arange(256), np.arange(256))
    pixels = np.stack([value, value[::-1], value.T, alpha], 2).astype(np.uint8)
    got = np.empty((256, 256, 3), np.uint8)
    call(lib, "on_black", pixels, 256, 256, 4, got)
    assert np.array_equal(got, np.asarray(twin.on_black(Image.fromarray(pixels))))


def resized(lib: ctypes.CDLL, pixels: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
    height, width, channels = pixels.shape
    got = np.empty((size[1], size[0], channels), np.uint8)
    call(lib, "resized", pixels, width, height, channels, *size, FILTERS.index(name), got)
    return got


def pillow_resized(pixels: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
    """Return what Pillow makes, with its passes in the order of Pillow 13, which earlier ones do not know."""
    picture, filtering = Image.fromarray(pixels), Image.Resampling[name]
    if picture.size == size or NEWEST:
        return np.asarray(picture.resize(size, filtering))
    shorter, narrower = picture.height - size[1], picture.width - size[0]
    first = (picture.width, size[1]) if shorter > max(0, 2 * narrower) else (size[0], picture.height)
    alpha = picture.mode == "RGBA"
    picture = (picture.convert("RGBa") if alpha else picture).resize(first, filtering).resize(size, filtering)
    return np.asarray(picture.convert("RGBA") if alpha else picture)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("size", "to"), SIZES)
def test_resized(
    lib: ctypes.CDLL, channels: int, name: str, size: tuple[int, int], to: tuple[int, int]
) -> None:
    pixels = noisy(*size, channels)
    assert np.array_equal(resized(lib, pixels, to, name), pillow_resized(pixels, to, name))


sides = st.integers(1, 80)


@given(sides, sides, sides, sides, st.sampled_from(FILTERS), st.sampled_from([3, 4]), st.integers(0, 99))
@settings(max_examples=300)
def test_resized_to_any_size(
    lib: ctypes.CDLL, width: int, height: int, wide: int, high: int, name: str, channels: int, seed: int
) -> None:
    pixels = noisy(width, height, channels, seed)
    assert np.array_equal(
        resized(lib, pixels, (wide, high), name), pillow_resized(pixels, (wide, high), name)
    )


@given(sides, sides, st.integers(2, 40), st.data())
@settings(max_examples=300)
def test_reduced(lib: ctypes.CDLL, width: int, height: int, factor: int, data: st.DataObject) -> None:
    pixels = noisy(width, height, 3)
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    want = np.asarray(Image.fromarray(pixels).reduce(factor, (left, top, right, bottom)))
    got = np.empty_like(want)
    call(lib, "reduced", pixels, width, height, factor, np.array([left, top, right, bottom], np.int32), got)
    assert np.array_equal(got, want)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("size", [(16, 16), (64, 64), (128, 128), (640, 480), (97, 500), (1001, 1000)])
@pytest.mark.parametrize("to", [(128, 128), (64, 64), (96, 128), (224, 160)])
def test_what_the_encoder_takes(
    lib: ctypes.CDLL, channels: int, size: tuple[int, int], to: tuple[int, int]
) -> None:
    pixels = noisy(*size, channels)
    want = twin.pixels_of(Image.fromarray(pixels), *to)
    got = np.empty(want.shape, np.float32)
    call(lib, "pixels_of", pixels, *size, channels, *to, got)
    assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("to", [(128, 128), (96, 128), (127, 100)])
def test_what_the_encoder_takes_of_a_cut(lib: ctypes.CDLL, to: tuple[int, int]) -> None:
    pixels = noisy(128, 128, 3)
    want = twin.fitted_pixels(Image.fromarray(pixels), *to)
    got = np.empty(want.shape, np.float32)
    call(lib, "fitted_pixels", pixels, 128, 128, *to, got)
    assert got.tobytes() == want.tobytes()
