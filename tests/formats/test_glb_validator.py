"""The Khronos glTF-Validator (npm package gltf-validator) on the files that we write."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs
from tests.head.test_skeleton import rigged_mini
from tests.meshes import ball, ball_rig, bundled_head, cube
from tests.part_heads import dressed, plain
from tests.texture.portraits import sample, textured
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.rig_fit import fit_rig

JS = Path(__file__).parent.parent / "js"
# The UVs are for the user's textures; the file itself has no texture.
EXPECTED = {("UNUSED_OBJECT", f"/meshes/0/primitives/{number}/attributes/TEXCOORD_0") for number in range(3)}


def heads() -> dict[str, HeadMesh]:
    return {
        "cube": cube(),
        "cube with blendshapes": cube(rig=True),
        "cube without UVs": cube(uvs=False, rig=True),
        "ball": ball(),
        "ball with a skeleton": dataclasses.replace(ball(), rig=fit_rig(ball_rig(), ball().positions)),
        "ball with two skeletons": dataclasses.replace(
            ball(), rig=dataclasses.replace(ball_rig(), joint_parents=np.array([-1, -1]))
        ),
        "bundled head": bundled_head(),
        "textured head": dataclasses.replace(textured(sample()), rig=rigged_mini().rig),
        "textured level of detail": textured(sample()).lod(1),
        "head with parts": plain(),
        "textured head with parts": dressed(),
        "posed head with parts": dressed().posed({"jawOpen": 1}),
        "level of detail with parts": dressed().lod(2),
    }


# The other forms of a file: name -> suffix, and arguments of `HeadMesh.save`.
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "quantized": ("glb", {"quantize": True}),
    "quantized, without a rig": ("glb", {"quantize": True, "rig": False}),
    "compact": ("glb", {"skeleton": "compact"}),
    "without blendshapes": ("glb", {"morphs": "none"}),
    "gltf": ("gltf", {}),
    "quantized gltf": ("gltf", {"quantize": True}),
}


def files(directory: Path) -> dict[str, Path]:
    """Write every head in every form, return the files by name."""
    written = {}
    for name, head in heads().items():
        for form, (suffix, options) in {"": ("glb", {}), **FORMS}.items():
            path = directory / f"{name} {form}.{suffix}"
            head.save(path, **options)
            written[f"{name} {form}".strip()] = path
    spoken = dataclasses.replace(bundled_head(), rig=fit_rig(bundled_head().rig, bundled_head().positions))
    spoken.save(directory / "visemes.glb", morphs="visemes,jawOpen", skeleton="compact", quantize=True)
    return written | {"visemes": directory / "visemes.glb"}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    node = needs.node_package("gltf-validator")
    paths = files(tmp_path_factory.mktemp("glb"))
    broken = paths["cube"].with_name("broken.glb")
    broken.write_bytes(paths["cube"].read_bytes().replace(b'"max":[0.5', b'"max":[0.4', 1))
    command = [node, JS / "validate.js", *paths.values(), broken]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=240).stdout
    return dict(zip([*paths, "broken"], json.loads(output), strict=True))


@pytest.mark.parametrize("form", ["", *FORMS])
@pytest.mark.parametrize("name", heads())
def test_no_complaints(reports: dict[str, Any], name: str, form: str) -> None:
    check(reports[f"{name} {form}".strip()])


def test_no_complaints_about_visemes(reports: dict[str, Any]) -> None:
    check(reports["visemes"])


def check(report: dict[str, Any]) -> None:
    issues = report["issues"]
    assert (issues["numErrors"], issues["numWarnings"], issues["numHints"]) == (0, 0, 0), issues["messages"]
    assert {(message["code"], message["pointer"]) for message in issues["messages"]} <= EXPECTED


def test_the_validator_does_complain(reports: dict[str, Any]) -> None:
    assert reports["broken"]["issues"]["numErrors"] > 0
