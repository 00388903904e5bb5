"""Whole pictures, from MakeHuman's assets: $TOPOS_RT_MAKEHUMAN names their folder."""

from __future__ import annotations

import dataclasses
import io
from functools import cache

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import cKDTree

from tests import needs

needs.module("numba")
from training.pictures import figure, people
from training.pictures.assets import HELD_OUT
from training.pictures.picture import SIZE, Studio
from training.pictures.raster import Kind
from training.pictures.shards import Manifest, Shard
from training.render import SEEDS, describe, draw_shard, open_studio

FOLDER = needs.makehuman()
PEOPLE = 6


@cache
def studio(split: str) -> Studio:
    return open_studio(FOLDER, split)


def manifest(split: str) -> Manifest:
    body = studio(split).stage.body
    found = describe(FOLDER, split, body.action_names, len(body.head_ids))
    return dataclasses.replace(found, people_per_shard=PEOPLE)


@cache
def shard(split: str) -> Shard:
    return draw_shard(studio(split), manifest(split), 0)


def images(drawn: Shard) -> np.ndarray:
    count = len(drawn.jpeg_ends)
    return np.stack(
        [np.asarray(Image.open(io.BytesIO(drawn.picture(i))).convert("RGB")) for i in range(count)]
    )


def test_a_shard_is_the_same_every_time() -> None:
    again = draw_shard(studio("train"), manifest("train"), 0)
    for name, array in again._asdict().items():
        assert np.array_equal(array, getattr(shard("train"), name)), name
    other = draw_shard(studio("train"), manifest("train"), 1)
    assert not np.array_equal(other.heads, again.heads)


def test_pictures_look_like_photographs_in_numbers() -> None:
    for split in SEEDS:
        pixels = images(shard(split)).astype(float)
        assert pixels.shape[1:] == (SIZE, SIZE, 3)
        # measured over a thousand pictures: mean 40 to 215, deviation 12 to 95
        assert ((pixels.mean((1, 2, 3)) > 8) & (pixels.mean((1, 2, 3)) < 245)).all()
        assert 25 < pixels.std((1, 2)).mean() < 80
        assert 70 < pixels.mean() < 170
        sizes = np.diff(shard(split).jpeg_ends, prepend=0)
        assert 3_000 < sizes.mean() < 16_000


def test_nothing_kept_aside_is_seen_in_training() -> None:
    kept = {name for held in HELD_OUT.values() for name in held}
    for split, allowed in (("train", False), ("held_out", True)):
        names = manifest(split).names
        used = {names[i] for i in shard(split).looks.ravel()} - set(figure.SHORN)
        assert used
        assert used <= kept if allowed else not used & kept
    heads = [shard(split).neutral_heads() for split in ("train", "held_out")]
    apart = np.linalg.norm(heads[0][:, None] - heads[1][None], axis=-1).mean(-1)
    assert apart.min() > 1e-3


def test_the_head_is_the_head_of_the_head_model() -> None:
    from training.heads import HeadModel

    head = HeadModel.load()
    body = studio("train").stage.body
    rng = np.random.default_rng(7)
    phenotypes = rng.uniform(0, 1, (2, len(body.phenotype_names)))
    phenotypes[:, body.phenotype_names.index("age")] = rng.uniform(0.35, 0.95, 2)
    changes = head._local_changes(2, rng)
    for mine, known in zip(body.coefficients(phenotypes, changes), head.sample(2, 7), strict=True):
        assert body.shaped(mine)[body.head_ids] == pytest.approx(known, abs=2e-6)
    for name in ("jawOpen", "eyeBlinkLeft"):
        weights = np.zeros(len(body.action_names), np.float32)
        weights[body.action_names.index(name)] = 1
        moved = body.moved(body.template, weights)[body.head_ids] - body.template[body.head_ids]
        assert moved == pytest.approx(head.action_deltas[head.action_names.index(name)], abs=1e-6)


def test_known_vertices_are_where_the_pixels_show_them() -> None:
    """The part and the place that the visibility buffer has under a visible vertex are the vertex's own."""
    room = studio("train")
    person = people.draw(room.stage.body, room.stage.fields, room.stage.library, 1, np.random.default_rng(3))[
        0
    ]
    body, fields = room.stage.body, room.stage.fields
    skin = np.isin(body.head_ids, fields.skin_triangles)
    for seed in range(4):
        picture = room.take(person, np.random.default_rng(seed))
        # the buffers still hold the picture
        points = body.moved(person.neutral, picture.weights)[body.head_ids]
        x, y, depth = picture.camera.project(points).T
        chosen = picture.visible & skin
        assert chosen.sum() > 300
        shown = 1 / room.canvas.buffers.inverse[(y[chosen] * 2).astype(int), (x[chosen] * 2).astype(int)]
        # what is drawn is at the vertex's depth, to a sample's width on a slanting surface
        assert np.median(np.abs(shown - depth[chosen])) < 5e-4
        assert np.percentile(np.abs(shown - depth[chosen]), 75) < 2e-3


def test_hair_and_brows_lie_on_the_head() -> None:
    room = studio("train")
    stage = room.stage
    drawn = people.draw(stage.body, stage.fields, stage.library, 4, np.random.default_rng(5))
    for person in drawn:
        posed = figure.pose(stage, person.neutral)
        skin = cKDTree(posed.points[np.unique(stage.fields.skin_triangles)])
        thin = [p for p in figure.eyes(stage, person, posed, np.random.default_rng(0)) if p.kind == Kind.THIN]
        assert skin.query(thin[0].points)[0].max() < 0.008  # brows
        for name in stage.library.hair:
            (part,) = figure.hair(stage, person, posed, name, np.random.default_rng(0))
            distance = skin.query(part.points)[0]
            assert np.percentile(distance, 5) < 0.015, name
            top = part.points[:, 1] > posed.points[stage.body.head_ids, 1].max() - 0.03
            assert distance[top].max() < 0.09, name


def test_open_mouths_show_teeth() -> None:
    room = studio("train")
    stage, body = room.stage, room.stage.body
    weights = np.zeros(len(body.action_names), np.float32)
    for name in ("jawOpen", "mouthUpperUpLeft", "mouthUpperUpRight"):
        weights[body.action_names.index(name)] = 0.6
    closed, opened = body.template, body.moved(body.template, weights)
    upper, lower = (body.parts[f"{row}_teeth"] for row in ("upper", "lower"))
    assert opened[upper] == pytest.approx(closed[upper], abs=1e-5)
    assert (closed[lower, 1] - opened[lower, 1]).mean() > 0.008
    assert stage.fields.occlusion[upper].min() > 0.2  # light reaches them
    assert np.ptp(stage.fields.teeth[upper, 1]) == pytest.approx(1)


def test_blinking_takes_the_lashes_along() -> None:
    body = studio("train").stage.body
    weights = np.zeros(len(body.action_names), np.float32)
    weights[body.action_names.index("eyeBlinkLeft")] = 1
    moved = body.moved(body.template, weights) - body.template
    lashes = body.parts["lashes"]
    assert np.linalg.norm(moved[lashes], axis=1).max() > 0.004
    right = lashes[body.template[lashes, 0] < -0.005]
    assert np.abs(moved[right]).max() < 1e-4
