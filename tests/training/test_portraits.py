"""Sets of portraits on disk, drawn with a synthetic head model in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.synthetic import egg
from training import portraits
from training.gbuffers import GBuffer, Painter
from training.heads import HeadModel
from training.portraits import draw_set, open_buffers


class InThisProcess:
    """In place of a pool: the tasks, last one first."""

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
    draw_set(tmp_path / "new", "train", heads=5, views=2, seed=3, workers=1)
    buffers, views = open_buffers(tmp_path / "new", "train")
    assert views == 2
    assert {len(rows) for rows in buffers} == {10}
    assert isinstance(buffers.normals, np.memmap)
    # each chunk has a stream of its own, whatever was drawn before it
    painter, heads = Painter(egg()), egg().sample(5, seed=3)
    rng = np.random.default_rng([3, 2])
    for row in range(4, 8):
        head = painter.with_expression(heads[row // 2], rng)
        expected = painter.draw(head, portraits.View.random(rng), rng)
        for got, want in zip(GBuffer(*(rows[row] for rows in buffers)), expected, strict=True):
            assert np.array_equal(got, want)


@pytest.mark.usefixtures("small")
def test_another_seed_is_another_set(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        draw_set(tmp_path, name, heads=2, views=1, seed=seed, workers=1)
    one, again, two = (open_buffers(tmp_path, name)[0].materials for name in ("one", "again", "two"))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, two)
