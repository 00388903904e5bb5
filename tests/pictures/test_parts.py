"""Previews draw teeth and lashes where they are seen, and nowhere else."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest

from tests.part_heads import dressed, plain
from topos_rt.engines import EngineOptions
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.part_kit import PIECES
from topos_rt.head.parts import parts_of
from topos_rt.model.bundle import Bundle
from topos_rt.model.frame import place
from topos_rt.model.networks import Networks
from topos_rt.pictures.colour import LINEAR
from topos_rt.pictures.preview import Frame, render_view
from topos_rt.pictures.shading import Sitter

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
def drawn_at_random() -> list[HeadMesh]:
    """Return heads that `mini`'s decoder makes of random latents, with their parts."""
    bundle = Bundle.open("mini", verify=False)
    latent, rng, found = bundle.manifest.latent, np.random.default_rng(5), []
    with Networks.open(bundle, "onnxruntime", EngineOptions()) as networks:
        for _ in range(4):
            noise = rng.standard_normal((1, latent.tokens, latent.channels)).astype(np.float32)
            head = place(networks.decode(noise), bundle.manifest.frame, bundle.topology)
            assert bundle.parts is not None
            found.append(dataclasses.replace(head, parts=parts_of(bundle.parts, head.positions, None)))
    return found


def test_closed_lips_hide_the_teeth() -> None:
    """Between lips that do not quite meet a line may show; through them, nothing."""
    for head in [plain(), *drawn_at_random()]:
        for yaw in (0.0, -45.0):
            assert teeth_seen(head, yaw) < 8, teeth_seen(head, yaw)


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
