"""The reader of pictures: only this module knows about colour, alpha, orientation and image formats.

Every picture becomes 8-bit RGB or RGBA in sRGB first and is resized as in the TOPOS release: RGB with
Lanczos; RGBA bilinearly, then multiplied by alpha, which puts it on black. RGBA that is opaque counts as RGB.
ImageNet's mean and deviation are applied inside the image encoder's graph.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from topos_rt.errors import ImageError
from topos_rt.pictures.colour import orientation, to_srgb
from topos_rt.pictures.sources import MAX_PIXELS, MIN_SIDE, READABLE, ImageSource, describe, open_source
from topos_rt.support.pixels import DECODER_ERRORS

# Only formats that Pillow decodes itself: its EPS reader, for one, starts Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_TIFF = (b"II*\0", b"MM\0*")
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8", *_TIFF)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(source: ImageSource, height: int, width: int) -> np.ndarray:
    """Read a portrait and resize it to what the image encoder expects.

    Colours of an ICC profile become sRGB, and the orientation that EXIF or XMP tells is applied. Then the
    picture is cropped to its largest centred part with the aspect ratio of the result (a square when height =
    width).

    Args:
        source: a path; the bytes of a file; an open binary file, which is read from where it stands to its
            end; a Pillow image; or an array [H,W,3] (RGB) or [H,W,4] (RGBA), uint8 in 0..255, float32 or
            float64 in 0..1.
        height, width: size of the result, pixels.

    Returns:
        [1,3,height,width] float32, RGB in 0..1.

    Raises:
        ImageError: the source is missing, empty, damaged, not a picture, animated, fully transparent, smaller
            than 16 pixels on a side, larger than 64 megapixels (found before decoding), a file that cannot be
            read or is larger than `MAX_BYTES`, a URL, or an array of another type, shape or range.
    """
    return pixels_of(upright_picture(source), height, width)


def read_picture(source: ImageSource) -> Image.Image:
    """Return the upright picture as 8-bit RGB, on black where it is transparent.

    Arguments and errors are those of `load_image`.
    """
    return on_black(upright_picture(source))


def on_black(picture: Image.Image) -> Image.Image:
    """Return an RGB or RGBA picture as RGB, on black where it is transparent."""
    if picture.mode != "RGBA":
        return picture
    black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, picture).convert("RGB")


def upright_picture(source: ImageSource) -> Image.Image:
    """Return the upright picture as 8-bit RGB or RGBA. Arguments and errors are those of `load_image`."""
    name = describe(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    with _quiet():
        if isinstance(source, Image.Image):
            return _decode(source, name)
        with open_source(source, name) as file, _open_image(file, name) as opened:
            return _decode(opened, name)


def check_image(source: str | os.PathLike[str] | bytes) -> None:
    """Check from its header alone that `load_image` would take the picture at a path, or of some bytes.

    Damage after the header goes unnoticed. Raises ImageError as `load_image` does.
    """
    name = describe(source)
    with _quiet(), open_source(source, name) as file, _open_image(file, name) as opened:
        _check_header(opened, name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow's warnings about broken metadata from the user: what matters becomes our own error.

    Filters belong to the process before Python 3.14. At worst, threads that leave in another order than they
    came leave this one filter behind, which hides nothing but Pillow's.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _open_image(file: IO[bytes], name: str) -> Image.Image:
    """Open the picture in `file`; only its header is read."""
    start = file.read(4)
    file.seek(0)
    try:
        return Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise _too_large(name, f"more than {limit // 2**20} megapixels") from error
    except DECODER_ERRORS as error:
        if isinstance(error, UnidentifiedImageError) and start.startswith(_TIFF):
            raise ImageError(
                f"cannot use the image {name}",
                got="a TIFF that is damaged or of a kind that is not read, such as colours in floating point",
                expected="a TIFF of 8 or 16 bits a channel",
                fix="save it with 8 or 16 bits a channel",
            ) from error
        if isinstance(error, UnidentifiedImageError) and not start.startswith(_SIGNATURES):
            raise ImageError(
                f"cannot use the image {name}",
                got="a file that is not a picture, or of a kind that is not read",
                expected=READABLE,
                fix="convert it to JPEG or PNG",
            ) from error
        raise _damaged(name, error) from error


def _check_header(image: Image.Image, name: str) -> None:
    _check_size(image.width, image.height, name)
    try:
        # MPO is a phone's JPEG with a depth map or a second view after the photograph itself. The number of
        # frames is not asked for: Pillow reads a whole GIF to count them.
        several = getattr(image, "is_animated", False) and image.format != "MPO"
    except DECODER_ERRORS as error:
        raise _damaged(name, error) from error
    if several:
        raise ImageError(
            f"cannot use the image {name}",
            got="an animation or a stack of several frames",
            expected="one still picture",
            fix="save one frame as PNG or JPEG",
        )


def _decode(image: Image.Image, name: str) -> Image.Image:
    """Return the upright 8-bit RGB or RGBA picture; the size is checked before any pixel is decoded."""
    _check_header(image, name)
    try:
        image.load()
        if image.mode in ("P", "PA") and image.palette is None:
            raise _damaged(name, ValueError("no palette"))  # old releases of Pillow find out later, and badly
        turn, form, profile = _UPRIGHT.get(orientation(image)), image.format, image.info.get("icc_profile")
        image = _to_eight_bits(image, name, profile)
        if form == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox():
            image = image.convert("RGB")  # the fourth byte of such a pixel is not used
        image = _checked_alpha(image, name)
        image = image if turn is None else image.transpose(turn)
        if image.info:  # what it says of orientation and colours is done, and must not be done again
            image = image.copy()
            image.info = {}
        return image
    except ImageError:
        raise
    except DECODER_ERRORS as error:
        raise _damaged(name, error) from error


def _checked_alpha(image: Image.Image, name: str) -> Image.Image:
    """Return an opaque picture as RGB, so that its alpha changes nothing. Refuse one that shows nothing."""
    if image.mode != "RGBA":
        return image
    low, high = image.getchannel("A").getextrema()
    if high == 0:
        raise ImageError(
            f"cannot use the image {name}",
            got="a picture that is fully transparent",
            expected="a portrait that can be seen",
            fix="remove its alpha channel",
        )
    return image.convert("RGB") if low == 255 else image


def _to_eight_bits(image: Image.Image, name: str, profile: object) -> Image.Image:
    if image.mode in ("RGB", "RGBA") and "transparency" not in image.info:
        return to_srgb(image, profile)
    if image.mode == "F" or image.mode.startswith("I"):
        return _grey_eight_bits(image, name).convert("RGB")
    try:
        if image.mode in ("L", "LA", "CMYK") and "transparency" not in image.info:
            image = to_srgb(image, profile)
            return image if image.mode == "RGBA" else image.convert("RGBA" if image.mode == "LA" else "RGB")
        return to_srgb(image.convert("RGBA" if image.has_transparency_data else "RGB"), profile)
    except ValueError as error:
        raise ImageError(
            f"cannot use the image {name}",
            got=f"colour mode {image.mode}",
            expected="a grey, RGB, palette or CMYK picture",
            fix="save it as RGB",
        ) from error


def _grey_eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Convert 16-bit and floating-point grey, which Pillow's own conversion would clip instead of scaling."""
    values = np.asarray(image)
    if image.mode == "F":
        return Image.fromarray(_unit_to_eight_bits(values, name))
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(
            f"cannot use the image {name}",
            got=f"32-bit grey values from {values.min()} to {values.max()}",
            expected="values within 0..65535",
            fix="save it with 8 or 16 bits a channel",
        )
    return Image.fromarray(np.rint(values / 257.0).astype(np.uint8))


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.ndim != 3 or array.shape[2] not in (3, 4):
        raise ImageError(
            f"cannot use the image {name}",
            got=f"an array of shape {list(array.shape)}",
            expected="shape [H,W,3] (RGB) or [H,W,4] (RGBA)",
        )
    if array.dtype not in (np.uint8, np.float32, np.float64):
        raise ImageError(
            f"cannot use the image {name}",
            got=f"an array of dtype {array.dtype}",
            expected="uint8 in 0..255, or float32 or float64 in 0..1",
        )
    _check_size(array.shape[1], array.shape[0], name)
    if array.dtype != np.uint8:
        array = _unit_to_eight_bits(array, name)
    return _checked_alpha(Image.fromarray(np.ascontiguousarray(array)), name)


def _unit_to_eight_bits(values: np.ndarray, name: str) -> np.ndarray:
    """Convert values in 0..1 to uint8. A resampler's slight overshoot is clipped; more is a wrong scale."""
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise ImageError(
            f"cannot use the image {name}", got=f"{bad} NaN or infinite values", expected="finite values"
        )
    low, high = float(values.min()), float(values.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise ImageError(
            f"cannot use the image {name}",
            got=f"floating-point values from {low:g} to {high:g}",
            expected="values within 0..1",
            fix="divide by 255, or pass uint8",
        )
    eight: np.ndarray = np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
    return eight


def pixels_of(image: Image.Image, height: int, width: int) -> np.ndarray:
    """Return the centred part of an RGB or RGBA picture with the aspect ratio of the result, resized.

    The result is [1,3,height,width] float32, RGB in 0..1.
    """
    wide = min(image.width, max(1, image.height * width // height))
    high = min(image.height, max(1, image.width * height // width))
    left, top = (image.width - wide) // 2, (image.height - high) // 2
    box = (left, top, left + wide, top + high)
    filtering = Image.Resampling.BILINEAR if image.mode == "RGBA" else Image.Resampling.LANCZOS
    # The crop comes first: resize(box=…) would let the filter see beyond the box.
    resized = image.crop(box).resize((width, height), filtering)
    pixels = np.asarray(resized, dtype=np.float32) / np.float32(255)
    if image.mode == "RGBA":
        pixels = pixels[..., :3] * pixels[..., 3:]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def fitted_pixels(image: Image.Image, height: int, width: int) -> np.ndarray:
    """Return the centred part, height x width, of an RGB picture as [1,3,height,width] float32 in 0..1."""
    left, top = (image.width - width) // 2, (image.height - height) // 2
    part = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(part, np.float32) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def _check_size(width: int, height: int, name: str) -> None:
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"cannot use the image {name}",
            got=f"{width} × {height} pixels",
            expected=f"at least {MIN_SIDE} on each side",
            fix="use a larger picture; 256 × 256 or more is best",
        )
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width} × {height} pixels")


def _too_large(name: str, got: str) -> ImageError:
    return ImageError(
        f"cannot use the image {name}",
        got=got,
        expected=f"at most {MAX_PIXELS // 2**20} megapixels",
        fix="scale the picture down",
    )


def _damaged(name: str, error: BaseException) -> ImageError:
    told = isinstance(error, OSError) and not isinstance(error, UnidentifiedImageError) and str(error)
    return ImageError(
        f"cannot use the image {name}",
        got=f"a damaged or truncated file ({error})" if told else "a damaged or truncated file",
        expected=READABLE,
        fix="save or download it again",
    )
