"""Textures in files: glTF with pictures and tangents, OBJ with materials, USD's shaders, PLY's colours."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import needs
from tests.head.test_skeleton import rigged_mini
from tests.texture.portraits import sample, textured
from topos_rt.formats import EXPORTERS, ExportOptions, companions
from topos_rt.formats.mesh_reader import read_mesh
from topos_rt.formats.seams import split_seams
from topos_rt.formats.textures import tangents, vertex_colours
from topos_rt.head.mesh import HeadMesh


@pytest.fixture(scope="module")
def head() -> HeadMesh:
    return textured(sample("tan", "key"))


def glb(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def picture(document: dict[str, Any], binary: bytes, number: int) -> Image.Image:
    view = document["bufferViews"][document["images"][number]["bufferView"]]
    return Image.open(io.BytesIO(binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]))


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_glb_holds_the_pictures(head: HeadMesh, kind: str) -> None:
    head = dataclasses.replace(head, texture=dataclasses.replace(head.texture, format=kind))
    data = EXPORTERS["glb"](head, ExportOptions())
    assert data == EXPORTERS["glb"](head, ExportOptions()) and len(data) < 3_000_000
    document, binary = glb(data)
    albedo = picture(document, binary, 0)
    assert albedo.format == kind.upper()
    apart = np.abs(np.asarray(albedo).astype(int) - head.texture.albedo.astype(int))
    assert apart.mean() < (2 if kind == "jpeg" else 1e-9)
    assert picture(document, binary, 2).format == "PNG"
    (material,) = document["materials"]
    assert material["pbrMetallicRoughness"]["baseColorTexture"] == {"index": 0}
    primitive = document["meshes"][0]["primitives"][0]
    assert document["accessors"][primitive["attributes"]["TANGENT"]]["type"] == "VEC4"


def test_glb_without_a_texture_is_what_it_was(head: HeadMesh) -> None:
    document, _ = glb(EXPORTERS["glb"](dataclasses.replace(head, texture=None), ExportOptions()))
    assert "images" not in document and "TANGENT" not in document["meshes"][0]["primitives"][0]["attributes"]


def test_tangents_follow_the_texture() -> None:
    """On a flat square with v downwards, tangents are +X, and the bitangent, +Y, is where v falls."""
    positions = np.float32([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    uvs, up = np.float32([[0, 1], [1, 1], [1, 0], [0, 0]]), np.tile(np.float32([0, 0, 1]), (4, 1))
    triangles = np.int32([[0, 1, 2], [0, 2, 3]])
    assert np.allclose(tangents(positions, up, uvs, triangles), [1, 0, 0, 1])
    mirrored = tangents(positions, up, uvs * [-1, 1] + [1, 0], triangles)
    assert np.allclose(mirrored, [-1, 0, 0, -1])
    assert np.allclose(np.linalg.norm(tangents(positions, up, uvs * 0, triangles)[:, :3], axis=1), 1)


def test_tangents_of_a_head_are_perpendicular_to_its_normals(head: HeadMesh) -> None:
    split = split_seams(head.topology)
    uvs = np.stack([split.uvs[:, 0], 1 - split.uvs[:, 1]], 1)
    normals = head.normals[split.source]
    found = tangents(head.positions[split.source], normals, uvs, split.triangles)
    assert np.abs((found[:, :3] * normals).sum(1)).max() < 1e-5
    assert np.allclose(np.linalg.norm(found[:, :3], axis=1), 1, atol=1e-5)
    assert set(np.unique(found[:, 3])) <= {-1.0, 1.0}


def test_obj_has_a_library_of_materials_beside_it(head: HeadMesh, tmp_path: Path) -> None:
    path = tmp_path / "a head.obj"
    head.save(path)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {
        "a head.obj", "a head.mtl", "a head_albedo.jpg", "a head_normal.png", "a head_roughness.png",
    }  # fmt: skip
    text, library = path.read_text(), (tmp_path / "a head.mtl").read_text()
    assert "mtllib a head.mtl\n" in text and "usemtl skin\n" in text
    assert "map_Kd a head_albedo.jpg\n" in library
    assert len(read_mesh(path).positions) == len(head.positions)


def test_obj_on_its_own_refers_to_nothing(head: HeadMesh) -> None:
    assert b"mtllib" not in EXPORTERS["obj"](head, ExportOptions())
    assert (
        companions("obj", head, ExportOptions()) == {} == companions("glb", head, ExportOptions(beside="a"))
    )


def test_ply_has_colours(head: HeadMesh, tmp_path: Path) -> None:
    path = tmp_path / "head.ply"
    head.save(path)
    trimesh = needs.module("trimesh")
    loaded = trimesh.load(path, process=False)
    assert np.array_equal(loaded.visual.vertex_colors[:, :3], vertex_colours(head))
    assert np.allclose(read_mesh(path).positions, head.positions)


def test_usd_connects_the_pictures(head: HeadMesh, tmp_path: Path) -> None:
    needs.module("pxr")
    from pxr import Usd, UsdShade

    path = tmp_path / "head.usda"
    head.save(path)
    stage = Usd.Stage.Open(str(path))
    surface = UsdShade.Shader.Get(stage, "/head/skin/surface")
    for name in ("diffuseColor", "roughness", "occlusion", "normal"):
        source = surface.GetInput(name).GetConnectedSources()[0][0].source.GetPrim()
        file = UsdShade.Shader(source).GetInput("file").Get()
        assert Path(file.resolvedPath).exists(), (name, file)
    assert surface.GetInput("metallic").Get() == 0


def document_of(head: HeadMesh, path: Path, **options: Any) -> tuple[dict[str, Any], bytes]:
    """Save a head as glTF; return the document and the buffer."""
    head.save(path, **options)
    if path.suffix == ".gltf":
        return json.loads(path.read_text()), path.with_suffix(".bin").read_bytes()
    return glb(path.read_bytes())


def view(document: dict[str, Any], binary: bytes, number: int) -> bytes:
    place = document["bufferViews"][number]
    return binary[place["byteOffset"] : place["byteOffset"] + place["byteLength"]]


def pictures(document: dict[str, Any], binary: bytes) -> list[bytes]:
    return [view(document, binary, image["bufferView"]) for image in document["images"]]


def numbers(document: dict[str, Any], binary: bytes, name: str) -> np.ndarray:
    """Return an attribute of the mesh as numbers, those of 16 bits as shares of the largest."""
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"][name]]
    kind, width = {5126: "<f4", 5123: "<u2", 5122: "<i2"}[accessor["componentType"]], int(accessor["type"][3])
    place = document["bufferViews"][accessor["bufferView"]]
    row = place.get("byteStride", np.dtype(kind).itemsize * width)
    data = np.frombuffer(view(document, binary, accessor["bufferView"]), np.uint8).reshape(-1, row)
    values = data[:, : np.dtype(kind).itemsize * width].copy().view(kind)
    return values if kind == "<f4" else values / np.iinfo(kind).max


# What other options of glTF do; each leaves the texture as it is.
COMBINED: dict[str, tuple[str, dict[str, Any]]] = {
    "gltf and bin": ("gltf", {}),
    "quantized": ("glb", {"quantize": True}),
    "quantized gltf": ("gltf", {"quantize": True}),
    "compact skeleton": ("glb", {"skeleton": "compact"}),
    "some morphs": ("glb", {"morphs": "visemes,jawOpen"}),
    "no morphs": ("glb", {"morphs": "none"}),
    "no rig": ("glb", {"rig": False}),
}


@pytest.mark.parametrize("case", COMBINED)
def test_the_texture_is_the_same_in_every_form_of_gltf(head: HeadMesh, tmp_path: Path, case: str) -> None:
    suffix, options = COMBINED[case]
    head = dataclasses.replace(head, rig=rigged_mini().rig)
    plain, plain_data = document_of(head, tmp_path / "plain.glb")
    other, data = document_of(head, tmp_path / f"other.{suffix}", **options)
    assert pictures(other, data) == pictures(plain, plain_data)
    for key in ("materials", "textures", "samplers"):
        assert other[key] == plain[key], key
    # In 16 bits a UV is off by half a step, far below a texel.
    apart = np.abs(numbers(other, data, "TEXCOORD_0") - numbers(plain, plain_data, "TEXCOORD_0"))
    assert apart.max() <= (0.51 / 65535 if options.get("quantize") else 0)
    assert np.array_equal(numbers(other, data, "TANGENT"), numbers(plain, plain_data, "TANGENT"))


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("suffix", ["glb", "gltf", "obj", "ply", "head"])
def test_levels_of_detail_are_written_with_the_texture(
    head: HeadMesh, tmp_path: Path, suffix: str, level: int
) -> None:
    small = head.lod(level)
    path = tmp_path / f"small.{suffix}"
    small.save(path)
    if suffix in ("glb", "gltf"):
        document, data = document_of(small, path)
        assert pictures(document, data) == pictures(*document_of(head, tmp_path / "whole.glb"))
        assert len(numbers(document, data, "TANGENT")) == len(split_seams(small.topology).source)
    elif suffix == "obj":
        assert path.with_name("small_albedo.jpg").exists() and "usemtl skin" in path.read_text()
    elif suffix == "ply":
        assert b"property uchar red" in path.read_bytes()[:1000]
    else:
        assert HeadMesh.load(path).texture is not None
