"""Pictures of every kind to pixels, and every bad picture to one clear error."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.pictures import BAD_FILES, RGB, animation, encode, smooth
from topos_rt import image as image_module
from topos_rt.errors import ImageError
from topos_rt.image import MAX_PIXELS, MIN_SIDE, check_image, load_image

SIZE = 32
EXIF_ORIENTATION = 0x0112


def pixels(source, height=SIZE, width=SIZE):
    result = load_image(source, height, width)
    assert result.shape == (1, 3, height, width)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1
    return result


def plane(result):
    """[1,3,H,W] -> [H,W,3], for comparison with arrays."""
    return result[0].transpose(1, 2, 0)


REFERENCE = pixels(smooth())


# ---- what the pixels are ----


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
        "png", "bmp", "tiff", "tiff lzw", "webp lossless", "jpeg", "webp", "palette png", "gif", "cmyk jpeg",
        "cmyk tiff", "ycbcr jpeg", "broken exif",
    ],
)  # fmt: skip
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
    """A PNG with 16 bits a channel, which Pillow reads but does not write."""

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


# ---- where it may come from ----


def test_every_kind_of_source_agrees(tmp_path, monkeypatch):
    data = encode(RGB, "PNG")
    path = tmp_path / "porträt 1.png"
    path.write_bytes(data)
    monkeypatch.chdir(tmp_path)
    array = smooth()
    sources = [
        path, str(path), path.name, data, bytearray(data), memoryview(data), RGB, Image.open(path), array,
        array.astype(np.float32) / np.float32(255), array / 255.0, np.asfortranarray(array),
    ]  # fmt: skip
    for source in sources:
        np.testing.assert_array_equal(pixels(source), REFERENCE)


def test_the_name_of_a_file_does_not_decide_its_format(tmp_path):
    path = tmp_path / "face.jpg"
    path.write_bytes(encode(RGB, "PNG"))
    np.testing.assert_array_equal(pixels(path), REFERENCE)


def test_the_callers_array_and_picture_are_left_alone():
    array = smooth(channels=4)
    before = array.copy()
    picture = Image.fromarray(array)
    first = pixels(array)
    pixels(picture)
    np.testing.assert_array_equal(array, before)
    np.testing.assert_array_equal(np.asarray(picture), before)
    first[:] = 0  # the result is the caller's own
    np.testing.assert_array_equal(array, before)


def test_a_photograph_with_a_second_view_behind_it_is_one_photograph():
    data = encode(RGB, "MPO", save_all=True, append_images=[RGB.rotate(90)], quality=95)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert np.abs(pixels(data) - REFERENCE).mean() <= 0.005


def test_a_single_frame_gif_is_a_picture():
    assert pixels(encode(RGB.convert("P"), "GIF", save_all=True)).any()


# ---- what is refused ----


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(tmp_path, case, monkeypatch):
    data, message = BAD_FILES[case]
    path = tmp_path / "face.png"
    path.write_bytes(data)
    if "bomb" in case:
        monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ImageError) as caught:
        load_image(path, SIZE, SIZE)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert " object at " not in str(caught.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "case", [c for c in BAD_FILES if c.startswith(("e", "not", "1x1", "bomb", "anim", "tiff"))]
)
def test_what_the_header_tells_is_found_without_decoding(tmp_path, case, monkeypatch):
    path = tmp_path / "face.png"
    path.write_bytes(BAD_FILES[case][0])
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ImageError) as caught:
        check_image(path)
    assert BAD_FILES[case][1] in str(caught.value)


def test_a_sound_header_is_enough_to_go_on(tmp_path):
    path = tmp_path / "face.png"
    path.write_bytes(BAD_FILES["truncated png"][0])
    check_image(path)


def test_missing_file(tmp_path):
    with pytest.raises(ImageError, match=r"nowhere\.png: got no such file; fix: check the path"):
        load_image(tmp_path / "nowhere.png", SIZE, SIZE)


def test_directory(tmp_path):
    with pytest.raises(ImageError, match="got a directory; expected an image file"):
        load_image(tmp_path, SIZE, SIZE)


def test_file_below_a_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(ImageError, match="got Not a directory"):
        load_image(tmp_path / "a.png" / "b.png", SIZE, SIZE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "face.png")
    with pytest.raises(ImageError, match="a device or pipe"):
        load_image(tmp_path / "face.png", SIZE, SIZE)


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "face.png"
    path.write_bytes(encode(RGB, "PNG"))

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match="got Permission denied; expected a readable file"):
        load_image(path, SIZE, SIZE)


def spoiled(value):
    array = smooth().astype(np.float32) / 255
    array[3, 4, 1] = value
    return array


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "got no bytes"),
        (None, "an object of type NoneType"),
        (3, "an object of type int"),
        ([[1, 2], [3, 4]], "an object of type list"),
        ("a\0b", "expected a readable file"),
        (spoiled(np.nan), "got 1 NaN or infinite values"),
        (spoiled(np.inf), "got 1 NaN or infinite values"),
        (spoiled(-np.inf).astype(np.float64), "got 1 NaN or infinite values"),
        (spoiled(1.5), "values from 0 to 1.5; expected values within 0..1; fix: divide by 255"),
        (spoiled(-0.5), "values from -0.5"),
        (smooth().astype(np.float32), "fix: divide by 255, or pass uint8"),
        (smooth().astype(np.int64), "an array of dtype int64"),
        (smooth().astype(np.float16), "an array of dtype float16"),
        (smooth().astype(bool), "an array of dtype bool"),
        (smooth().astype(object), "an array of dtype object"),
        (smooth()[..., 0], "an array of shape [48, 48]"),
        (smooth()[..., :2], "an array of shape [48, 48, 2]"),
        (smooth()[None], "an array of shape [1, 48, 48, 3]"),
        (smooth().transpose(2, 0, 1), "an array of shape [3, 48, 48]"),
        (np.zeros((0, 0, 3), np.uint8), "0 × 0 pixels"),
        (np.zeros((1, 1, 3), np.uint8), "1 × 1 pixels"),
        (
            np.broadcast_to(np.uint8(0), (20000, 20000, 3)),
            "20000 × 20000 pixels; expected at most 64 megapixels",
        ),
        (Image.new("RGB", (1, 1)), "1 × 1 pixels"),
        (Image.new("La", (20, 20)), "colour mode La"),
        (Image.open(io.BytesIO(animation("GIF"))), "an animation or a stack of 3 frames"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_objects(source, message):
    with pytest.raises(ImageError) as caught:
        load_image(source, SIZE, SIZE)
    assert message in str(caught.value)


def test_the_largest_allowed_picture_is_a_64_megapixel_photograph():
    assert 9248 * 6936 <= MAX_PIXELS < 9500 * 7200


@settings(max_examples=150, deadline=None)
@given(st.data())
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_either_read_or_refused(data):
    """Whatever happens to the bytes, the caller never sees a decoder's own exception."""
    file_format = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]))
    damaged = bytearray(encode(RGB.convert("RGB"), file_format))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(1, len(damaged)))]
    try:
        pixels(bytes(damaged))
    except ImageError as error:
        assert len(str(error).splitlines()) == 1


def test_only_decoders_without_helpers_are_used():
    assert set(image_module.FORMATS) == {"PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"}
