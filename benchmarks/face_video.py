"""Synthetic videos of a head with known expressions and pose, drawn with the runtime's own rasteriser.

Without textures the skin, brows, lips and eyes get plain colours, which is enough for the networks to see a
face. With the skins of MakeHuman, which are CC0 and no part of this project, faces look like those of people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from topos_rt.errors import InputError
from topos_rt.faces.pose import rotation
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.pose import posed_positions
from topos_rt.model.bundle import Bundle
from topos_rt.pictures.raster import rasterize
from topos_rt.pictures.shading import Sitter

FPS = 30.0
SIDE = 256
_SAMPLES = 2  # per pixel, along each axis
_DISTANCE = 0.8  # metres, of a webcam
_FILL = 0.72  # of the picture's side, that the head's height fills
_NOISE = 3.0  # of 255, standard deviation in each frame
_PERIODS = {"yaw": 7.3, "pitch": 5.1, "roll": 8.9, "x": 6.1, "y": 9.7, "zoom": 11.3}  # seconds
_REACH = {"yaw": 18.0, "pitch": 8.0, "roll": 7.0, "x": 0.07, "y": 0.04, "zoom": 0.12}
# Linear colours: of skin, brows, lips, mouth and lashes, of the white and the rings of the eye.
_SKIN, _BROWS = (0.62, 0.38, 0.27), (0.06, 0.035, 0.025)
_LIPS, _MOUTH = (0.42, 0.13, 0.11), (0.16, 0.04, 0.04)
_WHITE, _IRIS, _PUPIL = (0.72, 0.70, 0.68), (0.10, 0.055, 0.03), (0.008, 0.008, 0.008)
_RINGS = (0.20, 0.44)  # radii of pupil and iris, in those of the eyeball
_BACKDROP = (0.30, 0.33, 0.37)
_LIGHT = (0.35, 0.45, 0.82)


@dataclass(frozen=True)
class Moment:
    """What one frame shows. Angles are those of `topos_rt.faces.pose.rotation`, degrees."""

    time: float  # seconds
    shapes: Mapping[str, float] = field(default_factory=dict)
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    x: float = 0.0  # of the head's middle from that of the picture, in sides of the picture
    y: float = 0.0
    zoom: float = 1.0


def mean_head() -> HeadMesh:
    """Return the head that `mini`'s rig was made on."""
    bundle = Bundle.open("mini")
    assert bundle.rig is not None and bundle.rig.binding is not None
    positions = bundle.rig.binding.template
    normals = vertex_normals(positions, bundle.topology.triangles)
    return HeadMesh(positions, normals, bundle.topology, bundle.rig)


class Actor:
    """Draws a head that acts."""

    def __init__(self, head: HeadMesh, skin: Path | None = None, seed: int = 0) -> None:
        """skin: a picture in the UVs of `mini`, or None for plain colours. Raises InputError."""
        self._head, self._rng = head, np.random.default_rng(seed)
        self._triangles, self._topology = head.triangles, head.topology
        low, high = head.bounds
        self._middle, self._height = (low + high) / 2, float(high[1] - low[1])
        regions = self._topology.regions
        columns = [self._share(regions[name]) for name in ("lips", "tongue", "eyes")]
        columns += [self._brows(), self._share(self._upper_lids())]
        gaze = Sitter.of(head).gaze[: len(head.positions)]
        self._attributes = np.column_stack([*columns, gaze]).astype(np.float32)
        self._skin = None if skin is None else _read(skin)

    def draw(self, moment: Moment, side: int = SIDE) -> np.ndarray:
        """Return a frame [side,side,3] uint8."""
        assert self._head.rig is not None
        positions = posed_positions(self._head.positions, self._head.rig, moment.shapes, {})
        turn = rotation(moment.yaw, moment.pitch, moment.roll)
        turned = (positions - self._middle) @ turn.T
        away = _DISTANCE - turned[:, 2]
        dense = side * _SAMPLES
        zoom = _FILL * moment.zoom * dense * _DISTANCE / self._height / away
        centre = np.array([0.5 + moment.x, 0.5 + moment.y]) * dense
        screen = np.stack([centre[0] + turned[:, 0] * zoom, centre[1] - turned[:, 1] * zoom, away], 1)
        ids, weights = rasterize(screen, self._triangles, dense, dense)
        hit = ids >= 0
        normals = vertex_normals(positions.astype(np.float32), self._triangles) @ turn.T
        picture = np.tile(np.array(_BACKDROP, np.float32), (dense, dense, 1))
        picture[hit] = self._lit(ids[hit], weights[hit], normals)
        picture = picture.reshape(side, _SAMPLES, side, _SAMPLES, 3).mean((1, 3))
        noise = self._rng.standard_normal(picture.shape, np.float32) * np.float32(_NOISE)
        bytes_ = np.clip(picture, 0, 1) ** np.float32(1 / 2.2) * 255 + noise
        return np.clip(np.rint(bytes_), 0, 255).astype(np.uint8)

    def _lit(self, ids: np.ndarray, weights: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Return the linear colours [n,3] of points in triangles [n] with barycentric weights [n,3]."""
        data = np.concatenate([normals.astype(np.float32), self._attributes], 1)
        corners = self._triangles[ids]
        at = sum(data[corners[:, k]] * weights[:, k, None] for k in range(3))
        assert isinstance(at, np.ndarray)
        normal, (lips, tongue, eye, brows, lashes) = at[:, :3], at[:, 3:8].T
        normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-6)
        eyes = eye > 0.5
        colour = self._skin_colours(ids, weights, lips)
        dark = np.maximum(np.clip(brows * 1.5 - 0.3, 0, 0.85), np.clip(lashes * 2 - 1, 0, 0.8))
        colour += dark[:, None] * (np.array(_BROWS, np.float32) - colour)
        colour[tongue > 0.5] = _MOUTH
        radius = np.linalg.norm(at[eyes, 8:], axis=1)[:, None]
        colour[eyes] = np.select([radius < _RINGS[0], radius < _RINGS[1]], [_PUPIL, _IRIS], _WHITE)
        towards = np.array(_LIGHT, np.float32) / np.float32(np.linalg.norm(_LIGHT))
        light = 0.8 * np.maximum(normal @ towards, 0) + 0.32 + 0.12 * normal[:, 1]
        half = towards + np.array([0, 0, 1], np.float32)
        half /= np.linalg.norm(half)
        gleam = np.maximum(normal @ half, 0)
        gloss = 0.04 * gleam**20
        gloss[eyes] = 0.5 * gleam[eyes] ** 120
        result: np.ndarray = colour * light[:, None] + gloss[:, None]
        return result

    def _skin_colours(self, ids: np.ndarray, weights: np.ndarray, lips: np.ndarray) -> np.ndarray:
        if self._skin is None:
            colour = np.tile(np.array(_SKIN, np.float32), (len(ids), 1))
            return colour + np.clip(lips * 1.5, 0, 1)[:, None] * (np.array(_LIPS, np.float32) - colour)
        uvs = self._topology.uvs[self._topology.triangle_uvs[ids]]
        return _sample(self._skin, np.einsum("nkc,nk->nc", uvs, weights))

    def _brows(self) -> np.ndarray:
        """Return how much of a brow each vertex has: a band 2 to 3 cm above the head's middle."""
        across, up = (self._head.positions - self._middle)[:, :2].T
        band = np.clip(2 - 2 * np.abs(up - 0.0265) / 0.006, 0, 1)
        apart = np.clip((np.abs(across) - 0.009) / 0.004, 0, 1)
        inside = self._share(self._topology.regions["brows"])
        return inside * band * apart

    def _upper_lids(self) -> np.ndarray:
        """Return the vertices at the rims of the upper lids, which blinks bring down to the lower ones."""
        rig = self._head.rig
        assert rig is not None and rig.binding is not None
        pairs, offsets = rig.binding.contact_pairs, rig.binding.contact_offsets
        blinks = [n for n, name in enumerate(rig.shape_names) if name.startswith("eyeBlink")]
        lids = np.concatenate([pairs[offsets[n] : offsets[n + 1]] for n in blinks])
        heights = self._head.positions[lids, 1]
        rims: np.ndarray = np.unique(np.take_along_axis(lids, heights.argmax(1)[:, None], 1))
        return rims

    def _share(self, ids: np.ndarray) -> np.ndarray:
        share = np.zeros(len(self._head.positions))
        share[ids] = 1
        return share


def motion(time: float, amount: float = 1.0) -> dict[str, float]:
    """Return how the head is turned and placed at a time, moving all the while."""
    waves = {
        name: amount * _REACH[name] * float(np.sin(2 * np.pi * time / period + number))
        for number, (name, period) in enumerate(_PERIODS.items())
    }
    return waves | {"zoom": 1 + waves["zoom"]}


def acted(gestures: list[Mapping[str, float]], seconds: float, start: float = 0.0) -> Iterator[Moment]:
    """Yield the frames of gestures, one after the other; each rises to its weights and falls."""
    frames = round(seconds * FPS)
    for number, gesture in enumerate(gestures):
        for frame in range(frames):
            time = start + (number * frames + frame) / FPS
            rise = float(np.sin(np.pi * frame / frames) ** 2)
            shapes = {name: weight * rise for name, weight in gesture.items()}
            yield Moment(time, shapes, **motion(time))


def _read(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("RGB").resize((1024, 1024), Image.Resampling.BOX), np.float32)
    except OSError as error:
        raise InputError(
            f"skin {path}", got=error, expected="a picture in the UVs of mini", fix="name a file of skins/"
        ) from error
    linear: np.ndarray = (pixels / 255) ** 2.2
    return linear


def _sample(picture: np.ndarray, uvs: np.ndarray) -> np.ndarray:
    """Return the colours [n,3] at texture coordinates [n,2], of which v points up."""
    high, wide = picture.shape[:2]
    x = np.clip(uvs[:, 0] * wide - 0.5, 0, wide - 2)
    y = np.clip((1 - uvs[:, 1]) * high - 0.5, 0, high - 2)
    left, top = x.astype(np.int32), y.astype(np.int32)
    across, down = (x - left)[:, None], (y - top)[:, None]
    pixels, first = picture.reshape(-1, 3), top * wide + left
    upper = pixels[first] * (1 - across) + pixels[first + 1] * across
    lower = pixels[first + wide] * (1 - across) + pixels[first + wide + 1] * across
    result: np.ndarray = upper * (1 - down) + lower * down
    return result
