"""Teeth and lashes: where a head places them, and that they follow what it does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.part_heads import kit, plain, small_kit
from topos_rt.errors import BundleError, MeshInputError
from topos_rt.head.part_kit import PIECES, PartKit
from topos_rt.head.parts import Parts, parts_of
from topos_rt.head.pose import rotation_of
from topos_rt.head.rig_fit import fit_rig
from topos_rt.head.skeleton import humanoid_joints
from topos_rt.model.bundle import Bundle

TEETH, LASHES = ("upper_teeth", "lower_teeth"), tuple(PIECES)[2:]
finite = st.floats(-1, 1, allow_nan=False)


def span(name: str) -> slice:
    return kit().span(list(PIECES).index(name))


def moved(shapes: dict[str, float], **turns: tuple[float, float, float]) -> np.ndarray:
    """Return how far [m] the parts of the mean head move, in metres."""
    head = plain()
    posed = head.posed(shapes, degrees=turns)
    assert posed.parts is not None and head.parts is not None
    return np.linalg.norm(posed.parts.positions - head.parts.positions, axis=1)


@settings(deadline=None, max_examples=25)
@given(
    turn=st.tuples(finite, finite, finite), shift=st.tuples(finite, finite, finite), scale=st.floats(0.3, 3)
)
def test_parts_go_where_the_head_goes(
    turn: tuple[float, ...], shift: tuple[float, ...], scale: float
) -> None:
    """Weights repeat every affine map: a head that is turned, shifted and scaled takes its parts along."""
    rotation = scale * rotation_of(3 * np.array(turn))
    rest = plain().positions.astype(np.float64)
    found = kit().placed(rest @ rotation.T + np.array(shift))
    expected = kit().placed(rest) @ rotation.T + np.array(shift)
    # float16 weights: their rounding is relative to the span of the anchors
    assert np.abs(found - expected).max() < 1e-4 * scale


def test_a_motion_turns_and_grows_with_the_head() -> None:
    """The jaw opens as far on a head twice as large, and in the direction in which the head looks."""
    head, rig = plain(), plain().rig
    assert rig is not None and head.parts is not None
    template = Bundle.open("mini", verify=False).rig
    assert template is not None
    turn = rotation_of(np.array([0.2, 0.9, -0.4]))
    other = 2 * head.positions.astype(np.float64) @ turn.T
    found = parts_of(kit(), other, fit_rig(template, other))
    part = span("lower_teeth")
    assert found.rig is not None and head.parts.rig is not None
    expected = 2 * head.parts.rig.shape("jawOpen")[part] @ turn.T
    assert np.abs(found.rig.shape("jawOpen")[part] - expected).max() < 2e-4


def test_the_same_head_gives_the_same_parts() -> None:
    head = plain()
    again = parts_of(kit(), head.positions, head.rig)
    assert head.parts is not None and again.rig is not None and head.parts.rig is not None
    assert np.array_equal(again.positions, head.parts.positions)
    assert all(
        np.array_equal(array, again.rig.to_tensors()[name])
        for name, array in head.parts.rig.to_tensors().items()
    )


def test_teeth_lie_in_the_mouth_and_lashes_at_the_lids() -> None:
    head = plain()
    assert head.parts is not None
    lips = head.positions[head.topology.regions["lips"]]
    for name in TEETH:
        teeth = head.parts.positions[span(name)]
        assert np.abs(teeth[:, 0]).max() < 0.04 and teeth[:, 2].max() < lips[:, 2].max() - 0.003
        assert abs(teeth[:, 1].mean() - lips[:, 1].mean()) < 0.02
    lids = head.positions[head.topology.regions["eyelids"]]
    for name in LASHES:
        root = head.parts.positions[span(name)]
        away = np.linalg.norm(root[:, None] - lids[None], axis=2).min(1)
        assert away.min() < 0.002 and away.max() < 0.012
        assert (root[:, 0] > 0).all() == name.startswith("left")


def test_the_jaw_takes_the_lower_teeth_and_nothing_else() -> None:
    away = moved({"jawOpen": 1})
    assert away[span("lower_teeth")].min() > 0.01 and away[span("upper_teeth")].max() == 0
    assert all(away[span(name)].max() < 1e-3 for name in LASHES)
    rig = plain().rig
    assert rig is not None
    away = moved({}, **{humanoid_joints(rig.joint_names)["jaw"]: (20, 0, 0)})
    assert away[span("lower_teeth")].min() > 0.005 and away[span("upper_teeth")].max() == 0
    away = moved({}, **{humanoid_joints(rig.joint_names)["head"]: (0, 20, 0)})
    assert all(away[span(name)].max() > 0.01 for name in PIECES)  # all of them turn with the head


@pytest.mark.parametrize("shape", ["mouthSmileLeft", "mouthPucker", "mouthUpperUpLeft", "tongueOut"])
def test_lips_do_not_move_teeth(shape: str) -> None:
    away = moved({shape: 1})
    assert all(away[span(name)].max() == 0 for name in TEETH)


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_a_blink_takes_the_upper_lashes_down_with_the_lid(side: str) -> None:
    head, name = plain(), f"{side.lower()}_upper_lashes"
    assert head.parts is not None and head.rig is not None
    closed = head.posed({f"eyeBlink{side}": 1})
    assert closed.parts is not None
    part = span(name)
    lids = head.topology.regions["eyelids"]

    def to_lid(points: np.ndarray, vertices: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points[:, None] - vertices[None, lids], axis=2).min(1)

    assert (closed.parts.positions - head.parts.positions)[part, 1].mean() < -0.004
    before, after = (
        to_lid(each.parts.positions[part], each.positions) for each in (head, closed) if each.parts
    )
    assert np.abs(after - before).max() < 0.003  # they neither leave the lid nor sink in
    other = span(f"{'right' if side == 'Left' else 'left'}_upper_lashes")
    assert np.abs((closed.parts.positions - head.parts.positions)[other]).max() < 1e-3


def test_the_rig_of_the_parts_is_that_of_the_head() -> None:
    head = plain()
    for skeleton, morphs in (("compact", "visemes"), ("full", "jawOpen,eyeBlinkLeft"), ("compact", "none")):
        other = head.with_rig(skeleton=skeleton, morphs=morphs)
        assert other.rig is not None and other.parts is not None and other.parts.rig is not None
        own = other.parts.rig
        assert own.joint_names == other.rig.joint_names and own.shape_names == other.rig.shape_names
        turned = {humanoid_joints(own.joint_names)["jaw"]: (15.0, 0.0, 0.0)}
        found, expected = (each.posed({}, degrees=turned).parts for each in (other, head))
        assert found is not None and expected is not None
        assert np.abs(found.positions - expected.positions).max() < 1e-6


def test_levels_of_detail_keep_the_parts() -> None:
    head, low = plain(), plain().lod(2)
    assert head.parts is not None and low.parts is not None
    assert np.array_equal(low.parts.positions, head.parts.positions)
    assert len(low.parts.kit.surfaces) == len(low.topology.uvs)
    assert len(low.parts.kit.head_shade) == low.topology.num_vertices
    moved_parts = low.posed({"jawOpen": 1}).parts
    assert moved_parts is not None and not np.array_equal(moved_parts.positions, low.parts.positions)


def test_parts_with_another_rig_are_refused() -> None:
    head = plain()
    assert head.parts is not None and head.rig is not None
    with pytest.raises(MeshInputError, match="the rig of the parts: got 64 joints, 52 blendshapes"):
        dataclasses.replace(head, rig=head.with_rig(morphs="none").rig)
    with pytest.raises(MeshInputError, match="the rig of the parts: got none"):
        dataclasses.replace(head, parts=Parts(head.parts.kit, head.parts.positions))
    with pytest.raises(MeshInputError, match=r"parts positions: got shape \[3, 3\]"):
        Parts(kit(), np.eye(3))
    with pytest.raises(MeshInputError, match="the rig of the parts: got 4538 vertices"):
        Parts(kit(), head.parts.positions, head.rig)


def test_a_kit_goes_to_a_file_and_back(tmp_path: Path) -> None:
    for number, one in enumerate((small_kit(), kit())):
        path = tmp_path / f"{number}.safetensors"
        one.save(path)
        first = path.read_bytes()
        read = PartKit.load(path)
        read.save(path)
        assert path.read_bytes() == first and read.motion_shapes == one.motion_shapes
        assert read.source == one.source and read.pixels.shape[2] == 4


def put(name: str, row: Any, value: float) -> Callable[[dict[str, np.ndarray]], None]:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name][row] = value

    return change


BAD: dict[str, tuple[Callable[[dict[str, np.ndarray]], object], str]] = {
    "NaN in the weights": (put("weights", (0, 0), np.nan), "parts weights"),
    "weights of another sum": (put("weights", 0, 3), "row sum of 12"),
    "NaN at rest": (put("rest", (2, 1), np.nan), "parts rest"),
    "NaN in a motion": (put("motions", (0, 0, 0), np.nan), "parts motions"),
    "UV outside": (put("uvs", (0, 0), 1.5), "got parts uvs: points outside"),
    "quad of an unknown vertex": (put("quads", (0, 0), 999), "got parts quads: 999"),
    "quad of two pieces": (put("quads", (0, 0), 7), "one of several pieces"),
    "anchor below zero": (put("anchors", (0, 0), -1), "got parts anchors: -1"),
    "holder below zero": (put("holders", 0, -5), "got parts holders: -5"),
    "unknown piece": (put("pieces", slice(-4, None), 9), "got parts pieces: 9"),
    "pieces out of order": (put("pieces", 0, 1), "of several pieces|unsorted"),
    "motion of an unknown piece": (put("motion_pieces", 0, 200), "got parts motion_pieces: 200"),
    "unknown surface": (put("surfaces", 0, 3), "got parts surfaces: 3"),
    "fewer UVs": (lambda t: t.update(uvs=t["uvs"][:-1]), "got parts uvs: shape"),
    "fewer weights": (lambda t: t.update(weights=t["weights"][:, :-1]), "got parts weights: shape"),
    "no anchors": (lambda t: t.update(anchors=t["anchors"][:, :0], weights=t["weights"][:, :0]), "none"),
    "no vertices": (lambda t: t.update(pieces=t["pieces"][:0]), "got parts: 0 vertices"),
    "no quads": (lambda t: t.update(quads=t["quads"][:0]), "got parts quads: none"),
    "text for weights": (lambda t: t.update(weights=t["weights"].view(np.uint8)), "parts weights"),
    "an array more": (lambda t: t.update(more=np.zeros(1, np.uint8)), "more"),
    "an array less": (lambda t: t.pop("rest"), "arrays, but"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_kit_is_refused_in_one_line(case: str) -> None:
    change, message = BAD[case]
    arrays = dict(small_kit().to_tensors())
    change(arrays)
    with pytest.raises(BundleError) as caught:
        PartKit.from_tensors(arrays, small_kit().names(), "file of the parts x")
    assert any(part in str(caught.value) for part in message.split("|"))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "told", ["", "null", "[]", "{", '{"pieces": []}', '{"pieces": 1, "source": "", "motion_shapes": []}']
)
def test_a_kit_of_other_pieces_is_refused(told: str) -> None:
    with pytest.raises(BundleError, match=r"a file written by PartKit\.save"):
        PartKit.from_tensors(dict(small_kit().to_tensors()), told, "file of the parts x")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "parts.safetensors"
    small_kit().save(path)
    whole = path.read_bytes()
    for end in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(BundleError):
            PartKit.load(path)
    broken = dataclasses.replace(small_kit(), picture=small_kit().picture[:-40])
    with pytest.raises(BundleError, match="a square RGBA picture of 64 to 2048 pixels"):
        _ = broken.pixels


def test_a_bundle_whose_parts_are_of_another_topology_is_refused(tmp_path: Path) -> None:
    import shutil

    from topos_rt.model.bundle import write_manifest

    source = Bundle.open("mini", verify=False)
    shutil.copytree(source.path, tmp_path / "mini")
    assert source.manifest.parts is not None
    small_kit().save(tmp_path / "mini" / source.manifest.parts)
    write_manifest(tmp_path / "mini", source.manifest)
    with pytest.raises(BundleError, match="parts and topology of a bundle do not fit: got parts of 8"):
        _ = Bundle.open(tmp_path / "mini").parts
