"""The C library, built once for all tests of all workers, and packs for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs
import pytest
from filelock import FileLock
from PIL import Image

from tests import needs
from tests.sdk import capi
from tests.tiny_bundle import write_tiny_bundle
from topos_rt import HeadPipeline
from topos_rt.faces.bundle import FaceBundle
from topos_rt.model.bundle import Bundle
from topos_rt.pack.container import packed
from topos_rt.pack.contents import contents

ROOT = Path(__file__).parents[2]
OLDEST = (1, 23)
Packs = dict[str, tuple[Path, Path]]
Pair = tuple[capi.Handle, HeadPipeline]


def headers() -> Path:
    """Return a folder with ONNX Runtime's headers, which are fetched once for good."""
    folder = Path(platformdirs.user_cache_dir("topos_rt-tests"), "onnxruntime_headers")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        script = ROOT / "sdk/cmake/FetchOnnxRuntimeHeaders.cmake"
        done = subprocess.run(["cmake", "-D", f"OUT={folder}", "-P", script], capture_output=True, text=True)
    needs.tool(
        f"ONNX Runtime's headers ({done.stderr.strip()[-200:]})",
        done.returncode == 0,
        "install npm, go online",
    )
    return folder


def onnxruntime_library() -> Path:
    """Return the library of the installed package, which the C library can use."""
    onnxruntime = needs.module("onnxruntime")
    version = tuple(map(int, re.findall(r"\d+", onnxruntime.__version__)[:2]))
    found = sorted(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"))
    needs.machine(found, "no libonnxruntime.so in the package onnxruntime")
    needs.machine(version >= OLDEST, f"onnxruntime {onnxruntime.__version__} is too old for the C library")
    return found[0]


def build(folder: Path, *options: str) -> Path:
    """Build the C library with CMake into a folder, and return the library."""
    words = [
        "-S",
        str(ROOT),
        "-B",
        str(folder),
        "-DTOPOS_SDK=ON",
        f"-DTOPOS_ORT_INCLUDE_DIR={headers()}",
        *options,
    ]
    for arguments in (words, ["--build", str(folder)]):
        done = subprocess.run(["cmake", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return folder / "sdk/libtopos_rt.so"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the library was built into."""
    needs.compiler()
    needs.tool("CMake", shutil.which("cmake"), "install cmake")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "sdk"
    with FileLock(f"{folder}.lock"):
        if not (folder / "built").exists():
            build(folder)
            (folder / "built").touch()
    return folder


@pytest.fixture(scope="session")
def ort() -> Path:
    return onnxruntime_library()


@pytest.fixture(scope="session")
def api(built: Path) -> capi.Api:
    return capi.Api(built / "sdk/libtopos_rt.so")


@pytest.fixture(scope="session")
def rt(api: capi.Api, ort: Path) -> Iterator[capi.Handle]:
    """A runtime for all tests of a process; no test may release it."""
    with capi.runtime(api, ort) as made:
        yield made


@pytest.fixture(scope="session")
def models(api: capi.Api, rt: capi.Handle, packs: Packs) -> Iterator[Callable[[str], Pair]]:
    """Returns a model of either side by its name, each with one thread; no test may close them."""
    opened: dict[str, Pair] = {}

    def get(name: str) -> Pair:
        if name not in opened:
            bundle, pack = packs[name]
            opened[name] = (
                capi.load(api, rt, pack),
                HeadPipeline.open(bundle, "onnxruntime", threads=1, decoder="engine"),
            )
        return opened[name]

    yield get
    for model, pipe in opened.values():
        api.call("model_release", model)
        pipe.close()


def write_pack(bundle: Path | str, path: Path) -> Path:
    path.write_bytes(packed(contents(Bundle.open(bundle), FaceBundle.open())))
    return path


@pytest.fixture(scope="session")
def packs(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Packs:
    """Models by name: the folder of the bundle, and its pack.

    "seeing" has evidence, a variation, and an encoder that estimates.
    """
    folder = tmp_path_factory.mktemp("packs")
    seeing = folder / "seeing"
    seeing.mkdir()
    write_tiny_bundle(seeing, ("landmarks", "pose"), varied=True, estimating=True)
    mini = Bundle.open("mini").path
    bundles = {"tiny": tiny_bundle, "seeing": seeing, "mini": mini}
    return {name: (path, write_pack(path, folder / f"{name}.topos")) for name, path in bundles.items()}


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    """A portrait as a binary PPM, which every build reads."""
    path = tmp_path / "portrait.ppm"
    Image.open(capi.PORTRAIT).convert("RGB").save(path)
    return path
