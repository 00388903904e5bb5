"""Defects of a generated head are counted, on a synthetic head model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.training.synthetic import egg
from training.defects import CREASE_HEADS, CREASE_SHARE, Defects
from training.heads import HeadModel, normalise

RADIUS = 0.12  # metres
CLEAN = {"folded_faces": 0, "lip_crossings": 0, "lid_crossings": 0}


@pytest.fixture(scope="module")
def model() -> HeadModel:
    """The egg with an upper and a lower lid around one eye."""
    base = egg()
    x, y, z = (base.template - [0.035, 0.015, 0]).T
    near = (np.hypot(x, y) < 0.02) & (z > 0)
    lids = np.stack([near & (y > 0.004), near & (y < -0.004)], 1).astype(np.float32)
    return dataclasses.replace(
        base,
        skin=np.concatenate([base.skin, lids], 1),
        bones=(*base.bones, "orbicularis03.L", "orbicularis04.L"),
    )


@pytest.fixture(scope="module")
def heads(model: HeadModel) -> np.ndarray:
    return normalise(model.sample(60, seed=1))[0]


@pytest.fixture(scope="module")
def defects(model: HeadModel, heads: np.ndarray) -> Defects:
    return Defects(model, heads)


def folded(model: HeadModel, head: np.ndarray, corner: int = 1234) -> np.ndarray:
    """Pull a vertex over the far side of a neighbour."""
    triangle = next(t for t in model.topology.triangles if corner in t)
    other = next(v for v in triangle if v != corner)
    out = head.copy()
    out[corner] = head[other] + 1.5 * (head[other] - head[corner])
    return out


def test_true_heads_have_none(defects: Defects, heads: np.ndarray) -> None:
    for head in heads[:5]:
        assert defects.count(head, head, RADIUS) == CLEAN
    assert defects.count(heads[1], heads[0], RADIUS) == CLEAN


def test_folds_count_unless_the_truth_has_them(model: HeadModel, defects: Defects, heads: np.ndarray) -> None:
    bad = folded(model, heads[0])
    assert defects.count(bad, heads[0], RADIUS)["folded_faces"] > 0
    assert defects.count(bad, bad, RADIUS)["folded_faces"] == 0


def test_creases_of_true_heads_do_not_count(model: HeadModel, heads: np.ndarray) -> None:
    often = int(len(heads) * CREASE_SHARE) + 1
    creased = np.concatenate([[folded(model, head) for head in heads[:often]], heads[often:]])
    known = Defects(model, creased)
    assert len(creased) <= CREASE_HEADS
    assert known.count(folded(model, heads[-1]), heads[-1], RADIUS) == CLEAN
    elsewhere = folded(model, heads[-1], corner=700)
    assert known.count(elsewhere, heads[-1], RADIUS)["folded_faces"] > 0


@pytest.mark.parametrize(("lowered", "crosses"), [(0.001, False), (0.03, True)])
def test_lids_through_each_other(
    model: HeadModel, defects: Defects, heads: np.ndarray, lowered: float, crosses: bool
) -> None:
    bad = heads[0].copy()
    bad[model.skin[:, model.bones.index("orbicularis03.L")] > 0.5, 1] -= lowered / RADIUS
    assert (defects.count(bad, heads[0], RADIUS)["lid_crossings"] > 0) == crosses
