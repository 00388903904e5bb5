"""Portraits whose skin and light are known: the base material in another tone, freckled, under lights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image

from topos_rt.faces.camera import Camera
from topos_rt.faces.face import Face
from topos_rt.faces.fit import HeadFitter
from topos_rt.faces.portrait import Portrait
from topos_rt.faces.pose import Placement, rotation
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.rig_fit import fit_rig
from topos_rt.model.bundle import Bundle
from topos_rt.pictures.colour import LINEAR, to_srgb_bytes
from topos_rt.pictures.raster import rasterize
from topos_rt.texture.plan import Plan
from topos_rt.texture.white import SKIN

TONES = {
    "light": (0.58, 0.36, 0.27), "medium": (0.46, 0.265, 0.185), "tan": (0.36, 0.19, 0.12),
    "brown": (0.22, 0.11, 0.07), "dark": (0.14, 0.065, 0.042),
}  # fmt: skip


Light: TypeAlias = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Lamp:
    """Ambient light, and a key light from a direction in the camera's axes; colours are linear."""

    ambient: tuple[float, float, float]
    towards: tuple[float, float, float]
    key: tuple[float, float, float]

    def __call__(self, normals: np.ndarray) -> np.ndarray:
        """Return the light [n,3] on surfaces with normals [n,3]."""
        towards = np.array(self.towards) / np.linalg.norm(self.towards)
        lit: np.ndarray = np.array(self.ambient) + np.maximum(normals @ towards, 0)[:, None] * np.array(
            self.key
        )
        return lit


LAMPS = {
    "flat": Lamp((0.75,) * 3, (0, 0, 1), (0.2,) * 3),
    "key": Lamp((0.35,) * 3, (-0.6, 0.5, 0.6), (0.9,) * 3),
    "side": Lamp((0.20,) * 3, (-1, 0.15, 0.3), (1.2,) * 3),
    "warm key": Lamp((0.315, 0.35, 0.40), (-0.6, 0.5, 0.6), (1.035, 0.855, 0.675)),
}
_DISTANCE_M, _BACKDROP, _NOISE, _LANDMARK_PX = 1.2, 0.18, 0.008, 0.8
_FRECKLES = 160


@dataclass(frozen=True, eq=False)
class Sample:
    """A portrait of which the truth is known."""

    portrait: Portrait
    head: HeadMesh  # with the pose that was fitted to the portrait
    albedo: np.ndarray  # [S,S,3] linear


def mean_head(bundle: Bundle) -> HeadMesh:
    """Return the head that the bundle's hierarchy was built on, in metres, with its rig."""
    frame = bundle.manifest.frame
    positions = bundle.hierarchy.levels[0].features[:, :3] @ frame.rotation.T * np.float32(frame.radius_m)
    rig = None if bundle.rig is None else fit_rig(bundle.rig, positions)
    return HeadMesh(positions, vertex_normals(positions, bundle.topology.triangles), bundle.topology, rig)


def skin(plan: Plan, tone: tuple[float, float, float], seed: int) -> np.ndarray:
    """Return an albedo [S,S,3]: the base material in a tone, with freckles and blotches."""
    rng, side = np.random.default_rng(seed), plan.side
    albedo = plan.base * (np.array(tone) / np.array(SKIN)).astype(np.float32)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    freckles = np.zeros((side, side), np.float32)
    for _ in range(_FRECKLES):
        u, v, radius = rng.uniform(0.3, 0.7), rng.uniform(0.28, 0.7), rng.uniform(0.002, 0.005)
        spot = np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * radius**2)) * rng.uniform(0.2, 0.5)
        freckles = np.maximum(freckles, spot)
    shades: np.ndarray = albedo * (1 - freckles[..., None] * np.array([0.35, 0.5, 0.6], np.float32))
    return shades


def draw(
    bundle: Bundle, head: HeadMesh, albedo: np.ndarray, lamp: Lamp, yaw: float = 0.0, size: int = 512
) -> Sample:
    """Draw a portrait of a neutral head, and fit the head's camera to its noisy landmarks."""
    atlas, points = bundle.atlas, bundle.landmarks
    assert atlas is not None and points is not None
    rng = np.random.default_rng(11)
    turn = rotation(yaw, 0, 0)
    middle = (head.positions.min(0) + head.positions.max(0)) / 2
    shift = np.array([0, 0, -_DISTANCE_M]) - turn @ middle
    camera = Camera(turn, shift, size * _DISTANCE_M / 0.30, (size / 2, size / 2))
    pixels = shaded(head, atlas.uvs, albedo, camera, lamp, (size, size))[0]
    pixels = np.clip(to_srgb_bytes(pixels) / 255 + rng.normal(0, _NOISE, pixels.shape), 0, 1)
    picture = Image.fromarray((pixels * 255 + 0.5).astype(np.uint8))
    found = np.zeros((478, 3), np.float32)
    found[:468, :2] = camera.project(points.points(head.positions))
    for start, vertex in zip((468, 473), points.irises, strict=True):
        centre = camera.project(head.positions[vertex])
        radius = size * 0.02
        ring = [[0, 0], [radius, 0], [0, -radius], [-radius, 0], [0, radius]]
        found[start : start + 5, :2] = centre + np.array(ring)
    found[:468, :2] += rng.normal(0, _LANDMARK_PX * size / 512, (468, 2))
    low, high = found[:, :2].min(0), found[:, :2].max(0)
    wide, tall = map(float, high - low)
    box = (float(low[0]), float(low[1]), wide, tall)
    face = Face(box, found, yaw, 0.0, 0.0, {}, 1.0, Placement(np.eye(3), 1.0, np.zeros(2)))
    fit = HeadFitter(head.positions, head.rig, points).fit(found, (size, size))
    posed = dataclasses.replace(head, pose=fit.pose, expression=fit.expression, face=face)
    return Sample(Portrait(picture, face, "auto"), posed, albedo)


def shaded(
    head: HeadMesh, uvs: np.ndarray, albedo: np.ndarray, camera: Camera, light: Light, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return a linear picture [h,w,3] of a head before a grey backdrop, and its coverage [h,w], 0 to 1.

    albedo: [S,S,3] linear. light: what to multiply it with, [n,3], at normals [n,3] in the camera's axes.
    size: (h, w). Each pixel is the mean of 2 x 2 samples.
    """
    side, (high, wide) = len(albedo), size
    depth = -(head.positions @ camera.turn.T + camera.shift)[:, 2]
    screen = np.concatenate([camera.project(head.positions) * 2, depth[:, None]], 1)
    triangle, weights = rasterize(screen, head.triangles, 2 * high, 2 * wide)
    hit = triangle >= 0
    at = np.einsum("nk,nkc->nc", weights[hit], uvs[head.topology.triangle_uvs[triangle[hit]]])
    column = np.clip((at[:, 0] * side).astype(int), 0, side - 1)
    row = np.clip(((1 - at[:, 1]) * side).astype(int), 0, side - 1)
    normals = np.einsum(
        "nk,nkc->nc", weights[hit], (head.normals @ camera.turn.T)[head.triangles[triangle[hit]]]
    )
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    linear = np.full((2 * high, 2 * wide, 3), _BACKDROP)
    linear[hit] = albedo[row, column] * light(normals)
    shown: np.ndarray = linear.reshape(high, 2, wide, 2, 3).mean((1, 3)).clip(0, 1)
    return shown, hit.reshape(high, 2, wide, 2).mean((1, 3))


def errors(plan: Plan, atlas_area: np.ndarray, made: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return how far an albedo [S,S,3] uint8 is from the truth [S,S,3] linear, on plain skin.

    "log_luminance_sd" is the deviation of the log ratio, which shading would raise. "delta_e" is the mean CIE
    1976 difference after the one gain that fits best, since nothing tells exposure from tone; "delta_e_raw"
    is that without the gain.
    """
    from skimage.color import rgb2lab

    area = np.kron(atlas_area, np.ones((plan.step, plan.step))) > 0.9
    found, true = LINEAR[made][area], truth[area]
    ratio = np.log(found.mean(1) + 1e-3) - np.log(true.mean(1) + 1e-3)
    gain = np.exp(-ratio.mean())

    def lab(linear: np.ndarray) -> np.ndarray:
        encoded = np.where(
            linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
        )
        return np.asarray(rgb2lab(np.clip(encoded, 0, 1)[None])[0])

    return {
        "log_luminance_sd": float(ratio.std()),
        "delta_e": float(np.linalg.norm(lab(found * gain) - lab(true), axis=1).mean()),
        "delta_e_raw": float(np.linalg.norm(lab(found) - lab(true), axis=1).mean()),
    }
