from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.meshes import ball_rig, cube_rig, cube_topology
from topos_rt.errors import BundleError, MeshInputError
from topos_rt.head.rig import Binding, Rig
from topos_rt.support.tensorfile import read_tensors, write_tensors


def fields(part: Rig | Binding) -> dict[str, Any]:
    return {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}


@pytest.mark.parametrize("make", [cube_rig, ball_rig])
def test_rig_survives_saving(tmp_path: Path, make: Callable[[], Rig]) -> None:
    rig = make()
    rig.save(tmp_path / "rig.safetensors")
    rig.save(tmp_path / "again.safetensors")
    loaded = Rig.load(tmp_path / "rig.safetensors")
    assert (tmp_path / "rig.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    assert (loaded.binding is None) == (rig.binding is None)
    for before, after in ((rig, loaded), (rig.binding, loaded.binding)):
        for name, value in fields(before).items() if before and after else ():
            if name in ("binding", "source"):
                continue
            read = getattr(after, name)
            assert np.array_equal(value, read), name
            assert isinstance(value, tuple) or (value.dtype == read.dtype and not read.flags.writeable)


def test_rig_shape_is_dense_on_request() -> None:
    lifted = cube_rig().shape("jawOpen")
    assert np.flatnonzero(lifted.any(1)).tolist() == [2, 3, 6, 7]
    assert not cube_rig().shape("tongueOut").any()
    with pytest.raises(MeshInputError, match="unknown blendshape: got 'smile'; expected one of: jawOpen, "):
        cube_rig().shape("smile")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joint_names": ("a", "a")}, "joint names: got a repeated name"),
        ({"joint_names": ()}, "rig joints: got none"),
        ({"joint_names": ("",)}, "joint names: got one that is empty"),
        ({"joint_parents": np.array([0])}, "joint_parents: got 0; expected -1 or earlier"),
        ({"joint_parents": np.array([-1.0])}, "joint_parents: got dtype float64; expected int32"),
        ({"joint_positions": np.full((1, 3), np.nan)}, "joint_positions: got nan"),
        ({"skin_joints": np.ones((8, 4), np.int64)}, "skin_joints: got 1; expected joint ids below 1"),
        ({"skin_joints": np.full((8, 4), -1)}, r"skin_joints: got -1\.\.-1; expected values that fit uint16"),
        ({"skin_weights": np.full((8, 4), 0.3)}, "skin_weights: got a row sum of 1.2"),
        ({"skin_weights": np.tile([2.0, -1, 0, 0], (8, 1))}, "skin_weights: got a negative weight"),
        ({"skin_weights": np.ones((7, 4)) / 4}, "skin_weights: got shape"),
        ({"shape_offsets": np.array([0, 4, 4, 11])}, "numbers that rise from 0 to 12"),
        ({"shape_offsets": np.array([0, 5, 4, 12])}, "numbers that rise from 0 to 12"),
        ({"shape_index": np.array([2, 3, 6, 8, *range(8)])}, "shape_index: got 8; expected vertex ids"),
        ({"shape_index": np.array([3, 2, 6, 7, *range(8)])}, "repeated or unsorted"),
        ({"shape_index": np.array([2, 2, 6, 7, *range(8)])}, "repeated or unsorted"),
        ({"shape_delta": np.full((12, 3), np.inf)}, "shape_delta: got inf"),
        ({"shape_names": ("a", "b")}, "shape_offsets: got shape"),
    ],
)
def test_bad_rigs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MeshInputError, match=message):
        dataclasses.replace(cube_rig(), **changes)


def test_foreign_rig_files_are_refused(tmp_path: Path) -> None:
    topology = tmp_path / "topology.safetensors"
    cube_topology().save(topology)
    (tmp_path / "noise").write_bytes(b"\x00" * 100)
    for path in (topology, tmp_path / "noise", tmp_path / "missing"):
        with pytest.raises(BundleError, match=path.name):
            Rig.load(path)


# binding


def test_joints_are_weighted_sums_of_vertices() -> None:
    rig = ball_rig()
    assert rig.binding is not None
    points = rig.binding.template
    joints = rig.binding.joints(points * 2 + np.float32([1, 0, 0]))
    assert joints == pytest.approx(rig.joint_positions * 2 + [1, 0, 0], abs=1e-6)
    assert joints.dtype == np.float32 and joints[1, 1] > 0.14


def changed(**changes: Any) -> Binding:
    binding = ball_rig().binding
    assert binding is not None
    return dataclasses.replace(binding, **changes)


COUNT = ball_rig().num_vertices


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": np.zeros((COUNT, 3))}, "rig template: got the same point for every vertex"),
        ({"template": np.zeros((0, 3))}, "rig template: got the same point"),
        ({"template": np.full((COUNT, 3), np.nan)}, "rig template: got nan"),
        ({"parts": np.zeros(COUNT - 1, int)}, "rig parts: got shape"),
        ({"parts": np.ones(COUNT, int)}, "rig parts: got a part at every vertex"),
        ({"parts": np.full(COUNT, 256)}, "rig parts: got 256..256; expected values that fit uint8"),
        ({"joint_index": np.full(5, 0)}, "rig joint_index: got shape"),
        ({"joint_offsets": np.array([0, 0, 10])}, "rig joint_offsets: got other values"),
        ({"joint_offsets": np.array([], int)}, "rig joint_offsets: got other values"),
        ({"contact_pairs": np.array([[0, COUNT]])}, f"contact_pairs: got {COUNT}; expected vertex ids below"),
        ({"contact_pairs": np.array([[-1, 0]])}, "contact_pairs: got -1"),
        ({"contact_pairs": np.array([1, 2])}, "contact_pairs: got shape"),
        ({"contact_offsets": np.array([0, 0, 1, 1])}, "contact_offsets: got other values"),
    ],
)
def test_bad_bindings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MeshInputError, match=message):
        changed(**changes)


def test_joints_need_vertices_whose_weights_sum_to_one() -> None:
    two = {"joint_index": np.array([3, 4]), "joint_weight": np.array([2.0, -1.0])}
    assert changed(**two, joint_offsets=np.array([0, 2])).joints(np.eye(5, 3)).tolist() == [[0, 0, 0]]
    with pytest.raises(MeshInputError, match="a joint without vertices"):
        changed(**two, joint_offsets=np.array([0, 0, 2]))
    with pytest.raises(MeshInputError, match="joint_weight: got a sum of 2; expected sums of 1"):
        changed(**two, joint_offsets=np.array([0, 1, 2]))
    with pytest.raises(MeshInputError, match="joint_index: got"):
        changed(**(two | {"joint_index": np.array([3, COUNT])}), joint_offsets=np.array([0, 2]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"joint_index": np.array([0]), "joint_weight": np.ones(1), "joint_offsets": np.array([0, 1])},
            "rig joint_offsets: got shape",
        ),
        (
            {"contact_pairs": np.zeros((0, 2), int), "contact_offsets": np.array([0, 0])},
            "rig contact_offsets: got shape",
        ),
        (
            {
                "template": np.eye(4, 3),
                "parts": np.zeros(4, int),
                "joint_index": np.zeros(2, int),
                "joint_weight": np.ones(2),
                "joint_offsets": np.arange(3),
                "contact_pairs": np.zeros((0, 2), int),
                "contact_offsets": np.zeros(4, int),
            },
            "rig template: got shape",
        ),
    ],
)
def test_a_binding_of_another_rig_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MeshInputError, match=message):
        dataclasses.replace(ball_rig(), binding=changed(**changes))


def test_a_file_with_half_a_binding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rig.safetensors"
    ball_rig().save(path)
    tensors, metadata = read_tensors(path)
    del tensors["binding.parts"]
    write_tensors(path, tensors, metadata)
    with pytest.raises(BundleError, match=r"rig\.safetensors: got no valid 'binding.parts'"):
        Rig.load(path)


NAMES = {
    "no JSON": "{",
    "deep JSON": "[" * 99_999,
    "a number of 5,000 digits": '{"joints": [' + "9" * 5000 + '], "shapes": []}',
    "a list": "[]",
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_names_that_are_none(names: str, tmp_path: Path) -> None:
    ball_rig().save(tmp_path / "rig")
    tensors, _ = read_tensors(tmp_path / "rig")
    write_tensors(tmp_path / "bad", tensors, {"names": names})
    with pytest.raises(BundleError, match="rig file bad: got no valid") as caught:
        Rig.load(tmp_path / "bad")
    assert len(str(caught.value)) < 400
