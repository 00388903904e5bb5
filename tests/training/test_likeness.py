"""Measures of many heads, against those of single ones and against heads whose measures are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from topos_rt.head.topology import Topology
from topos_rt.scan.face_errors import face_errors
from topos_rt.scan.face_region import FaceRegion
from training import likeness, spread
from training.sitters import Sitter
from training.spread import TrainingHeads, spread_mm

RNG = np.random.default_rng(0)
_GRID = np.stack(np.meshgrid(np.linspace(-0.1, 0.1, 12), np.linspace(-0.1, 0.1, 12)), -1).reshape(-1, 2)
PLATE = np.column_stack([_GRID, 0.05 * np.cos(9 * _GRID).sum(1)])
_CORNER = np.array([r * 12 + c for r in range(11) for c in range(11)])
TRIANGLES = np.concatenate([_CORNER[:, None] + [0, 1, 13], _CORNER[:, None] + [0, 13, 12]])
TOPOLOGY = Topology.from_polygons(len(PLATE), TRIANGLES.tolist())
REGION = FaceRegion(TOPOLOGY, np.arange(30, 110), TRIANGLES.astype(np.int32))


def people(count: int, metres: float = 0.01, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    waves = rng.normal(0, 20, (count, 3, 3))
    return PLATE + metres * np.sin(PLATE @ waves + rng.uniform(0, 6, (count, 1, 3)))


def test_the_table_of_faces_has_the_distances_of_pairs() -> None:
    heads, truth = people(3, seed=1), people(4, seed=2)
    turn = Rotation.random(random_state=1).as_matrix()
    table = likeness.face_table(1.3 * heads @ turn.T + 0.2, truth, REGION.vertices)
    size = [np.linalg.norm(true[REGION.vertices] - true[REGION.vertices].mean(0)) for true in truth]
    for i, head in enumerate(heads):
        for j, true in enumerate(truth):
            single = face_errors(head, true, REGION).mean_mm / 1000
            assert table[i, j] == pytest.approx(single * np.mean(size) / size[j], rel=1e-6)


def test_retrieval_counts_those_nearest_to_their_own() -> None:
    truth = people(5)
    exact = likeness.face_table(truth, truth, REGION.vertices)
    assert likeness.retrieval(exact) == 1
    assert likeness.retrieval(exact[[1, 0, 2, 3, 4]]) == pytest.approx(0.6)
    assert likeness.retrieval(likeness.whole_table(truth, truth)) == 1


def test_whole_heads_lose_their_size_and_place_only() -> None:
    truth = people(3)
    assert likeness.whole_mm(0.7 * truth + 0.1, truth) == pytest.approx(0, abs=1e-4)
    turned = truth @ Rotation.from_euler("y", 5, degrees=True).as_matrix().T
    assert (likeness.whole_mm(turned, truth) > 1).all()


def test_measures_are_means_over_heads_and_over_yaw() -> None:
    heads, truth = people(4, seed=3), people(4, seed=4)
    found = likeness.measure(heads, truth, np.array([0.0, -20, 14, 59]), REGION)
    single = [face_errors(head, true, REGION) for head, true in zip(heads, truth, strict=True)]
    assert found["face_mm"] == pytest.approx(np.mean([e.mean_mm for e in single]), abs=1e-3)
    assert found["now_median_mm"] == pytest.approx(np.mean([e.now_median_mm for e in single]), abs=1e-3)
    bins = found["by_yaw"]
    assert [(row["degrees"], row["heads"]) for row in bins] == [([0, 15], 2), ([15, 30], 1), ([30, 60], 1)]
    assert bins[1]["face_mm"] == pytest.approx(single[1].mean_mm, abs=1e-3)
    assert bins[0]["whole_mm"] == pytest.approx(likeness.whole_mm(heads, truth)[[0, 2]].mean(), abs=1e-3)


def test_spread_is_seen_where_heads_differ_and_nowhere_else() -> None:
    shown = np.arange(len(PLATE)) < 100
    heads = []
    for number in range(8):
        head = PLATE.copy()
        head[~shown, 2] += 0.004 * (-1) ** number
        heads.append((1 + 0.1 * number) * head @ Rotation.random(random_state=number).as_matrix().T)
    found = spread_mm(heads, shown)
    assert found[shown].max() < 1e-6 and found[~shown] == pytest.approx(4)


def test_heads_outside_of_what_was_trained_on_are_away_from_it() -> None:
    rng, directions = np.random.default_rng(5), people(4, 0.01, seed=6) - PLATE
    known = TrainingHeads(
        (PLATE + np.einsum("nk,kvx->nvx", rng.normal(0, 1, (60, 4)), directions)).astype(np.float32)
    )
    inside = PLATE + 0.5 * directions[0]
    far = PLATE + 9 * directions[0]
    bumpy = PLATE + rng.normal(0, 0.003, PLATE.shape)
    inside_mm, far_mm, bumpy_mm = (known.away_mm(head) for head in (inside, far, bumpy))
    assert inside_mm < 0.6 and far_mm > 5 * inside_mm and bumpy_mm > 3


def test_the_groups_of_a_picture_are_what_it_shows_and_leaves_open() -> None:
    numbers = np.arange(len(PLATE))
    groups = spread.Groups(numbers < 80, {"back": numbers >= 100, "ears": (numbers >= 80) & (numbers < 100)})
    seen = numbers % 2 == 0
    parts = groups.of_picture(seen)
    assert np.array_equal(np.flatnonzero(parts["shown"]), numbers[:80:2])
    assert np.array_equal(np.flatnonzero(parts["hidden_side"]), numbers[1:80:2])
    assert np.array_equal(np.flatnonzero(parts["back"]), numbers[101::2])
    known = TrainingHeads(people(110).astype(np.float32))
    sitter = Sitter(np.zeros((1, 1, 3), np.uint8), None, people(1)[0], seen, 0.0)  # type: ignore[arg-type]
    heads = [known.heads[i] for i in range(3)]
    found = spread.measure([(sitter, heads)], groups, known)
    assert (
        found["seeds"] == 3 and found["pictures"] == 1 and set(found["spread_mm"]) == {"shown", "hidden_side"}
    )
    own = spread_mm(heads, parts["shown"])[parts["hidden_side"]].mean()
    assert found["spread_mm"]["hidden_side"] == pytest.approx(own, abs=1e-3)
