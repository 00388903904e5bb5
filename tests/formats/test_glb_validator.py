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
from tests.meshes import ball, ball_rig, bundled_head, cube
from tests.texture.portraits import sample, textured
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.rig_fit import fit_rig

JS = Path(__file__).parent.parent / "js"
# The UVs are for the user's textures; the file itself has no texture.
EXPECTED = {("UNUSED_OBJECT", "/meshes/0/primitives/0/attributes/TEXCOORD_0")}


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
        "textured head": textured(sample()),
    }


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    node = needs.node_package("gltf-validator")
    directory = tmp_path_factory.mktemp("glb")
    paths = []
    for name, head in heads().items():
        paths.append(directory / f"{name}.glb")
        head.save(paths[-1])
    broken = directory / "broken.glb"
    broken.write_bytes(paths[0].read_bytes().replace(b'"max":[0.5', b'"max":[0.4', 1))
    command = [node, JS / "validate.js", *paths, broken]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120).stdout
    return dict(zip([*heads(), "broken"], json.loads(output), strict=True))


@pytest.mark.parametrize("name", heads())
def test_no_complaints(reports: dict[str, Any], name: str) -> None:
    issues = reports[name]["issues"]
    assert (issues["numErrors"], issues["numWarnings"], issues["numHints"]) == (0, 0, 0), issues["messages"]
    assert {(message["code"], message["pointer"]) for message in issues["messages"]} <= EXPECTED


def test_the_validator_does_complain(reports: dict[str, Any]) -> None:
    assert reports["broken"]["issues"]["numErrors"] > 0
