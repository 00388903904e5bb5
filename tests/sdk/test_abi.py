"""The ABI of the C library against that of the last release: additions are allowed, nothing else."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from tests import needs
from tests.sdk.test_build import ROOT, run

SDK = ROOT / "sdk"
RELEASE = SDK / "abi/topos_rt_1.abi"
HEADER = (SDK / "include/topos_rt.h").read_text()
STRUCT_END = "} topos_layout;"
FUNCTION = "TOPOS_API uint32_t TOPOS_CALL topos_abi_version(void);"
# What abidiff says of appended members, and on the way to them.
ADDITIONS = [
    re.compile(pattern)
    for pattern in (
        r"\s*",
        r"(Functions|Variables) changes summary: 0 Removed, .*",
        r"\d+ functions? with some indirect sub-type change:",
        r"  \[C\] 'function .* has some indirect sub-type changes:",
        r"\s+parameter \d+ of type '.*' has sub-type changes:",
        r"\s+in (pointed to|unqualified underlying) type '.*':",
        r"\s+underlying type 'struct topos_\w+' changed:",
        r"\s+type size changed from (?P<size>\d+) to \d+ \(in bits\)",
        r"\s+\d+ data member insertions?:",
        r"\s+'.*', at offset (?P<offset>\d+) \(in bits\)",
    )
]
# Of an edit: what the header has, and what it has then.
ALLOWED = {
    "nothing": ("", ""),
    "an appended member": (STRUCT_END, f"    uint64_t appended;\n{STRUCT_END}"),
    "two appended members": (STRUCT_END, f"    float one;\n    uint32_t two;\n{STRUCT_END}"),
    "a new function": (FUNCTION, f"{FUNCTION}\nTOPOS_API uint32_t TOPOS_CALL topos_more(const char *name);"),
}
REFUSED = {
    "an inserted member": ("    uint32_t num_seeds;", "    uint32_t inserted[2];\n    uint32_t num_seeds;"),
    "two members in another order": ("double shift, temperature;", "double temperature, shift;"),
    "a member appended and one changed": (
        f"    uint32_t reserved;\n{STRUCT_END}",
        f"    float changed;\n    uint32_t appended[2];\n{STRUCT_END}",
    ),
    "a removed member": ("    const uint64_t *seeds; ", "    "),
    "a member of another type": ("    double guidance; ", "    int64_t guidance; "),
    "a narrower member": ("    void *progress_user;", "    uint32_t progress_user;"),
    "a removed function": (FUNCTION, ""),
    "a function that returns less": ("uint32_t TOPOS_CALL topos_abi", "uint16_t TOPOS_CALL topos_abi"),
    "a function of one more argument": ("topos_abi_version(void)", "topos_abi_version(int32_t more)"),
    "another argument": ("topos_status_name(topos_status status)", "topos_status_name(int64_t status)"),
    "a wider status": ("typedef int32_t topos_status;", "typedef int64_t topos_status;"),
}


@pytest.fixture(autouse=True, scope="module")
def _abidiff() -> None:
    needs.machine(platform.machine() == "x86_64", "the ABI was written down on x86-64")
    needs.tool("CMake", shutil.which("cmake"), "install cmake")
    needs.tool("abidiff", shutil.which("abidiff"), "apt-get install abigail-tools")


def breaks(library: Path, headers: Path, folder: Path) -> list[str]:
    """Return the lines of abidiff's report that tell of more than additions to the ABI of the release."""
    dump = folder / "library.abi"
    told = {"LIBRARY": library, "HEADERS": headers, "OUT": dump}
    run("cmake", *(f"-D{key}={value}" for key, value in told.items()), "-P", SDK / "abi/dump.cmake")
    words = ["abidiff", "--no-added-syms", str(RELEASE), str(dump)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert not done.returncode & 3, done.stdout + done.stderr  # it could not compare
    return more_than_additions(done.stdout) if done.returncode else []


def more_than_additions(report: str) -> list[str]:
    """Return the lines of a report that say more than that members were appended to structs.

    libabigail's own suppressions of appended members (2.2) pass over members of another type, too.
    """
    found, size = [], 0
    for line in report.splitlines():
        known = next(filter(None, (pattern.fullmatch(line) for pattern in ADDITIONS)), None)
        numbers = known.groupdict() if known else {}
        size = int(numbers.get("size", size))
        if known is None or int(numbers.get("offset", size)) < size:
            found.append(line)  # a member in what was padding, too: struct_size does not tell of it
    return found


def test_the_library_has_the_abi_of_the_release(built: Path, tmp_path: Path) -> None:
    with FileLock(f"{built}.lock"):
        run("cmake", "--build", built, "--target", "topos_rt_abi")
    assert breaks(built / "sdk/abi/libtopos_rt.so", SDK / "include", tmp_path) == []
    dump = RELEASE.read_text()
    assert "path='sdk/src/api_job.cpp'" in dump and "='/" not in dump  # nothing of the machine it was made on


def stand_in(folder: Path, old: str, new: str) -> Path:
    """Compile a library whose functions do nothing, with an edited header."""
    assert old in HEADER
    text = HEADER.replace(old, new, 1) if old else HEADER
    (folder / "topos_rt.h").write_text(text)
    plain = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    functions = re.findall(r"^TOPOS_API ([^;]*?\btopos_\w+\([^;]*\));", plain, re.MULTILINE)
    assert len(functions) == len(set(re.findall(r"TOPOS_CALL (topos_\w+)\(", text)))
    bodies = [f"{name} {{{'' if name.startswith('void ') else ' return 0; '}}}" for name in functions]
    source = folder / "stand_in.c"
    source.write_text("\n".join(['#include "topos_rt.h"', *bodies]))
    library = folder / "libtopos_rt.so"
    run(
        *(needs.compiler(), "-x", "c", "-std=c99", "-g", "-fPIC", "-shared", source, "-o", library),
        *(f"-Wl,--version-script={SDK / 'exports.map'}", "-Wl,-soname,libtopos_rt.so.1"),
    )
    return library


@pytest.mark.parametrize("case", ALLOWED)
def test_additions_are_allowed(case: str, tmp_path: Path) -> None:
    assert breaks(stand_in(tmp_path, *ALLOWED[case]), tmp_path, tmp_path) == []


@pytest.mark.parametrize("case", REFUSED)
def test_what_breaks_programs_is_found(case: str, tmp_path: Path) -> None:
    assert breaks(stand_in(tmp_path, *REFUSED[case]), tmp_path, tmp_path) != []
