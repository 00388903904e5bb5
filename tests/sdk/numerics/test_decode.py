"""PNG and JPEG files as C++ reads them against Pillow, bit for bit, where this build reads them at all."""

from __future__ import annotations

import ctypes
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from tests import needs
from tests.sample_pictures import encode, smooth
from tests.sdk.numerics.calls import call
from tests.sdk.numerics.test_image import noisy
from topos_rt.errors import ImageError
from topos_rt.pictures.image import upright_picture

EXAMPLES = Path(__file__).parents[3] / "examples"
YES, FOREIGN, DAMAGED, SMALL, LARGE, TRANSPARENT, ANIMATED, UNSUPPORTED = range(8)


@pytest.fixture
def png(lib: ctypes.CDLL) -> ctypes.CDLL:
    needs.machine(call(lib, "decodes_png", returns=ctypes.c_int32), "CMake found no libspng")
    return lib


@pytest.fixture
def jpeg(lib: ctypes.CDLL) -> ctypes.CDLL:
    needs.machine(call(lib, "decodes_jpeg", returns=ctypes.c_int32), "CMake found no libjpeg-turbo")
    return lib


def decoded(lib: ctypes.CDLL, data: bytes) -> tuple[int, np.ndarray | None, bool]:
    """Return how it ended, the pixels, and whether there was a profile."""
    size = np.zeros(4, np.int32)
    ended = call(lib, "decode_image", data, len(data), size, returns=ctypes.c_int32)
    if ended != YES:
        return ended, None, bool(size[3])
    out = np.empty((size[1], size[0], size[2]), np.uint8)
    call(lib, "decoded_pixels", out)
    return ended, out, bool(size[3])


def check(lib: ctypes.CDLL, data: bytes) -> None:
    ended, got, profile = decoded(lib, data)
    assert ended == YES and got is not None and not profile
    want = np.asarray(upright_picture(data))
    assert got.shape == want.shape
    assert np.array_equal(got, want)


RGB, GREY = Image.fromarray(smooth(61, 47)), Image.fromarray(smooth(61, 47)[..., 0])
NOISE = Image.fromarray(noisy(50, 33, 3))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [30, 75, 95, 100])
@pytest.mark.parametrize("picture", [RGB, GREY, NOISE], ids=["smooth", "grey", "noise"])
def test_jpeg(
    jpeg: ctypes.CDLL, picture: Image.Image, quality: int, progressive: bool, subsampling: int
) -> None:
    check(jpeg, encode(picture, "JPEG", quality=quality, progressive=progressive, subsampling=subsampling))


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.jpg")), ids=lambda path: path.stem)
def test_photographs(jpeg: ctypes.CDLL, path: Path) -> None:
    ended, got, profile = decoded(jpeg, path.read_bytes())
    assert ended == YES and got is not None
    assert profile == ("icc_profile" in Image.open(path).info)
    if not profile:
        assert np.array_equal(got, np.asarray(upright_picture(path)))


def exif(orientation: Any, tag: int = 0x0112) -> Image.Exif:
    made = Image.Exif()
    made[0x010F] = "a maker"  # another entry before it
    made[tag] = orientation
    return made


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


@pytest.mark.parametrize("orientation", range(10))
def test_orientations_of_jpeg(jpeg: ctypes.CDLL, orientation: int) -> None:
    check(jpeg, encode(NOISE, "JPEG", exif=exif(orientation)))
    check(jpeg, encode(NOISE, "JPEG", xmp=XMP % orientation))
    check(jpeg, encode(NOISE, "JPEG", exif=exif(3), xmp=XMP % orientation))
    check(jpeg, encode(NOISE, "JPEG", exif=exif(7, 0x0128), xmp=XMP % orientation))


@pytest.mark.parametrize("orientation", range(10))
def test_orientations_of_png(png: ctypes.CDLL, orientation: int) -> None:
    check(png, encode(NOISE, "PNG", exif=exif(orientation)))
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", (XMP % orientation).decode())
    check(png, encode(NOISE, "PNG", pnginfo=info))


MODES = {
    "RGB": NOISE, "RGBA": Image.fromarray(noisy(40, 31, 4)), "L": NOISE.convert("L"),
    "LA": Image.fromarray(noisy(40, 31, 2)),
    "1": NOISE.convert("1"), "P": NOISE.convert("P", palette=Image.Palette.ADAPTIVE, colors=200),
    "P, 4 bits": NOISE.convert("P", palette=Image.Palette.ADAPTIVE, colors=13),
    "P, 2 bits": NOISE.convert("P", palette=Image.Palette.ADAPTIVE, colors=4),
    "P, 1 bit": NOISE.convert("P", palette=Image.Palette.ADAPTIVE, colors=2),
    "opaque RGBA": NOISE.convert("RGBA"),
    "I;16": Image.fromarray(np.random.default_rng(1).integers(0, 65536, (31, 40), np.uint16)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODES)
def test_png(png: ctypes.CDLL, name: str) -> None:
    check(png, encode(MODES[name], "PNG"))


def chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def png_of(depth: int, colour: int, rows: np.ndarray, *more: bytes) -> bytes:
    """Return a PNG of rows of bytes [H,n], which are big-endian samples."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] * depth // 8
    header = (rows.shape[1] // samples).to_bytes(4, "big") + len(rows).to_bytes(4, "big")
    packed = zlib.compress(np.concatenate([np.zeros((len(rows), 1), np.uint8), rows], 1).tobytes())
    chunks = [
        chunk(b"IHDR", header + bytes([depth, colour, 0, 0, 0])),
        *more,
        chunk(b"IDAT", packed),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_png_of_sixteen_bits(png: ctypes.CDLL, colour: int) -> None:
    samples = {2: 3, 4: 2, 6: 4}[colour]
    rows = np.random.default_rng(colour).integers(0, 256, (20, 24 * samples * 2), np.uint8)
    check(png, png_of(16, colour, rows))


def test_png_with_one_transparent_colour(png: ctypes.CDLL) -> None:
    rows = np.random.default_rng(0).integers(0, 3, (20, 24 * 3), np.uint8)
    check(png, png_of(8, 2, rows, chunk(b"tRNS", bytes([0, 1, 0, 2, 0, 0]))))
    check(png, png_of(8, 0, rows[:, :24], chunk(b"tRNS", bytes([0, 1]))))
    wide = png_of(16, 2, np.tile(rows, 2), chunk(b"tRNS", bytes(6)))
    assert decoded(png, wide)[0] == UNSUPPORTED


def test_an_interlaced_png(png: ctypes.CDLL) -> None:
    # Adam7 with one row a pass would take an encoder; a picture of one colour is the same in any order.
    rows = np.full((64, 64 * 3), 90, np.uint8)
    data = bytearray(png_of(8, 2, rows))
    passes = [(8, 8), (8, 8), (16, 8), (16, 16), (32, 16), (32, 32), (64, 32)]
    raw = b"".join((b"\0" + bytes([90]) * 3 * wide) * high for wide, high in passes)
    header = bytes(data[16:28]) + b"\1"
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    check(png, b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_an_animated_png(png: ctypes.CDLL) -> None:
    frames = [NOISE, NOISE.rotate(180)]
    assert decoded(png, encode(frames[0], "PNG", save_all=True, append_images=frames[1:]))[0] == ANIMATED
    assert decoded(png, encode(NOISE, "PNG", save_all=True))[0] == YES


def profiled(form: str) -> bytes:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return encode(NOISE, form, icc_profile=profile)


def test_profiles_are_told_of(lib: ctypes.CDLL, png: ctypes.CDLL, jpeg: ctypes.CDLL) -> None:
    for form in ("PNG", "JPEG"):
        ended, got, profile = decoded(lib, profiled(form))
        assert ended == YES and profile
        # One of sRGB changes nothing in Python either.
        assert np.array_equal(got, np.asarray(upright_picture(profiled(form))))


def test_files_that_are_refused(lib: ctypes.CDLL, png: ctypes.CDLL, jpeg: ctypes.CDLL) -> None:
    small, clear = Image.new("RGB", (15, 300)), Image.new("RGBA", (20, 20), (1, 2, 3, 0))
    for form in ("PNG", "JPEG"):
        assert decoded(lib, encode(small, form))[0] == SMALL
        data = encode(NOISE, form)
        for size in (4, 20, len(data) // 2, len(data) - 200):
            assert decoded(lib, data[:size])[0] == DAMAGED, (form, size)
            with pytest.raises(ImageError):
                upright_picture(data[:size])
    assert decoded(lib, encode(clear, "PNG"))[0] == TRANSPARENT
    assert decoded(lib, encode(NOISE.convert("CMYK"), "JPEG"))[0] == UNSUPPORTED
    assert decoded(lib, encode(NOISE, "BMP"))[0] == FOREIGN
    assert decoded(lib, b"")[0] == FOREIGN
    bomb = bytearray(png_of(8, 2, np.zeros((20, 60), np.uint8)))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    assert decoded(lib, bytes(bomb))[0] == LARGE


@given(st.data())
def test_damaged_files_never_do_more_than_fail(lib: ctypes.CDLL, data: st.DataObject) -> None:
    whole = bytearray(
        data.draw(st.sampled_from([encode(NOISE, "PNG", exif=exif(6)), encode(NOISE, "JPEG", exif=exif(6))]))
    )
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert YES <= decoded(lib, bytes(whole))[0] <= UNSUPPORTED
