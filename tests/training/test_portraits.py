"""Sets of portraits are drawn to disk, with a synthetic head model in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.mini import IMAGE_SIZE
from tests.training.synthetic import egg
from training import portraits
from training.gbuffers import Painter, View
from training.heads import HeadModel
from training.lessons import what_is_seen
from training.portraits import draw_set, open_set


class InThisProcess:
    """A stand-in for a pool, which runs the tasks last one first."""

    def __init__(self, workers: int, initializer: Any) -> None:
        initializer()

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def imap_unordered(self, work: Any, tasks: list[Any]) -> Any:
        return map(work, reversed(tasks))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeadModel, "load", classmethod(lambda cls: egg()))
    monkeypatch.setattr(portraits, "Pool", InThisProcess)
    monkeypatch.setattr(portraits, "_painter", None)
    monkeypatch.setattr(portraits, "_CHUNK", 2)


@pytest.mark.usefixtures("small")
def test_a_set_comes_back_in_the_order_of_its_heads(tmp_path: Path) -> None:
    draw_set(tmp_path / "new", "train", heads=5, views=2, lights=3, seed=3, workers=1)
    pictures, heads = open_set(tmp_path / "new", "train")
    assert np.array_equal(heads, egg().sample(5, seed=3).astype(np.float32))
    assert {len(rows) for rows in pictures} == {10}
    assert pictures.pixels.shape[1:] == (3, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert isinstance(pictures.pixels, np.memmap)
    # Each chunk has a random stream of its own, whatever was drawn before it.
    painter, heads = Painter(egg()), egg().sample(5, seed=3)
    rng = np.random.default_rng([3, 2])
    for row in range(4, 8):
        head = painter.with_expression(heads[row // 2], rng)
        expected = painter.draw(head, View.random(rng), rng)
        assert np.array_equal(pictures.landmarks[row], expected.landmarks)
        seen = what_is_seen(*(torch.from_numpy(part[None]) for part in expected[:2]))[0]
        assert np.allclose(pictures.seen[row] / 127, seen, atol=0.5 / 127 + 1e-6)


@pytest.mark.usefixtures("small")
def test_each_block_of_heads_has_the_next_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_set(tmp_path, "alone", heads=2, views=1, lights=1, seed=8, workers=1)
    monkeypatch.setattr(portraits, "_BLOCK", 3)
    draw_set(tmp_path, "blocks", heads=5, views=1, lights=1, seed=7, workers=1)
    (alone, heads), (blocks, all_heads) = (open_set(tmp_path, name) for name in ("alone", "blocks"))
    assert np.array_equal(all_heads, np.concatenate([egg().sample(3, seed=7), heads]))
    assert all(np.array_equal(rows[3:], own) for rows, own in zip(blocks, alone, strict=True))


@pytest.mark.usefixtures("small")
def test_lights_differ_and_show_the_same_view(tmp_path: Path) -> None:
    draw_set(tmp_path, "train", heads=2, views=1, lights=2, seed=1, workers=1)
    one, other = open_set(tmp_path, "train")[0].pixels[0].astype(float)
    assert np.abs(one - other).mean() > 5
    edges = [np.abs(np.diff(light.mean(0), axis=1)).ravel() for light in (one, other)]
    assert np.corrcoef(edges)[0, 1] > 0.2


@pytest.mark.usefixtures("small")
def test_another_seed_is_another_set(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        draw_set(tmp_path, name, heads=2, views=1, lights=1, seed=seed, workers=1)
    one, again, two = (open_set(tmp_path, name)[0] for name in ("one", "again", "two"))
    assert all(map(np.array_equal, one, again))
    assert not np.array_equal(one.pixels, two.pixels)
    assert not np.array_equal(one.landmarks, two.landmarks)
