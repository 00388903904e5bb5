"""The C library as others build, install and find it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests import needs

ROOT = Path(__file__).parents[2]
PROGRAM = (
    "#include <topos_rt.h>\nint main(void) { return topos_abi_version() == TOPOS_ABI_VERSION ? 0 : 1; }\n"
)
PROJECT = """
cmake_minimum_required(VERSION 3.20)
project(user C)
find_package(topos_rt 1.0 REQUIRED)
add_executable(user user.c)
target_link_libraries(user topos_rt::topos_rt)
"""


def run(*words: object, cwd: Path | None = None) -> str:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def test_its_own_tests_pass(built: Path) -> None:
    out = run("ctest", "--test-dir", built)
    assert re.search(r"100% tests passed, 0 tests failed out of [1-9]", out)


def test_it_is_installed_and_found(built: Path, tmp_path: Path) -> None:
    prefix, user = tmp_path / "prefix", tmp_path / "user"
    run("cmake", "--install", built, "--prefix", prefix)
    user.mkdir()
    (user / "user.c").write_text(PROGRAM)
    (user / "CMakeLists.txt").write_text(PROJECT)
    run("cmake", "-S", user, "-B", user / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", user / "build")
    run(user / "build/user")
    (found,) = prefix.rglob("topos_rt.pc")
    assert "-ltopos_rt" in found.read_text() and "@" not in found.read_text()
    if shutil.which("pkg-config"):
        flags = run(
            "env", f"PKG_CONFIG_PATH={found.parent}", "pkg-config", "--cflags", "--libs", "topos_rt"
        ).split()
        run(needs.compiler(), "-x", "c", user / "user.c", "-x", "none", *flags, "-o", user / "other")


def test_the_library_is_small_and_exports_only_its_header(built: Path) -> None:
    library = (built / "sdk/libtopos_rt.so").resolve()
    assert library.stat().st_size < 1_500_000
    names = {
        line.split()[-1].split("@")[0] for line in run("nm", "-D", "--defined-only", library).splitlines()
    }
    header = (ROOT / "sdk/include/topos_rt.h").read_text()
    assert names - {"TOPOS_RT_1"} == set(re.findall(r"TOPOS_CALL (topos_\w+)\(", header))


def test_no_source_prints_or_ends_the_process() -> None:
    forbidden = re.compile(
        r"\b(printf|puts|std::cout|std::cerr|abort|std::terminate|exit)\s*\(|std::c(out|err)\b"
    )
    for path in (ROOT / "sdk/src").glob("*.cpp"):
        found = forbidden.search(re.sub(r"//.*", "", path.read_text()))
        assert found is None, f"{path.name}: {found[0]}"
