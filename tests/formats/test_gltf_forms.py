"""glTF in its other forms: quantized, as .gltf with a .bin, with fewer joints and other blendshapes."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.rig.command import make_rig
from export.rig.gltf import read_character
from tests import needs
from tests.formats.test_glb import contents, parse
from tests.head.test_skeleton import rigged_mini
from tests.meshes import ball, cube, cube_topology
from topos_rt.errors import OptionError
from topos_rt.formats import EXPORTERS, ExportOptions, files_of, write_glb, write_gltf
from topos_rt.formats.mesh_reader import read_mesh
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.rig_fit import fit_rig

QUANTIZED = ExportOptions(quantize=True)
HEADS = {"cube": lambda: cube(rig=True), "ball": ball, "mini": rigged_mini}
HALF_A_STEP = 0.5 / 32767 * 3**0.5  # of the reach of a head from the middle of its box


def read_back(path: Path, data: bytes) -> Any:
    (path / "head.glb").write_bytes(data)
    return read_mesh(path / "head.glb")


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("rig", [True, False])
def test_our_reader_restores_a_quantized_head(tmp_path: Path, name: str, rig: bool) -> None:
    head = HEADS[name]()
    plain = read_back(tmp_path, write_glb(head, ExportOptions(rig=rig)))
    found = read_back(tmp_path, write_glb(head, dataclasses.replace(QUANTIZED, rig=rig)))
    assert np.array_equal(found.topology.triangles, plain.topology.triangles)
    off = np.linalg.norm(found.positions - plain.positions, axis=1).max()
    reach = np.abs(head.positions - head.positions.mean(0)).max() * 2
    assert off <= HALF_A_STEP * reach + 1e-6
    if name == "mini":
        assert 0 < off < 1e-5
        assert np.degrees(np.arccos((found.normals * plain.normals).sum(1).clip(-1, 1))).max() < 0.05


def test_the_error_that_a_quantized_file_tells_is_that_of_its_numbers() -> None:
    head = rigged_mini()
    assert head.rig is not None
    document = parse(write_glb(head, QUANTIZED))[0]
    told = document["asset"]["extras"]["quantizationErrorMm"]
    assert 0 < told["positions"] <= 0.01 and 0 < told["blendshapes"] <= 0.01
    assert document["extensionsUsed"] == document["extensionsRequired"] == ["KHR_mesh_quantization"]
    found = contents(head, QUANTIZED)
    matrix = found["binds"][0].reshape(4, 4)
    scale, count = matrix[0, 0], len(head.positions)
    joint = head.rig.joint_positions[0]
    back = found["POSITION"][:count] / 32767.0 * scale + matrix[3, :3] + joint
    off = 1e3 * np.linalg.norm(back - head.positions, axis=1).max()
    assert off == pytest.approx(told["positions"], abs=1e-4)
    worst = 0.0
    for name, target in zip(head.rig.shape_names, found["targets"], strict=True):
        offsets = target[:count] * (scale / 32767.0 if target.dtype == np.int16 else scale)
        worst = max(worst, 1e3 * np.linalg.norm(offsets - head.rig.shape(name), axis=1).max())
    assert worst == pytest.approx(told["blendshapes"], abs=1e-4)


def test_what_does_not_fit_integers_stays_exact() -> None:
    head = rigged_mini()
    plain, found = contents(head), contents(head, QUANTIZED)
    types = {"float": 0, "integer": 0}
    for own, stored in zip(plain["target_normals"], found["target_normals"], strict=True):
        if np.abs(own).max(initial=0) > 1:  # a blink turns lids by more than 60 degrees
            types["float"] += 1
            assert stored.dtype == np.float32 and np.array_equal(own, stored)
        elif own.any():
            types["integer"] += 1
            assert stored.dtype == np.int8 and np.abs(stored / 127 - own).max() <= 0.5 / 127 + 1e-6
    assert min(types.values()) > 3
    tiles = dataclasses.replace(cube_topology(), uvs=cube_topology().uvs * 3)  # UVs of several tiles
    assert contents(cube(topology=tiles), QUANTIZED)["TEXCOORD_0"].dtype == np.float32
    assert contents(cube(), QUANTIZED)["TEXCOORD_0"].dtype == np.uint16


def test_quantized_weights_sum_to_one_exactly() -> None:
    weights = contents(rigged_mini(), QUANTIZED)["WEIGHTS_0"]
    assert weights.dtype == np.uint16 and (weights.sum(1, dtype=int) == 65535).all()


def test_a_quantized_file_is_half_as_large() -> None:
    head = rigged_mini()
    assert len(write_glb(head, QUANTIZED)) < 0.55 * len(write_glb(head))


def test_the_rig_of_a_quantized_file_reads_back(tmp_path: Path) -> None:
    head = rigged_mini()
    file = tmp_path / "head.glb"
    head.save(file, quantize=True)
    rig = make_rig(read_character(file), head.topology)
    assert head.rig is not None and rig.joint_names == head.rig.joint_names
    fitted = fit_rig(rig, head.positions)  # the file's units are its own
    assert fitted.joint_positions == pytest.approx(head.rig.joint_positions, abs=1e-4)
    for name in ("jawOpen", "mouthSmileRight"):
        assert fitted.shape(name) == pytest.approx(head.rig.shape(name), abs=1e-4)


def test_gltf_lies_beside_its_numbers(tmp_path: Path) -> None:
    head = cube(rig=True)
    path = tmp_path / "my head.gltf"
    head.save(path)
    document = json.loads(path.read_text())
    assert document["buffers"][0]["uri"] == "my%20head.bin"
    expected, binary = parse(write_glb(head))
    assert (tmp_path / "my head.bin").read_bytes() == binary[: document["buffers"][0]["byteLength"]]
    del document["buffers"][0]["uri"]
    assert document == expected
    assert sorted(file.name for file in tmp_path.iterdir()) == ["my head.bin", "my head.gltf"]


def test_one_gltf_holds_everything_where_there_is_no_second_file(tmp_path: Path) -> None:
    document = json.loads(write_gltf(cube()))
    held = base64.b64decode(document["buffers"][0]["uri"].partition(",")[2])
    assert held == parse(write_glb(cube()))[1][: len(held)]
    cube().save(tmp_path / "head.json", format="gltf")
    assert json.loads((tmp_path / "head.json").read_text()) == document
    assert list(files_of(cube(), "glb", ExportOptions(), "x.glb")) == [Path("x.glb")]


def test_joints_say_which_they_are() -> None:
    nodes = parse(write_glb(rigged_mini()))[0]["nodes"]
    told = {node["extras"]["humanoid"]: node["name"] for node in nodes if "extras" in node}
    assert told == {"neck": "neck01", "head": "head", "jaw": "jaw", "leftEye": "eye_L", "rightEye": "eye_R"}
    assert not any("." in node["name"] for node in nodes)


def test_skeleton_and_morphs_go_into_the_file(tmp_path: Path) -> None:
    head = rigged_mini()
    head.save(tmp_path / "head.glb", skeleton="compact", morphs="viseme_aa,jawOpen")
    expected = head.with_rig(skeleton="compact", morphs=["viseme_aa", "jawOpen"])
    assert (tmp_path / "head.glb").read_bytes() == write_glb(expected)
    document = parse(write_glb(expected))[0]
    assert document["meshes"][0]["extras"]["targetNames"] == ["viseme_aa", "jawOpen"]
    assert len(document["skins"][0]["joints"]) == 36
    bare = parse(write_glb(head, ExportOptions(morphs="none")))[0]
    assert "targets" not in bare["meshes"][0]["primitives"][0] and "skins" in bare


@pytest.mark.parametrize("format", ["usd", "usda"])
def test_usd_has_the_same_skeleton_and_morphs(tmp_path: Path, format: str) -> None:
    needs.module("pxr")
    from pxr import Usd, UsdSkel

    head: HeadMesh = rigged_mini()
    path = tmp_path / f"head.{format}"
    head.save(path, skeleton="compact", morphs="visemes")
    stage = Usd.Stage.Open(str(path))
    skeleton = UsdSkel.Skeleton(stage.GetPrimAtPath("/head/skeleton"))
    expected = head.with_rig(skeleton="compact", morphs="visemes").rig
    assert expected is not None
    assert tuple(skeleton.GetJointNamesAttr().Get()) == expected.joint_names
    told = skeleton.GetPrim().GetCustomDataByKey("topos_rt:humanoid")
    assert told["leftEye"] == "eye_L" and told["jaw"] == "jaw"
    binding = UsdSkel.BindingAPI(stage.GetPrimAtPath("/head/mesh"))
    assert tuple(binding.GetBlendShapesAttr().Get()) == expected.shape_names


@pytest.mark.parametrize("format", sorted({*EXPORTERS} - {"glb", "gltf"}))
def test_formats_without_them_refuse_what_they_lack(tmp_path: Path, format: str) -> None:
    with pytest.raises(OptionError, match=f"a quantized .{format[:3]}"):
        cube().save(tmp_path / f"head.{format}", quantize=True)
    if format in ("obj", "ply"):
        for asked in ({"skeleton": "compact"}, {"morphs": "none"}):
            with pytest.raises(OptionError, match=f"skeleton and blendshapes of a .{format}"):
                cube(rig=True).save(tmp_path / f"head.{format}", **asked)
    assert not list(tmp_path.iterdir())
