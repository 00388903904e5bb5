"""Heads that share a .base file: what is saved reads back, and damaged or lost files say so."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.head.test_skeleton import rigged_mini
from tests.meshes import ball, ball_rig, cube
from tests.texture.portraits import sample, textured
from topos_rt.errors import MeshInputError, OptionError
from topos_rt.formats import EXPORTERS, ExportOptions
from topos_rt.formats.head_files import from_octahedron, to_octahedron
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.rig import Rig
from topos_rt.head.rig_fit import fit_rig
from topos_rt.head.texture import Texture
from topos_rt.support.tensorfile import read_tensors, tensor_bytes


def stretched(by: float) -> HeadMesh:
    head = rigged_mini()
    assert head.rig is not None and head.rig.source is not None
    positions = head.positions * np.float32([1, by, 1])
    rig = fit_rig(head.rig.source, positions)
    told = {"seed": int(by * 10)}
    return HeadMesh(positions, head.normals, head.topology, rig, told, expression={"jawOpen": 0.25})


def assert_same_rig(one: Rig | None, other: Rig | None) -> None:
    assert one is not None and other is not None and one.names() == other.names()
    for name, array in one.to_tensors().items():
        assert np.array_equal(array, other.to_tensors()[name]), name


def bases(path: Path) -> list[Path]:
    return sorted(path.glob("*.base"))


def test_heads_share_one_base_and_read_back(tmp_path: Path) -> None:
    heads = [stretched(by) for by in (1.0, 1.1)]
    for number, head in enumerate(heads):
        head.save(tmp_path / f"{number}.head")
    assert len(bases(tmp_path)) == 1
    found = [HeadMesh.load(tmp_path / f"{number}.head") for number in range(2)]
    for head, again in zip(heads, found, strict=True):
        assert np.array_equal(again.positions, head.positions)
        assert (again.metadata, again.expression) == (head.metadata, head.expression)
        assert_same_rig(head.rig, again.rig)
        turned = np.degrees(np.arccos((again.normals * head.normals).sum(1).clip(-1, 1)))
        assert turned.max() < 1 and turned.mean() < 0.4
    assert found[0].topology is found[1].topology
    assert found[0].rig is not None and found[1].rig is not None
    assert found[0].rig.skin_weights is found[1].rig.skin_weights
    assert (tmp_path / "0.head").stat().st_size < 66_000 < 1_000_000 < bases(tmp_path)[0].stat().st_size
    # what was read is saved as the same bytes, with levels of detail and all
    found[1].save(tmp_path / "again.head")
    assert (tmp_path / "again.head").read_bytes() == (tmp_path / "1.head").read_bytes()
    assert len(bases(tmp_path)) == 1 and len(found[0].lod(1).triangles) < len(found[0].triangles)


def test_a_base_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    cube().save(tmp_path / "a.head")
    base = bases(tmp_path)[0]
    os.utime(base, (1, 1))
    cube().save(tmp_path / "b.head")
    assert base.stat().st_mtime == 1
    base.write_bytes(base.read_bytes()[:-1])  # a damaged one is mended
    cube().save(tmp_path / "b.head")
    assert np.array_equal(HeadMesh.load(tmp_path / "a.head").positions, cube().positions)


@pytest.mark.parametrize(
    "head",
    [
        cube(),
        cube(rig=True),  # its rig has no binding
        dataclasses.replace(ball(), rig=fit_rig(ball_rig(), ball().positions)),
        dataclasses.replace(ball(), rig=ball_rig()),
        # a rig that was fitted to another head stays what it is
        dataclasses.replace(ball(), rig=fit_rig(ball_rig(), ball().positions * 2)),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_every_rig_comes_back(tmp_path: Path, head: HeadMesh, whole: bool) -> None:
    path = tmp_path / ("one.x" if whole else "head.head")
    head.save(path, format="head")
    again = HeadMesh.load(path)
    assert len(bases(tmp_path)) == (0 if whole else 1)
    if head.rig is None:
        assert again.rig is None
    elif head.rig.binding is not None:
        assert_same_rig(fit_rig(head.rig, head.positions), again.rig)
    else:
        assert_same_rig(head.rig, again.rig)
    bare = tmp_path / "bare.head"
    head.save(bare, rig=False)
    assert HeadMesh.load(bare).rig is None


def test_poses_chosen_rigs_and_levels_are_kept(tmp_path: Path) -> None:
    head = rigged_mini()
    for name, changed in {
        "posed": head.posed({"jawOpen": 1}),
        "visemes": head.with_rig(morphs="visemes"),
        "lod": head.lod(1),
    }.items():
        changed.save(tmp_path / f"{name}.head")
        again = HeadMesh.load(tmp_path / f"{name}.head")
        assert np.array_equal(again.positions, changed.positions)
        assert (again.rig is None) == (changed.rig is None)
        if changed.rig is not None:
            assert_same_rig(changed.rig, again.rig)


@given(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 1e-3))
def test_packed_normals_are_near_and_stay(vector: tuple[float, float, float]) -> None:
    unit = np.array([vector]) / np.linalg.norm(vector)
    packed = to_octahedron(unit)
    back = from_octahedron(packed)
    assert np.linalg.norm(back) == pytest.approx(1)
    assert np.degrees(np.arccos(min(1.0, float((back * unit).sum())))) < 1
    assert np.array_equal(to_octahedron(back.astype(np.float32)), packed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": "cm"}, r"units and axes of a \.head: got units cm"),
        ({"up": "z"}, r"units and axes of a \.head"),
        ({"morphs": "visemes"}, r"skeleton and blendshapes of a \.head"),
        ({"skeleton": "compact"}, r"skeleton and blendshapes of a \.head"),
        ({"quantize": True}, r"a quantized \.head"),
    ],
)
def test_what_is_chosen_later(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        cube(rig=True).save(tmp_path / "a.head", **options)
    assert not list(tmp_path.iterdir())


def changed_json(path: Path, change: dict[str, Any]) -> None:
    tensors, metadata = read_tensors(path)
    about = json.loads(metadata["head"]) | change
    path.write_bytes(tensor_bytes(tensors, {"head": json.dumps(about)}))


def changed_tensors(path: Path, change: dict[str, np.ndarray | None]) -> None:
    tensors, metadata = read_tensors(path)
    kept = {name: array for name, array in (tensors | change).items() if array is not None}
    path.write_bytes(tensor_bytes(kept, metadata))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": "../a.base"}, "no valid base"),
        ({"base": "gone.base"}, "no gone.base beside it .*; fix: copy the .base file too"),
        ({"base": "head.head"}, "no valid base 'head.head'"),
        ({"base": None}, "no valid"),
        ({"base": 3}, "no valid"),
        ({"version": 2}, "got version 2; expected version 1"),
        ({"metadata": [1]}, "cannot read head.head|metadata"),
        ({"expression": 1}, "no valid"),
        ({"expression": {"jawOpen": "x"}}, "no valid"),
    ],
)
def test_json_that_is_wrong(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    cube(rig=True).save(tmp_path / "head.head")
    changed_json(tmp_path / "head.head", change)
    with pytest.raises(MeshInputError, match=message):
        HeadMesh.load(tmp_path / "head.head")


@pytest.mark.parametrize(
    "change",
    [
        {"positions": None},
        {"normals": None},
        {"positions": np.zeros((7, 3), np.float32)},
        {"positions": np.full((8, 3), np.nan, np.float32)},
        {"positions": np.float32(1)},
        {"normals": np.zeros((8, 3), np.int8)},
        {"normals": np.zeros((8, 2), np.int16)},
        {"normals": np.zeros((7, 2), np.int8)},
    ],
)
def test_arrays_that_are_wrong(tmp_path: Path, change: dict[str, Any]) -> None:
    cube().save(tmp_path / "head.head")
    changed_tensors(tmp_path / "head.head", change)
    with pytest.raises(MeshInputError):
        HeadMesh.load(tmp_path / "head.head")


def test_files_that_are_wrong(tmp_path: Path) -> None:
    path = tmp_path / "head.head"
    cube(rig=True).save(path)
    with pytest.raises(MeshInputError, match=r"cannot read none\.head: got .*; expected a \.head file"):
        HeadMesh.load(tmp_path / "none.head")
    base = bases(tmp_path)[0]
    sound = base.read_bytes()
    for data in (sound[:-4], sound[:-1] + b"\x09", b"", b"x" * 100):
        base.write_bytes(data)
        with pytest.raises(MeshInputError, match="contents that have changed"):
            HeadMesh.load(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(MeshInputError, match=r"cannot read head\.head: got"):
        HeadMesh.load(path)
    with pytest.raises(MeshInputError):
        HeadMesh.load(base)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_texture_is_kept(tmp_path: Path, kind: str) -> None:
    head = textured(sample("tan", "key"))
    assert head.texture is not None
    head = dataclasses.replace(head, texture=dataclasses.replace(head.texture, format=kind))
    head.save(tmp_path / "a.head")
    again = HeadMesh.load(tmp_path / "a.head")
    assert again.texture is not None and head.texture is not None
    assert (again.texture.format, again.texture.metadata) == (kind, head.texture.metadata)
    assert np.array_equal(again.topology.uvs, head.topology.uvs)
    for name in ("albedo", "orm", "normal", "confidence"):
        one, other = getattr(head.texture, name).astype(int), getattr(again.texture, name).astype(int)
        lossy = kind == "jpeg" and name in ("albedo", "orm")
        assert np.abs(one - other).mean() < (2 if lossy else 1e-9), name
    glb = EXPORTERS["glb"](again, ExportOptions())
    assert kind == "jpeg" or glb[-1000:] == EXPORTERS["glb"](head, ExportOptions())[-1000:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, about: t.pop("texture.orm"), "texture of albedo, confidence, normal"),
        (lambda t, about: t.update({"texture.orm": t["texture.albedo"][:40]}), "no valid"),
        (lambda t, about: t.update({"texture.orm": t["texture.confidence"]}), "picture, L 4 x 4"),
        (lambda t, about: t.update({"texture.orm": t["positions"]}), "texture orm, float32"),
        (lambda t, about: t.update({"texture.orm": picture(6, 4)}), "picture, RGB 6 x 4"),
        (lambda t, about: t.update({"texture.orm": picture(8193, 8193)}), "picture, RGB 8193 x 8193"),
        (lambda t, about: about.pop("texture"), "no valid"),
        (lambda t, about: about["texture"].update(format="tga"), "texture of format tga"),
        (lambda t, about: about["texture"].update(metadata=[3]), "texture of format"),
        (lambda t, about: about.update(texture=7), "no valid"),
    ],
)
def test_damaged_textures_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    colours = np.zeros((4, 4, 3), np.uint8)
    texture = Texture(colours, colours, colours, colours[..., 0], {"kind": "base"}, "png")
    path = tmp_path / "a.head"
    dataclasses.replace(cube(), texture=texture).save(path)
    tensors, metadata = read_tensors(path)
    about = json.loads(metadata["head"])
    change(tensors, about)
    path.write_bytes(tensor_bytes(tensors, {"head": json.dumps(about)}))
    with pytest.raises(MeshInputError, match=message):
        HeadMesh.load(path)


def picture(wide: int, high: int) -> np.ndarray:
    """Return the bytes of a PNG of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (wide, high)).save(file, "PNG")
    return np.frombuffer(file.getvalue(), np.uint8)
