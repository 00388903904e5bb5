"""Hair that grows out of the skin as shells (Lengyel et al. 2001): beards, moustaches, curls, short hair."""

from __future__ import annotations

import numpy as np

from training.pictures.figure import Posed, Stage
from training.pictures.materials import ROW
from training.pictures.people import Person
from training.pictures.raster import Kind
from training.pictures.scene import Part

_BEARD_LAYERS, _CURL_LAYERS = 5, 8


def beard(stage: Stage, person: Person, posed: Posed) -> list[Part]:
    """Make a beard that is long enough to stand out from the skin; stubble is painted on it."""
    if person.beard < 0.45:
        return []
    of_person = np.random.default_rng(person.seed + 3)
    t = stage.body.template - stage.body.template[stage.body.head_ids].mean(0)
    density = stage.fields.beard.copy()
    style = of_person.choice(["full", "goatee", "moustache", "sides"], p=[0.6, 0.2, 0.15, 0.05])
    middle = np.abs(t[:, 0])
    if style == "goatee":
        density *= np.clip((0.036 - middle) / 0.008, 0, 1)
    elif style == "moustache":
        density *= np.clip((t[:, 1] + 0.063) / 0.004, 0, 1) * np.clip((0.038 - middle) / 0.006, 0, 1)
    elif style == "sides":
        density *= np.clip((middle - 0.045) / 0.01, 0, 1)
    length = (person.beard - 0.4) ** 1.5 * 0.05 + 0.002
    down = np.array([0, -0.7, 0.15], np.float32)
    row = _row(person, of_person, grains=of_person.uniform(350, 700), curl=of_person.uniform(0, 1.5))
    return [_shells(stage, posed, density, length, down, _BEARD_LAYERS, row)]


def curls(stage: Stage, person: Person, posed: Posed) -> list[Part]:
    """Make curly or short hair all over the scalp."""
    of_person = np.random.default_rng(person.seed + 4)
    length = float(np.exp(of_person.uniform(np.log(0.004), np.log(0.05))))
    t = stage.body.template
    frequency, phase = of_person.normal(0, 70, (3, 3)), of_person.uniform(0, 6.3, 3)
    lumps = 1 + 0.25 * np.sin(t @ frequency + phase).mean(1)
    density = np.clip(stage.fields.scalp * 1.3, 0, 1) * lumps
    row = _row(person, of_person, grains=of_person.uniform(120, 420), curl=of_person.uniform(0.5, 3))
    return [_shells(stage, posed, np.clip(density, 0, 1), length, np.zeros(3, np.float32), _CURL_LAYERS, row)]


def _row(person: Person, of_person: np.random.Generator, grains: float, curl: float) -> np.ndarray:
    row = np.zeros(ROW, np.float32)
    row[:4] = grains, person.seed, curl, of_person.uniform(0.4, 0.9)
    row[4:7] = person.hair_colour * of_person.uniform(0.9, 1.5) + 0.004
    row[7] = of_person.uniform(0.3, 1.2)
    return row


def _shells(
    stage: Stage,
    posed: Posed,
    density: np.ndarray,
    length: float,
    pull: np.ndarray,
    layers: int,
    row: np.ndarray,
) -> Part:
    """Stack `layers` copies of the skin where `density` [n] is above zero; `pull` [3] bends them."""
    fields = stage.fields
    chosen = (density[fields.skin_triangles] > 0.02).any(1)
    corners, uvs = fields.skin_triangles[chosen], fields.skin_uvs[chosen]
    used, local = np.unique(corners, return_inverse=True)
    local = local.reshape(corners.shape).astype(np.int32)
    points, numbers = [], []
    for layer in range(1, layers + 1):
        height = layer / layers
        reach = (length * height * np.clip(density[used], 0, 1))[:, None]
        points.append(posed.points[used] + reach * (posed.normals[used] + height * pull))
        numbers.append(
            np.stack(
                [fields.occlusion[used], density[used], np.full(len(used), height), np.zeros(len(used))], 1
            )
        )
    return Part(
        Kind.FUR,
        np.concatenate(points).astype(np.float32),
        np.concatenate([local + i * len(used) for i in range(layers)]),
        np.tile(uvs, (layers, 1, 1)),
        np.concatenate(numbers).astype(np.float32),
        row,
        -1,
        np.tile(posed.normals[used], (layers, 1)),
    )
