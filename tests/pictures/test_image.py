"""Pixels from pictures of every kind: colour, alpha, depth, orientation, size."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.sample_pictures import RGB, SIZE, encode, pixels, smooth
from topos_rt.pictures.image import upright_picture
from topos_rt.pictures.sources import MIN_SIDE

EXIF_ORIENTATION = 0x0112


def plane(result):
    """Return [1,3,H,W] as [H,W,3], for comparison with arrays."""
    return result[0].transpose(1, 2, 0)


REFERENCE = pixels(smooth())


def test_an_array_of_the_right_size_passes_through_unchanged():
    array = smooth(SIZE, SIZE)
    np.testing.assert_array_equal(plane(pixels(array)), array.astype(np.float32) / np.float32(255))


def test_rgb_is_resized_with_lanczos_as_in_the_release():
    expected = np.asarray(RGB.resize((SIZE, SIZE), Image.Resampling.LANCZOS), np.float32) / np.float32(255)
    np.testing.assert_array_equal(plane(REFERENCE), expected)


def test_rgba_is_resized_bilinearly_and_multiplied_by_alpha_as_in_the_release():
    array = smooth(channels=4)
    resized = Image.fromarray(array).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    expected = np.asarray(resized, np.float32) / np.float32(255)
    np.testing.assert_array_equal(plane(pixels(array)), expected[..., :3] * expected[..., 3:])


def test_transparent_pixels_are_black():
    array = np.full((SIZE, SIZE, 4), 255, np.uint8)
    array[:, : SIZE // 2, 3] = 0
    result = pixels(array)
    assert (result[..., : SIZE // 2] == 0).all()
    assert (result[..., SIZE // 2 :] == 1).all()


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        (encode(RGB, "PNG"), 0),
        (encode(RGB, "BMP"), 0),
        (encode(RGB, "TIFF"), 0),
        (encode(RGB, "TIFF", compression="tiff_lzw"), 0),
        (encode(RGB, "WEBP", lossless=True), 0),
        (encode(RGB, "JPEG", quality=95), 0.005),
        (encode(RGB, "WEBP", quality=95), 0.01),
        (encode(RGB.quantize(256), "PNG"), 0.02),
        (encode(RGB.quantize(256), "GIF"), 0.02),
        (encode(RGB.convert("CMYK"), "JPEG", quality=95), 0.002),
        (encode(RGB.convert("CMYK"), "TIFF"), 0.002),
        (encode(RGB.convert("YCbCr"), "JPEG", quality=95), 0.005),
        (encode(RGB, "PNG", exif=b"Exif\0\0not exif at all"), 0),
    ],
    ids=[
        "png",
        "bmp",
        "tiff",
        "tiff lzw",
        "webp lossless",
        "jpeg",
        "webp",
        "palette png",
        "gif",
        "cmyk jpeg",
        "cmyk tiff",
        "ycbcr jpeg",
        "broken exif",
    ],
)
def test_every_format_and_colour_mode_gives_the_same_picture(data, tolerance):
    assert np.abs(pixels(data) - REFERENCE).mean() <= tolerance


GREY = Image.fromarray(smooth(SIZE, SIZE)[..., 2])
GREY_16 = Image.fromarray(smooth(SIZE, SIZE)[..., 2].astype(np.uint16) * 257)
GREY_UNIT = Image.fromarray(smooth(SIZE, SIZE)[..., 2].astype(np.float32) / 255)


@pytest.mark.parametrize(
    "data",
    [
        encode(GREY, "PNG"),
        encode(GREY_16, "PNG"),
        encode(GREY_16, "TIFF"),
        encode(GREY_16.convert("I"), "TIFF"),
        encode(GREY_UNIT, "TIFF"),
        GREY.convert("LA"),
    ],
    ids=["8-bit png", "16-bit png", "16-bit tiff", "32-bit tiff", "float tiff", "with full alpha"],
)
def test_grey_of_every_depth_is_scaled_not_clipped(data):
    expected = np.asarray(GREY, np.float32) / np.float32(255)
    np.testing.assert_array_equal(pixels(data)[0], np.stack([expected] * 3))


def sixteen_bit_png(array, colour_type):
    """Return a PNG with 16 bits a channel, which Pillow reads but does not write."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("channels", "colour_type"), [(3, 2), (4, 6)])
def test_sixteen_bit_colour(channels, colour_type):
    array = smooth(SIZE, SIZE, channels)
    data = sixteen_bit_png(array.astype(np.uint16) * 257, colour_type)
    np.testing.assert_array_equal(pixels(data), pixels(array))


def test_one_bit_picture():
    bits = Image.fromarray((smooth(SIZE, SIZE)[..., 0] > 127).astype(np.uint8) * 255).convert("1")
    assert set(np.unique(pixels(encode(bits, "PNG")))) == {0.0, 1.0}


@pytest.mark.parametrize("mode", ["P", "RGB", "L", "1"])
def test_transparency_by_colour_key_is_transparency(mode):
    array = np.zeros((SIZE, SIZE), np.uint8)
    array[:, SIZE // 2 :] = 255
    picture = Image.fromarray(array).convert(mode)
    key = (255, 255, 255) if mode == "RGB" else 255
    data = encode(picture, "PNG", transparency=key)
    assert (
        pixels(data) == 0
    ).all()  # the white half is transparent, so black; the other half is black anyway


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation, file_format):
    store = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    upright = smooth(40, 56)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    options = (
        {"quality": 98} if file_format == "JPEG" else {"lossless": True} if file_format == "WEBP" else {}
    )
    data = encode(Image.fromarray(np.ascontiguousarray(store(upright))), file_format, exif=exif, **options)
    assert np.abs(pixels(data) - pixels(upright)).mean() <= (0.005 if file_format == "JPEG" else 0)


def test_what_is_upright_is_not_turned_again():
    """Stages pass the upright picture on as a Pillow image, whose metadata must not turn it once more."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    once = upright_picture(encode(RGB, "JPEG", exif=exif))
    assert np.array_equal(np.asarray(upright_picture(once)), np.asarray(once))
    assert once.info == {}


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_is_ignored(orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    np.testing.assert_array_equal(pixels(encode(RGB, "PNG", exif=exif)), REFERENCE)


def test_the_centre_square_is_kept():
    tall = np.zeros((90, 30, 3), np.uint8)
    tall[30:60] = smooth(30, 30)
    np.testing.assert_array_equal(pixels(tall), pixels(smooth(30, 30)))
    wide = np.zeros((30, 90, 3), np.uint8)
    wide[:, 30:60] = smooth(30, 30)
    np.testing.assert_array_equal(pixels(wide), pixels(smooth(30, 30)))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(MIN_SIDE, 80),
    width=st.integers(MIN_SIDE, 80),
    out_height=st.integers(1, 40),
    out_width=st.integers(1, 40),
    level=st.integers(0, 255),
    channels=st.sampled_from([3, 4]),
)
def test_a_plain_colour_stays_itself_whatever_the_sizes(
    height, width, out_height, out_width, level, channels
):
    array = np.full((height, width, channels), 255, np.uint8)
    array[..., :3] = level
    assert np.abs(pixels(array, out_height, out_width) - np.float32(level / 255)).max() < 1e-6
