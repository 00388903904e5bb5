"""Skeletons: names that other programs keep, the joints of a humanoid, and fewer joints that pose alike."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.meshes import ball, ball_rig, bundled_head, cube, cube_rig
from topos_rt.errors import OptionError
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.rig import Rig, plain_names
from topos_rt.head.rig_fit import fit_rig
from topos_rt.head.skeleton import HUMANOID, humanoid_joints, with_skeleton


@cache
def rigged_mini() -> HeadMesh:
    head = bundled_head()
    assert head.rig is not None
    return dataclasses.replace(head, rig=fit_rig(head.rig, head.positions))


def chain(parents: list[int], holding: list[int]) -> HeadMesh:
    """Return a cube whose corners are held by some joints of a skeleton, named by letters, in turn."""
    count = len(parents)
    rig = dataclasses.replace(
        cube_rig(),
        joint_names=tuple("abcdefgh"[:count]),
        joint_parents=np.array(parents),
        joint_positions=np.arange(3 * count).reshape(-1, 3) / 10,
        skin_joints=np.stack([np.resize(holding, 8), *np.zeros((3, 8))], 1).astype(np.uint16),
    )
    return dataclasses.replace(cube(), rig=rig)


@pytest.mark.parametrize(
    ("given_names", "expected"),
    [
        (["eye.L", "head"], ("eye_L", "head")),
        (["mixamorig:Head", "a/b", "a\\b", "x [1]"], ("mixamorig_Head", "a_b", "a_b_2", "x__1_")),
        (["eye.L", "eye_L", "eye L"], ("eye_L_2", "eye_L", "eye_L_3")),
        (["eye.L", "eye_L", "eye_L_2"], ("eye_L_3", "eye_L", "eye_L_2")),
        (["."], ("_",)),
    ],
)
def test_names_without_dots(given_names: list[str], expected: tuple[str, ...]) -> None:
    assert plain_names(given_names) == expected


@given(st.lists(st.text(alphabet="ab. _:", min_size=1, max_size=4), unique=True))
def test_plain_names_differ_and_stay_plain(names: list[str]) -> None:
    found = plain_names(names)
    assert len(set(found)) == len(names) and not set("".join(found)) & set(". :")
    assert plain_names(found) == found


def test_a_rig_with_dots_in_its_file_still_reads(tmp_path: object) -> None:
    dotted = chain([-1, 0], [0, 1])
    assert dotted.rig is not None
    rig = dataclasses.replace(dotted.rig, joint_names=("head", "eye.L"))
    assert rig.joint_names == ("head", "eye_L")
    assert (
        bundled_head().rig is not None and "eye_L" in bundled_head().rig.joint_names
    )  # its file has "eye.L"


def test_mini_has_the_joints_of_a_humanoid() -> None:
    rig = bundled_head().rig
    assert rig is not None
    found = humanoid_joints(rig.joint_names)
    assert found == {"neck": "neck01", "head": "head", "jaw": "jaw", "leftEye": "eye_L", "rightEye": "eye_R"}
    assert set(found) == set(HUMANOID)
    place = dict(zip(rig.joint_names, rig.joint_positions, strict=True))
    assert place[found["leftEye"]][0] > 0 > place[found["rightEye"]][0]  # the head's own left, facing +Z


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["mixamorig_Neck", "mixamorig_Head", "mixamorig_LeftEye"], ["neck", "head", "leftEye"]),
        (["neck_1_joint", "head_joint", "jaw_joint", "right_eye_joint"], ["neck", "head", "jaw", "rightEye"]),
        (["Head", "Jaw", "LeftEye", "RightEye"], ["head", "jaw", "leftEye", "rightEye"]),
        (["J_Bip_C_Head", "J_Adj_L_FaceEye"], ["head"]),
        (["headTop_End", "jawLine", "eyebrow_L"], []),
    ],
)
def test_joints_are_recognized_by_the_names_of_other_programs(names: list[str], expected: list[str]) -> None:
    assert list(humanoid_joints(names)) == expected


def test_a_compact_skeleton_of_mini_holds_every_vertex_and_poses_alike() -> None:
    head = rigged_mini()
    compact = head.with_rig(skeleton="compact")
    assert head.rig is not None and compact.rig is not None
    rig = compact.rig
    used = set(rig.skin_joints[rig.skin_weights > 0].tolist())
    assert used == set(range(len(rig.joint_names))) and len(used) < len(head.rig.joint_names)
    assert np.count_nonzero(rig.joint_parents < 0) == 1
    degrees = {"head": (5, 20, 0), "jaw": (15, 0, 0), "eye_L": (0, 20, 0), "neck02": (0, 0, 10)}
    same = head.posed({"jawOpen": 0.5}, degrees=degrees).positions
    assert compact.posed({"jawOpen": 0.5}, degrees=degrees).positions == pytest.approx(same, abs=1e-6)
    assert np.abs(same - head.positions).max() > 0.01
    place = dict(zip(head.rig.joint_names, head.rig.joint_positions, strict=True))
    for name, position in zip(rig.joint_names, rig.joint_positions, strict=True):
        assert np.array_equal(place[name], position)


@pytest.mark.parametrize(
    ("parents", "holding", "names", "expected"),
    [
        ([-1, 0, 1], [2], "c", [-1]),  # what nothing hangs on goes, above and below
        ([-1, 0, 1, 2], [0, 2], "ac", [-1, 0]),
        ([-1, 0, 0], [1, 2], "abc", [-1, 0, 0]),  # the joint that both hang on becomes the root
        ([-1, 0, 1, 1], [2, 3], "bcd", [-1, 0, 0]),
        ([-1, -1], [0, 1], ["root", "a", "b"], [-1, 0, 0]),  # there is none
    ],
)
def test_compact_skeletons_have_one_root(
    parents: list[int], holding: list[int], names: list[str], expected: list[int]
) -> None:
    head = chain(parents, holding)
    assert head.rig is not None
    rig = with_skeleton(head.rig, "compact")
    assert rig.joint_names == tuple(names) and rig.joint_parents.tolist() == expected
    before = [head.rig.joint_names[joint] for joint in head.rig.skin_joints[:, 0]]
    assert [rig.joint_names[joint] for joint in rig.skin_joints[:, 0]] == before


def test_a_root_that_is_added_has_a_name_of_its_own() -> None:
    head = chain([-1, -1], [0, 1])
    assert head.rig is not None
    rig = with_skeleton(dataclasses.replace(head.rig, joint_names=("root", "b")), "compact")
    assert rig.joint_names == ("root_2", "root", "b")


def test_unknown_skeletons_are_refused() -> None:
    rig: Rig = fit_rig(ball_rig(), ball().positions)
    assert with_skeleton(rig, "full") is rig
    with pytest.raises(OptionError, match="unknown skeleton: got 'small'; expected one of: full, compact"):
        with_skeleton(rig, "small")
