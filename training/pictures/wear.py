"""Things that people wear: spectacles, hats, hoods and scarves, all made from the head that wears them."""

from __future__ import annotations

import numpy as np

from training.pictures.figure import Posed, Stage, cloth_row
from training.pictures.raster import Kind, vertex_normals
from training.pictures.scene import Part

_RIM_POINTS, _TUBE_SIDES = 36, 5
HATS = ("beanie", "cap", "hood", "scarf", "band")


def spectacles(stage: Stage, posed: Posed, rng: np.random.Generator) -> tuple[list[Part], bool]:
    """Make spectacles; also return whether their glass hides the eyes."""
    points, body = posed.points, stage.body
    balls = points[body.parts["eyes"]]
    eyes = np.stack([balls[balls[:, 0] > 0].mean(0), balls[balls[:, 0] <= 0].mean(0)])
    apart = eyes[0, 0] - eyes[1, 0]
    half = np.array([apart * rng.uniform(0.36, 0.44), apart * rng.uniform(0.24, 0.38)])
    power = rng.uniform(2.0, 3.6)
    ahead = balls[:, 2].max() - eyes[:, 2].mean() + rng.uniform(0.008, 0.013)
    thick = rng.choice([rng.uniform(0.0007, 0.0012), rng.uniform(0.0014, 0.003)])
    drop = rng.uniform(-0.002, 0.005)
    colour = np.array([0.01, 0.01, 0.011]) if rng.random() < 0.5 else rng.uniform(0, 0.5, 3) ** 1.5
    row = [*colour, *colour, 0, 1, 1, rng.uniform(0.5, 2.5), rng.uniform(30, 150)]
    dark = rng.random() < 0.15
    opacity = rng.uniform(0.75, 0.97) if dark else rng.uniform(0.02, 0.1)
    glass = [
        *(rng.uniform(0.005, 0.04, 3) if dark else rng.uniform(0.3, 0.7, 3)),
        opacity,
        rng.uniform(0.05, 0.4),
    ]
    angle = np.linspace(0, 2 * np.pi, _RIM_POINTS, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    outline = (
        np.stack([np.sign(c) * np.abs(c) ** (2 / power), np.sign(s) * np.abs(s) ** (2 / power)], 1) * half
    )
    out, inner, outer = [], [], []
    for eye, sign in zip(eyes, (1, -1), strict=True):
        centre = eye + np.array([sign * 0.001, -drop, ahead])
        rim = centre + np.stack(
            [outline[:, 0], outline[:, 1], -0.10 * sign * outline[:, 0] - 4 * outline[:, 0] ** 2], 1
        )
        out += [_tube(rim, thick, True, row), _disc(rim, glass)]
        inner.append(rim[np.argmin(sign * rim[:, 0] - 0.4 * rim[:, 1])])
        outer.append(rim[np.argmax(sign * rim[:, 0] + 0.4 * rim[:, 1])])
    arch = (inner[0] + inner[1]) / 2 + [0, 0.002, 0.003]
    out.append(_tube(np.stack([inner[0], arch, inner[1]]), thick, False, row))
    ears = _ears(stage, points)
    for end, ear in zip(outer, ears, strict=True):
        hinge = end + (ear - end) * 0.08 + [np.sign(ear[0]) * 0.004, 0, 0]
        bent = ear + np.array([0, -0.012, -0.018])
        out.append(_tube(np.stack([end, hinge, ear, bent]), thick * 1.1, False, row))
    return out, dark


def _ears(stage: Stage, points: np.ndarray) -> np.ndarray:
    """Return the two places where a temple of spectacles rests on an ear."""
    t = stage.body.template
    head = t[stage.body.head_ids]
    middle = (head.min(0) + head.max(0)) / 2
    near = [np.argmin(np.linalg.norm(t - middle - [sign * 0.077, 0.016, -0.004], axis=1)) for sign in (1, -1)]
    return points[near] + np.array([[0.003, 0.004, 0], [-0.003, 0.004, 0]])


def _tube(path: np.ndarray, radius: float, closed: bool, row: list[float]) -> Part:
    """Sweep a small polygon along a path [n,3]."""
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-12
    side = np.cross(ahead, [0.03, 0.05, 1.0])
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-12
    up = np.cross(side, ahead)
    angle = np.arange(_TUBE_SIDES) * 2 * np.pi / _TUBE_SIDES
    normals = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    points = path[:, None] + radius * normals
    rows = len(path) if closed else len(path) - 1
    i, j = (g.ravel() for g in np.meshgrid(np.arange(rows), np.arange(_TUBE_SIDES), indexing="ij"))
    n, m = (i + 1) % len(path), (j + 1) % _TUBE_SIDES
    a, b, c, d = (p * _TUBE_SIDES + q for p, q in ((i, j), (n, j), (n, m), (i, m)))
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return _solid(points.reshape(-1, 3), triangles, row, normals=normals.reshape(-1, 3))


def _disc(rim: np.ndarray, glass: list[float]) -> Part:
    points = np.concatenate([rim, rim.mean(0, keepdims=True)])
    points[:, 2] += 0.0005
    i = np.arange(len(rim))
    triangles = np.stack([np.full_like(i, len(rim)), i, (i + 1) % len(rim)], 1)
    return _solid(points, triangles, glass, Kind.LENS)


def _solid(
    points: np.ndarray,
    triangles: np.ndarray,
    row: list[float] | np.ndarray,
    kind: Kind = Kind.SOLID,
    uvs: np.ndarray | None = None,
    normals: np.ndarray | None = None,
) -> Part:
    triangles = np.ascontiguousarray(triangles, np.int32)
    points = np.ascontiguousarray(points, np.float32)
    return Part(
        kind,
        points,
        triangles,
        np.zeros((len(triangles), 3, 2), np.float32) if uvs is None else uvs,
        np.ones((len(points), 4), np.float32),
        row,
        -1,
        normals if normals is None else normals.astype(np.float32),
    )


def hat(
    stage: Stage, posed: Posed, kind: str, rng: np.random.Generator
) -> tuple[list[Part], np.ndarray, np.ndarray]:
    """Make a hat of one of HATS.

    Also return the plane [4] over which hair lies under it (a x + b y + c z > d), and how far each vertex of
    the body [n] lies inside the hat's edge, in metres.
    """
    fields, body = stage.fields, stage.body
    head = body.template[body.head_ids]
    t = body.template - (head.min(0) + head.max(0)) / 2
    slope = {"scarf": 0.3, "hood": 0.2}.get(kind, rng.uniform(0.15, 0.55))
    level = rng.uniform(0.035, 0.062)
    above = t[:, 1] - level - slope * (t[:, 2] - 0.03)
    if kind == "band":
        above = np.minimum(above, 0.03 - above)
    if kind in ("hood", "scarf"):
        face = np.hypot(t[:, 0] / rng.uniform(0.058, 0.072), (t[:, 1] + 0.012) / rng.uniform(0.078, 0.092))
        above = np.where(t[:, 2] > 0.015, (face - 1) * 0.06, (t[:, 2] < 0.015) * 0.03)
    thick = {"beanie": 0.011, "cap": 0.009, "hood": 0.022, "scarf": 0.010, "band": 0.004}[kind]
    skin, torso = fields.skin_triangles, body.triangles["torso"]
    triangles, uvs = skin, fields.skin_uvs
    if kind in ("hood", "scarf"):
        low = torso[(fields.below_neck[torso] < 0.06).all(1)]
        uvs = np.concatenate([uvs, body.uvs["torso"][(fields.below_neck[torso] < 0.06).all(1)]])
        triangles = np.concatenate([triangles, low])
    inside = (above[triangles] > -0.004).any(1)
    bulge = thick * (1 + rng.uniform(0, 1.5) * np.clip(above / 0.08, 0, 1) * (kind == "beanie"))
    smooth = _smooth_normals(stage, posed, t)
    folds = 1 + 0.2 * np.sin(t @ rng.normal(0, 60, 3)) * np.sin(t @ rng.normal(0, 60, 3))
    head_points = posed.points.copy()
    if kind in ("hood", "scarf"):
        # cloth lies flat over the ears
        out_by = np.abs(t[:, 0]) - 0.068
        head_points[:, 0] -= (
            np.sign(t[:, 0]) * np.clip(out_by, 0, None) * 0.75 * (above > 0) * (t[:, 1] > -0.1)
        )
    points = head_points + smooth * (bulge * folds)[:, None]
    numbers = np.zeros((len(points), 4), np.float32)
    numbers[:, 0], numbers[:, 1] = 0.9, above
    row = cloth_row(rng)
    shell = np.empty_like(posed.points)
    vertex_normals(points.astype(np.float32), triangles, shell)
    out = [
        Part(
            Kind.CLOTH, points.astype(np.float32), np.ascontiguousarray(triangles[inside]), uvs[inside],
            numbers, row, -1, shell,
        )
    ]  # fmt: skip
    if kind == "cap":
        out.append(_brim(t, points, above, row, rng))
    return out, np.array([0.0, 1.0, -slope, level - slope * 0.03]), above


def _smooth_normals(stage: Stage, posed: Posed, t: np.ndarray) -> np.ndarray:
    """Return directions [n,3] away from the head's middle, bent a little towards the normals."""
    head = posed.points[stage.body.head_ids]
    away = posed.points - (head.min(0) + head.max(0)) / 2
    away /= np.linalg.norm(away, axis=1, keepdims=True) + 1e-9
    mixed = 0.35 * posed.normals + away
    return mixed / (np.linalg.norm(mixed, axis=1, keepdims=True) + 1e-9)


def _brim(
    t: np.ndarray, points: np.ndarray, above: np.ndarray, row: np.ndarray, rng: np.random.Generator
) -> Part:
    """Make the brim of a cap: a bent sheet from the hat's lower edge in front."""
    angle = np.linspace(-1.15, 1.15, 15)
    edge = np.flatnonzero((np.abs(above) < 0.008) & (t[:, 2] > 0))
    at = np.arctan2(t[edge, 0], t[edge, 2] + 0.02)
    start = np.stack([points[edge[np.argmin(np.abs(at - a))]] for a in angle])
    length = rng.uniform(0.045, 0.075) * np.cos(angle * 0.9)[:, None]
    rows = []
    for share in np.linspace(0, 1, 4):
        ahead = np.stack(
            [0.35 * np.sin(angle), np.full(15, rng.uniform(-0.45, -0.2)) * 0 - 0.3, np.ones(15)], 1
        )
        rows.append(start + share * length * ahead - [0, 0.012 * share**2, 0])
    grid = np.concatenate(rows)
    i, j = (g.ravel() for g in np.meshgrid(np.arange(3), np.arange(14), indexing="ij"))
    a, b, c, d = i * 15 + j, i * 15 + j + 1, (i + 1) * 15 + j + 1, (i + 1) * 15 + j
    return _solid(grid, np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)]), row)


def tuck(part: Part, above: np.ndarray) -> Part:
    """Leave out the skin that lies well under a hood or scarf, ears above all."""
    kept = ~(above[part.triangles] > 0.006).all(1)
    return part._replace(triangles=np.ascontiguousarray(part.triangles[kept]), uvs=part.uvs[kept])


def press_down(part: Part, plane: np.ndarray, posed: Posed, stage: Stage) -> Part:
    """Press hair under a hat towards the head."""
    head = posed.points[stage.body.head_ids]
    middle = (head.min(0) + head.max(0)) / 2
    away = part.points - middle
    under = np.clip((away @ plane[:3] - plane[3]) / 0.01, 0, 1)[:, None]
    return part._replace(points=(middle + away * (1 - 0.13 * under)).astype(np.float32))
