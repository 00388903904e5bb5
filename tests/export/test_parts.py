"""`python -m export parts`: on a copy of `mini` without its parts, and what it refuses."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import needs

needs.module("scipy")

from export.__main__ import main
from export.parts.binding import Truth, chosen_anchors, fitted, motion, nearest_frames
from export.parts.makehuman import grid_of
from topos_rt.head.part_kit import PIECES
from topos_rt.head.pose import rotation_of
from topos_rt.model.bundle import Bundle, write_manifest


def without(path: Path, key: str) -> Path:
    """Copy `mini` to a path, without the file that a key of its manifest names."""
    shutil.copytree(Bundle.open("mini").path, path)
    manifest = Bundle.open(path).manifest
    (path / getattr(manifest, key)).unlink()
    write_manifest(path, dataclasses.replace(manifest, **{key: None}))
    return path


@pytest.mark.slow  # it needs anny, of the extra `training`, which compiles kernels for a minute
def test_the_parts_that_ship_can_be_made_again(tmp_path: Path) -> None:
    needs.module("anny")
    path = without(tmp_path / "mini", "parts")
    assert Bundle.open(path).parts is None
    assert main(["parts", str(path)]) == 0
    own, ours = Bundle.open(path).parts, Bundle.open("mini").parts
    assert own is not None and ours is not None
    for name, array in own.to_tensors().items():
        if name in ("weights", "rest", "motions", "uvs"):
            away = np.abs(array.astype(float) - ours.to_tensors()[name].astype(float))
            assert away.max() < 5e-3, name
        elif name != "picture":
            assert (array == ours.to_tensors()[name]).mean() > 0.99, name
    assert np.abs(own.pixels.astype(int) - ours.pixels).mean() < 0.5
    assert own.motion_shapes == ours.motion_shapes == ("jawForward", "jawLeft", "jawOpen", "jawRight")
    assert "CC0" in own.source


def test_a_bundle_without_an_atlas_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = without(tmp_path / "mini", "atlas")
    assert main(["parts", str(path)]) == 2
    assert "fix: run 'python -m export atlas" in capsys.readouterr().err


@pytest.mark.slow  # it needs anny, of the extra `training`, which compiles kernels for a minute
def test_another_topology_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs.module("anny")
    path = tmp_path / "mini"
    shutil.copytree(Bundle.open("mini").path, path)
    bundle = Bundle.open(path)
    turned = bundle.topology.polygon_vertices.reshape(-1, 4)[:, [1, 2, 3, 0]].reshape(-1)
    other = dataclasses.replace(bundle.topology, polygon_vertices=np.ascontiguousarray(turned), lods=())
    other.save(path / bundle.manifest.topology)
    write_manifest(path, bundle.manifest)
    before = (path / "parts.safetensors").read_bytes()
    assert main(["parts", str(path)]) == 2
    assert "expected that of MakeHuman's head" in capsys.readouterr().err
    assert (path / "parts.safetensors").read_bytes() == before


def test_without_the_package_the_message_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "anny", None)
    assert main(["parts", str(without(tmp_path / "mini", "parts"))]) == 2
    assert "topos-rt[training]" in capsys.readouterr().err


def test_a_grid_is_found_among_shuffled_quads() -> None:
    rows, columns = 5, 13
    number = np.random.default_rng(0).permutation(rows * columns).reshape(rows, columns)
    quads = np.stack([number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]], -1).reshape(-1, 4)
    draw = np.random.default_rng(1)
    quads = np.array([np.roll(quad, draw.integers(4)) for quad in draw.permutation(quads)])
    found = grid_of(quads)
    same = [number, number[::-1], number[:, ::-1], number[::-1, ::-1]]
    assert any(np.array_equal(found, one) for one in same)


def test_weights_repeat_affine_maps_and_learn_what_moves() -> None:
    """A part that is a fixed combination of vertices is found again, on heads that nobody saw."""
    rng = np.random.default_rng(2)
    heads = rng.normal(0, 0.05, (1, 60, 3)) + rng.normal(0, 0.01, (400, 60, 3))
    anchors = chosen_anchors(heads.mean(0), heads.mean(0)[:5], 0.08, 30)
    assert len(set(anchors.tolist())) == 30
    true = rng.dirichlet(np.ones(30), 7)
    points = np.einsum("mk,nkc->nmc", true, heads[:, anchors])
    none = np.zeros((0, 60, 3)), np.zeros((0, 7, 3))
    weights = fitted(Truth(heads[:300], points[:300], *none), anchors, False)
    assert np.abs(weights.sum(1) - 1).max() < 1e-9
    off = np.einsum("mk,nkc->nmc", weights, heads[300:, anchors]) - points[300:]
    assert np.abs(off).max() < 1e-3
    turn = rotation_of(np.array([0.3, -1.0, 0.5])) * 1.7
    mean, own = heads[:300].mean(0), points[:300].mean(0)
    assert np.abs(weights @ (mean[anchors] @ turn.T) - own @ turn.T).max() < 1e-9


def test_frames_of_triangles_follow_a_similarity() -> None:
    rng = np.random.default_rng(3)
    head, triangles = rng.normal(0, 0.1, (9, 3)), np.arange(9).reshape(3, 3)
    points, turn = rng.normal(0, 0.1, (4, 3)), rotation_of(np.array([0.1, 0.7, -0.3])) * 1.4
    heads = np.stack([head, head])  # their mean is the head itself
    truth = Truth(heads, np.stack([points, points]), np.zeros((0, 9, 3)), np.zeros((0, 4, 3)))
    assert np.abs(nearest_frames(truth, triangles) - points).max() < 1e-9
    moved = dataclasses.replace(truth, heads=np.stack([head, head @ turn.T]))
    rest = dataclasses.replace(moved, heads=heads)
    assert np.abs(nearest_frames(rest, triangles)[0] - points).max() < 1e-9


def test_a_motion_is_the_map_that_made_it() -> None:
    rng = np.random.default_rng(4)
    rest, turn = rng.normal(0, 0.02, (20, 3)), rotation_of(np.array([0.4, 0, 0]))
    matrix = motion(rest, rest @ turn.T + [0, -0.01, 0] - rest)
    assert matrix is not None
    assert np.abs(matrix - np.concatenate([turn, [[0], [-0.01], [0]]], 1)).max() < 1e-9
    assert motion(rest, np.full((20, 3), 1e-5)) is None


def test_every_piece_of_the_kit_has_vertices() -> None:
    kit = Bundle.open("mini", verify=False).parts
    assert kit is not None
    assert (np.bincount(kit.pieces, minlength=len(PIECES)) > 0).all()
