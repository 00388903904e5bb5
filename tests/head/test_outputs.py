"""Heads as bytes, in open files, as pictures and as objects of trimesh."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import needs, part_heads
from tests.meshes import CORNERS, ball, cube
from topos_rt import render_preview
from topos_rt.errors import MissingExtraError, OptionError, OutputError
from topos_rt.formats import EXPORTERS
from topos_rt.formats.mesh_reader import read_mesh
from topos_rt.formats.seams import split_seams
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.texture import Texture

RIGGED = ("glb", "gltf", "usd", "usda", "head")
NUMBERS = ("glb", "gltf")  # in metres alone, but quantized where that is asked for


@st.composite
def choices(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    format = draw(st.sampled_from([name for name in EXPORTERS if not name.startswith("usd")]))
    options: dict[str, Any] = {"rig": draw(st.booleans()), "parts": draw(st.booleans())}
    if format in ("obj", "ply"):
        options |= {"units": draw(st.sampled_from(["m", "cm"])), "up": draw(st.sampled_from(["y", "z"]))}
    if format in NUMBERS:
        options |= {
            "quantize": draw(st.booleans()),
            "morphs": draw(st.sampled_from(["all", "none", "jawOpen"])),
        }
    return format, options


@settings(max_examples=30)
@given(choices(), st.booleans(), st.booleans())
def test_bytes_are_those_that_are_saved(
    tmp_path_factory: pytest.TempPathFactory, chosen: tuple[str, dict[str, Any]], rig: bool, uvs: bool
) -> None:
    format, options = chosen
    head, folder = cube(rig=rig, uvs=uvs), tmp_path_factory.mktemp("saved")
    data = head.to_bytes(format, **options)
    # With its own suffix, a .gltf or .head leaves a part of itself in a file beside it.
    path = folder / ("any.bin" if format in ("gltf", "head") else f"any.{format}")
    head.save(path, format, **options)
    assert path.read_bytes() == data and [file.name for file in folder.iterdir()] == [path.name]
    file = io.BytesIO(b"before")
    file.seek(6)
    head.save(file, format, **options)
    assert file.getvalue() == b"before" + data and not file.closed


@pytest.mark.parametrize("format", ["usd", "usda"])
def test_usd_as_bytes(format: str, tmp_path: Path) -> None:
    needs.module("pxr")
    cube(rig=True).save(tmp_path / f"a.{format}")
    assert cube(rig=True).to_bytes(format) == (tmp_path / f"a.{format}").read_bytes()


def test_what_is_whole_can_be_read_again(tmp_path: Path) -> None:
    head = cube(rig=True)
    (tmp_path / "a.head").write_bytes(head.to_bytes("head"))
    again = HeadMesh.load(tmp_path / "a.head")
    assert np.array_equal(again.positions, head.positions) and again.rig is not None
    (tmp_path / "a.gltf").write_bytes(head.to_bytes("gltf"))
    assert len(read_mesh(tmp_path / "a.gltf").positions) >= len(head.positions)


def test_a_dressed_head_with_its_parts_as_bytes(tmp_path: Path) -> None:
    head = part_heads.dressed()
    for format in ("glb", "ply"):
        head.save(tmp_path / f"a.{format}")
        assert head.to_bytes(format) == (tmp_path / f"a.{format}").read_bytes()
    with (tmp_path / "b.glb").open("wb") as file:
        head.save(file, "glb")
    assert (tmp_path / "b.glb").read_bytes() == (tmp_path / "a.glb").read_bytes()
    with pytest.raises(
        OptionError, match=r"a \.obj as bytes: got a head with head_albedo\.jpg, .*head\.mtl beside it"
    ) as caught:
        head.to_bytes("obj")
    assert "expected a format that is one file; fix: take 'glb', save to a path" in str(caught.value)
    bare = dataclasses.replace(head, texture=None)
    bare.save(tmp_path / "c.obj", parts=False)
    assert bare.to_bytes("obj", parts=False) == (tmp_path / "c.obj").read_bytes()


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "format": (lambda head: head.to_bytes("gbl"), OptionError, "output format: got 'gbl'.*mean 'glb'"),
    "no format": (lambda head: head.to_bytes(""), OptionError, "unknown output format: got ''"),
    "not a name": (lambda head: head.to_bytes(None), OptionError, "unknown output format: got None"),
    "units": (lambda head: head.to_bytes("glb", units="cm"), OptionError, "glTF is in metres"),
    "morphs": (lambda head: head.to_bytes("ply", morphs="none"), OptionError, "skeleton and blendshapes"),
    "nameless": (
        lambda head: head.save(io.BytesIO()), OptionError,
        r"no output format: got an open file; expected one of: glb, .*; fix: name the format: head.save\(",
    ),
    "text": (lambda head: head.save(io.StringIO(), "glb"), OutputError, "got a file opened as text"),
    "for reading": (
        lambda head: head.save(io.BufferedReader(io.BytesIO()), "glb"), OutputError, "for reading alone"
    ),
    "number": (lambda head: head.save(3, "glb"), OutputError, "got an object of type int; expected a path"),
    "none": (lambda head: head.save(None, "glb"), OutputError, "got an object of type NoneType"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_uses(case: str) -> None:
    call, kind, message = BAD[case]
    with pytest.raises(kind, match=message) as caught:
        call(cube(rig=True))
    assert "\n" not in str(caught.value)


def test_an_open_file_is_not_touched_by_a_bad_option() -> None:
    file = io.BytesIO()
    with pytest.raises(OptionError, match=r"a quantized \.ply"):
        cube().save(file, "ply", quantize=True)
    assert file.getvalue() == b""


# ---- pictures ----


def test_a_preview_is_that_of_the_function() -> None:
    head = cube()
    assert head.preview(32) == render_preview(head, 32)
    beside = np.full((32, 20, 3), 200, np.uint8)
    assert head.preview(32, beside) == render_preview(head, 32, beside) != head.preview(32)
    assert head.preview(size=16)[:4] == head._repr_png_()[:4] == b"\x89PNG"
    with pytest.raises(OptionError, match="picture size"):
        head.preview(8)


def test_a_head_loads_neither_formats_nor_pictures_before_it_needs_them() -> None:
    code = "import sys, topos_rt; topos_rt.HeadMesh; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {".".join(name.split(".")[:2]) for name in done.stdout.split()}
    assert "topos_rt.head" in loaded and not loaded & {"topos_rt.formats", "topos_rt.pictures", "PIL"}


# ---- trimesh ----


def texture() -> Texture:
    rng = np.random.default_rng(1)
    albedo, orm, normal = rng.integers(0, 256, (3, 16, 16, 3), np.uint8)
    return Texture(albedo, orm, normal, albedo[..., 0])


def test_trimesh_has_the_vertices_in_their_order() -> None:
    needs.module("trimesh")
    head = cube()
    made, split = head.to_trimesh(), split_seams(head.topology)
    assert np.array_equal(made.vertices[:8], CORNERS) and len(made.vertices) == len(split.source) > 8
    assert np.array_equal(made.vertices, head.positions[split.source])
    assert np.array_equal(made.faces, split.triangles) and np.array_equal(made.visual.uv, split.uvs)
    np.testing.assert_allclose(made.vertex_normals, head.normals[split.source], atol=1e-6)
    assert made.metadata == dict(head.metadata) and made.volume == pytest.approx(1.0)  # m³


def test_trimesh_without_uvs() -> None:
    needs.module("trimesh")
    made = ball().to_trimesh()
    assert np.array_equal(made.faces, ball().triangles) and made.is_watertight
    assert made.visual.kind != "texture"


def test_trimesh_has_the_texture() -> None:
    trimesh = needs.module("trimesh")
    head = dataclasses.replace(cube(), texture=texture())
    made = head.to_trimesh()
    assert head.texture is not None
    assert np.array_equal(np.asarray(made.visual.material.baseColorTexture), head.texture.albedo)
    assert np.array_equal(np.asarray(made.visual.material.normalTexture), head.texture.normal)
    # Through glTF, whose UVs begin at the top, and back: the same picture lies on the same places.
    (again,) = trimesh.load(io.BytesIO(made.export(file_type="glb")), "glb", process=False).geometry.values()
    np.testing.assert_allclose(again.visual.uv, made.visual.uv, atol=1e-6)
    (ours,) = trimesh.load(io.BytesIO(head.to_bytes("glb")), "glb", process=False).geometry.values()
    np.testing.assert_allclose(ours.visual.uv, made.visual.uv, atol=1e-6)


def test_without_trimesh_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(
        MissingExtraError, match=r"to_trimesh needs .*; fix: pip install 'topos-rt\[trimesh\]'"
    ):
        cube().to_trimesh()
