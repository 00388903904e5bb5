"""What is where on the body, as numbers at vertices: ambient occlusion, beard, lips, scalp and teeth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from training.heads import HeadModel
from training.pictures.assets import Garment
from training.pictures.body import Body
from training.pictures.raster import Array, Kind, Looks, Mesh, shadow_map, vertex_normals

_DIRECTIONS, _MAP = 160, 320
_LIFT = 0.0012  # metres that a vertex is lifted off its surface before it is tested
_TOOTH = 0.0068  # metres, the width of a tooth


@dataclass(frozen=True)
class Fields:
    """Numbers at the vertices of body [n] and eyes [e], float32, and the triangles of the head by kind."""

    occlusion: np.ndarray  # [n], 1 in the open
    eye_occlusion: np.ndarray  # [e]
    beard: np.ndarray  # [n], 1 where beards grow densest
    lips: np.ndarray  # [n]
    scalp: np.ndarray  # [n], 1 well inside the hairline
    below_neck: np.ndarray  # [n] metres below a collar round the base of the neck, negative above it
    teeth: np.ndarray  # [n,2]: the place along the arc in teeth; 0 at the gum, 1 at the edge
    skin_triangles: np.ndarray  # [t,3] int32 of the body's vertices
    skin_uvs: np.ndarray  # [t,3,2]
    mouth_triangles: np.ndarray
    mouth_uvs: np.ndarray
    mirror: np.ndarray  # [n] int32, the vertex on the other side

    @classmethod
    def of(cls, body: Body, head: HeadModel, eyes: Garment) -> Fields:
        """Work the fields out on the template."""
        triangles = body.head_ids[head.topology.triangles].astype(np.int32)
        uvs = head.topology.uvs[head.topology.triangle_uvs].reshape(-1, 3, 2).astype(np.float32)
        eyeballs = np.zeros(len(body.template), bool)
        eyeballs[body.head_ids[head.topology.regions["eyes"]]] = True
        ball = eyeballs[triangles].all(1)
        # charts of the mouth and the eye sockets lie at the rims of the atlas
        inner = (uvs[..., 1].max(1) < 0.15) | (uvs[..., 1].min(1) > 0.9) | (uvs[..., 0].max(1) < 0.2)
        skin, mouth = ~inner & ~ball, inner & ~ball
        t = body.template - _middle(body.template[body.head_ids])
        lips = np.zeros(len(t))
        lips[body.head_ids[head.topology.regions["lips"]]] = 1
        lips = 0.5 * lips + 0.5 * _spread(lips, triangles)
        scalp = np.clip((t[:, 1] - 0.026 - 0.9 * (t[:, 2] - 0.02)) / 0.02, 0, 1)
        # the ears, and the skin before them, stay free
        scalp = scalp * np.clip((0.076 - np.abs(t[:, 0])) / 0.006, 0, 1)
        return cls(
            *_occlusion(body, np.concatenate([triangles[~ball], body.triangles["torso"]]), eyes),
            _beard(t, lips),
            lips.astype(np.float32),
            scalp.astype(np.float32),
            _below_neck(t),
            _teeth(body),
            triangles[skin],
            uvs[skin],
            triangles[mouth],
            uvs[mouth],
            cKDTree(body.template).query(body.template * [-1, 1, 1])[1].astype(np.int32),
        )


def _middle(points: np.ndarray) -> np.ndarray:
    return (points.min(0) + points.max(0)) / 2


def _spread(field: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return the mean of a field [n] over the corners of the triangles around each vertex."""
    total, count = np.zeros(len(field)), np.zeros(len(field))
    for i in range(3):
        np.add.at(total, triangles[:, i], field[triangles].mean(1))
        np.add.at(count, triangles[:, i], 1)
    return total / np.maximum(count, 1)


def _beard(t: np.ndarray, lips: np.ndarray) -> np.ndarray:
    """Return where beards grow: below a line from the moustache to the ears, off the lips."""
    x, y, z = np.abs(t[:, 0]), t[:, 1], t[:, 2]
    moustache = np.clip((-0.044 - y) / 0.006, 0, 1) * np.clip((0.034 - x) / 0.01, 0, 1) * (z > 0.06)
    line = -0.052 + 0.55 * np.clip(x - 0.03, 0, None) ** 1.0
    cheek = np.clip((line - y) / 0.012, 0, 1) * np.clip((z + 0.005) / 0.02, 0, 1)
    neck = np.clip((y + 0.125) / 0.02, 0, 1)
    out = np.maximum(moustache, cheek) * neck * (1 - np.clip(lips * 1.6, 0, 1))
    return out.astype(np.float32)


def _below_neck(t: np.ndarray) -> np.ndarray:
    """Return how far a vertex lies below or outside a tilted ring round the base of the neck, in metres."""
    out = np.hypot(t[:, 0], t[:, 2] + 0.035)
    ring = -0.150 - 0.30 * (t[:, 2] + 0.03)
    return (ring - t[:, 1] + 0.9 * np.clip(out - 0.062, 0, 0.15)).astype(np.float32)


def _teeth(body: Body) -> np.ndarray:
    out = np.zeros((len(body.template), 2), np.float32)
    for name, sign in (("upper_teeth", -1), ("lower_teeth", 1)):
        ids = body.parts[name]
        p = body.template[ids]
        basis = np.stack([p[:, 2], np.ones(len(p))], 1)
        height = p[:, 1] - basis @ np.linalg.lstsq(basis, p[:, 1], rcond=None)[0]
        low, high = np.percentile(height, [5, 95])
        share = np.clip((height - low) / (high - low), 0, 1)
        out[ids, 0] = 0.036 * np.arctan2(p[:, 0], p[:, 2] - 0.112) / _TOOTH
        out[ids, 1] = share if sign > 0 else 1 - share
    return out


def _occlusion(body: Body, triangles: np.ndarray, eyes: Garment) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of the sky that each vertex of body and eyes sees, by shadow maps from all around.

    What lies inside the mouth is measured with the jaw open.
    """
    jaw = np.zeros(len(body.action_names))
    closed = body.template
    surface = np.concatenate([triangles, body.triangles["upper_teeth"], body.triangles["lower_teeth"]])
    found = []
    for weight in (0.0, 0.7):
        jaw[body.action_names.index("jawOpen")] = weight
        points = body.moved(closed, jaw)
        ball = eyes.fitted(body.base(points))
        normals = np.concatenate([_normals(points, surface), _normals(ball, eyes.triangles)])
        found.append(_sky(points, triangles, np.concatenate([points, ball]), normals))
    inside = np.zeros(len(closed), bool)
    inside[np.concatenate([body.parts["upper_teeth"], body.parts["lower_teeth"]])] = True
    count = len(closed)
    seen = np.where(
        inside | (found[0][:count] < 0.12), np.maximum(found[0], found[1])[:count], found[0][:count]
    )
    # light passes between the teeth and under the lips, which hide less of the sky than their helpers do
    seen[inside] = np.clip(0.25 + 2 * seen[inside], 0, 1)
    return np.maximum(seen, 0.06).astype(np.float32), found[0][count:].astype(np.float32)


def _normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    out = np.zeros_like(points, np.float32)
    vertex_normals(points.astype(np.float32), triangles, out)
    return out


def _sky(points: np.ndarray, triangles: np.ndarray, places: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Return the cosine-weighted share of directions that are open at places [m,3]."""
    golden = np.arange(_DIRECTIONS) + 0.5
    height = 1 - 2 * golden / _DIRECTIONS
    angle = np.pi * (1 + 5**0.5) * golden
    radius = np.sqrt(1 - height**2)
    directions = np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], 1)
    middle = _middle(points[triangles].reshape(-1, 3))
    reach = np.linalg.norm(points[triangles].reshape(-1, 3) - middle, axis=1).max()
    mesh = Mesh(
        points.astype(np.float32), normals[: len(points)], np.zeros((len(points), 4), np.float32),
        triangles.astype(np.int32), np.zeros((len(triangles), 3, 2), np.float32),
        np.zeros(len(triangles), np.int32),
        np.zeros(len(triangles), np.bool_),
    )  # fmt: skip
    looks = Looks(
        np.array([int(Kind.SKIN)]), np.array([-1]), np.zeros((1, 1), np.float32),
        np.zeros(1, np.uint8), np.zeros((1, 3), np.int64),
    )  # fmt: skip
    total, open_ = np.zeros(len(places)), np.zeros(len(places))
    depth = np.empty((_MAP, _MAP), np.float32)
    lifted = places + normals * _LIFT
    for direction in directions:
        frame = shadow_frame(direction, middle, reach, _MAP)
        shadow_map(_to(frame, points), mesh, looks, depth)
        total += np.clip(normals @ direction, 0, None)
        open_ += np.clip(normals @ direction, 0, None) * _free(depth, _to(frame, lifted))
    return np.clip(open_ / np.maximum(total, 1e-6), 0, 1)


def shadow_frame(direction: np.ndarray, middle: np.ndarray, reach: float, size: int) -> np.ndarray:
    """Return the map [3,4] to cells, cells and metres of a shadow map whose light comes from `direction`."""
    side = np.cross([0.0, 1.0, 0.1], direction)
    side /= np.linalg.norm(side)
    up = np.cross(direction, side)
    scale = size / (2 * reach)
    rows = np.stack([side * scale, -up * scale, -direction])
    offset = -rows @ middle + np.array([size / 2, size / 2, 0])
    return np.concatenate([rows, offset[:, None]], 1).astype(np.float32)


def _to(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
    return (points @ frame[:, :3].T + frame[:, 3]).astype(np.float32)


def _free(depth: Array, places: Array) -> Array:
    """Return which places [m,3], in cells and metres, have nothing before them in a shadow map."""
    x, y = places[:, 0].astype(int), places[:, 1].astype(int)
    inside = (x >= 0) & (y >= 0) & (x < depth.shape[1]) & (y < depth.shape[0])
    x, y = np.clip(x, 0, depth.shape[1] - 1), np.clip(y, 0, depth.shape[0] - 1)
    return ~inside | (depth[y, x] >= places[:, 2])
