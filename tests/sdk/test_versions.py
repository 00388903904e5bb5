"""The C library on other releases of ONNX Runtime: on each, the heads of Python on the same release."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.sdk import capi

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
    with HeadPipeline.open("mini", "onnxruntime", threads=1) as pipe:
        mesh = pipe(pixels, seed=5, texture="none")
    positions, normals = mesh.positions, mesh.normals
print(hashlib.sha256(positions.tobytes() + normals.tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.24.1", "1.27.0"])
def test_heads_are_those_of_python_on_the_same_release(
    version: str, api: capi.Api, packs: Any, tmp_path: Path
) -> None:
    folder = needs.packages(f"pip download --quiet --no-deps --only-binary :all: onnxruntime=={version}")
    wheels = sorted(folder.glob(f"onnxruntime-{version}-*.whl"))
    needs.machine(wheels, f"no wheel of onnxruntime {version}")
    with zipfile.ZipFile(wheels[-1]) as wheel:
        wheel.extractall(tmp_path)
    (library,) = tmp_path.glob("onnxruntime/capi/libonnxruntime.so*")

    def summed(side: str, place: Path) -> str:
        words = [sys.executable, "-c", SCRIPT, side, place, api.path, packs["mini"][1], PICTURE]
        environment = os.environ | {"ORT_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            list(map(str, words)), cwd=ROOT, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert summed("c", library) == summed("python", tmp_path)
