"""Blendshapes by group and name, and the visemes that are made of ARKit's."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tests.head.test_skeleton import rigged_mini
from tests.meshes import cube_rig
from topos_rt.errors import OptionError
from topos_rt.head.rig import Rig
from topos_rt.head.visemes import ARKIT, VISEMES, arkit_parts, with_morphs

OCULUS = "sil PP FF TH DD kk CH SS nn RR aa E ih oh ou".split()  # noqa: SIM905


def mini() -> Rig:
    rig = rigged_mini().rig
    assert rig is not None
    return rig


def test_the_tables_name_what_exists() -> None:
    assert list(VISEMES) == [f"viseme_{name}" for name in OCULUS]
    assert len(ARKIT) == len(set(ARKIT)) == 52 and set(mini().shape_names) == set(ARKIT)
    for viseme in VISEMES:
        parts = arkit_parts(viseme)
        assert set(parts) <= set(ARKIT) and all(0 < weight <= 1 for weight in parts.values())


@pytest.mark.parametrize("viseme", VISEMES)
def test_a_viseme_is_the_sum_that_the_table_says(viseme: str) -> None:
    rig = mini()
    expected = sum(
        weight * rig.shape(name).astype(np.float64) for name, weight in arkit_parts(viseme).items()
    )
    found = with_morphs(rig, "visemes").shape(viseme)
    assert found == pytest.approx(np.broadcast_to(expected, found.shape), abs=1e-8)
    assert (viseme == "viseme_sil") is not found.any()
    mirrored = [name for name in arkit_parts(viseme) if name.endswith("Left")]
    assert {name.replace("Left", "Right") for name in mirrored} <= set(arkit_parts(viseme))


def test_visemes_open_and_close_the_mouth_as_they_should() -> None:
    head = rigged_mini()
    said = head.with_rig(morphs="visemes")
    assert head.rig is not None
    jaw = int(np.argmin(head.rig.shape("jawOpen")[:, 1]))  # the vertex that the jaw lowers most
    fall = {name: head.positions[jaw, 1] - said.posed({name: 1}).positions[jaw, 1] for name in VISEMES}
    closed = [fall[f"viseme_{name}"] for name in ("sil", "PP", "FF")]
    assert fall["viseme_aa"] > fall["viseme_oh"] > fall["viseme_E"] > fall["viseme_ih"] > max(closed)


@pytest.mark.parametrize(
    ("morphs", "expected"),
    [
        ("all", ("jawOpen", "tongueOut", "mouthRight")),
        ("none", ()),
        ("mouthRight,jawOpen", ("mouthRight", "jawOpen")),
        (["jawOpen", "jawOpen"], ("jawOpen",)),
        (" jawOpen , all", ("jawOpen", "tongueOut", "mouthRight")),
        ("viseme_sil,jawOpen", ("viseme_sil", "jawOpen")),
    ],
)
def test_chosen_blendshapes_move_what_they_moved(morphs: Any, expected: tuple[str, ...]) -> None:
    rig = cube_rig()
    found = with_morphs(rig, morphs)
    assert found.shape_names == expected
    for name in expected:
        assert np.array_equal(
            found.shape(name), rig.shape(name) if name in rig.shape_names else np.zeros((8, 3))
        )


def test_arkit_leaves_out_a_rigs_own() -> None:
    rig = dataclasses.replace(cube_rig(), shape_names=("jawOpen", "mine", "mouthRight"))
    assert with_morphs(rig, "arkit").shape_names == ("jawOpen", "mouthRight")
    assert with_morphs(rig, "all") is rig


@pytest.mark.parametrize(
    ("morphs", "message"),
    [
        ("jawopen", r"unknown blendshape: got 'jawopen'; expected one of: .*; fix: did you mean 'jawOpen'"),
        ("", "morphs: got ''; expected all, arkit, visemes, none, or names"),
        ([], r"morphs: got \[\]"),
        ([1], r"morphs: got \[1\]"),
        ("none,jawOpen", "expected none alone"),
        ("jawOpen,", "morphs: got 'jawOpen,'"),
        (
            "visemes",
            "the blendshape viseme_PP: got a rig without mouthRollLower, .*; expected the blendshapes",
        ),
    ],
)
def test_names_that_a_rig_does_not_have(morphs: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        with_morphs(cube_rig(), morphs)
