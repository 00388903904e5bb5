"""Previews draw teeth and lashes where they are seen, and nowhere else."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.part_heads import dressed, plain
from topos_rt import HeadPipeline
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.part_kit import PIECES
from topos_rt.pictures.colour import LINEAR
from topos_rt.pictures.preview import Frame, render_view
from topos_rt.pictures.shading import Sitter

ROOT = Path(__file__).resolve().parents[2]
SIZE = 400
MM2 = (0.25 / (2 * SIZE * 0.84)) ** 2 * 1e6  # of a sample, about: a head of 25 cm fills 0.84 of the height


def teeth_seen(head: HeadMesh, yaw: float = 0.0) -> float:
    """Return how much of the teeth a picture shows, in square millimetres."""
    sitter = Sitter.of(head)
    frame = Frame.around(sitter, yaw, 0, SIZE, round(SIZE * 0.8))
    assert sitter.parts is not None and head.parts is not None
    away = frame.drawn(sitter)[2]
    triangle, _, nearer = frame.drawn(sitter.parts, False)
    kit = head.parts.kit
    piece = kit.pieces[kit.triangles[triangle[nearer < away]][:, 0]]
    teeth = [number for number, each in enumerate(PIECES.values()) if each.material == "teeth"]
    return float(np.isin(piece, teeth).sum() * MM2)


@cache
def people() -> list[HeadMesh]:
    """Return the heads of portraits, with their parts."""
    portraits = sorted((ROOT / "examples" / "people").glob("*.jpg"))[::2]
    with HeadPipeline.open("mini", "onnxruntime", threads=1) as pipe:
        return pipe(portraits)


def test_closed_lips_hide_the_teeth() -> None:
    """Between lips that do not quite meet a line may show, dark and 0.4 mm high; through them, nothing."""
    for head in [plain(), *people()]:
        for yaw in (0.0, -45.0):
            assert teeth_seen(head, yaw) < 20, teeth_seen(head, yaw)


@pytest.mark.parametrize(("shapes", "least"), [({"jawOpen": 1.0}, 100), ({"mouthUpperUpLeft": 1.0}, 60)])
def test_an_open_mouth_shows_them(shapes: dict[str, float], least: float) -> None:
    assert teeth_seen(plain().posed(shapes)) > least


def test_lashes_darken_the_rim_of_the_lids() -> None:
    head = dressed()
    with_them = render_view(head, size=600)
    without = render_view(dataclasses.replace(head, parts=None), size=600)
    darker = LINEAR[without].mean(2) - LINEAR[with_them].mean(2)
    rows, columns = np.nonzero(np.abs(darker) > 0.02)
    assert 40 < len(rows) < 4000
    assert (darker[rows, columns] > 0).mean() > 0.9
    assert rows.min() > 150 and rows.max() < 400  # the eyes, and perhaps a line between the lips


def test_a_head_without_parts_is_drawn_as_before() -> None:
    head = plain()
    bare = dataclasses.replace(head, parts=None)
    assert Sitter.of(bare).parts is None
    far = render_view(head, 180, size=300)  # from behind, no part is seen
    assert np.array_equal(far, render_view(bare, 180, size=300))
