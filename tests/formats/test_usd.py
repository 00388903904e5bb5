from __future__ import annotations

import builtins
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs
from tests.formats.usd_validation import validation
from tests.meshes import CORNERS, QUAD_UVS, QUADS, ball, ball_rig, bundled_head, cube, cube_rig, cube_topology
from topos_rt.errors import MissingExtraError
from topos_rt.formats import ExportOptions, write_usd, write_usda
from topos_rt.formats.usd import identifiers
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.rig_fit import fit_rig

pxr = needs.module("pxr")


def rigged_ball() -> HeadMesh:
    return dataclasses.replace(ball(), rig=fit_rig(ball_rig(), ball().positions), metadata={"seed": 3})


def rigged_mini() -> HeadMesh:
    head = bundled_head()
    assert head.rig is not None
    return dataclasses.replace(head, rig=fit_rig(head.rig, head.positions))


def stage_of(path: Path, head: HeadMesh, options: ExportOptions | None = None) -> Any:
    from pxr import Usd

    file = path / "head.usd"
    file.write_bytes(write_usd(head, options))
    return Usd.Stage.Open(str(file))


HEADS = {
    "cube": lambda: cube(), "cube without UVs": lambda: cube(uvs=False), "ball": ball,
    "cube with blendshapes": lambda: cube(rig=True), "rigged ball": rigged_ball, "mini": rigged_mini,
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("up", ["y", "z"])
def test_the_validators_of_usd_have_no_complaints(tmp_path: Path, name: str, up: str) -> None:
    stage = stage_of(tmp_path, HEADS[name](), ExportOptions(up=up))
    assert [error.GetErrorAsString() for error in validation(stage)] == []


def test_the_validators_do_complain(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, rigged_ball())
    stage.ClearDefaultPrim()
    stage.GetPrimAtPath("/head/mesh").RemoveAPI("SkelBindingAPI")
    assert len(validation(stage)) >= 2


def test_the_mesh_is_that_of_the_head(tmp_path: Path) -> None:
    from pxr import UsdGeom

    stage = stage_of(tmp_path, cube())
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/head/mesh"))
    assert stage.GetDefaultPrim().GetPath() == "/head"
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1 and UsdGeom.GetStageUpAxis(stage) == "Y"
    assert np.array_equal(mesh.GetPointsAttr().Get(), CORNERS)
    assert np.array_equal(mesh.GetNormalsAttr().Get(), cube().normals)
    assert list(mesh.GetFaceVertexCountsAttr().Get()) == [4] * 6
    assert np.array_equal(mesh.GetFaceVertexIndicesAttr().Get(), np.ravel(QUADS))
    uvs = UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st")
    assert uvs.GetInterpolation() == "faceVarying"
    assert np.array_equal(uvs.ComputeFlattened(), cube_topology().uvs[np.ravel(QUAD_UVS)])
    told = stage.GetRootLayer().customLayerData["topos_rt:metadata"]
    assert json.loads(told) == cube().metadata


def test_units_and_axes(tmp_path: Path) -> None:
    from pxr import UsdGeom, UsdSkel

    head = rigged_ball()
    stage = stage_of(tmp_path, head, ExportOptions(units="cm", up="z"))
    assert UsdGeom.GetStageMetersPerUnit(stage) == 0.01 and UsdGeom.GetStageUpAxis(stage) == "Z"
    x, y, z = head.positions.T
    points = UsdGeom.Mesh(stage.GetPrimAtPath("/head/mesh")).GetPointsAttr().Get()
    assert np.array(points) == pytest.approx(np.stack([x, -z, y], 1) * 100, rel=1e-6, abs=1e-7)
    assert head.rig is not None
    x, y, z = head.rig.joint_positions[1]
    bind = UsdSkel.Skeleton(stage.GetPrimAtPath("/head/skeleton")).GetBindTransformsAttr().Get()[1]
    assert list(bind.ExtractTranslation()) == pytest.approx([x * 100, -z * 100, y * 100], abs=1e-4)


def posed_by_usd(stage: Any, weights: dict[str, float]) -> np.ndarray:
    """Return the points of the mesh posed by UsdSkel, an independent implementation of blendshapes."""
    from pxr import UsdGeom, UsdSkel

    animation = UsdSkel.Animation(stage.GetPrimAtPath("/head/rest"))
    names = animation.GetBlendShapesAttr().Get()
    animation.GetBlendShapeWeightsAttr().Set([weights.get(name, 0.0) for name in names])
    assert UsdSkel.BakeSkinning(UsdSkel.Root(stage.GetPrimAtPath("/head")))
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/head/mesh"))
    return np.array(
        mesh.GetPointsAttr().Get(1.0)
        if mesh.GetPointsAttr().GetNumTimeSamples()
        else mesh.GetPointsAttr().Get()
    )


@pytest.mark.parametrize(
    ("head", "weights"),
    [
        (rigged_ball, {}),
        (rigged_ball, {"swell": 0.5, "turn": 1.0}),
        (rigged_mini, {"jawOpen": 1.0, "eyeBlinkLeft": 0.75}),
    ],
)
def test_usd_poses_the_head_as_we_do(tmp_path: Path, head: Any, weights: dict[str, float]) -> None:
    posed = posed_by_usd(stage_of(tmp_path, head()), weights)
    assert posed == pytest.approx(head().posed(weights).positions, abs=1e-6)
    assert not weights or np.abs(posed - head().positions).max() > 0.005


def test_skin_and_skeleton_are_those_of_the_rig(tmp_path: Path) -> None:
    from pxr import Usd, UsdSkel

    head = rigged_mini()
    assert head.rig is not None
    stage = stage_of(tmp_path, head)
    skeleton = UsdSkel.Skeleton(stage.GetPrimAtPath("/head/skeleton"))
    joints = list(skeleton.GetJointsAttr().Get())
    assert joints[:3] == ["root", "root/neck01", "root/neck01/neck02"]
    names = [name.replace(".", "_") for name in head.rig.joint_names]
    assert [joint.rpartition("/")[2] for joint in joints] == names
    assert list(skeleton.GetJointNamesAttr().Get()) == list(head.rig.joint_names)
    assert UsdSkel.Topology(joints).Validate()[0]
    places = [list(bind.ExtractTranslation()) for bind in skeleton.GetBindTransformsAttr().Get()]
    assert places == pytest.approx(head.rig.joint_positions, abs=1e-6)
    binding = UsdSkel.BindingAPI(stage.GetPrimAtPath("/head/mesh"))
    assert np.array_equal(np.reshape(binding.GetJointIndicesPrimvar().Get(), (-1, 4)), head.rig.skin_joints)
    weights = np.reshape(binding.GetJointWeightsPrimvar().Get(), (-1, 4))
    assert np.array_equal(weights, head.rig.skin_weights)
    cache = UsdSkel.Cache()
    cache.Populate(UsdSkel.Root(stage.GetPrimAtPath("/head")), Usd.PrimDefaultPredicate)
    query = cache.GetSkelQuery(skeleton)
    for transform in query.ComputeSkinningTransforms(Usd.TimeCode.Default()):  # at rest nothing moves
        assert np.array(transform) == pytest.approx(np.eye(4), abs=1e-6)


def test_blendshapes_are_sparse_and_turn_normals(tmp_path: Path) -> None:
    from pxr import UsdSkel

    head = rigged_ball()
    assert head.rig is not None
    stage = stage_of(tmp_path, head)
    shape = UsdSkel.BlendShape(stage.GetPrimAtPath("/head/mesh/close"))
    ids = np.array(shape.GetPointIndicesAttr().Get())
    assert np.array_equal(ids, np.flatnonzero(head.rig.shape("close").any(1)))
    assert np.array_equal(shape.GetOffsetsAttr().Get(), head.rig.shape("close")[ids])
    posed = vertex_normals(head.positions + head.rig.shape("close"), head.triangles)
    expected = posed - vertex_normals(head.positions, head.triangles)
    assert np.array(shape.GetNormalOffsetsAttr().Get()) == pytest.approx(expected[ids], abs=1e-5)


def test_the_rig_can_be_left_out(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, rigged_ball(), ExportOptions(rig=False))
    assert [str(prim.GetPath()) for prim in stage.Traverse()] == [
        "/head",
        "/head/mesh",
        "/head/skin",
        "/head/skin/surface",
    ]


@pytest.mark.parametrize("write", [write_usd, write_usda])
def test_the_same_head_gives_the_same_bytes(write: Any) -> None:
    assert write(rigged_ball()) == write(rigged_ball())
    assert write(rigged_ball()) != write(ball())


def test_text_says_the_same_as_binary(tmp_path: Path) -> None:
    from pxr import Sdf

    (tmp_path / "head.usda").write_bytes(write_usda(rigged_ball()))
    (tmp_path / "head.usd").write_bytes(write_usd(rigged_ball()))
    layers = [Sdf.Layer.FindOrOpen(str(tmp_path / name)) for name in ("head.usda", "head.usd")]
    assert layers[0].ExportToString() == layers[1].ExportToString()


def test_names_become_identifiers_that_differ() -> None:
    assert identifiers(["eye.L", "eye_L", "eye L", "jaw"]) == ["eye_L", "eye_L_2", "eye_L_3", "jaw"]
    names = ("jaw open", "jaw.open", "x")
    head = dataclasses.replace(cube(), rig=dataclasses.replace(cube_rig(), shape_names=names))
    assert b'def BlendShape "jaw_open_2"' in write_usda(head)


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def fail(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pxr":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(MissingExtraError, match=r"writing USD .*pip install 'topos-rt\[usd\]'"):
        write_usd(cube())
