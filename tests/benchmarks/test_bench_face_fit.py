"""The measures of benchmarks/bench_face_fit.py on answers that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_face_fit import _columns, _expressions, _pose_errors
from benchmarks.face_pictures import Labelled, read

SHAPES = ("jawOpen", "browInnerUp", "tongueOut")


def pictures(count: int = 40) -> Labelled:
    rng = np.random.default_rng(0)
    turns = np.tile(np.eye(3), (count, 1, 1))
    weights = rng.uniform(0, 1, (count, 3)) * [1, 1, 0]
    return Labelled(
        SHAPES, count, np.zeros((count, 4, 3)), turns, weights, np.zeros((count, 478, 3)), weights[:, :2]
    )


def test_errors_of_angles() -> None:
    truth = np.array([[0, 0, 179], [10, 0, -179], [20, 0, 0]])
    errors = _pose_errors(truth + np.array([3, -1, 4]), truth)
    assert errors["yaw"] == {"bias": 3, "median": 3, "p90": 3}
    assert errors["pitch"]["bias"] == -1 and errors["pitch"]["median"] == 1
    assert errors["roll"]["p90"] == pytest.approx(4)  # past 180 degrees it begins anew


def test_correlations_of_expressions() -> None:
    made = pictures()
    found = {
        "right": _columns(made, ["browInnerUp", "jawOpen"], made.weights[:, [1, 0]]),
        "half": _columns(made, ["jawOpen"], made.weights[:, :1] / 2),
        "constant": _columns(made, list(SHAPES), np.ones((40, 3))),
    }
    result = _expressions(made, found, np.zeros((40, 3)))
    assert set(result) == {"jawOpen", "browInnerUp"}  # no picture shows a tongue
    assert result["jawOpen"]["right"] == {"correlation": 1, "error": 0}
    assert result["jawOpen"]["half"]["correlation"] == 1 and result["jawOpen"]["half"]["error"] > 0.2
    assert result["jawOpen"]["constant"]["correlation"] == 0
    assert "half" not in result["browInnerUp"]
    turned = np.full((40, 3), 50.0)
    assert _expressions(made, found, turned) == {}


def test_only_clean_pictures_are_read(tmp_path: Path) -> None:
    made = pictures(5)
    np.savez(
        tmp_path / "set.npz", names=np.array(SHAPES), neutral=made.neutral, rotation=made.turn, missed=2,
        weights=made.weights, landmarks=made.landmarks, scores=made.scores, clean=np.arange(5) > 1,
    )  # fmt: skip
    found = read(tmp_path / "set.npz")
    assert len(found) == 3 and found.pictures == 7 and found.shapes == SHAPES
    assert np.array_equal(found.weights, made.weights[2:])
