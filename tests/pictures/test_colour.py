"""Colours, alpha and orientation as a picture's metadata tell them; broken metadata does no harm."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.sample_pictures import smooth
from topos_rt.errors import ImageError
from topos_rt.pictures.image import load_image

SIZE = 32
PICTURE = Image.fromarray(smooth())
# Columns of red, green and blue, adapted to D50: of sRGB and of Display P3 (SMPTE EG 432-1).
SRGB = [[0.4361, 0.2225, 0.0139], [0.3851, 0.7169, 0.0971], [0.1431, 0.0606, 0.7141]]
P3 = [[0.5151, 0.2412, -0.0011], [0.2919, 0.6922, 0.0419], [0.1572, 0.0666, 0.7841]]


def profile(primaries: list[list[float]], gamma: float) -> bytes:
    """Return an ICC profile of three primaries and one gamma."""

    def xyz(values: list[float]) -> bytes:
        return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    text = b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78)
    tags = {
        b"desc": text,
        b"wtpt": xyz([0.9642, 1.0, 0.8249]),
        **{name: xyz(values) for name, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        table += struct.pack(">4sII", name, start + len(data), len(value))
        data += value
    head = struct.pack(">I4sI4s4s4s", start + len(data), bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def saved(image: Image.Image, form: str = "PNG", **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **more)
    return buffer.getvalue()


def pixels(source: Any) -> np.ndarray:
    return load_image(source, SIZE, SIZE) * 255


def test_a_profile_of_sRGB_changes_no_pixel() -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(pixels(saved(PICTURE, icc_profile=own)), pixels(saved(PICTURE)))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_colours_of_a_profile_become_srgb(form: str) -> None:
    more = {"lossless": True} if form == "WEBP" else {}
    # The same colours, stored with a gamma of 1 and with other primaries.
    linear = (np.asarray(PICTURE) / 255.0 + 0.055) / 1.055
    stored = Image.fromarray(np.rint(255 * np.clip(linear, 0, 1) ** 2.4).astype(np.uint8))
    found = pixels(saved(stored, form, icc_profile=profile(SRGB, 1.0), **more))
    assert np.abs(found - pixels(saved(stored))).mean() > 20
    bright = pixels(PICTURE) > 80  # eight bits of a gamma of 1 hold few dark shades
    assert np.abs(found - pixels(PICTURE))[bright].max() < 4
    swapped = [SRGB[2], SRGB[1], SRGB[0]]
    found = pixels(
        saved(Image.merge("RGB", PICTURE.split()[::-1]), form, icc_profile=profile(swapped, 2.2), **more)
    )
    assert np.abs(found - pixels(PICTURE)).mean() < 3


def test_a_wider_gamut_is_known_colours() -> None:
    # Display P3 (0.5, 0.4, 0.3), whose sRGB is (0.5155, 0.3963, 0.2865) by the matrices of both.
    stored = Image.new("RGB", (SIZE, SIZE), (128, 102, 77))
    linear = (np.array([128, 102, 77]) / 255) ** 2.2
    expected = np.linalg.solve(np.array(SRGB).T, np.array(P3).T @ linear) ** (1 / 2.2) * 255
    found = pixels(saved(stored, icc_profile=profile(P3, 2.2)))[0, :, 0, 0]
    assert found == pytest.approx(expected, abs=2.5)
    assert found[0] > 129 and found[2] < 76


def test_alpha_is_kept_beside_a_profile() -> None:
    image = PICTURE.copy()
    image.putalpha(
        Image.fromarray(np.tile(np.linspace(0, 255, image.width).astype(np.uint8), (image.height, 1)))
    )
    found = pixels(saved(image, icc_profile=profile([SRGB[2], SRGB[1], SRGB[0]], 2.2)))
    other = pixels(saved(Image.merge("RGBA", (*image.split()[2::-1], image.split()[3]))))
    assert np.abs(found - other).mean() < 3


def test_grey_with_a_profile() -> None:
    grey = Image.new("L", (SIZE, SIZE), 55)
    assert np.array_equal(pixels(saved(grey, icc_profile=profile(SRGB, 1.0))), pixels(saved(grey)))


@pytest.mark.parametrize("data", [b"x", bytes(500), profile(SRGB, 2.2)[:200]])
def test_a_broken_profile_does_no_harm(data: bytes) -> None:
    assert np.array_equal(pixels(saved(PICTURE, icc_profile=data)), pixels(PICTURE))


# ---- alpha ----


@pytest.mark.parametrize("source", ["file", "image", "array"])
def test_opaque_alpha_changes_nothing(source: str) -> None:
    image = PICTURE.convert("RGBA")
    given: Any = {"file": saved(image), "image": image, "array": np.asarray(image)}[source]
    assert np.array_equal(pixels(given), pixels(PICTURE))


@pytest.mark.parametrize("source", ["file", "image", "array", "palette"])
def test_what_is_fully_transparent_is_refused(source: str) -> None:
    image = PICTURE.copy()
    image.putalpha(0)
    palette = Image.new("P", (SIZE, SIZE), 0)
    given: Any = {
        "file": saved(image),
        "image": image,
        "array": np.asarray(image),
        "palette": saved(palette, transparency=0),
    }[source]
    with pytest.raises(ImageError, match="got a picture that is fully transparent; expected a portrait"):
        load_image(given, SIZE, SIZE)


def test_a_bmp_whose_fourth_bytes_are_zero_is_opaque() -> None:
    rows = np.zeros((SIZE, SIZE, 4), np.uint8)
    rows[..., :3] = np.asarray(PICTURE.resize((SIZE, SIZE)))[::-1, :, ::-1]
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, SIZE, SIZE, 1, 32, 3, rows.nbytes, 0, 0, 0, 0) + masks
    head = head.ljust(108, b"\0")
    data = b"BM" + struct.pack("<IHHI", 14 + len(head) + rows.nbytes, 0, 0, 14 + len(head)) + head
    found = pixels(data + rows.tobytes())
    assert np.array_equal(found, pixels(PICTURE.resize((SIZE, SIZE))))
    rows[..., 3] = 255
    assert np.array_equal(pixels(data + rows.tobytes()), found)


# ---- orientation ----


def xmp(orientation: int, element: bool) -> bytes:
    inside = (
        f"><tiff:Orientation>{orientation}</tiff:Orientation></rdf:Description>"
        if element
        else f' tiff:Orientation="{orientation}"/>'
    )
    text = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/"{inside}</rdf:RDF></x:xmpmeta>'
    )
    return text.encode()


def with_xmp(data: bytes, packet: bytes) -> bytes:
    """Return a JPEG with a packet of XMP."""
    body = b"http://ns.adobe.com/xap/1.0/\0" + packet
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


@pytest.mark.parametrize("element", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_xmp_is_undone(
    orientation: int, element: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    jpeg = saved(PICTURE, "JPEG", quality=95)
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = pixels(saved(PICTURE, "JPEG", quality=95, exif=exif))
    given = with_xmp(jpeg, xmp(orientation, element))
    assert np.array_equal(pixels(given), expected)
    # Pillow before version 11 looks for EXIF alone.
    monkeypatch.setattr(Image.Image, "getexif", lambda _: Image.Exif())
    assert np.array_equal(pixels(given), expected)


@pytest.mark.parametrize("packet", [b"tiff:Orientation=9", xmp(0, False), b"\xff\0<<", b""])
def test_broken_xmp_does_no_harm(packet: bytes) -> None:
    jpeg = saved(PICTURE, "JPEG", quality=95)
    assert np.array_equal(pixels(with_xmp(jpeg, packet)), pixels(jpeg))


# ---- files that cannot be read ----


def float_tiff(samples: int) -> bytes:
    """Return a TIFF of floating-point numbers, as cameras' tools write them."""
    side, entries = 20, []
    data = np.full((side, side, samples), 0.5, "<f4").tobytes()
    for tag, kind, value in (
        (256, 4, side),
        (257, 4, side),
        (258, 3, 32),
        (259, 3, 1),
        (262, 3, 2 if samples == 3 else 1),
        (273, 4, 8),
        (277, 3, samples),
        (278, 4, side),
        (279, 4, len(data)),
        (339, 3, 3),
    ):
        entries.append(struct.pack("<HHII", tag, kind, 1, value))
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(data))
        + data
        + struct.pack("<H", len(entries))
        + b"".join(entries)
        + bytes(4)
    )


def test_a_tiff_in_floating_point_is_called_so() -> None:
    with pytest.raises(
        ImageError, match=r"colours in floating point; expected a TIFF of 8 or 16 bits a channel"
    ):
        load_image(float_tiff(3), SIZE, SIZE)
    assert pixels(float_tiff(1)) == pytest.approx(np.full((1, 3, SIZE, SIZE), 128), abs=0.01)


def test_a_palette_picture_without_a_palette_is_damaged() -> None:
    data = bytearray(saved(Image.new("P", (SIZE, SIZE), 3)))
    start = data.index(b"PLTE") - 4
    length = struct.unpack_from(">I", data, start)[0]
    del data[start : start + 12 + length]
    with pytest.raises(ImageError, match="damaged or truncated"):
        load_image(bytes(data), SIZE, SIZE)


def test_the_frames_of_an_animation_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("L", (SIZE, SIZE), shade) for shade in range(40)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    from PIL import GifImagePlugin

    sought: list[int] = []
    seek = GifImagePlugin.GifImageFile.seek
    monkeypatch.setattr(
        GifImagePlugin.GifImageFile,
        "seek",
        lambda image, frame: (sought.append(frame), seek(image, frame))[1],
    )
    with pytest.raises(ImageError, match="an animation"):
        load_image(data, SIZE, SIZE)
    assert max(sought, default=0) <= 1
