"""The Unity package compiles, and makes its mesh, on mono with stand-ins for UnityEngine's types.

tests/sdk/unity/ has the stand-ins, written by hand; no Unity is here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.sdk import capi, engines, regions
from tests.sdk.test_samples import mono

STAND_INS = sorted((Path(__file__).parent / "unity").glob("*.cs"))


@pytest.fixture(scope="module")
def package(built: Path, ort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engines.assembled("unity", built, tmp_path_factory.mktemp("unity"), ORT=ort)


@pytest.fixture(scope="module")
def made(
    package: Path, packs: dict[str, tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> engines.Made:
    folder = tmp_path_factory.mktemp("run")
    program = folder / "Run.exe"
    words = [*mono([*package.rglob("*.cs"), *STAND_INS], program), program, packs["mini"][1]]
    return engines.ran(words, package / "Runtime/Plugins/x86_64", folder)


def test_the_mesh_is_the_librarys(made: engines.Made, api: capi.Api, models: Callable[[str], Any]) -> None:
    engines.same_as_the_library(
        made, api, models, axes=1, unit=1.0, flags=capi.constants()["TOPOS_LAYOUT_ATLAS"]
    )
    assert made.uvs.min() >= 0 and made.uvs.max() <= 1


def test_axes_and_handedness(made: engines.Made) -> None:
    regions.check(regions.UNITY, made.positions, made.normals, made.triangles)


def test_blendshapes_move_what_their_names_say(made: engines.Made) -> None:
    regions.check_shapes(regions.UNITY, made.positions, made.shapes)


def test_bones(made: engines.Made) -> None:
    """Bind poses move joints back to the origin, the left eye's lies on the left, and weights are whole."""
    joints = made.lines["joints"].split()
    count, width = len(joints), len(made.positions)
    binds, places, skin, _ = np.split(made.rest, [3 * count, 6 * count, 6 * count + 2 * width])
    np.testing.assert_allclose(binds, -places, rtol=0, atol=1e-6)
    left = places.reshape(count, 3)[joints.index("eye_L")]
    right = places.reshape(count, 3)[joints.index("eye_R")]
    assert left[0] < -0.02 and right[0] > 0.02 and abs(left[1] - right[1]) < 0.01
    held, weights = skin.reshape(width, 2).T
    assert held.min() >= 0 and held.max() < count
    np.testing.assert_allclose(weights, 1, atol=1e-5)


def test_the_skin(made: engines.Made, api: capi.Api, models: Callable[[str], Any]) -> None:
    """Rows go from the bottom up, colours are sRGB and normals are not, and tangents lie in the surface."""
    model, _ = models("mini")
    pixels = np.asarray(Image.open(engines.PORTRAIT).convert("RGB"))
    wanted = capi.request([capi.image(pixels)], [engines.SEED], crop=capi.CROP_AUTO, texture=1)
    (head,) = capi.generate(api, model, wanted)
    own = np.empty((1024, 1024, 4), np.uint8)
    texels = capi.struct(
        "texels", map=1, format=2, row_stride=-4096, data=own.ctypes.data, capacity=own.nbytes
    )
    api.ok("head_write_texture", head, texels)
    api.call("head_release", head)
    skin = np.fromfile(f"{made.path}.skin", np.uint8).reshape(own.shape)
    assert np.abs(skin.astype(int) - own).max() <= 1 and own[..., :3].std() > 20
    assert made.lines["skin"] == "1024 False True True"
    tangents = made.rest[-4 * len(made.positions) :].reshape(-1, 4)
    np.testing.assert_allclose(np.linalg.norm(tangents[:, :3], axis=1), 1, atol=1e-5)
    assert np.abs((tangents[:, :3] * made.normals).sum(1)).max() < 1e-4 and set(tangents[:, 3]) <= {-1, 1}


def test_previews_and_the_next_portrait(made: engines.Made) -> None:
    shown, _, _, weight = made.lines["shown"].split()
    assert int(shown) >= 3 and float(weight) == 25  # a preview now and then, and Mathf.PingPong's 0.25
    assert made.lines["again:"] == "0 shapes" and made.lines["destroyed"] == "3"  # a mesh, and two pictures
    assert made.lines["failed"].startswith("TOPOS_E_IO pack nowhere/none.topos: ")  # in StreamingAssets


def test_its_files_agree(package: Path) -> None:
    manifest = json.loads((package / "package.json").read_text())
    assert manifest["version"] == engines.version()
    assert all((package / sample["path"]).is_dir() for sample in manifest["samples"])
    assert json.loads((package / "Runtime/Topos.Rt.asmdef").read_text())["allowUnsafeCode"] is True
    assert sorted(path.name for path in (package / "Runtime/Plugins/x86_64").iterdir()) == [
        "libonnxruntime.so", "libtopos_rt.so",
    ]  # fmt: skip
