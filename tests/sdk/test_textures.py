"""Textures of the C library against the Python package's: in the caller's memory, and in files.

Where Python's passes for the CPU are built, both have the same bytes. Without them the same fitted head still
has (numerics/test_texture.py), but fits differ in the last digits: see SHARE.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.sample_pictures import smooth
from tests.sdk import capi
from tests.sdk.capi import CROP_AUTO, NO_FACE_CHECK, Handle
from tests.sdk.glb_files import contents, same_file
from tests.sdk.test_files import NO_PARTS, NO_RIG, written
from topos_rt import FaceError, HeadMesh
from topos_rt.formats import ExportOptions
from topos_rt.formats.glb import write_glb
from topos_rt.formats.seams import split_seams
from topos_rt.formats.textures import tangents
from topos_rt.support.native import native

EXAMPLES = Path(__file__).parents[2] / "examples"
MAPS = ("albedo", "orm", "normal", "confidence")
NONE, AUTO, PROJECTED, BASE = range(4)
NO_TEXTURE, PNG = 4, 8
RGB8, RGBA8, BGRA8, R8 = 1, 2, 3, 4
# Of a texture's bytes, those that may differ, by one step of 255, where fits of faces are NumPy's. One that
# is off by 1e-5 moves places by some 1e-4 pixels, so that now and then a colour is rounded otherwise: 4e-5
# were measured.
SHARE = 0.0 if native() is not None else 2e-4


def pixels_of(name: str) -> np.ndarray:
    return np.asarray(Image.open(EXAMPLES / name).convert("RGB"))


def info_of(api: capi.Api, head: Handle) -> Any:
    return api.told("head_get_texture", "texture_info", head)


def maps_of(api: capi.Api, head: Handle) -> dict[str, np.ndarray]:
    """Return the maps of a head, as `Texture` has them."""
    info, found = info_of(api, head), {}
    for number, name in enumerate(MAPS):
        side = getattr(info, f"{name}_size")
        flat = name == "confidence"
        out = np.empty((side, side) if flat else (side, side, 3), np.uint8)
        texels = capi.struct("texels", map=number + 1, format=R8 if flat else RGB8, data=out.ctypes.data,
                             capacity=out.nbytes)  # fmt: skip
        api.ok("head_write_texture", head, texels)
        found[name] = out
    return found


def one(api: capi.Api, model: Handle, image: Any, seed: int = 0, **given: Any) -> Handle:
    (head,) = capi.generate(api, model, capi.request([image], [seed], **{"crop": CROP_AUTO, **given}))
    return head


def alike(api: capi.Api, head: Handle, mesh: HeadMesh) -> dict[str, np.ndarray]:
    """Compare texture and metadata of a head with Python's, and return its maps."""
    maps, texture = maps_of(api, head), mesh.texture
    assert texture is not None
    for name, made in maps.items():
        own = getattr(texture, name)
        assert made.shape == own.shape, name
        off = np.abs(made.astype(int) - own)
        assert off.max() <= 1 and np.count_nonzero(off) <= SHARE * off.size, name
    told = json.loads(api.told("head_get_info", "head_info", head).metadata)
    assert list(told) == list(mesh.metadata) and told["warnings"] == mesh.metadata["warnings"]
    assert told["texture"] == mesh.metadata["texture"]
    return maps


@pytest.fixture(scope="module")
def pair(api: capi.Api, models: Any) -> Iterator[tuple[Handle, Handle, HeadMesh]]:
    """A textured head on both sides, Python's with the maps that C wrote."""
    model, pipe = models("mini")
    pixels = pixels_of("astronaut.jpg")
    head = one(api, model, capi.image(pixels), 3, steps=2, texture=AUTO, texture_size=512)
    mesh = pipe(pixels, seed=3, steps=2, texture_size=512)
    maps = alike(api, head, mesh)
    yield model, head, dataclasses.replace(mesh, texture=dataclasses.replace(mesh.texture, **maps))
    api.call("head_release", head)


@pytest.mark.parametrize(
    ("name", "seed", "size"),
    [("hopper.jpg", 0, 512), ("hopper.jpg", 2**64 - 1, 1024), ("people/held_out_0_031.jpg", 9, 2048),
     ("people/held_out_1_113.jpg", 1, 0)],
)  # fmt: skip
def test_photographs(name: str, seed: int, size: int, models: Any, api: capi.Api) -> None:
    model, pipe = models("mini")
    pixels = pixels_of(name)
    mesh = pipe(pixels, seed=seed, steps=1, texture_size=size or 1024)
    head = one(api, model, capi.image(pixels), seed, steps=1, texture=PROJECTED, texture_size=size)
    alike(api, head, mesh)
    info, about = info_of(api, head), mesh.metadata["texture"]
    assert info.texture == PROJECTED and info.albedo_size == (size or 1024)
    assert info.seen == pytest.approx(about["seen"], abs=5e-4) and info.seen > 0.25
    assert (info.turned, info.spectacles) == (about["turned"], about["spectacles"])
    api.call("head_release", head)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(orientation: int, models: Any, api: capi.Api) -> None:
    """A turned picture with its EXIF has the texture of the upright one."""
    model, pipe = models("mini")
    upright = Image.fromarray(pixels_of("astronaut.jpg"))
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # of Image.Transpose, which EXIF's readers undo
    stored = upright.transpose(Image.Transpose(turns[orientation])) if orientation > 1 else upright
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    stored.save(file, "PNG", exif=exif)
    mesh = pipe(file.getvalue(), steps=1, texture_size=512)
    image = capi.image(np.asarray(stored), orientation)
    head = one(api, model, image, steps=1, texture=AUTO, texture_size=512)
    assert info_of(api, head).seen > 0.3
    alike(api, head, mesh)
    api.call("head_release", head)


def test_the_base_material(models: Any, api: capi.Api) -> None:
    model, pipe = models("mini")
    pixels, nobody = pixels_of("hopper.jpg"), smooth(96, 64)
    mesh = pipe(pixels, steps=1, texture="base")
    head = one(api, model, capi.image(pixels), steps=1, texture=BASE)
    for name, made in alike(api, head, mesh).items():
        np.testing.assert_array_equal(made, getattr(mesh.texture, name))
    assert info_of(api, head).texture == BASE
    latents = np.stack([capi.latent(api, model, head)])
    for texture in (AUTO, BASE):
        (again,) = capi.generate(api, model, capi.request([], [], latents=latents, texture=texture))
        assert maps_of(api, again)["albedo"].tobytes() == mesh.texture.albedo.tobytes()
        told = json.loads(api.told("head_get_info", "head_info", again).metadata)
        assert told["texture"] == {"kind": "base", "size": 1024}
        api.call("head_release", again)
    api.call("head_release", head)
    for crop in ("auto", "none"):
        mesh = pipe(nobody, steps=1, face_check=False, crop=crop)
        head = one(api, model, capi.image(nobody), steps=1, texture=AUTO, flags=NO_FACE_CHECK,
                   crop=("auto", "none").index(crop))  # fmt: skip
        alike(api, head, mesh)
        api.call("head_release", head)


def test_pictures_that_cannot_be_projected(models: Any, api: capi.Api) -> None:
    model, pipe = models("mini")
    nobody = capi.image(smooth(96, 64))
    with pytest.raises(FaceError, match="no face in the picture"):
        pipe(smooth(96, 64), steps=1, face_check=False, texture="projected")
    with pytest.raises(capi.CError, match="no face in the picture") as caught:
        one(api, model, nobody, texture=PROJECTED, flags=NO_FACE_CHECK)
    assert caught.value.name == "TOPOS_E_IMAGE"
    latents = np.zeros((1, 167 * 6), np.float32)
    with pytest.raises(capi.CError, match="TOPOS_E_ARGUMENT"):
        capi.generate(api, model, capi.request([], [], latents=latents, texture=PROJECTED))
    for bad in ({"texture": 4}, {"texture": -1}, {"texture": AUTO, "texture_size": 1000}):
        with pytest.raises(capi.CError, match=r"TOPOS_E_ARGUMENT.*texture"):
            one(api, model, nobody, **bad)


def test_a_tiny_face_gives_its_tone_alone(models: Any, api: capi.Api) -> None:
    model, pipe = models("mini")
    small = np.asarray(Image.fromarray(pixels_of("astronaut.jpg")).resize((110, 110)))
    mesh = pipe(small, steps=1, texture_size=512)
    head = one(api, model, capi.image(small), steps=1, texture=AUTO, texture_size=512)
    alike(api, head, mesh)
    assert any("too small" in warning for warning in mesh.metadata["warnings"])
    api.call("head_release", head)


def test_models_without_an_atlas(models: Any, api: capi.Api) -> None:
    model, _ = models("tiny")
    image = capi.image(smooth(20, 20))
    given: dict[str, Any] = {"crop": capi.CROP_NONE, "flags": NO_FACE_CHECK, "steps": 1}
    for texture in (PROJECTED, BASE):
        with pytest.raises(capi.CError, match=r"TOPOS_E_UNSUPPORTED.*atlas"):
            one(api, model, image, texture=texture, **given)
    head = one(api, model, image, texture=AUTO, **given)
    info = info_of(api, head)
    assert info.texture == NONE and not info.albedo_size and not info.seen
    with pytest.raises(capi.CError, match="TOPOS_E_UNSUPPORTED"):
        api.ok("head_write_texture", head, capi.struct("texels", map=1, format=1))
    with pytest.raises(capi.CError, match="TOPOS_E_UNSUPPORTED"):
        capi.vertices(api, model, head, capi.struct("layout", flags=2))
    features = capi.constants()["TOPOS_FEATURE_TEXTURE"]
    assert not api.told("model_get_info", "model_info", model).features & features
    assert api.told("model_get_info", "model_info", models("mini")[0]).features & features
    api.call("head_release", head)


def test_requests_of_an_older_header_get_no_texture(models: Any, api: capi.Api) -> None:
    model, _ = models("mini")
    wanted = capi.request([capi.image(smooth(64, 64))], steps=1, texture=BASE)
    wanted.struct_size = type(wanted).texture.offset
    (head,) = capi.generate(api, model, wanted)
    assert info_of(api, head).texture == NONE
    api.call("head_release", head)


def test_previews_and_steps(models: Any, api: capi.Api) -> None:
    """Previews have no texture; a manual job makes it in slices of its own, after all else."""
    model, _ = models("mini")
    image = capi.image(pixels_of("astronaut.jpg"))
    given = {"crop": CROP_AUTO, "texture": AUTO, "texture_size": 512, "preview_every": 1}
    job = Handle(api.made("submit", model, capi.request([image], steps=2, flags=1, **given)))
    stages = []
    while api.call("job_step", job) == capi.PENDING:
        stages.append(api.told_status("job_poll", "progress", job).stage.decode())
        head = capi.ctypes.c_void_p()
        if api.call("job_take_preview", job, capi.ctypes.byref(head), None) == 0:
            assert info_of(api, Handle(head.value or 0)).texture == NONE
            api.call("head_release", Handle(head.value or 0))
    assert stages[-1] == "texture" and 1 <= stages.count("texture") <= 2  # the tables are made once
    seconds, names = capi.ctypes.c_double(), []
    while name := api.call("job_timing", job, len(names), capi.ctypes.byref(seconds)):
        names.append(name.decode())
    assert names[-1] == "texture" and seconds.value > 0
    api.call("job_release", job)


def test_formats_strides_and_rows_from_below(pair: Any, api: capi.Api) -> None:
    _, head, mesh = pair
    albedo, normal = mesh.texture.albedo, mesh.texture.normal
    side = len(albedo)
    for form, order in ((RGB8, [0, 1, 2]), (RGBA8, [0, 1, 2]), (BGRA8, [2, 1, 0]), (R8, [0])):
        width = {RGB8: 3, RGBA8: 4, BGRA8: 4, R8: 1}[form]
        for stride, rows in ((0, albedo), (width * side + 5, albedo), (-(width * side + 5), albedo[::-1])):
            row = abs(stride) or width * side
            memory = np.full(row * (side - 1) + width * side + 3, 0xAB, np.uint8)
            texels = capi.struct("texels", map=1, format=form, row_stride=stride, data=memory.ctypes.data,
                                 capacity=len(memory) - 3)  # fmt: skip
            api.ok("head_write_texture", head, texels)
            assert (memory[-3:] == 0xAB).all()
            full = np.concatenate([memory[:-3], np.full(row - width * side, 0xAB, np.uint8)]).reshape(
                side, row
            )
            assert (full[:, width * side :] == 0xAB).all()
            made = full[:, : width * side].reshape(side, side, width)
            np.testing.assert_array_equal(made[..., : len(order)], rows[..., order])
            if width == 4:
                assert (made[..., 3] == 255).all()
    down = np.empty((len(normal), len(normal), 3), np.uint8)
    texels = capi.struct("texels", map=3, format=RGB8, flags=1, data=down.ctypes.data, capacity=down.nbytes)
    api.ok("head_write_texture", head, texels)
    np.testing.assert_array_equal(down[..., [0, 2]], normal[..., [0, 2]])
    np.testing.assert_array_equal(down[..., 1].astype(int), 256 - normal[..., 1].astype(int))


def test_what_is_refused_writes_nothing(pair: Any, api: capi.Api) -> None:
    _, head, mesh = pair
    side = len(mesh.texture.albedo)
    room = np.full(3 * side * side, 7, np.uint8)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"map": 0}, "TOPOS_E_ARGUMENT"),
        ({"map": 5}, "TOPOS_E_ARGUMENT"),
        ({"format": 0}, "TOPOS_E_ARGUMENT"),
        ({"format": 5}, "TOPOS_E_ARGUMENT"),
        ({"flags": 2}, "TOPOS_E_ARGUMENT"),
        ({"data": None}, "TOPOS_E_ARGUMENT"),
        ({"struct_size": 8}, "TOPOS_E_ARGUMENT"),
        ({"row_stride": 3 * side - 1}, "TOPOS_E_ARGUMENT"),
        ({"row_stride": 1 - 3 * side}, "TOPOS_E_ARGUMENT"),
        ({"capacity": room.nbytes - 1}, "TOPOS_E_CAPACITY"),
        ({"capacity": 0}, "TOPOS_E_CAPACITY"),
        ({"row_stride": 2**31 - 1}, "TOPOS_E_CAPACITY"),
        ({"row_stride": -(2**31)}, "TOPOS_E_CAPACITY"),
        ({"format": RGBA8}, "TOPOS_E_CAPACITY"),
    ]
    for change, name in cases:
        texels = capi.struct("texels", map=1, format=RGB8, data=room.ctypes.data, capacity=room.nbytes)
        for key, value in change.items():
            setattr(texels, key, value)
        with pytest.raises(capi.CError) as caught:
            api.ok("head_write_texture", head, texels)
        assert caught.value.name == name and caught.value.message, change
    assert (room == 7).all()
    for arguments in ((None, None), (head, None)):
        with pytest.raises(capi.CError, match="TOPOS_E_ARGUMENT"):
            api.ok("head_write_texture", *arguments)
    small = capi.struct("texture_info")
    small.struct_size = 8
    assert api.call("head_get_texture", head, small) == capi.constants()["TOPOS_E_ARGUMENT"]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_files(level: int, pair: Any, api: capi.Api) -> None:
    """The bytes of Python's; JPEG where the library has libjpeg-turbo, and PNG by its pixels."""
    _, head, mesh = pair
    at_level = mesh.lod(level)
    for flags, options in (
        (NO_RIG, ExportOptions(rig=False)),
        (NO_RIG | NO_PARTS, ExportOptions(rig=False, parts=False)),
        *([(0, ExportOptions())] if native() is not None else []),
    ):
        same_file(written(api, head, level, flags), write_glb(at_level, options))
        lossless = dataclasses.replace(at_level, texture=dataclasses.replace(mesh.texture, format="png"))
        same_file(written(api, head, level, flags | PNG), write_glb(lossless, options))
    plain = dataclasses.replace(mesh, texture=None, topology=mesh.topology)
    tree, _ = contents(written(api, head, level, NO_RIG | NO_TEXTURE))
    assert "TANGENT" not in json.dumps(tree) and len(tree.get("images", [])) == 1  # that of the parts
    assert tree["materials"][0] == contents(write_glb(plain, ExportOptions(rig=False)))[0]["materials"][0]


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("atlas", [True, False])
def test_tangents(level: int, atlas: bool, pair: Any, api: capi.Api) -> None:
    """Those of Python's files, in every axes with a bitangent that goes up in the picture."""
    model, head, mesh = pair
    shown = mesh.lod(level) if atlas else dataclasses.replace(
        mesh, texture=None, topology=api_topology(mesh)
    ).lod(level)  # fmt: skip
    split = split_seams(shown.topology)
    uvs = np.stack([split.uvs[:, 0], 1 - split.uvs[:, 1]], 1)
    positions, normals = shown.positions[split.source], shown.normals[split.source]
    want = tangents(positions, normals, uvs, split.triangles)
    flags = 2 if atlas else 0
    for axes in range(5):
        layout = capi.struct("layout", lod=level, axes=axes, flags=flags)
        count = api.told("model_counts", "mesh_counts", model, layout).num_vertices
        assert count == len(split.source)
        made, turned = np.empty((count, 4), np.float32), np.empty((count, 3), np.float32)
        streams = [
            capi.struct("stream", attribute=attribute, format=form, data=out.ctypes.data, capacity=out.nbytes)
            for attribute, form, out in ((3, 3, made), (2, 2, turned))
        ]
        kept = (type(streams[0]) * 2)(*streams)
        api.ok("write_vertices", model, head, layout, None, None, kept, 2)
        if axes == 0:
            np.testing.assert_array_equal(made, want)
        # Vectors of glTF's axes in these, as normals tell them: the bitangent of both is one vector.
        matrix = np.round(np.linalg.lstsq(normals, turned, rcond=None)[0])
        bitangent = np.cross(normals, want[:, :3]) * want[:, 3:]
        np.testing.assert_allclose(np.cross(turned, made[:, :3]) * made[:, 3:], bitangent @ matrix, atol=1e-5)


def api_topology(mesh: HeadMesh) -> Any:
    from topos_rt.model.bundle import Bundle

    return Bundle.open("mini", verify=False).topology


def test_tangents_of_poses_and_of_no_head(pair: Any, api: capi.Api) -> None:
    model, head, mesh = pair
    layout = capi.struct("layout", flags=2)
    split = split_seams(mesh.topology)
    weights = np.zeros(len(mesh.rig.shape_names), np.float32)
    weights[mesh.rig.shape_names.index("jawOpen")] = 0.8
    posed = mesh.posed({"jawOpen": 0.8})
    uvs = np.stack([split.uvs[:, 0], 1 - split.uvs[:, 1]], 1)
    want = tangents(posed.positions[split.source], posed.normals[split.source], uvs, split.triangles)
    made = np.empty((len(split.source), 4), np.float32)
    stream = capi.struct("stream", attribute=3, format=3, data=made.ctypes.data, capacity=made.nbytes)
    api.ok("write_vertices", model, head, layout, weights, None, stream, 1)
    assert np.percentile(np.abs(made - want).max(1), 99) < 1e-3
    for given in ((model, None, layout), (model, head, capi.struct("layout", flags=1))):
        with pytest.raises(capi.CError, match="TOPOS_E_UNSUPPORTED"):  # no head; no UVs
            api.ok("write_vertices", *given, None, None, stream, 1)
    stream.format = 2  # three values have no room for the side
    with pytest.raises(capi.CError, match="TOPOS_E_ARGUMENT"):
        api.ok("write_vertices", model, head, layout, None, None, stream, 1)
    stream.format, stream.capacity = 3, made.nbytes - 1
    with pytest.raises(capi.CError, match="TOPOS_E_CAPACITY"):
        api.ok("write_vertices", model, head, layout, None, None, stream, 1)
