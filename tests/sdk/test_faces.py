"""The face stage of the C library against the Python package's: the same portraits, evidence, heads and fits.

Numbers between the networks differ by 1e-13 at most, so that the pictures that the networks see have the same
bytes, and so have the heads.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.sample_pictures import smooth
from tests.sdk import capi
from tests.sdk.capi import CROP_AUTO, CROP_BOX, CROP_NONE, NO_FACE_CHECK, Handle
from tests.sdk.conftest import write_pack
from tests.tiny_bundle import write_tiny_bundle
from topos_rt import FaceError, HeadMesh, HeadPipeline
from topos_rt.faces.expression import NAMES
from topos_rt.model.evidence import EVIDENCE

EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTOGRAPHS = ("astronaut.jpg", "hopper.jpg", "people/held_out_0_031.jpg", "people/held_out_1_113.jpg")


def pixels_of(name: str) -> np.ndarray:
    return np.asarray(Image.open(EXAMPLES / name).convert("RGB"))


def same(api: capi.Api, model: Handle, wanted: Any, mesh: HeadMesh) -> Any:
    """Compare the head of a request with Python's, and return what was seen of its face."""
    (head,) = capi.generate(api, model, wanted)
    for made, own in zip(capi.vertices(api, model, head), (mesh.positions, mesh.normals), strict=True):
        assert made.tobytes() == own.tobytes(), f"differ by up to {np.abs(made - own).max()}"
    told = json.loads(api.told("head_get_info", "head_info", head).metadata)
    assert list(told) == list(mesh.metadata)
    assert told["crop"] == mesh.metadata["crop"] and told["warnings"] == mesh.metadata["warnings"]
    assert told["face"] == mesh.metadata["face"]
    seen = api.told("head_get_face", "face", head)
    seen.kept = np.ctypeslib.as_array(
        (capi.ctypes.c_float * (478 * 3)).from_address(seen.landmarks)
    ).copy() if seen.landmarks else None  # fmt: skip
    if mesh.pose is not None:
        weights = np.empty(len(mesh.rig.shape_names) if mesh.rig else 0, np.float32)
        assert api.call("head_get_expression", head, weights, weights.size) == 0
        seen.weights = weights
    api.call("head_release", head)
    return seen


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs(name: str, models: Any, api: capi.Api) -> None:
    model, pipe = models("mini")
    pixels = pixels_of(name)
    mesh = pipe(pixels, seed=6, steps=2, texture="none")
    seen = same(api, model, capi.request([capi.image(pixels)], [6], steps=2, crop=CROP_AUTO), mesh)
    face, pose = mesh.face, mesh.pose
    assert face is not None and pose is not None and seen.found and seen.fitted
    np.testing.assert_array_equal(seen.kept.reshape(478, 3), face.landmarks)
    np.testing.assert_allclose(seen.box[:], face.box, rtol=1e-6)
    np.testing.assert_allclose(
        [seen.yaw, seen.pitch, seen.roll], [face.yaw, face.pitch, face.roll], atol=1e-5
    )
    assert [seen.scores[at] for at in range(1, 52)] == [
        np.float32(face.expression[name]) for name in NAMES[1:]
    ]
    np.testing.assert_allclose(np.array(seen.turn[:]).reshape(3, 3), pose.turn, atol=1e-5)
    np.testing.assert_allclose(seen.shift[:], pose.shift, atol=1e-5)
    assert seen.focal == pytest.approx(pose.focal, rel=1e-4) and seen.centre[:] == list(pose.centre)
    assert mesh.rig is not None
    wanted = [mesh.expression.get(name, 0.0) for name in mesh.rig.shape_names]
    np.testing.assert_allclose(seen.weights, wanted, atol=1e-3)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_turned_picture(orientation: int, models: Any, api: capi.Api) -> None:
    model, pipe = models("mini")
    pixels = np.rot90(pixels_of("astronaut.jpg"), {3: 2, 6: 1}[orientation]).copy()
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    mesh = pipe(file.getvalue(), steps=1, texture="none")
    same(api, model, capi.request([capi.image(pixels, orientation)], steps=1, crop=CROP_AUTO), mesh)


def test_other_crops(models: Any, api: capi.Api) -> None:
    model, pipe = models("mini")
    pixels = pixels_of("astronaut.jpg")
    given: dict[str, Any] = {"steps": 1, "texture": "none"}
    mesh = pipe(pixels, crop="none", **given)
    seen = same(api, model, capi.request([capi.image(pixels)], steps=1, crop=CROP_NONE), mesh)
    assert seen.found and seen.crop[3] == 0
    box = (40, 5, 150, 180)
    mesh = pipe(pixels, crop=box, **given)
    same(api, model, capi.request([capi.image(pixels)], steps=1, crop=CROP_BOX, crop_box=box), mesh)
    mesh = pipe(pixels, crop=box, face_check=False, **given)
    wanted = capi.request([capi.image(pixels)], flags=NO_FACE_CHECK, steps=1, crop=CROP_BOX, crop_box=box)
    assert not same(api, model, wanted, mesh).found
    for bad in ((-1, 0, 20, 20), (0, 0, 15, 20), (500, 0, 20, 20), (2**31 - 1, 0, 2**31 - 1, 20)):
        with pytest.raises(capi.CError, match="crop_box") as caught:
            wanted = capi.request([capi.image(pixels)], crop=CROP_BOX, crop_box=bad)
            capi.generate(api, model, wanted)
        assert caught.value.name == "TOPOS_E_ARGUMENT"
    with pytest.raises(capi.CError, match="crop"):
        capi.generate(api, model, capi.request([capi.image(pixels)], crop=3))


def test_pictures_without_a_face_and_numbers_of_faces(models: Any, api: capi.Api) -> None:
    model, pipe = models("mini")
    nobody = smooth(96, 64)
    with pytest.raises(FaceError):
        pipe(nobody, steps=1)
    with pytest.raises(capi.CError, match="no face was found") as caught:
        capi.generate(api, model, capi.request([capi.image(nobody)], crop=CROP_AUTO))
    assert caught.value.name == "TOPOS_E_IMAGE"
    mesh = pipe(nobody, steps=1, face_check=False, texture="none")
    wanted = capi.request([capi.image(nobody)], flags=NO_FACE_CHECK, steps=1, crop=CROP_AUTO)
    assert not same(api, model, wanted, mesh).found
    first = pixels_of("astronaut.jpg")
    two = np.hstack([first, first[:, ::-1]])
    for number, face in ((0, "largest"), (1, 1)):
        mesh = pipe(two, steps=1, face=face, texture="none")
        wanted = capi.request([capi.image(two)], steps=1, crop=CROP_AUTO, face=number)
        assert same(api, model, wanted, mesh).found
    with pytest.raises(capi.CError, match="face number 3") as caught:
        capi.generate(api, model, capi.request([capi.image(two)], crop=CROP_AUTO, face=2))
    assert caught.value.name == "TOPOS_E_IMAGE"


def test_transparent_surroundings(models: Any, api: capi.Api) -> None:
    model, pipe = models("mini")
    pixels = pixels_of("astronaut.jpg")
    alpha = np.full(pixels.shape[:2], 255, np.uint8)
    alpha[:, :100], alpha[:, 100:140] = 0, 90
    pixels = np.dstack([pixels, alpha])
    mesh = pipe(pixels, steps=1, texture="none")
    same(api, model, capi.request([capi.image(pixels)], steps=1, crop=CROP_AUTO), mesh)


@pytest.fixture(scope="module")
def telling(api: capi.Api, rt: Handle, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model that takes all evidence."""
    folder = tmp_path_factory.mktemp("telling")
    (folder / "bundle").mkdir()
    write_tiny_bundle(folder / "bundle", tuple(EVIDENCE), varied=True)
    pack = write_pack(folder / "bundle", folder / "telling.topos")
    model = capi.load(api, rt, pack)
    with HeadPipeline.open(folder / "bundle", "onnxruntime", threads=1, decoder="engine") as pipe:
        yield model, pipe
    api.call("model_release", model)


@pytest.mark.parametrize("crop", [CROP_AUTO, CROP_NONE])
def test_evidence(crop: int, telling: Any, api: capi.Api) -> None:
    """Landmarks in the head's axes round otherwise in the last bits: the head may, too."""
    model, pipe = telling
    pixels = pixels_of("hopper.jpg")
    info = api.told("model_get_info", "model_info", model)
    assert info.features & capi.constants()["TOPOS_FEATURE_BIOMETRIC"]
    mesh = pipe(pixels, seed=1, steps=3, crop=("auto", "none")[crop])
    (head,) = capi.generate(api, model, capi.request([capi.image(pixels)], [1], steps=3, crop=crop))
    positions, _ = capi.vertices(api, model, head)
    np.testing.assert_allclose(positions, mesh.positions, rtol=0, atol=1e-7)
    blind = pipe(pixels, seed=1, steps=3, crop="none", face_check=False)
    assert np.abs(blind.positions - mesh.positions).max() > 1e-4  # the evidence matters
    api.call("head_release", head)


def test_a_model_that_was_loaded_without_faces(api: capi.Api, rt: Handle, packs: Any) -> None:
    source = capi.struct("source", path=str(packs["tiny"][1]).encode())
    model = Handle(api.made("model_load", rt, source, capi.struct("load_options", flags=4)))
    image = capi.image(smooth(20, 20))
    (head,) = capi.generate(api, model, capi.request([image], steps=1))
    assert api.told("head_get_face", "face", head).found == 0
    unsupported = capi.constants()["TOPOS_E_UNSUPPORTED"]
    assert api.call("head_get_expression", head, np.empty(9, np.float32), 9) == unsupported
    api.call("head_release", head)
    with pytest.raises(capi.CError, match="TOPOS_E_UNSUPPORTED"):
        capi.generate(api, model, capi.request([image], crop=CROP_AUTO))
    api.call("model_release", model)
