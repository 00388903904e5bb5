"""Teeth, lashes and the materials of a head with parts in every format."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs
from tests.formats.usd_validation import validation
from tests.part_heads import dressed, kit, plain
from topos_rt.formats import ExportOptions, companions, write_glb, write_obj, write_ply, write_usd
from topos_rt.formats.materials import MATERIALS, part_meshes, polygon_surfaces
from topos_rt.formats.mesh_reader import read_mesh
from topos_rt.formats.seams import split_seams
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.part_kit import PART_MATERIALS, SURFACES
from topos_rt.model.bundle import Bundle
from topos_rt.texture.again import read_head

NAMES = [*SURFACES, *PART_MATERIALS]
FORMATS = ("glb", "gltf", "obj", "ply", "usd", "head")


def parsed(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON and the buffer of a GLB."""
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def values(document: dict[str, Any], data: bytes, index: int, dtype: str, width: int) -> np.ndarray:
    """Return the rows of an accessor without stride."""
    accessor = document["accessors"][index]
    start = document["bufferViews"][accessor["bufferView"]]["byteOffset"] + accessor.get("byteOffset", 0)
    return np.frombuffer(data, dtype, accessor["count"] * width, start).reshape(-1, width)


@pytest.mark.parametrize("head", [plain, dressed], ids=["plain", "textured"])
def test_a_glb_has_a_primitive_for_each_material(head: Any) -> None:
    document, data = parsed(write_glb(head()))
    (mesh,) = document["meshes"]
    assert [document["materials"][p["material"]]["name"] for p in mesh["primitives"]] == NAMES
    split = split_seams(head().topology)
    own = mesh["primitives"][: len(SURFACES)]
    assert len({p["attributes"]["POSITION"] for p in own}) == 1
    positions = values(document, data, own[0]["attributes"]["POSITION"], "<f4", 3)
    assert np.array_equal(positions[: len(head().positions)], head().positions)
    corners = [values(document, data, p["indices"], "<u2", 1).reshape(-1, 3) for p in own]
    together = np.concatenate(corners)
    assert len(together) == len(split.triangles)
    assert {*map(tuple, together.tolist())} == {*map(tuple, split.triangles.tolist())}
    eyes = np.unique(split.source[corners[1]])
    assert np.array_equal(eyes, np.sort(head().topology.regions["eyes"]))
    for part, primitive in zip(part_meshes(head().parts), mesh["primitives"][len(SURFACES) :], strict=True):
        found = values(document, data, primitive["attributes"]["POSITION"], "<f4", 3)
        assert np.array_equal(found, part.positions)
        assert len(primitive["targets"]) == len(mesh["weights"]) == 52


def test_the_materials_of_a_textured_glb() -> None:
    document, _ = parsed(write_glb(dressed()))
    found = {material["name"]: material for material in document["materials"]}
    images = [image["name"] for image in document["images"]]
    assert images == ["albedo", "orm", "normal", "parts"]

    def picture(name: str) -> str:
        texture = found[name]["pbrMetallicRoughness"]["baseColorTexture"]["index"]
        return images[document["textures"][texture]["source"]]

    assert [picture(name) for name in NAMES] == ["albedo"] * 3 + ["parts"] * 2
    assert found["eyes"]["pbrMetallicRoughness"]["roughnessFactor"] < 0.1  # the cornea mirrors lights
    assert found["lashes"]["alphaMode"] == "BLEND" and found["lashes"]["doubleSided"]
    assert all("alphaMode" not in found[name] for name in NAMES[:-1])
    inside = [p for p in document["meshes"][0]["primitives"] if "COLOR_0" in p["attributes"]]
    assert [document["materials"][p["material"]]["name"] for p in inside] == ["mouth", "teeth"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("head", [plain, dressed], ids=["plain", "textured"])
def test_without_parts_files_are_as_they_were(tmp_path: Path, head: Any, format: str) -> None:
    if format == "usd":
        needs.module("pxr")
    for folder, one, options in (("a", head(), {"parts": False}), ("b", bare(head()), {})):
        (tmp_path / folder).mkdir()
        one.save(tmp_path / folder / f"head.{format}", **options)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert not any("parts" in name for name in names)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def bare(head: HeadMesh) -> HeadMesh:
    return dataclasses.replace(head, parts=None)


@pytest.mark.parametrize("format", ["glb", "gltf", "obj", "head"])
@pytest.mark.parametrize("options", [{}, {"parts": False}], ids=["parts", "no parts"])
def test_heads_are_read_back(tmp_path: Path, format: str, options: dict[str, Any]) -> None:
    bundle = Bundle.open("mini", verify=False)
    dressed().save(tmp_path / f"head.{format}", **options)
    found = read_head(tmp_path / f"head.{format}", bundle)
    assert np.abs(found.positions - dressed().positions).max() < 1e-7
    assert found.parts is not None and dressed().parts is not None
    assert np.abs(found.parts.positions - dressed().parts.positions).max() < 1e-6


def test_primitives_that_share_their_vertices_are_read_once(tmp_path: Path) -> None:
    for options in ({}, {"quantize": True}):
        dressed().save(tmp_path / "head.glb", **options)
        found, split = read_mesh(tmp_path / "head.glb"), split_seams(dressed().topology)
        assert len(found.positions) == len(split.source) + len(kit().pieces)
        assert len(found.topology.triangles) == len(split.triangles) + len(kit().triangles)


@pytest.mark.parametrize("change", ["rest", "pose", "level"])
def test_a_head_file_keeps_parts_where_they_are(tmp_path: Path, change: str) -> None:
    head = plain()
    made = {"rest": head, "pose": head.posed({"jawOpen": 1, "eyeBlinkLeft": 1}), "level": head.lod(1)}[change]
    made.save(tmp_path / "a.head")
    read = HeadMesh.load(tmp_path / "a.head")
    assert read.parts is not None and made.parts is not None
    assert np.array_equal(read.parts.positions, made.parts.positions)
    if change != "pose":
        assert read.parts.rig is not None and made.parts.rig is not None
        for name, array in made.parts.rig.to_tensors().items():
            assert np.array_equal(array, read.parts.rig.to_tensors()[name]), name
    with_them, without = (tmp_path / "a.head").stat().st_size, len(head.positions) * 14
    assert change != "rest" or with_them < without + 2000  # what all heads share lies in the .base


def test_an_obj_has_materials_and_objects() -> None:
    options = ExportOptions(beside="head")
    lines = write_obj(dressed(), options).decode().splitlines()
    assert [line for line in lines if line.startswith("o ")] == ["o head", "o teeth", "o lashes"]
    assert lines.count("mtllib head.mtl") == 1
    counts: dict[str, int] = {}
    material = ""
    for line in lines:
        if line.startswith("usemtl"):
            material = line.split()[1]
        elif line.startswith("f "):
            counts[material] = counts.get(material, 0) + 1
            assert max(int(number) for word in line.split()[1:] for number in word.split("/")) <= 6000
    surface = polygon_surfaces(dressed(), kit())
    expected = {name: int((surface == number).sum()) for number, name in enumerate(SURFACES)}
    expected |= {name: len(kit().quads_of(name)) for name in PART_MATERIALS}
    assert counts == expected and list(counts) != [""]
    files = companions("obj", dressed(), options)
    named = [line.split()[1] for line in files["head.mtl"].decode().splitlines() if line.startswith("newmtl")]
    assert named == NAMES
    for line in files["head.mtl"].decode().splitlines():
        if line.startswith(("map_", "norm")):
            assert line.split()[1] in files, line


@pytest.mark.parametrize("head", [plain, dressed], ids=["plain", "textured"])
def test_trimesh_reads_the_obj(tmp_path: Path, head: Any) -> None:
    trimesh = needs.module("trimesh")
    head().save(tmp_path / "head.obj")
    scene = trimesh.load(tmp_path / "head.obj")
    meshes = scene.geometry.values() if hasattr(scene, "geometry") else [scene]
    faces = sum(len(mesh.faces) for mesh in meshes)
    assert faces == len(head().triangles) + len(kit().triangles)


@pytest.mark.parametrize("head", [plain, dressed], ids=["plain", "textured"])
def test_a_ply_has_the_teeth_after_the_head(tmp_path: Path, head: Any) -> None:
    (tmp_path / "head.ply").write_bytes(write_ply(head()))
    found = read_mesh(tmp_path / "head.ply")
    (teeth, _) = part_meshes(head().parts)
    count = head().topology.num_vertices
    assert np.array_equal(found.positions[:count], head().positions)
    assert np.array_equal(found.positions[count:], teeth.positions)
    assert len(found.topology.triangles) == len(head().triangles) + len(teeth.triangles)
    low = write_ply(head().lod(1))  # of triangles
    (tmp_path / "low.ply").write_bytes(low)
    assert len(read_mesh(tmp_path / "low.ply").topology.triangles) == len(head().lod(1).triangles) + len(
        teeth.triangles
    )


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("head", [plain, dressed], ids=["plain", "textured"])
def test_usd_has_subsets_meshes_and_materials(tmp_path: Path, head: Any, up: str) -> None:
    needs.module("pxr")
    from pxr import Usd, UsdGeom, UsdShade, UsdSkel

    head().save(tmp_path / "head.usd", up=up, units="cm")
    stage = Usd.Stage.Open(str(tmp_path / "head.usd"))
    errors = validation(stage)
    assert [error.GetErrorAsString() for error in errors] == []
    mesh = UsdGeom.Imageable(stage.GetPrimAtPath("/head/mesh"))
    subsets = UsdShade.MaterialBindingAPI(mesh).GetMaterialBindSubsets()
    faces = {subset.GetPrim().GetName(): list(subset.GetIndicesAttr().Get()) for subset in subsets}
    assert list(faces) == list(SURFACES)
    count = len(head().topology.polygon_sizes)
    assert sorted(face for each in faces.values() for face in each) == list(range(count))
    placed = ExportOptions(up=up, units="cm")
    for part in part_meshes(head().parts):
        prim = stage.GetPrimAtPath(f"/head/{part.material}")
        points = np.array(UsdGeom.Mesh(prim).GetPointsAttr().Get())
        assert np.array_equal(points, placed.place(part.positions))
        material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
        assert material.GetPrim().GetName() == part.material
        binding = UsdSkel.BindingAPI(prim)
        assert binding.GetSkeletonRel().GetTargets() == ["/head/skeleton"]
        assert 0 < len(binding.GetBlendShapesAttr().Get()) < 52  # those that move it
    for name in NAMES[1:]:
        path = f"/head/materials/{name}/surface"
        shader = UsdShade.Shader.Get(stage, path)
        assert shader.GetInput("roughness").Get() == pytest.approx(MATERIALS[name].roughness)
        source = shader.GetInput("diffuseColor").GetConnectedSources()[0]
        textured = name in PART_MATERIALS or head().texture is not None
        assert bool(source) == textured
        if textured:
            file = UsdShade.Shader.Get(stage, f"/head/materials/{name}/albedo").GetInput("file").Get()
            assert (tmp_path / file.path).is_file()


def test_usd_poses_the_parts_as_we_do(tmp_path: Path) -> None:
    needs.module("pxr")
    from pxr import Usd, UsdGeom, UsdSkel

    head, weights = plain(), {"jawOpen": 0.8, "eyeBlinkLeft": 1.0}
    (tmp_path / "head.usd").write_bytes(write_usd(head))
    stage = Usd.Stage.Open(str(tmp_path / "head.usd"))
    rest = UsdSkel.Animation(stage.GetPrimAtPath("/head/rest"))
    names = list(rest.GetBlendShapesAttr().Get())
    rest.GetBlendShapeWeightsAttr().Set([weights.get(name, 0.0) for name in names])
    UsdSkel.BakeSkinning(stage.Traverse())
    posed = head.posed(weights)
    for part in part_meshes(posed.parts):
        attribute = UsdGeom.Mesh(stage.GetPrimAtPath(f"/head/{part.material}")).GetPointsAttr()
        times = attribute.GetTimeSamples()
        points = np.array(attribute.Get(times[0]) if times else attribute.Get())
        assert np.abs(points - part.positions).max() < 1e-5


def test_the_same_head_gives_the_same_bytes() -> None:
    assert write_glb(dressed()) == write_glb(dressed())
    assert write_obj(dressed()) == write_obj(dressed()) and write_ply(dressed()) == write_ply(dressed())


def test_a_glb_with_rig_textures_and_parts_is_small() -> None:
    assert len(write_glb(dressed())) < 3_000_000
