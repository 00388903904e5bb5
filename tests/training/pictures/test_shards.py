"""Shards give back what they were given, and a folder belongs to one run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests import needs

needs.module("numba")
from topos_rt.errors import OptionError
from topos_rt.faces.pose import rotation
from training.pictures import shards
from training.pictures.camera import Camera
from training.pictures.people import Person
from training.pictures.picture import Picture

NAMES = ("skin", "iris", "brow", "lash", "hair")
MANIFEST = shards.Manifest(
    shards.FORMAT,
    "train",
    1,
    256,
    11,
    2,
    2,
    tuple(f"a{i}" for i in range(52)),
    NAMES,
    ("cap", "hand"),
    "0.6.2",
)


def a_person(rng: np.random.Generator) -> Person:
    return Person(
        rng.random((11, 3)), 0.6, True, ("skin", "skin"), 0.25, np.ones(3), "iris", "brow", "lash",
        np.ones(3), "hair", 0.0, 1,
    )  # fmt: skip


def a_picture(rng: np.random.Generator) -> Picture:
    camera = Camera(rotation(*rng.normal(0, 9, 3)), rng.random(3), 1.0, 500.0, rng.random(2) * 256)
    jpeg = rng.bytes(int(rng.integers(5, 50)))
    return Picture(jpeg, rng.random(52).astype(np.float32), camera, rng.random(11) < 0.5, "hair", ("hand",))


def test_a_shard_gives_back_what_it_was_given(tmp_path: Path, rng: np.random.Generator) -> None:
    heads = rng.normal(0, 0.06, (2, 11, 3)) + np.array([0, 0.7, 0])
    pictures = [(row, a_picture(rng)) for row in (0, 0, 1, 1)]
    path = shards.path_of(tmp_path, 3)
    shards.save(path, shards.pack(MANIFEST, heads, [a_person(rng), a_person(rng)], pictures))
    found = shards.load(path)
    assert [found.picture(i) for i in range(4)] == [p.jpeg for _, p in pictures]
    assert np.abs(found.neutral_heads() - heads).max() <= 0.51 * shards.UNIT
    assert np.array_equal(found.seen(), [p.visible for _, p in pictures])
    assert found.person.tolist() == [0, 0, 1, 1]
    assert found.weights == pytest.approx(np.stack([p.weights for _, p in pictures]), abs=1e-3)
    assert found.camera_of(2).project(heads[1]) == pytest.approx(
        pictures[2][1].camera.project(heads[1]), abs=1e-2
    )
    assert found.looks.tolist() == [[0, 0, 1, 2, 3, 4]] * 4
    assert found.worn.tolist() == [2] * 4


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    MANIFEST.save(tmp_path)
    MANIFEST.save(tmp_path)
    assert shards.Manifest.open(tmp_path) == MANIFEST
    with pytest.raises(OptionError, match="holds shards of another run"):
        dataclasses.replace(MANIFEST, seed=2).save(tmp_path)
    assert shards.Manifest.open(tmp_path) == MANIFEST


def test_a_folder_without_a_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"has no manifest\.json"):
        shards.Manifest.open(tmp_path)
