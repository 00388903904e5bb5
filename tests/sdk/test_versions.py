"""The C library on releases of ONNX Runtime from PyPI and npm: on each, the heads of Python on PyPI's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sdk import capi
from tests.sdk.releases import node_library, python_package

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "examples/astronaut.jpg"
# Sums up a head: with Python's package, on the release in a folder, or with the C library, on a library.
SCRIPT = """
import hashlib, sys
from pathlib import Path
import numpy as np
from PIL import Image
side, place, library, pack, picture = sys.argv[1:]
pixels = np.asarray(Image.open(picture).convert("RGB"))
if side == "c":
    from tests.sdk import capi
    api = capi.Api(Path(library))
    with capi.runtime(api, Path(place)) as rt:
        model = capi.load(api, rt, Path(pack))
        (head,) = capi.generate(api, model, capi.request([capi.image(pixels)], [5], crop=capi.CROP_AUTO))
        positions, normals = capi.vertices(api, model, head)
        api.call("head_release", head)
        api.call("model_release", model)
else:
    sys.path.insert(0, place)
    from topos_rt import HeadPipeline
    with HeadPipeline.open("mini", "onnxruntime", threads=1, decoder="engine") as pipe:
        mesh = pipe(pixels, seed=5, texture="none")
    positions, normals = mesh.positions, mesh.normals
print(hashlib.sha256(positions.tobytes() + normals.tobytes()).hexdigest())
"""


def summed(side: str, place: Path, api: capi.Api, packs: Any) -> str:
    words = [sys.executable, "-c", SCRIPT, side, place, api.path, packs["mini"][1], PICTURE]
    environment = os.environ | {"ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.24.1", "1.27.0"])
def test_heads_are_those_of_python_on_the_same_release(
    version: str, api: capi.Api, packs: Any, tmp_path: Path
) -> None:
    library = python_package(version, tmp_path)
    assert summed("c", library, api, packs) == summed("python", tmp_path, api, packs)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.24.1", "1.30.0"])
def test_heads_are_the_same_on_the_library_of_npm(
    version: str, api: capi.Api, packs: Any, tmp_path: Path
) -> None:
    """Node's package has the library of the same release, built by others than PyPI's."""
    theirs = python_package(version, tmp_path)
    own = node_library(version, "linux/x64/libonnxruntime.so.1", tmp_path)
    assert own.read_bytes() != theirs.read_bytes()
    assert summed("c", own, api, packs) == summed("python", tmp_path, api, packs)
