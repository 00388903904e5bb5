"""Backends of the C library that need a GPU: refused where there is none; a plug-in provider of our own."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.sdk import capi
from tests.sdk.capi import constants
from tests.sdk.conftest import headers

ROOT = Path(__file__).parents[2]
RTX, CUDA = 2, 3
PLUGIN = Path(__file__).parent / "plugin.c"
# A head on a backend, and on the CPU, as sums; in a process of its own, where the provider stays registered.
SCRIPT = """
import sys
from pathlib import Path
from tests.sdk import capi
from tests.sample_pictures import smooth
library, ort, pack, plugin, cache = sys.argv[1:]
api = capi.Api(Path(library))
options = {"rtx_library": plugin.encode()} | ({"cache_dir": cache.encode()} if cache else {})
heads = []
for _ in range(2):  # another runtime meets a provider that is registered already
    with capi.runtime(api, Path(ort), **options) as rt:
        for backend in (2, 1):
            model = capi.load(api, rt, Path(pack), backend=backend)
            assert api.told("model_get_info", "model_info", model).backend == backend
            (head,) = capi.generate(api, model, capi.request([capi.image(smooth(64, 48))], [3], steps=2))
            heads.append(capi.vertices(api, model, head)[0].tobytes())
            api.call("head_release", head)
            api.call("model_release", model)
print(len(set(heads)))
"""


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory, api: capi.Api, rt: capi.Handle) -> dict[int, Path]:
    """Plug-in providers that find none, and one device, for the installed ONNX Runtime."""
    folder = tmp_path_factory.mktemp("plugins")
    number = api.told("runtime_get_info", "runtime_info", rt).ort_api
    made = {}
    for devices in (0, 1):
        made[devices] = folder / f"libplugin{devices}.so"
        words = ["-x", "c", "-shared", "-fPIC", f"-DDEVICES={devices}", f"-DNUMBER={number}"]
        subprocess.run([needs.compiler(), *words, "-I", headers(), PLUGIN, "-o", made[devices]], check=True)
    return made


@pytest.mark.parametrize("kind", ["none", "missing", "no library", "another library", "a bare name"])
def test_tensorrt_rtx_without_its_provider(
    kind: str, api: capi.Api, ort: Path, packs: Any, built: Path, tmp_path: Path
) -> None:
    text = tmp_path / "libtext.so"
    text.write_text("no library")
    path = {
        "none": None, "missing": "/nowhere/libprovider.so", "no library": str(text),
        "another library": str(built / "sdk/libtopos_rt.so"), "a bare name": "libprovider.so",
    }[kind]  # fmt: skip
    options = {} if path is None else {"rtx_library": path.encode()}
    with capi.runtime(api, ort, **options) as rt:
        with pytest.raises(
            capi.CError, match=r"rtx_library.*fix: load the model with TOPOS_BACKEND_CPU"
        ) as caught:
            capi.load(api, rt, packs["tiny"][1], backend=RTX)
        assert caught.value.name == "TOPOS_E_UNAVAILABLE" and "\n" not in caught.value.message
        api.call("model_release", capi.load(api, rt, packs["tiny"][1]))  # nothing is left behind


def test_tensorrt_rtx_without_a_device(
    api: capi.Api, ort: Path, packs: Any, plugins: dict[int, Path]
) -> None:
    with capi.runtime(api, ort, rtx_library=str(plugins[0]).encode()) as rt:
        for _ in range(2):
            with pytest.raises(capi.CError, match="TOPOS_E_UNAVAILABLE"):
                capi.load(api, rt, packs["tiny"][1], backend=RTX)


@pytest.mark.slow
def test_nvidias_own_provider_without_a_driver(api: capi.Api, ort: Path, packs: Any, tmp_path: Path) -> None:
    needs.machine(ctypes.util.find_library("cuda") is None, "this machine has a driver")
    name = "onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0"
    archives = needs.packages(f"pip download --quiet --no-deps --only-binary :all: {name}")
    (archive,) = archives.glob("onnxruntime_ep_nv_tensorrt_rtx_cu13-0.5.0-*.whl")
    with zipfile.ZipFile(archive) as wheel:
        (member,) = (member for member in wheel.namelist() if "libonnxruntime_providers" in member)
        library = wheel.extract(member, tmp_path)
    with capi.runtime(api, ort, rtx_library=library.encode()) as rt:
        with pytest.raises(capi.CError, match=r"TOPOS_E_UNAVAILABLE.*lib\w+\.so"):
            capi.load(api, rt, packs["tiny"][1], backend=RTX)
        api.call("model_release", capi.load(api, rt, packs["tiny"][1]))


@pytest.mark.parametrize("cached", [False, True])
def test_a_provider_that_leaves_all_to_the_cpu_gives_its_heads(
    cached: bool, api: capi.Api, ort: Path, packs: Any, plugins: dict[int, Path], tmp_path: Path
) -> None:
    cache = str(tmp_path / "cache") if cached else ""
    words = [sys.executable, "-c", SCRIPT, api.path, ort, packs["tiny"][1], plugins[1], cache]
    done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr


def test_cuda_without_a_build_that_has_it(api: capi.Api, rt: capi.Handle, packs: Any) -> None:
    with pytest.raises(capi.CError, match=r"CUDA.*fix: load the model with TOPOS_BACKEND_CPU") as caught:
        capi.load(api, rt, packs["tiny"][1], backend=CUDA)
    assert caught.value.status == constants()["TOPOS_E_UNAVAILABLE"]
