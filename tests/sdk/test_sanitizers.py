"""The C library under sanitizers: `exercise` uses all of it, on the fake backend and on ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.sdk.conftest import ROOT, headers

# ONNX Runtime keeps some memory for the whole process; it was not built for sanitizers.
SUPPRESSIONS = "leak:libonnxruntime\n"
RUNS = {
    "thread": ["thread"],  # ThreadSanitizer does not see what ONNX Runtime does
    "address,undefined": ["fake", "onnxruntime"],
}


@pytest.mark.slow
@pytest.mark.parametrize("sanitizers", RUNS)
def test_nothing_is_found(sanitizers: str, ort: Path, packs: Any, tmp_path: Path) -> None:
    needs.compiler()
    folder = tmp_path / "build"
    words = [
        "-S", str(ROOT), "-B", str(folder), "-DTOPOS_SDK=ON", f"-DTOPOS_ORT_INCLUDE_DIR={headers()}",
        f"-DTOPOS_SDK_SANITIZE={sanitizers}", "-DTOPOS_SDK_SAMPLES=OFF",
    ]  # fmt: skip
    for arguments in (words, ["--build", str(folder)]):
        done = subprocess.run(["cmake", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    suppressions = tmp_path / "suppressions.txt"
    suppressions.write_text(SUPPRESSIONS)
    environment = os.environ | {
        "LSAN_OPTIONS": f"suppressions={suppressions}:print_suppressions=0",
        "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "halt_on_error=0",
    }
    for run in RUNS[sanitizers]:
        library = [str(ort)] if run == "onnxruntime" else []
        for name in ("tiny", "seeing"):
            words = [str(folder / "sdk/tests/exercise"), str(packs[name][1]), *library]
            done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=1800)
            assert (done.stdout, done.returncode) == ("0 failures\n", 0), done.stderr[-8000:]
    done = subprocess.run(["ctest", "--test-dir", folder], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout
