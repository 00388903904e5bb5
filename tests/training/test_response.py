"""The response that is measured on people whose heads are known, where a model errs in one known way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models import landmark_response as measured
from tests import needs

needs.module("numba")
from tests.landmark_worlds import SIZE, World, camera, face_of
from topos_rt import HeadPipeline
from topos_rt.errors import OptionError
from topos_rt.model.bundle import Bundle
from training import response
from training.sitters import Sitter

PEOPLE = 30


@pytest.fixture(scope="module")
def pipe() -> Iterator[HeadPipeline]:
    with HeadPipeline.open("mini", "onnxruntime", threads=1) as opened:
        yield opened


def people(world: World) -> list[Sitter]:
    """Return people who differ from the mean head along one field, seen with noise of 0.6 pixels."""
    draw, landmarks = np.random.default_rng(0), world.bundle.landmarks
    assert landmarks is not None
    found = []
    for number in draw.standard_normal(PEOPLE):
        head = world.head(np.array([number])).astype(np.float32)
        yaw = float(draw.uniform(-10, 10))
        face = face_of(landmarks.points(head), camera(yaw), draw.normal(0, 0.6, (468, 2)))
        picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        found.append(Sitter(picture, face, head, np.ones(len(head), bool), yaw))
    return found


def test_it_finds_the_way_in_which_a_model_errs(pipe: HeadPipeline) -> None:
    bundle = Bundle.open("mini", verify=False)
    plain = World(bundle, (1, 1), np.zeros((1, 1, 3)), np.ones(1))
    world = World(bundle, (1, 1), plain.mean[None] * [0.06, 0, 0], np.ones(1))  # how wide heads are
    sitters = people(world)

    class Blind(SimpleNamespace):
        def __call__(self, picture: np.ndarray, **options: Any) -> Any:
            return SimpleNamespace(positions=world.mean)

    blind: Any = Blind(bundle=bundle, _networks=pipe._networks)
    found = response.measure(blind, sitters)
    assert bundle.landmarks is not None
    rest = bundle.landmarks.points(world.mean.astype(np.float64))
    wanted = measured.without_similarity(bundle.landmarks.points(world.fields), rest)[0]
    moved = found.moves[0] * found.spreads[0]
    assert found.spreads[0] > 3 * found.spreads[1]
    alike = (moved * wanted).sum() / np.linalg.norm(moved) / np.linalg.norm(wanted)
    assert abs(alike) > ALIKE
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(wanted), rel=0.5)
    # 0.6 of about 85 pixels, and what the neighbours are said to share
    assert 0.005 < np.median(found.errors.noise) < 0.025


def test_too_few_people_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = ["x", "--bundle", "none", "--pictures", str(tmp_path), "--people", "99"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(OptionError, match="--people: got 99; expected 100 or more"):
        response.main()


ALIKE = 0.7
