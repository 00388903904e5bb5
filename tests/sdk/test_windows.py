"""The C library for Windows, built with mingw-w64 and run under wine: the same heads as on Linux, to the bit.

Its pictures have the same pixels: without libjpeg-turbo and libspng they are written as uncompressed PNG.

CI has neither: they are 170 MB to fetch and 1.1 GB on the disk (Debian 12). To install them:
apt-get install --no-install-recommends g++-mingw-w64-x86-64-posix wine wine64
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.sdk.conftest import Packs, headers
from tests.sdk.glb_files import same_file
from tests.sdk.releases import node_library
from tests.sdk.test_build import PROGRAM, PROJECT, ROOT, run

pytestmark = pytest.mark.slow
TOOLCHAIN = ROOT / "sdk/cmake/mingw.cmake"
OBJDUMP = "x86_64-w64-mingw32-objdump"
# What every Windows has. Debian's mingw-w64 takes the older of the C runtimes.
SYSTEM = {"kernel32.dll", "msvcrt.dll"}
# Loads a pack whose name is not ASCII.
LOAD = """
#include <stdio.h>
#include "topos_rt.h"
int main(int count, char **words) {
    topos_runtime *runtime = NULL;
    topos_model *model = NULL;
    TOPOS_STRUCT(topos_error, error);
    TOPOS_STRUCT(topos_runtime_options, options);
    TOPOS_STRUCT(topos_source, source);
    options.ort_library = count > 1 ? words[1] : NULL;
    source.path = "Z\\xc3\\xbcrich-\\xe7\\x8c\\xab.topos";
    if (topos_runtime_create(&options, &runtime, &error) == TOPOS_OK) {
        topos_model_load(runtime, &source, NULL, &model, &error);
    }
    printf("%s %s\\n", topos_status_name(error.status), error.message);
    topos_model_release(model);
    topos_runtime_release(runtime);
    return error.status == TOPOS_OK ? 0 : 1;
}
"""


class Wine:
    """Runs programs of Windows, with a Windows of their own in a folder."""

    def __init__(self, folder: Path) -> None:
        self.wine = shutil.which("wine") or ""
        needs.machine(self.wine, "wine was not found; fix: apt-get install wine wine64")
        quiet = {
            "WINEPREFIX": str(folder),
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree,mshtml=",
            "DISPLAY": "",
        }
        self.environment = os.environ | quiet | {"LC_ALL": "C.UTF-8"}

    def run(self, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        told = [self.wine, *map(str, words)]
        return subprocess.run(told, cwd=cwd, env=self.environment, capture_output=True, text=True)

    def close(self) -> None:
        subprocess.run(["wineserver", "-k"], env=self.environment, check=False)


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wine]:
    made = Wine(tmp_path_factory.mktemp("wine"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the library for Windows was built into; warnings are errors."""
    found = shutil.which("x86_64-w64-mingw32-g++-posix")
    needs.machine(found, "mingw-w64 was not found; fix: apt-get install g++-mingw-w64-x86-64-posix")
    needs.tool("CMake", shutil.which("cmake"), "install cmake")
    folder = tmp_path_factory.mktemp("windows")
    options = (f"-DCMAKE_TOOLCHAIN_FILE={TOOLCHAIN}", f"-DTOPOS_ORT_INCLUDE_DIR={headers()}")
    run("cmake", "-S", ROOT, "-B", folder, "-DTOPOS_SDK=ON", *options)
    said = run("cmake", "--build", folder)
    assert "warning" not in said.lower()
    return folder


def exports(file: Path) -> list[str]:
    _, _, table = run(OBJDUMP, "-p", file).partition("[Ordinal/Name Pointer] Table")
    return re.findall(r"^\s+\[ *\d+\] (\S+)$", table, re.MULTILINE)


def imports(file: Path) -> set[str]:
    return {name.lower() for name in re.findall(r"DLL Name: (\S+)", run(OBJDUMP, "-p", file))}


def test_the_dll_exports_its_header_and_stands_alone(windows: Path) -> None:
    library = windows / "sdk/topos_rt.dll"
    header = (ROOT / "sdk/include/topos_rt.h").read_text()
    assert sorted(exports(library)) == sorted(re.findall(r"TOPOS_CALL (topos_\w+)\(", header))
    assert imports(library) <= SYSTEM


def test_its_own_tests_pass(windows: Path, wine: Wine) -> None:
    folder = windows / "sdk/tests"
    shutil.copy(windows / "sdk/topos_rt.dll", folder)
    programs = sorted(folder.glob("*.exe"))
    assert [path.stem for path in programs] == ["abi", "header_in_cpp"]
    for path in programs:
        done = wine.run(path, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("target", ["topos_rt", "topos_rt_static"])
def test_it_is_installed_and_found(target: str, windows: Path, wine: Wine, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    run("cmake", "--install", windows, "--prefix", prefix)
    (tmp_path / "user.c").write_text(PROGRAM)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT.replace("topos_rt::topos_rt", f"topos_rt::{target}"))
    options = [f"-DCMAKE_{key}={prefix}" for key in ("PREFIX_PATH", "FIND_ROOT_PATH")]
    build = tmp_path / "build"
    run("cmake", "-S", tmp_path, "-B", build, f"-DCMAKE_TOOLCHAIN_FILE={TOOLCHAIN}", *options)
    run("cmake", "--build", build)
    user = build / "user.exe"
    assert imports(user) <= SYSTEM | {"topos_rt.dll"}
    assert ("topos_rt.dll" in imports(user)) is (target == "topos_rt")
    assert not exports(user)
    if target == "topos_rt":
        shutil.copy(prefix / "bin/topos_rt.dll", build)
    assert wine.run(user, cwd=build).returncode == 0


@pytest.mark.parametrize("version", ["1.24.1", "1.30.0"])
def test_heads_are_those_of_linux(
    version: str, windows: Path, wine: Wine, built: Path, packs: Packs, portrait: Path, tmp_path: Path
) -> None:
    theirs = node_library(version, "linux/x64/libonnxruntime.so.1", tmp_path)
    ort = node_library(version, "win32/x64/onnxruntime.dll", tmp_path)
    program = shutil.copy(windows / "sdk/samples/portrait_to_glb.exe", tmp_path)
    shutil.copy(windows / "sdk/topos_rt.dll", tmp_path)
    pack = tmp_path / "mini.topos"
    shutil.copy(packs["mini"][1], pack)
    own, other = tmp_path / "own.glb", tmp_path / "other.glb"
    # By the path of ONNX Runtime, and then with the one beside the DLL, over the file of before.
    for told in ((windows_path(ort), 7), ()):
        run(built / "sdk/samples/portrait_to_glb", pack, portrait, other, theirs, *(told[1:] or (0,)))
        done = wine.run(program, pack.name, portrait.name, own.name, *told, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert re.search(r"^after step 4: 2\d\d mm tall$", done.stdout, re.MULTILINE)
        same_file(own.read_bytes(), other.read_bytes())
    done = wine.run(program, portrait.name, portrait.name, own.name, cwd=tmp_path)
    assert done.returncode == 1 and "TOPOS_E_PACK" in done.stderr


def test_paths_are_utf8(windows: Path, wine: Wine, packs: Packs, tmp_path: Path) -> None:
    (tmp_path / "load.c").write_text(LOAD)
    shutil.copy(windows / "sdk/topos_rt.dll", tmp_path)
    node_library("1.24.1", "win32/x64/onnxruntime.dll", tmp_path)
    program = tmp_path / "load.exe"
    library = ("-L", windows / "sdk", "-ltopos_rt")
    run(
        "x86_64-w64-mingw32-gcc-posix",
        f"-I{ROOT / 'sdk/include'}",
        tmp_path / "load.c",
        *library,
        "-o",
        program,
    )
    done = wine.run(program, cwd=tmp_path)
    assert done.returncode == 1 and "TOPOS_E_IO pack Zürich-猫.topos" in done.stdout, done.stdout
    shutil.copy(packs["tiny"][1], tmp_path / "Zürich-猫.topos")
    done = wine.run(program, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def windows_path(path: Path) -> str:
    """Return a path of this machine as wine's drive Z: has it."""
    return "Z:" + str(path).replace("/", "\\")
