"""Draw random views of synthetic heads as G-buffers, which say what is seen where before light and colour.

Geometry is drawn once, and `training.shading` lights and colours the same buffers several times.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, TypeAlias

import numpy as np

from topos_rt.head.normals import vertex_normals
from topos_rt.pictures.raster import rasterize
from training.heads import HeadModel

LANDMARKS = 128  # number of vertices whose place in the picture is kept
SIZE = 168  # pixels; shading resamples to the network's 128, which smooths the edges


class Material(IntEnum):
    """The label of a pixel."""

    BACKGROUND = 0
    SKIN = 1
    LIPS = 2
    BROWS = 3
    SCLERA = 4
    IRIS = 5
    PUPIL = 6
    HAIR = 7
    MOUTH = 8
    CLOTHES = 9
    BEARD = 10


# A portrait may show these facial actions; its target stays the neutral head.
_EXPRESSIONS = {
    "smile": ("mouthSmileLeft", "mouthSmileRight", "cheekSquintLeft", "cheekSquintRight"),
    "jaw": ("jawOpen",),
    "brows": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "frown": ("browDownLeft", "browDownRight"),
    "squint": ("eyeSquintLeft", "eyeSquintRight"),
    "blink": ("eyeBlinkLeft", "eyeBlinkRight"),
    "pucker": ("mouthPucker",),
}
_EXPRESSION_MAX = {
    "smile": 0.9, "jaw": 0.4, "brows": 0.6, "frown": 0.5, "squint": 0.7, "blink": 0.6, "pucker": 0.5,
}  # fmt: skip


Part: TypeAlias = tuple[np.ndarray, np.ndarray, Material]  # vertices [v,3], triangles [f,3], material


@dataclass(frozen=True)
class View:
    """A camera around the head, in degrees and metres, and the head's place in the square picture."""

    yaw: float
    pitch: float
    roll: float
    distance: float
    height: float  # height of the head as a share of the picture's
    shift: tuple[float, float]

    @classmethod
    def random(cls, rng: np.random.Generator) -> View:
        """Draw a mostly frontal view at a portrait's distance, whose head fills 62 to 92 % of the height."""
        height = rng.uniform(0.62, 0.92)
        room = (1 - height) / 3 + 0.02
        return cls(
            yaw=float(np.clip(rng.normal(0, 14), -32, 32)),
            pitch=float(np.clip(rng.normal(0, 5), -14, 14)),
            roll=float(np.clip(rng.normal(0, 3), -10, 10)),
            distance=float(rng.uniform(0.6, 2.5)),
            height=height,
            shift=(float(rng.uniform(-room, room)), float(rng.uniform(-room, room))),
        )


class GBuffer(NamedTuple):
    """The buffers of one view, S pixels square. `Painter.draw_views` stacks several along a first axis."""

    normals: np.ndarray  # [S,S,3] int8, camera space, 127 is 1
    materials: np.ndarray  # [S,S] uint8
    landmarks: np.ndarray  # [LANDMARKS,2] float16, x right, y down, -1..1 in the picture; hidden ones too


class Painter:
    """Draws the heads of one head model as G-buffers."""

    def __init__(self, model: HeadModel) -> None:
        self.model = model
        self.triangles = model.topology.triangles
        template = centred(model.template)
        self._lips = np.isin(np.arange(len(template)), model.topology.regions["lips"]).astype(np.float32)
        self._tongue = model.bone_weight("tongue")
        # Brows are a band 9 to 18 mm above the eyes, open over the nose, where the brow bones move the skin.
        band = 1 - np.abs(template[:, 1] - 0.0275) / 0.006
        apart = np.clip((np.abs(template[:, 0]) - 0.009) / 0.004, 0, 1)
        self._brows = np.clip(model.bone_weight("oculi01") / 0.25, 0, 1) * np.clip(2 * band, 0, 1) * apart
        # The scalp lies above a plane from the top of the forehead to the nape; the ears stay outside.
        scalp = (template[:, 1] - 0.035 - 0.9 * (template[:, 2] - 0.02)) / 0.02
        scalp[np.abs(template[:, 0]) > 0.078] = 0
        self._scalp = np.clip(scalp, 0, 1)
        self._scalp_triangles = self.triangles[(self._scalp[self.triangles] > 0).all(1)]
        low, ahead = (-0.03 - template[:, 1]) / 0.015, (template[:, 2] - 0.02) / 0.02
        self._beard = np.clip(low, 0, 1) * np.clip(ahead, 0, 1)
        self._eyes = [np.flatnonzero(model.bone_weight(name) > 0.5) for name in ("eye.L", "eye.R")]
        self._is_eye = np.isin(np.arange(len(template)), np.concatenate(self._eyes))
        self._is_mouth = self._tongue > 0.5
        self.landmarks = _spread_out(template, np.flatnonzero(~self._is_eye & ~self._is_mouth), LANDMARKS)

    def with_expression(self, head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the head [V,3] with up to three facial actions in six of ten cases, else as it is."""
        if rng.random() < 0.4:
            return head
        out = head.copy()
        for name in rng.choice(list(_EXPRESSIONS), rng.integers(1, 4), replace=False):
            amount = rng.uniform(0.1, _EXPRESSION_MAX[name])
            for action in _EXPRESSIONS[name]:
                delta = self.model.action_deltas[self.model.action_names.index(action)]
                out += amount * rng.uniform(0.8, 1.2) * delta
        return out

    def draw_views(self, heads: np.ndarray, views: int, rng: np.random.Generator) -> GBuffer:
        """Draw `views` random views of each head [n,V,3], and stack them: n*views rows in every array."""
        drawn = [
            self.draw(self.with_expression(head, rng), View.random(rng), rng)
            for head in heads
            for _ in range(views)
        ]
        return GBuffer(*(np.stack(arrays) for arrays in zip(*drawn, strict=True)))

    def draw(self, head: np.ndarray, view: View, rng: np.random.Generator) -> GBuffer:
        """Draw what the camera sees of a head [V,3] in metres."""
        head = centred(head)
        parts = [(head, self.triangles, Material.SKIN)]
        parts += self._hair(head, rng) if rng.random() < 0.85 else []
        parts += [_torso(head, rng)] if rng.random() < 0.8 else []
        offsets = np.cumsum([0] + [len(v) for v, _, _ in parts])
        vertices = np.concatenate([v for v, _, _ in parts])
        triangles = np.concatenate([t + o for (_, t, _), o in zip(parts, offsets, strict=False)])
        owner = np.repeat([m for *_, m in parts], [len(t) for _, t, _ in parts]).astype(np.uint8)
        rotation = _rotation(view)
        turned = vertices @ rotation.T
        screen = _project(turned, len(head), view)
        ids, barycentric = rasterize(screen, triangles, SIZE, SIZE)
        normals = np.concatenate([vertex_normals(v, t) for v, t, _ in parts]) @ rotation.T
        hit = ids >= 0
        corners, weights = triangles[ids[hit]], barycentric[hit][..., None]
        normal = np.zeros((SIZE, SIZE, 3), np.int8)
        smooth = (normals[corners] * weights).sum(1)
        length = np.linalg.norm(smooth, axis=1, keepdims=True).clip(1e-6)
        normal[hit] = np.round(127 * smooth / length).astype(np.int8)
        material = np.zeros((SIZE, SIZE), np.uint8)
        material[hit] = owner[ids[hit]]
        skin = material == Material.SKIN
        own = owner[ids[hit]] == Material.SKIN
        material[skin] = self._skin_materials(head, corners[own], weights[own], rng)
        landmarks = (screen[self.landmarks, :2] / (SIZE / 2) - 1).astype(np.float16)
        return GBuffer(normal, material, landmarks)

    def _skin_materials(
        self, head: np.ndarray, corners: np.ndarray, weights: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        def at(field: np.ndarray) -> np.ndarray:
            return (field[corners] * weights[..., 0]).sum(1)

        out = np.full(len(corners), Material.SKIN, np.uint8)
        out[at(self._beard) > rng.uniform(0.2, 0.9)] = Material.BEARD
        out[at(self._brows) > rng.uniform(0.2, 0.6)] = Material.BROWS
        out[at(self._lips) > rng.uniform(0.3, 0.6)] = Material.LIPS
        out[self._is_mouth[corners].all(1)] = Material.MOUTH
        gaze = np.array([rng.normal(0, 0.15), rng.normal(0, 0.08), 1.0])
        point = (head[corners] * weights).sum(1)
        for ids in self._eyes:
            inside = np.isin(corners[:, 0], ids)
            centre = (head[ids].min(0) + head[ids].max(0)) / 2
            centre[2] = head[ids, 2].max() - (np.ptp(head[ids, 0]) / 2)
            direction = point[inside] - centre
            cosine = direction @ gaze / (np.linalg.norm(direction, axis=1) * np.linalg.norm(gaze)).clip(1e-9)
            rings = [cosine > 0.975, cosine > 0.89]
            out[inside] = np.select(rings, [Material.PUPIL, Material.IRIS], Material.SCLERA)
        return out

    def _hair(self, head: np.ndarray, rng: np.random.Generator) -> list[Part]:
        """Make a shell over the scalp and, at times, a curtain behind the face: hair hides the skull."""
        thickness = rng.choice([0.003, rng.uniform(0.005, 0.05)], p=[0.25, 0.75])
        phase, frequency = rng.uniform(0, 6.3, 3), rng.normal(0, 25, (3, 3))
        bumps = 1 + 0.25 * np.sin(head @ frequency + phase).sum(1)
        shell = head + vertex_normals(head, self.triangles) * (self._scalp * thickness * bumps)[:, None]
        parts = [(shell, self._scalp_triangles, Material.HAIR)]
        if rng.random() < 0.45:
            parts.append(_curtain(head, rng))
        return parts


def _spread_out(points: np.ndarray, candidates: np.ndarray, count: int) -> np.ndarray:
    """Choose `count` candidate ids, each the farthest from all that were chosen before it."""
    chosen = [int(candidates[0])]
    nearest = np.linalg.norm(points[candidates] - points[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(candidates[nearest.argmax()]))
        nearest = np.minimum(nearest, np.linalg.norm(points[candidates] - points[chosen[-1]], axis=1))
    return np.array(chosen)


def centred(points: np.ndarray) -> np.ndarray:
    """Move points [V,3] so that the middle of their bounding box is the origin."""
    return points - (points.min(0) + points.max(0)) / 2


def _grid(rows: int, columns: int) -> np.ndarray:
    """Return the triangles of a [rows, columns] grid of vertices, each with both orientations."""
    base = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    front = np.concatenate(
        [
            np.stack([base, base + 1, base + columns], 1),
            np.stack([base + 1, base + columns + 1, base + columns], 1),
        ]
    )
    return np.concatenate([front, front[:, ::-1]])


def _curtain(head: np.ndarray, rng: np.random.Generator) -> Part:
    """Make long hair: a wavy band around the back and sides of the head, open to the front."""
    open_angle = rng.uniform(0.9, 1.5)
    angle = np.linspace(open_angle, 2 * np.pi - open_angle, 40)
    top, bottom = rng.uniform(0.03, 0.08), -rng.uniform(0.05, 0.22)
    y = np.linspace(top, bottom, 16)[:, None]
    width = np.abs(head[:, 0]).max() * rng.uniform(0.95, 1.35)
    waves = 0.06 * np.sin(angle * rng.integers(4, 12) + rng.uniform(0, 6))
    radius = width * (1 + waves + 0.35 * rng.random() * (top - y))
    x, z = radius * np.sin(angle), radius * np.cos(angle) - 0.02
    points = np.stack([x, np.broadcast_to(y, x.shape), z], -1).reshape(-1, 3)
    return points.astype(np.float32), _grid(16, 40), Material.HAIR


def _torso(head: np.ndarray, rng: np.random.Generator) -> Part:
    """Make shoulders: an ellipsoid below the neck."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, 14), np.linspace(0, 2 * np.pi, 28), indexing="ij")
    radii = np.array([rng.uniform(0.16, 0.26), rng.uniform(0.10, 0.16), rng.uniform(0.09, 0.15)])
    centre = np.array([0, head[:, 1].min() - radii[1] + rng.uniform(0.0, 0.04), rng.uniform(-0.06, -0.01)])
    ball = np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), np.sin(theta) * np.sin(phi)], -1)
    return (ball.reshape(-1, 3) * radii + centre).astype(np.float32), _grid(14, 28), Material.CLOTHES


def _rotation(view: View) -> np.ndarray:
    (cy, cp, cr), (sy, sp, sr) = (f(np.deg2rad([view.yaw, view.pitch, view.roll])) for f in (np.cos, np.sin))
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return roll @ pitch @ yaw


def _project(turned: np.ndarray, head_vertices: int, view: View) -> np.ndarray:
    """Project so that the head itself, the first `head_vertices`, has the view's height and place."""
    depth = view.distance - turned[:, 2]
    x, y = turned[:, 0] / depth, -turned[:, 1] / depth
    top, bottom = y[:head_vertices].min(), y[:head_vertices].max()
    left, right = x[:head_vertices].min(), x[:head_vertices].max()
    scale = view.height * SIZE / (bottom - top)
    return np.stack(
        [
            (x - (left + right) / 2) * scale + SIZE * (0.5 + view.shift[0]),
            (y - (top + bottom) / 2) * scale + SIZE * (0.5 + view.shift[1]),
            depth,
        ],
        1,
    )
