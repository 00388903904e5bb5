"""The sources of pictures, and one clear error for every bad picture."""

from __future__ import annotations

import io
import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests import needs
from tests.sample_pictures import BAD_FILES, RGB, SIZE, animation, encode, pixels, smooth
from topos_rt.errors import ImageError
from topos_rt.pictures import image as image_module
from topos_rt.pictures.image import check_image, load_image
from topos_rt.pictures.sources import MAX_PIXELS

REFERENCE = pixels(smooth())


# ---- sources ----


def test_every_kind_of_source_agrees(tmp_path, monkeypatch):
    data = encode(RGB, "PNG")
    path = tmp_path / "porträt 1.png"
    path.write_bytes(data)
    monkeypatch.chdir(tmp_path)
    array = smooth()
    sources = [
        path,
        str(path),
        path.name,
        data,
        bytearray(data),
        memoryview(data),
        RGB,
        Image.open(path),
        array,
        array.astype(np.float32) / np.float32(255),
        array / 255.0,
        np.asfortranarray(array),
    ]
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


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    needs.machine(hasattr(os, "mkfifo"), "there are no named pipes")
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
        (Image.open(io.BytesIO(animation("GIF"))), "an animation or a stack of several frames"),
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
    """Whatever happens to the bytes, the caller never sees an exception of the decoder."""
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


@pytest.mark.parametrize("kind", ["empty", "directory", "missing"])
def test_a_message_holds_no_other_message(kind, tmp_path):
    path = tmp_path / "face.jpg"
    if kind == "empty":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    with pytest.raises(ImageError) as caught:
        load_image(path, SIZE, SIZE)
    assert str(caught.value).count("cannot use the image") == 1


def with_exif(entries: int, data: bytes) -> bytes:
    """Return a JPEG whose EXIF declares some entries and has these bytes of them."""
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", entries) + data
    return encode(Image.fromarray(smooth(64, 64)), "JPEG", exif=exif)


@pytest.mark.parametrize(
    "exif",
    [
        (9, b""),  # cut
        (1, struct.pack("<HHI4s", 0x0112, 3, 1, b"\6\0\0\0")),  # without the offset of the next directory
        (1, struct.pack("<HHII", 0x010E, 2, 99_999, 0xFFFFFFF0)),  # text past the end
        (1, struct.pack("<HHII", 0x0112, 99, 3, 8)),  # an unknown type
    ],
)
def test_pillows_warnings_stay_inside(exif, tmp_path, capfd):
    data = with_exif(*exif)
    (tmp_path / "a.jpg").write_bytes(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Image.open(io.BytesIO(data)) as plain:
            plain.getexif()
        seen = [entry for entry in caught if "PIL" in entry.filename]
        caught.clear()
        check_image(tmp_path / "a.jpg")
        load_image(data, 32, 32)
        load_image(tmp_path / "a.jpg", 32, 32)
        assert [str(entry.message) for entry in caught] == []
        warnings.warn("of the user", stacklevel=1)  # others still come through
        assert len(caught) == 1
    assert capfd.readouterr().err == ""
    assert seen or exif[0] == 1  # the first does make Pillow warn
