"""Pictures of heads, drawn without a display: the head turns, the camera and the studio lights are fixed.

The camera is an 85 mm lens on an upright 24 x 36 mm frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np

from topos_rt.errors import OptionError
from topos_rt.head.mesh import HeadMesh
from topos_rt.pictures.raster import rasterize
from topos_rt.pictures.shading import LIGHTS, Light, Sitter, TurnedSitter

VIEWS = ((0.0, 0.0), (-38.0, 0.0), (-90.0, 0.0))  # yaw and pitch in degrees: front, three-quarter, profile
_TANGENT = 18.0 / 85.0  # of half the vertical angle of view
_FILL = 0.84  # fraction of the picture's height, or a little more of its width, that the head fills
_COMPRESSION = 4  # of PNG: files are 6 % larger than by Pillow's default, 6, and take half the time
_SAMPLES = 2  # per pixel, along each axis
_ONE_SURFACE = 0.005  # samples of a pixel whose depths differ by less lie on one surface; half a head is 1


def render_preview(head: HeadMesh, size: int = 640, beside: np.ndarray | None = None) -> bytes:
    """Return front, three-quarter and profile views side by side, as the bytes of a PNG.

    size: height in pixels; the picture is 2.4 times as wide. The same head gives the same picture, and the
    head's metadata (how it was made, the note on the weights) goes into the file as text.
    beside: [size,width,3] uint8, a picture to the left of the views, such as the portrait.
    Raises OptionError for a size out of range, or a picture of another height.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    _check_size(size, size)
    if beside is not None and (
        beside.shape[0] != size or beside.shape[2:] != (3,) or beside.dtype != np.uint8
    ):
        got = f"{beside.dtype} {list(beside.shape)}"
        raise OptionError("the picture beside a preview", got=got, expected=f"uint8 [{size},width,3]")
    sitter, width = Sitter.of(head), round(size * 0.8)
    views = [_render(sitter, turn, size, width) for turn in VIEWS]
    file = BytesIO()
    about = PngInfo()
    for key, value in head.metadata.items():
        about.add_text(f"topos_rt.{key}", str(value))
    drawn = _develop(np.concatenate(views, axis=2))
    picture = Image.fromarray(drawn if beside is None else np.hstack([beside, drawn]))
    picture.save(file, "PNG", pnginfo=about, compress_level=_COMPRESSION)
    return file.getvalue()


def render_view(
    head: HeadMesh,
    yaw: float = 0.0,
    pitch: float = 0.0,
    size: int | tuple[int, int] = 512,
    lights: tuple[Light, ...] = LIGHTS,
) -> np.ndarray:
    """Return one view of a head: [height, width, 3] uint8, sRGB.

    yaw: degrees; positive turns the face to the right of the picture. pitch: degrees; positive lifts it.
    size: (height, width) in pixels, or one number for both. lights: in place of the studio's, one or more.
    Raises OptionError for a size out of range.
    """
    height, width = (size, size) if isinstance(size, int) else size
    _check_size(height, width)
    return _develop(_render(Sitter.of(head), (yaw, pitch), height, width, lights))


def _check_size(height: int, width: int) -> None:
    if not (16 <= height <= 4096 and 16 <= width <= 4096):
        raise OptionError("picture size", got=f"{height} x {width}", expected="16 to 4096 pixels each way")


def _render(
    sitter: Sitter,
    yaw_and_pitch: tuple[float, float],
    height: int,
    width: int,
    lights: tuple[Light, ...] = LIGHTS,
) -> np.ndarray:
    """Return the linear colour multiplied by its coverage, and the coverage: [4, height, width] float32."""
    frame = Frame.around(sitter, *yaw_and_pitch, height, width)
    camera = np.array([0, 0, frame.distance])
    triangle, weights, away = frame.drawn(sitter)
    picture = _resolve(TurnedSitter(sitter, frame.turn, camera, lights), triangle, weights, away)
    if sitter.parts is not None:
        parts = TurnedSitter(sitter.parts, frame.turn, camera, lights, two_sided=True)
        _lay_over(picture, parts, frame.drawn(sitter.parts, False), away)
    return picture


@dataclass(frozen=True, eq=False)
class Frame:
    """The camera of a picture, which looks at the middle of a head along -Z."""

    turn: np.ndarray  # [3,3] of the head, for row vectors
    unit: float  # samples for one unit of the sitter, at its middle
    distance: float  # from the middle, in units of the sitter
    height: int  # samples
    width: int

    @classmethod
    def around(cls, sitter: Sitter, yaw: float, pitch: float, height: int, width: int) -> Frame:
        """Return the frame that a head fills. Height and width are in pixels."""
        half_width, half_height, half_depth = np.maximum(np.abs(sitter.positions).max(0), 1e-6)
        unit = min(_FILL * height / half_height, 0.92 * width / max(half_width, half_depth)) / 2  # pixels
        # never so near that a flat mesh could reach the camera when it is turned
        distance = max(height / 2 / unit / _TANGENT, 3.0)
        return cls(_turn(yaw, pitch), _SAMPLES * unit, distance, _SAMPLES * height, _SAMPLES * width)

    def drawn(self, sitter: Sitter, cull: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the triangle of each sample, its weights in it, and how far away it is (else infinite)."""
        x, y, z = (sitter.positions @ self.turn).T
        zoom = self.unit * self.distance / (self.distance - z)
        screen = np.stack([self.width / 2 + x * zoom, self.height / 2 - y * zoom, self.distance - z], 1)
        triangle, weights = rasterize(screen, sitter.triangles, self.height, self.width, cull)
        away = np.full(triangle.shape, np.inf, np.float32)
        hit = triangle >= 0
        corners = screen[:, 2].astype(np.float32)[sitter.triangles[triangle[hit]]]
        away[hit] = np.einsum("nk,nk->n", corners, weights[hit])
        return triangle, weights, away


def _lay_over(
    picture: np.ndarray,
    surface: TurnedSitter,
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
    away: np.ndarray,
) -> None:
    """Lay what a surface shows before the head over a picture [4,H,W], sample by sample."""
    triangle, weights, nearer = drawn
    over = np.zeros_like(picture)
    for dy in range(_SAMPLES):
        for dx in range(_SAMPLES):
            part = np.s_[dy::_SAMPLES, dx::_SAMPLES]
            seen = nearer[part] < away[part]
            at = triangle[part][seen], weights[part][seen]
            share = surface.coverage(*at) / _SAMPLES**2
            over[:3, seen] += surface.shade(*at) * share
            over[3, seen] += share
    picture *= 1 - over[3]
    picture += over


def _turn(yaw: float, pitch: float) -> np.ndarray:
    """Return the rotation of row vectors by yaw about +Y, then pitch about +X: [3,3] float32."""
    a, b = np.radians(yaw), np.radians(-pitch)
    about_y = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    return (about_y @ about_x).astype(np.float32)


def _resolve(
    surface: TurnedSitter, triangle: np.ndarray, weights: np.ndarray, away: np.ndarray
) -> np.ndarray:
    """Shade a pixel once where its samples lie on one surface, elsewhere once per sample, and average."""
    parts = [np.s_[dy::_SAMPLES, dx::_SAMPLES] for dy in range(_SAMPLES) for dx in range(_SAMPLES)]
    nearest = np.minimum.reduce([away[part] for part in parts])
    farthest = np.maximum.reduce([away[part] for part in parts])
    whole = farthest < nearest + _ONE_SURFACE
    picture = np.zeros((4, *whole.shape), np.float32)
    picture[:3, whole] = surface.shade(triangle[parts[0]][whole], weights[parts[0]][whole])
    picture[3, whole] = 1
    for part in parts:
        seen = ~whole & (triangle[part] >= 0)
        picture[:3, seen] += surface.shade(triangle[part][seen], weights[part][seen]) / len(parts)
        picture[3, seen] += 1 / len(parts)
    return picture


def _backdrop(height: int, width: int) -> np.ndarray:
    """Return a paper roll with a glow behind the head: [3, height, width] float32, linear."""
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    tone = 0.030 + 0.14 * np.exp(-((x / 0.95) ** 2) - ((y - 0.45) / 0.55) ** 2)
    return np.array([0.96, 1.0, 1.05], np.float32)[:, None, None] * tone


def _develop(picture: np.ndarray) -> np.ndarray:
    """Tone-map a picture [4,H,W], composite it over the backdrop and encode it as sRGB: [H,W,3] uint8."""
    # the filmic curve of Narkowicz 2016
    light = picture[:3] * np.float32(0.8)
    colour = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    linear = colour + _backdrop(*picture.shape[1:]) * (1 - picture[3])
    steps = np.linspace(0, 1, 4096)
    srgb = np.where(steps <= 0.0031308, 12.92 * steps, 1.055 * steps ** (1 / 2.4) - 0.055)
    encoded = (srgb * 255 + 0.5).astype(np.uint8)[np.clip(linear * 4095 + 0.5, 0, 4095).astype(np.int16)]
    return np.ascontiguousarray(encoded.transpose(1, 2, 0))
