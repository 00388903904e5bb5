"""The static library: one file to link, which gives the program no name but topos_*."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import needs
from tests.sdk.test_build import ROOT, run

# In C alone: what finds the library needs no C++ of its own.
PROJECT = """
cmake_minimum_required(VERSION 3.20)
project(user C)
find_package(topos_rt 1.0 REQUIRED)
add_executable(user portrait_to_glb.c)
target_link_libraries(user topos_rt::{target})
"""
SAMPLE = ROOT / "sdk/samples/c/portrait_to_glb.c"


def installed(built: Path, prefix: Path, *components: str) -> Path:
    for component in components:
        run("cmake", "--install", built, "--prefix", prefix, "--component", component)
    return prefix


def program(folder: Path, prefix: Path, target: str, *options: str) -> Path:
    """Build the C sample with CMake and an installed library."""
    folder.mkdir()
    shutil.copy(SAMPLE, folder)
    (folder / "CMakeLists.txt").write_text(PROJECT.format(target=target))
    run("cmake", "-S", folder, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={prefix}", *options)
    run("cmake", "--build", folder / "build")
    return folder / "build/user"


def needed(library: Path) -> list[str]:
    """Return the shared libraries that a program asks for."""
    return re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", library))


def test_only_the_functions_of_the_header_are_global(built: Path) -> None:
    lines = run("nm", "--extern-only", "--defined-only", built / "sdk/libtopos_rt.a").splitlines()
    names = [line.split()[-1] for line in lines if len(line.split()) == 3]
    header = (ROOT / "sdk/include/topos_rt.h").read_text()
    assert sorted(names) == sorted(re.findall(r"TOPOS_CALL (topos_\w+)\(", header))


@pytest.mark.parametrize(
    ("components", "target"),
    [
        (("development", "shared", "static"), "topos_rt_static"),
        (("development", "static"), "topos_rt"),
        (("development", "shared"), "topos_rt"),
    ],
)
def test_find_package_finds_what_is_installed(
    components: tuple[str, ...], target: str, built: Path, tmp_path: Path
) -> None:
    prefix = installed(built, tmp_path / "prefix", *components)
    user = program(tmp_path / "user", prefix, target)
    static = "shared" not in components or target == "topos_rt_static"
    assert ("libtopos_rt.so.1" in needed(user)) is not static
    assert subprocess.run([user], capture_output=True).returncode == 2  # it says how it is used


def test_what_the_static_library_links_is_not_needed_for_the_shared_one(built: Path, tmp_path: Path) -> None:
    without = "-DCMAKE_DISABLE_FIND_PACKAGE_JPEG=ON"
    prefix = installed(built, tmp_path / "both", "development", "shared", "static")
    program(tmp_path / "shared", prefix, "topos_rt", without)
    (config,) = prefix.rglob("topos_rt.pc")
    if "-ljpeg" in config.read_text():
        prefix = installed(built, tmp_path / "one", "development", "static")
        with pytest.raises(AssertionError, match=r"threads and\s+libjpeg"):
            program(tmp_path / "static", prefix, "topos_rt", without)


def test_pkg_config_tells_what_to_link(built: Path, tmp_path: Path) -> None:
    needs.tool("pkg-config", shutil.which("pkg-config"), "apt-get install pkg-config")
    prefix = installed(built, tmp_path / "prefix", "development", "static")
    (found,) = prefix.rglob("topos_rt.pc")
    flags = run(
        "env", f"PKG_CONFIG_PATH={found.parent}", "pkg-config", "--static", "--cflags", "--libs", "topos_rt"
    ).split()
    user = tmp_path / "user"
    run(needs.compiler(), "-x", "c", SAMPLE, "-x", "none", *flags, "-o", user)
    assert "libtopos_rt.so.1" not in needed(user)
    assert subprocess.run([user], capture_output=True).returncode == 2


def test_it_makes_the_same_heads_and_errors(
    built: Path, ort: Path, packs: dict[str, tuple[Path, Path]], portrait: Path, tmp_path: Path
) -> None:
    """Errors are exceptions inside, which need all that is local now."""
    prefix = installed(built, tmp_path / "prefix", "development", "static")
    heads, errors = [], []
    for user in (program(tmp_path / "user", prefix, "topos_rt"), built / "sdk/samples/portrait_to_glb"):
        out = tmp_path / "head.glb"
        run(user, packs["mini"][1], portrait, out, ort, 7)
        heads.append(out.read_bytes())
        done = subprocess.run([user, portrait, portrait, out, ort], capture_output=True, text=True)
        errors.append(done.stderr)
    assert heads[0] == heads[1]
    assert errors[0] == errors[1] and "TOPOS_E_PACK" in errors[0]
