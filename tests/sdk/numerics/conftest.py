"""The C++ numerics of the SDK behind C functions, built once for all tests of all workers."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from tests import needs
from topos_rt.faces import fit
from topos_rt.formats import morphs
from topos_rt.head import rig_fit

SOURCE = Path(__file__).parents[3] / "sdk/tests/numerics"


# The numerics are compared with NumPy, not with themselves, which `_native` holds as well.
@pytest.fixture(autouse=True)
def numpy_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig_fit, "_compiled", lambda rig: None)
    monkeypatch.setattr(morphs, "native", lambda: None)
    monkeypatch.setattr(fit, "native", lambda: None)


@pytest.fixture(scope="session")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    needs.compiler()
    cmake = needs.tool("CMake", shutil.which("cmake"), "install cmake")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "numerics"
    with FileLock(f"{folder}.lock"):
        if not (made := list(folder.glob("*numerics_shims.*"))):
            for words in (["-S", str(SOURCE), "-B", str(folder)], ["--build", str(folder)]):
                done = subprocess.run([cmake, *words], capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stdout + done.stderr
            made = list(folder.glob("*numerics_shims.*"))
    return ctypes.CDLL(str(made[0]))
