"""The measures of benchmarks/bench_face_fit.py on answers that are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.bench_face_fit import _columns, _expressions, _pose_errors
from benchmarks.face_pictures import Labelled, read
from tests.training.shard_files import write_shards
from topos_rt.faces.expression import NAMES

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


class Finder:
    """Sees one face in every picture."""

    def find_in(self, picture: Image.Image, count: int) -> list[SimpleNamespace]:
        assert count == 1
        side = float(picture.size[0])
        return [SimpleNamespace(landmarks=np.full((478, 3), side), expression=dict.fromkeys(NAMES, 0.25))]


def test_only_uncovered_faces_are_read(tmp_path: Path) -> None:
    """A beard is part of the face, a hand is not; the truth is that of the picture's person and camera."""
    heads = np.random.default_rng(0).normal(0, 0.1, (2, 5, 3)).astype(np.float32)
    write_shards(tmp_path, heads, np.zeros((16, 16, 3), np.uint8), [0.0, 30.0], worn=(0, 1, 2, 1))
    finder: Any = Finder()
    found = read(tmp_path, finder)
    assert len(found) == found.pictures == 3
    people = [0, 0, 1]
    middles = (heads.min(1) + heads.max(1)) / 2
    assert np.abs(found.neutral - (heads - middles[:, None])[people]).max() <= 2e-5
    assert [round(float(np.degrees(np.arctan2(t[0, 2], t[0, 0])))) for t in found.turn] == [0, 0, 30]
    assert (found.landmarks == 16).all() and (found.scores == 0.25).all()
