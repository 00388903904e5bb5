"""What is installed and imported: public names, start-up cost, dependencies, the contents of the wheel."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import topos_rt
from tests import needs
from topos_rt.cli import doctor

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "topos_rt").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]

PUBLIC = [
    "SOLVERS",
    "BackendError",
    "Bundle",
    "BundleError",
    "Camera",
    "Cancelled",
    "Face",
    "FaceError",
    "FaceFinder",
    "FaceTracker",
    "HeadFitter",
    "HeadMesh",
    "HeadPipeline",
    "ImageError",
    "InputError",
    "MeshInputError",
    "MissingExtraError",
    "OptionError",
    "OutputError",
    "PaintEngines",
    "PaintOptions",
    "PaintSource",
    "Rig",
    "ScanWarning",
    "Smoothing",
    "Texture",
    "Topology",
    "ToposError",
    "TrackedFace",
    "__version__",
    "compare",
    "find_faces",
    "generate",
    "metrics",
    "open_painter",
    "read_scan",
    "render_preview",
    "texture_head",
]
# Import names by where they may be used: anywhere, or only inside the function that needs the extra.
DEPENDENCIES = {"filelock", "numpy", "onnxruntime", "PIL", "platformdirs", "safetensors"}
OPTIONAL = {
    "DracoPy",
    "cuda",
    "mapbox_earcut",
    "matplotlib",
    "meshoptimizer",
    "pxr",
    "pyarrow",
    "ray",
    "scipy",
    "tensorrt",
    "tensorrt_rtx",
    "trimesh",
}
# The room that needs its extra as a whole, except for these modules: `topos-rt serve` reads its options with
# them, and says what to install.
SERVER = ROOT / "topos_rt" / "server"
SERVER_LIGHT = {SERVER / "__init__.py", SERVER / "settings.py", SERVER / "problems.py"}
SERVER_DEPENDENCIES = {
    "fastapi",
    "h11",
    "prometheus_client",
    "pydantic",
    "python_multipart",
    "starlette",
    "uvicorn",
}


def serves(path):
    return path.is_relative_to(SERVER) and path not in SERVER_LIGHT


def python(code, *flags):
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names():
    assert topos_rt.__all__ == PUBLIC
    for name in PUBLIC:
        assert getattr(topos_rt, name) is not None
    assert set(PUBLIC) <= set(dir(topos_rt))


def test_star_import():
    names = {}
    exec("from topos_rt import *", names)
    assert set(PUBLIC) <= set(names)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'topos_rt' has no attribute 'HeadPipelin'"):
        topos_rt.HeadPipelin  # noqa: B018


def test_importing_does_no_work():
    loaded = python(
        "import sys; before = set(sys.modules); import topos_rt; print(*sys.modules.keys() - before)"
    )
    third_party = {name.partition(".")[0] for name in loaded.split()} - sys.stdlib_module_names
    assert third_party == {"topos_rt"}
    assert set(loaded.split()) & {name for name in loaded.split() if name.startswith("topos_rt")} == {
        "topos_rt"
    }


def test_the_whole_runtime_loads_without_torch():
    sources = [path for path in SOURCES if not serves(path) or importlib.util.find_spec("fastapi")]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources]
    wanted = [name.removesuffix(".__init__") for name in modules if not name.endswith("__main__")]
    code = f"import importlib, sys\nfor name in {wanted}: importlib.import_module(name)\nprint(*sys.modules)"
    roots = {name.partition(".")[0] for name in python(code).split()}
    assert roots & {"torch", "export", "training", "onnx", "scipy", "trimesh"} == set()


def imports(tree, top_only=False):
    """Yield the roots of the modules that a file imports, except those under `if TYPE_CHECKING`."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in tree.body if top_only else ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_runtime_imports_its_dependencies_only(path):
    tree = ast.parse(path.read_text())
    ours = sys.stdlib_module_names | DEPENDENCIES | {"topos_rt"}
    if serves(path):
        ours |= SERVER_DEPENDENCIES
    assert set(imports(tree)) <= ours | OPTIONAL
    assert set(imports(tree, top_only=True)) <= ours


def requirement_names(requirements):
    return {re.match(r"[A-Za-z0-9-]+", requirement).group() for requirement in requirements}


def test_the_hard_dependencies_are_those_of_the_cpu_path():
    assert requirement_names(PROJECT["dependencies"]) == set(doctor.REQUIRED)
    assert {module.partition(".")[0] for module in doctor.REQUIRED.values()} == DEPENDENCIES


def test_the_doctor_knows_the_extras():
    for distribution, extra in doctor.OPTIONAL.items():
        assert distribution in requirement_names(EXTRAS[extra])
    users = {"tensorrt-rtx", "tensorrt", "usd", "gltf", "mesh", "plot", "trimesh", "serve", "studio", "batch"}
    makers = {"export", "compare", "face", "texture", "training", "baselines", "fuzz", "test"}
    assert set(EXTRAS) == users | {"ray"} | makers


def test_every_extra_named_in_a_message_exists():
    for path in SOURCES:
        for extra in re.findall(r"topos-rt\[([a-z-]+)\]", path.read_text()):
            assert extra in EXTRAS, path


def test_torch_is_held_by_the_constraints():
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert any(re.fullmatch(r"torch==\d+\.\d+\.\d+", pin) for pin in pins)
    assert "-c constraints.txt" in (ROOT / "Makefile").read_text()


PAGE = "topos_rt/server/page"
CI = ROOT / ".ci" / "run"


def test_ci_runs_what_people_run():
    assert os.access(CI, os.X_OK)
    assert CI.read_text().splitlines()[-1] == "make test"


def ci(tmp_path, *present):
    """Run .ci/run where only these commands are there, each of which tells its words; what they told."""
    told = tmp_path / "told"
    script = f'#!/bin/bash\necho "CI=$CI" "${{0##*/}}" "$@" >> {told}\n'
    for name in present:
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "dirname").symlink_to(shutil.which("dirname"))
    (tmp_path / "bash").symlink_to(shutil.which("bash"))
    environment = {"PATH": str(tmp_path)}
    done = subprocess.run(
        ["/bin/bash", str(CI)], env=environment, capture_output=True, text=True, check=False
    )
    lines = told.read_text().splitlines() if told.exists() else []
    return done, lines


TOOLS = (
    "nvcc", "cmake", "g++", "node", "npm", "chromium", "make", "apt-get", "abidiff", "mcs", "mono",
    "pkg-config",
)  # fmt: skip


def test_ci_installs_nothing_that_is_there(tmp_path):
    done, told = ci(tmp_path, *TOOLS)
    assert done.returncode == 0 and told == ["CI=true make test"], done.stderr


def test_ci_installs_what_is_missing(tmp_path):
    done, told = ci(tmp_path, *(set(TOOLS) - {"node", "chromium"}))
    assert done.returncode == 0, done.stderr
    update, install, make = told
    assert update.startswith("CI=true apt-get update") and make == "CI=true make test"
    assert set(install.split()) >= {"install", "chromium", "nodejs"} and "g++" not in install


def test_ci_says_what_it_cannot_install(tmp_path):
    done, told = ci(tmp_path, *(set(TOOLS) - {"nvcc"}))
    assert done.returncode == 1 and not told
    assert "error: nvcc was not found; fix: install the CUDA Toolkit 13.0" in done.stderr


def built(directory, **environment):
    """Return the wheel of this checkout without the kernels, made by the build tools of the extra `test`."""
    needs.module("scikit_build_core")
    words = [
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--config-settings=cmake.define.TOPOS_KERNELS=OFF",
        "--wheel-dir",
        str(directory),
        str(ROOT),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    (path,) = directory.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The pure Python wheel, as it is made where there is no C++ compiler.

    tests/gpu/test_kernels_build.py builds the one with the kernels.
    """
    return built(tmp_path_factory.mktemp("wheel"), CXX="/there/is/no/compiler")


def test_the_wheel_fits_every_machine_and_has_the_version(wheel):
    assert wheel.name == f"topos_rt-{topos_rt.__version__}-py3-none-any.whl"


def test_a_compiler_adds_the_passes_for_the_cpu_and_nothing_else(wheel, tmp_path):
    needs.compiler()
    path = built(tmp_path)
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert path.name.startswith(f"topos_rt-{topos_rt.__version__}-{python}-{python}-")
    with zipfile.ZipFile(wheel) as pure, zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) - set(pure.namelist()) == {
            f"topos_rt/_native{sysconfig.get_config_var('EXT_SUFFIX')}"
        }
        assert set(pure.namelist()) <= set(archive.namelist())
        archive.extractall(tmp_path / "site")
    code = (
        "from topos_rt.support.native import native\n"
        "from topos_rt.gpu import texture_ops\n"
        "print(native().__name__, texture_ops.__file__)"
    )
    path = os.pathsep.join([str(tmp_path / "site"), sysconfig.get_path("platlib")])
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout.split() == [
        "topos_rt._native", str(tmp_path / "site" / "topos_rt" / "gpu" / "texture_ops.py"),
    ], done.stderr  # fmt: skip


def test_the_wheel_holds_the_package_its_data_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    tracked = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "topos_rt").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    inside = {name for name in names if not name.startswith(f"topos_rt-{topos_rt.__version__}.dist-info/")}
    assert inside == tracked
    assert "topos_rt/py.typed" in inside
    assert {name.rpartition("/")[2] for name in names - inside} >= {"LICENSE", "NOTICE", "entry_points.txt"}
    assert "License-Expression: MIT" in metadata


def test_the_wheel_holds_the_page_with_what_it_loads_and_its_licences(wheel):
    needs.tool("the studio's page", (ROOT / PAGE / "index.html").is_file(), "make page")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        index = archive.read(f"{PAGE}/index.html").decode()
        licences = archive.read(f"{PAGE}/LICENSES.md").decode()
    loaded = set(re.findall(r'(?:src|href)="([^"]+)"', index))
    assert {path.removeprefix("./") for path in loaded} >= {"icon.svg"} and len(loaded) >= 3
    assert {f"{PAGE}/{path.removeprefix('./')}" for path in loaded} <= names
    assert "three - 0.187.0 (MIT)" in licences and "Permission is hereby granted" in licences
    assert not any("node_modules" in name or name.startswith("studio/") for name in names)


def test_the_page_and_the_tests_use_the_same_three_js():
    versions = [
        json.loads((ROOT / folder / "package.json").read_text())["dependencies"]["three"]
        for folder in ("studio", "tests/js")
    ]
    assert versions[0] == versions[1] == "0.187.0"


def test_the_wheel_runs_from_where_it_is_installed(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    # -S: an editable install of this checkout would come first.
    path = os.pathsep.join([str(tmp_path / "site"), sysconfig.get_path("platlib")])
    done = subprocess.run(
        [sys.executable, "-S", "-m", "topos_rt", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )
    found = json.loads(done.stdout)
    assert found["topos_rt"]["path"] == str(tmp_path / "site" / "topos_rt")
    assert all(package["fault"] is None for package in found["packages"].values())
