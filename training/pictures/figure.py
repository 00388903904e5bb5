"""Make a person's surfaces in one picture: skin, eyes, teeth, brows, lashes, hair and clothes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.pictures.assets import Library
from training.pictures.body import Body
from training.pictures.fields import Fields
from training.pictures.materials import ROW
from training.pictures.people import Person
from training.pictures.raster import Kind, vertex_normals
from training.pictures.scene import Part

SHORN = ("shaved", "bald", "curls")
_SCALP_COLOUR = 0.75  # how much of the hair's colour shows on the scalp under hair


@dataclass(frozen=True)
class Stage:
    """What figures are made from."""

    body: Body
    fields: Fields
    library: Library


@dataclass(frozen=True)
class Posed:
    """A body with an expression."""

    points: np.ndarray  # [n,3] float32 metres
    normals: np.ndarray  # [n,3]
    base: np.ndarray  # [B,3], the same points at their places in base.obj


def pose(stage: Stage, points: np.ndarray) -> Posed:
    """Work out normals, and the places of base.obj that garments are bound to."""
    fields, body = stage.fields, stage.body
    surface = np.concatenate([
        fields.skin_triangles, fields.mouth_triangles, body.triangles["torso"],
        body.triangles["upper_teeth"], body.triangles["lower_teeth"],
    ])  # fmt: skip
    normals = np.empty_like(points)
    vertex_normals(points, surface, normals)
    return Posed(points, normals, body.base(points))


def skin(stage: Stage, person: Person, posed: Posed, hair: str, rng: np.random.Generator) -> list[Part]:
    """Make head, mouth and neck."""
    fields, library = stage.fields, stage.library
    first, second = (library.skins[name] for name in person.skins)
    row = np.zeros(ROW, np.float32)
    row[:3] = np.log(person.tone)
    of_person = np.random.default_rng(person.seed)  # the same in every picture of a person
    row[3] = of_person.uniform(0.75, 1.15)
    row[4], row[5] = person.skin_share, second
    row[6:9] = (1 - person.skin_share) * library.means[first] + person.skin_share * library.means[second]
    row[9] = of_person.uniform(1.5, 3.0) + 4.0 * max(person.age - 0.6, 0)
    row[10] = rng.beta(1.5, 2.5)
    row[11] = of_person.uniform(0.05, 0.3)
    row[12] = (
        min(person.beard * 1.8, 0.9)
        if person.beard
        else (0.0 if person.female else of_person.uniform(0, 0.25))
    )
    row[13:16] = person.hair_colour * 0.8 + 0.02
    if person.female and rng.random() < 0.35:
        row[16] = rng.uniform(0.2, 0.8)
        row[17:20] = np.array([0.35, 0.06, 0.07]) * np.exp(rng.normal(0, [0.3, 0.5, 0.5]))
    row[20] = of_person.choice([0.0, of_person.uniform(0.1, 0.55)], p=[0.75, 0.25])
    row[21] = person.seed
    row[22] = {"bald": 0.0, "shaved": of_person.uniform(0.3, 0.9)}.get(hair, _SCALP_COLOUR)
    row[23] = rng.uniform(0.25, 0.45)
    numbers = np.stack([fields.occlusion, fields.beard, fields.lips, fields.scalp], 1)
    bare = row.copy()
    bare[[3, 9]] = 0
    shared = (numbers, row, first, posed.normals)
    return [
        Part(Kind.SKIN, posed.points, fields.skin_triangles, fields.skin_uvs, *shared),
        Part(Kind.MOUTH, posed.points, fields.mouth_triangles, fields.mouth_uvs, *shared),
        Part(
            Kind.BARE, posed.points, stage.body.triangles["torso"], stage.body.uvs["torso"],
            numbers, bare, first, posed.normals,
        ),
    ]  # fmt: skip


def teeth(stage: Stage, person: Person, posed: Posed) -> list[Part]:
    """Make both rows of teeth."""
    of_person = np.random.default_rng(person.seed + 1)
    colour = np.array([0.72, 0.66, 0.54]) * np.exp(of_person.normal(0, [0.08, 0.1, 0.16]))
    numbers = np.zeros((len(posed.points), 4), np.float32)
    numbers[:, 0] = stage.fields.occlusion
    numbers[:, 1:3] = stage.fields.teeth
    return [
        Part(
            Kind.TEETH, posed.points, stage.body.triangles[name], stage.body.uvs[name],
            numbers, colour, -1, posed.normals,
        )
        for name in ("upper_teeth", "lower_teeth")
    ]  # fmt: skip


def eyes(stage: Stage, person: Person, posed: Posed, rng: np.random.Generator) -> list[Part]:
    """Make eyeballs, brows and lashes."""
    library = stage.library
    ball = library.eyes
    points = ball.fitted(posed.base)
    numbers = np.zeros((len(points), 4), np.float32)
    numbers[:, 0] = np.clip(1.5 * stage.fields.eye_occlusion, 0.1, 1)
    of_person = np.random.default_rng(person.seed + 2)
    row = [of_person.uniform(0.75, 0.95), rng.uniform(0, 0.2), of_person.uniform(0.4, 0.9)]
    out = [Part(Kind.EYE, points, ball.triangles, ball.uvs, numbers, row, library.irises[person.iris])]
    dense = of_person.uniform(0.9, 1.7)
    tint = person.hair_colour * of_person.uniform(0.4, 0.9)
    lash = np.array([0.01, 0.008, 0.007])
    for garment, colour, opacity in (
        (library.eyebrows[person.brows], tint, dense),
        (library.eyelashes[person.lashes], lash, of_person.uniform(0.5, 1.0) if person.female else 0.45),
    ):
        places = garment.fitted(posed.base)
        plain = np.full((len(places), 4), 0.8, np.float32)
        out.append(
            Part(
                Kind.THIN,
                places,
                garment.triangles,
                garment.uvs,
                plain,
                [*colour, opacity, 0],
                garment.texture,
            )
        )
    return out


def hair(stage: Stage, person: Person, posed: Posed, name: str, rng: np.random.Generator) -> list[Part]:
    """Make hair of the library: at times mirrored, longer or shorter, fuller or flatter."""
    garment = stage.library.hair[name]
    triangles = garment.triangles
    if rng.random() < 0.5:
        mirrored = posed.points[stage.fields.mirror] * np.array([-1, 1, 1], np.float32)
        points = garment.fitted(stage.body.base(mirrored)) * np.array([-1, 1, 1], np.float32)
        triangles = np.ascontiguousarray(triangles[:, ::-1])
        uvs = np.ascontiguousarray(garment.uvs[:, ::-1])
    else:
        points, uvs = garment.fitted(posed.base), garment.uvs
    head = posed.points[stage.body.head_ids]
    middle = (head.min(0) + head.max(0)) / 2
    away = points - middle
    below = np.clip(-away[:, 1] / 0.1, 0, 3)
    fuller = 1 + rng.uniform(0.0, 0.05) + below * rng.uniform(-0.05, 0.12)
    points = middle + away * np.stack([fuller, 1 + below * rng.uniform(-0.12, 0.12), fuller], 1)
    phase, frequency = rng.uniform(0, 6.3, 3), rng.normal(0, 25, (3, 3))
    points = points + rng.uniform(0, 0.004) * np.sin(points @ frequency + phase)
    row = np.zeros(ROW, np.float32)
    row[:3] = person.hair_colour
    row[3], row[4], row[5] = rng.uniform(0.5, 0.9), rng.uniform(0.05, 0.3), person.seed
    row[6:9] = stage.library.means[garment.texture]
    row[9:12] = middle + np.array([0, 0.085, -0.02])  # the scene turns it to camera space
    numbers = np.ones((len(points), 4), np.float32)
    numbers[:, 0] = np.clip(0.55 + away[:, 1] * 3, 0.35, 1)
    points = points.astype(np.float32)
    return [Part(Kind.HAIR, points, triangles, uvs, numbers, row, garment.texture, None, garment.soft)]


def clothes(stage: Stage, posed: Posed, rng: np.random.Generator) -> list[Part]:
    """Make a shirt: the body's own surface, a little outside it, below a neckline."""
    if rng.random() < 0.06:
        return []
    low = rng.choice([rng.uniform(-0.055, -0.02), rng.uniform(-0.01, 0.045)], p=[0.15, 0.85])
    opening = rng.choice([0.0, rng.uniform(0.2, 0.9)], p=[0.6, 0.4])  # a V neck
    points = posed.points
    head = points[stage.body.head_ids]
    x, z = np.abs(points[:, 0] - head[:, 0].mean()), points[:, 2] - head[:, 2].mean()
    vee = opening * np.clip(0.06 - x, 0, None) * (z > -0.03)
    numbers = np.zeros((len(points), 4), np.float32)
    numbers[:, 0] = stage.fields.occlusion
    numbers[:, 1] = stage.fields.below_neck - low - vee
    thick = rng.uniform(0.003, 0.012) * np.clip(numbers[:, 1] / 0.01 + 0.5, 0.2, 1)[:, None]
    return [
        Part(
            Kind.CLOTH, points + posed.normals * thick, stage.body.triangles["torso"],
            stage.body.uvs["torso"], numbers, cloth_row(rng), -1, posed.normals,
        )
    ]  # fmt: skip


def cloth_row(rng: np.random.Generator) -> np.ndarray:
    """Draw the parameters of cloth."""
    first, second = rng.uniform(0, 1, (2, 3)) ** 2.2
    vivid = rng.uniform(0.1, 1.0)
    first, second = (c.mean() + vivid * (c - c.mean()) for c in (first, second))
    if rng.random() < 0.55:
        first = np.full(3, rng.choice([0.02, 0.06, 0.2, 0.7])) * np.exp(rng.normal(0, 0.15, 3))
    pattern = rng.choice([0, 1, 2, 3, 4], p=[0.6, 0.14, 0.1, 0.08, 0.08])
    return np.array([*first, *second, pattern, np.exp(rng.uniform(2.7, 5)), rng.integers(1, 9999), 0.15, 8.0])
